# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes as servers see them, asked for with the login that the cluster has: a member's application credential."""

from __future__ import annotations

import base64
import functools
import time
import typing as t

import openstack
import pytest
from volumes import PATIENCE, Volumes, connect, link
from volumes import inside as run_inside

NAME = "volume-test"
PLACE = f"/run/{NAME}"


@pytest.fixture(scope="module")
def cloud(paths, contract):
    return connect(paths, contract)


@pytest.fixture(scope="module")
def servers(nodes):
    """Two servers of this project, which Kubernetes keeps for itself otherwise."""
    if len(nodes) < 2:
        pytest.skip("there is one server only")
    return sorted(nodes)[-2:]


@pytest.fixture(scope="module")
def inside(paths):
    return functools.partial(run_inside, paths)


@pytest.fixture
def volumes(cloud, nodes, inside, servers):
    ours = Volumes(NAME, cloud, nodes)
    yield ours
    for server in servers:
        inside(server, f"umount {PLACE} 2>/dev/null || true")
    ours.remove_all()


def appears(inside: t.Callable[[str, str], str], server: str, volume: t.Any) -> float:
    start = time.monotonic()
    inside(server, f'timeout 10 sh -c "until [ -b {link(volume)} ]; do sleep 0.1; done"')
    return time.monotonic() - start


def format_and_mount(inside: t.Callable[[str, str], str], server: str, volume: t.Any) -> None:
    inside(server, f"mkfs.ext4 -q {link(volume)} && mkdir -p {PLACE} && mount {link(volume)} {PLACE}")


@pytest.fixture
def mounted(volumes, servers, inside):
    """Return a volume with a file system that the first server has mounted."""
    volume = volumes.make()
    volumes.attach(volume, servers[0])
    appears(inside, servers[0], volume)
    format_and_mount(inside, servers[0], volume)
    return volume


def test_data_goes_with_a_volume_from_server_to_server(volumes, servers, inside):
    first, second = servers
    volume = volumes.make()
    volumes.attach(volume, first)
    print(f"{link(volume)} after {appears(inside, first, volume):.1f} s, with the time of the login")
    format_and_mount(inside, first, volume)
    inside(first, f"echo here I am > {PLACE}/file && umount {PLACE}")
    volumes.detach(volume, first)
    inside(first, f'timeout 10 sh -c "while [ -e {link(volume)} ]; do sleep 0.1; done"')
    volumes.attach(volume, second)
    appears(inside, second, volume)
    assert inside(second, f"mkdir -p {PLACE} && mount {link(volume)} {PLACE} && cat {PLACE}/file") == "here I am"


def test_a_volume_goes_although_a_loop_device_of_it_stays(volumes, servers, inside):
    """As the kubelet of a server that stops leaves it of a raw volume."""
    first, second = servers
    volume = volumes.make()
    volumes.attach(volume, first)
    appears(inside, first, volume)
    inside(first, f"losetup --find {link(volume)}")
    volumes.detach(volume, first)
    volumes.attach(volume, second)
    appears(inside, second, volume)


def test_a_volume_grows_under_a_file_system_in_use(volumes, mounted, servers, inside):
    server, volume = servers[0], mounted
    volumes.storage.extend_volume(volume, 2)
    volumes.settle(volume, "in-use")
    grown = f"[ $(blockdev --getsize64 {link(volume)}) = {2 * 2**30} ]"
    inside(server, f"timeout 30 sh -c 'until {grown}; do sleep 0.2; done'")
    # The kernel lets only those grow a mounted ext4 who may exceed limits, which containers of containers may not.
    at_rest = f"{{ umount {PLACE} && e2fsck -fp {link(volume)} && resize2fs {link(volume)} && mount {link(volume)} {PLACE}; }}"
    inside(server, f"resize2fs {link(volume)} || {at_rest}\n[ $(df --output=size --block-size=1M {PLACE} | tail -1) -gt 1500 ]")


def test_a_snapshot_becomes_a_larger_volume(volumes, mounted, servers, inside):
    server = servers[0]
    inside(server, f"echo before > {PLACE}/file && sync -f {PLACE}")
    snapshot = volumes.snapshot(mounted)
    inside(server, f"echo after > {PLACE}/file && umount {PLACE}")
    larger = volumes.make(2, snapshot_id=snapshot.id)
    volumes.attach(larger, server)
    appears(inside, server, larger)
    assert inside(server, f"mount {link(larger)} {PLACE} && cat {PLACE}/file") == "before"


def test_a_snapshot_of_a_volume_that_is_written_is_whole(volumes, mounted, servers, inside):
    server = servers[0]
    inside(server, f"head -c 200M /dev/urandom > {PLACE}/ballast")
    write = f"while [ -e {PLACE}/go ]; do n=$((n + 1)); echo $n >> {PLACE}/lines; done"
    inside(server, f"touch {PLACE}/go; nohup sh -c 'n=0; {write}' > /dev/null 2>&1 &")
    copy = volumes.make(1, snapshot_id=volumes.snapshot(mounted).id)
    inside(server, f"rm {PLACE}/go; sleep 0.5; umount {PLACE}")
    volumes.attach(copy, server)
    appears(inside, server, copy)
    inside(server, f"e2fsck -fn {link(copy)} && mount {link(copy)} {PLACE}")
    # Lines in their order, and no half one.
    assert int(inside(server, f"awk '$1 != NR {{exit 1}} END {{print NR}}' {PLACE}/lines")) > 0


def test_a_volume_beyond_the_quota_is_refused(volumes):
    quota = volumes.storage.get_quota_set(volumes.cloud.current_project_id)
    with pytest.raises(openstack.exceptions.SDKException, match=r"[Qq]uota"):
        volumes.storage.create_volume(name=NAME, size=quota.gigabytes + 1)


# It comes before the host keys are printed, and works from the second start on.
SAYS = "here are my data again"
LATER = f"""#!/bin/sh
cat > /etc/systemd/system/again.service << 'END'
[Service]
ExecStart=/bin/sh -c 'echo {SAYS} > /dev/console'
[Install]
WantedBy=multi-user.target
END
systemctl enable again.service
sync -f /etc
"""


def test_a_server_boots_from_a_volume_again_and_leaves_it(cloud, volumes, contract, inventory, nodes, wait_for):
    image = cloud.image.find_image(contract["image"], ignore_missing=False)
    volume = volumes.make(4, image_id=image.id)
    server = cloud.compute.create_server(
        name=NAME,
        flavor_id=cloud.compute.find_flavor(contract["flavors"]["worker"], ignore_missing=False).id,
        networks=[{"uuid": inventory["_meta"]["hostvars"][next(iter(nodes))]["cluster_network_id"]}],
        key_name=contract["keypair"],
        user_data=base64.b64encode(LATER.encode()).decode(),
        block_device_mapping=[
            {"uuid": volume.id, "source_type": "volume", "destination_type": "volume", "boot_index": 0, "delete_on_termination": False}
        ],
    )

    def says(text):
        wait_for(text, lambda: text in str(cloud.compute.get_server_console_output(server)), PATIENCE)

    try:
        cloud.compute.wait_for_server(server, wait=PATIENCE)
        # Its own word that it has its names and keys.
        says("BEGIN SSH HOST KEY KEYS")
        cloud.compute.stop_server(server)
        cloud.compute.wait_for_server(server, status="SHUTOFF", wait=PATIENCE)
        cloud.compute.start_server(server)
        cloud.compute.wait_for_server(server, wait=PATIENCE)
        says(SAYS)
    finally:
        cloud.compute.delete_server(server)
        cloud.compute.wait_for_delete(server, wait=PATIENCE)
    volumes.settle(volume, "available")
