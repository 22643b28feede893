# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything is powered off in order and started again with volumes in use: nobody lends a hand, and what was written is there."""

from __future__ import annotations

import subprocess
import time

import pytest
from volumes import Volumes, connect, inside, link

NAME = "restart-test"
PLACE = f"/run/{NAME}"
PATIENCE = 300


@pytest.fixture
def volumes(paths, contract, nodes):
    ours = Volumes(NAME, connect(paths, contract), nodes)
    yield ours
    ours.remove_all()


def eventually(paths, server, script):
    """Ask a server until it answers, as it is starting."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return inside(paths, server, script)
        except (AssertionError, subprocess.TimeoutExpired):
            if time.monotonic() > end:
                raise
            time.sleep(2)


def test_volumes_in_use_survive_stop_and_start(paths, volumes, nodes):
    server = sorted(nodes)[-1]
    # The first goes, so that the others have other devices than they will get at the start.
    first, mounted, raw = (volumes.make() for _ in range(3))
    for volume in (first, mounted, raw):
        volumes.attach(volume, server)
    volumes.detach(first, server)
    inside(paths, server, f"mkfs.ext4 -q {link(mounted)}; mkdir -p {PLACE}; mount {link(mounted)} {PLACE}; sync")
    written = inside(paths, server, f"head -c 50M /dev/urandom > {PLACE}/file; sync -f {PLACE}; sha256sum < {PLACE}/file")
    inside(paths, server, f"echo raw | dd of={link(raw)} conv=notrunc,fsync status=none")
    for verb in ("stop", "start"):
        subprocess.run([str(paths.root / "tools/sandbox"), verb], env=paths.environment(), check=True, timeout=600)
    start = time.monotonic()
    assert eventually(paths, server, f"mkdir -p {PLACE}; mount {link(mounted)} {PLACE}; sha256sum < {PLACE}/file") == written
    print(f"the data is there {time.monotonic() - start:.0f} s after the start")
    assert inside(paths, server, f"head -c 3 {link(raw)}") == "raw"
    inside(paths, server, f"umount {PLACE}")
    for volume in (mounted, raw):
        volumes.detach(volume, server)
