# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes in use when everything is powered off: after the start they are in their server again, though their devices have other numbers.

The two halves run on either side of the stop and the start, `-k before` and `-k after`.
"""

from __future__ import annotations

import pytest
from volumes import Volumes, connect, inside, link

NAME = "survive-test"
PLACE = f"/run/{NAME}"


@pytest.fixture
def volumes(paths, contract, nodes):
    return Volumes(NAME, connect(paths, contract), nodes)


def test_volumes_in_use_before_the_stop(paths, volumes, nodes):
    server = sorted(nodes)[-1]
    # The first goes, so that the others get other devices at the start.
    first, mounted, raw = (volumes.make() for _ in range(3))
    for volume in (first, mounted, raw):
        volumes.attach(volume, server)
    volumes.detach(first, server)
    inside(paths, server, f"mkfs.ext4 -q {link(mounted)}; mkdir -p {PLACE}; mount {link(mounted)} {PLACE}")
    inside(paths, server, f"head -c 50M /dev/urandom > {PLACE}/file; cd {PLACE}; sha256sum file > sum; sync -f {PLACE}")
    inside(paths, server, f"echo raw | dd of={link(raw)} conv=notrunc,fsync status=none")


def test_volumes_in_use_after_the_start(paths, volumes, nodes, wait_for):
    server = sorted(nodes)[-1]
    ours = [volume for volume in volumes.storage.volumes(name=NAME) if volume.status == "in-use"]
    assert len(ours) == 2

    def answers():
        try:
            return inside(paths, server, "true") == ""
        except AssertionError:
            return False

    try:
        wait_for(f"{server} after the start", answers, 300)
        inside(paths, server, "".join(f"[ -b {link(volume)} ]\n" for volume in ours))
        kinds = {volume.id: inside(paths, server, f"head -c 3 {link(volume)} | tr -d '\\0'") for volume in ours}
        (raw,) = [volume for volume in ours if kinds[volume.id] == "raw"]
        (mounted,) = [volume for volume in ours if volume is not raw]
        inside(paths, server, f"mkdir -p {PLACE}; mount {link(mounted)} {PLACE}; cd {PLACE}; sha256sum --check sum")
        inside(paths, server, f"umount {PLACE}")
    finally:
        volumes.remove_all()
