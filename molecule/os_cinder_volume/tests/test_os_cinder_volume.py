# SPDX-License-Identifier: GPL-3.0-or-later
"""The volume service, asked as Nova asks it, and killed at work. What a server sees of a volume is a test of whole labs."""

from __future__ import annotations

import json
import os
import pathlib
import time
import uuid

import openstack
import pytest
from openstack import exceptions

testinfra_hosts = ["ansible://storage"]

STATE = pathlib.Path(os.environ["KOS_STATE"])
NAME = "cinder-test"
FOLDER = "/var/lib/cinder/loopfile"
DEVICES = "/run/cinder-volumes"
PATIENCE = 120


@pytest.fixture(scope="module")
def cloud():
    os.environ["OS_CLIENT_CONFIG_FILE"] = str(STATE / "clouds.yaml")
    return openstack.connect(cloud="kos-admin", block_storage_default_microversion="3.66").block_storage


@pytest.fixture
def settle(cloud):
    """Return a wait until the cloud, and not our copy of what it said last, has come to a status."""

    def wait(what, status):
        fresh = type(what).existing(id=what.id).fetch(cloud)
        bad = {"available", "error", "error_extending"} - {status}
        return cloud.wait_for_status(fresh, status, failures=sorted(bad), interval=0.3, wait=PATIENCE)

    return wait


@pytest.fixture
def counted(host):
    """Return a count: files, what is half, what is to be attached, links to devices, and loop devices."""

    def count():
        listing = f"ls {FOLDER}/ {FOLDER}/partial {FOLDER}/exported {DEVICES}; grep -hs {FOLDER} /sys/block/loop*/loop/backing_file || true"
        return host.check_output(listing)

    return count


@pytest.fixture
def nothing_left(cloud, counted):
    """Whatever a test did, all of it goes, and nothing of it stays on the machine."""
    before = counted()
    yield
    for attachment in cloud.attachments():
        cloud.delete_attachment(attachment)
    for snapshot in cloud.snapshots(name=NAME):
        cloud.delete_snapshot(snapshot)
    for snapshot in cloud.snapshots(name=NAME):
        cloud.wait_for_delete(snapshot, interval=0.5, wait=PATIENCE)
    for volume in cloud.volumes(name=NAME):
        cloud.delete_volume(volume)
    for volume in cloud.volumes(name=NAME):
        cloud.wait_for_delete(volume, interval=0.5, wait=PATIENCE)
    # A loop device that somebody looks at in this moment goes a moment later.
    end = time.monotonic() + 10
    while (after := counted()) != before and time.monotonic() < end:
        time.sleep(0.2)
    assert after == before


@pytest.fixture
def make(cloud, nothing_left, settle):
    def make_one(size=1, **options):
        volume = cloud.create_volume(name=NAME, size=size, **options)
        return settle(volume, "available")

    return make_one


@pytest.fixture
def attach(host, cloud):
    """Attach as Nova does, for a server that does not exist."""

    def attach_one(volume):
        connector = {
            "host": host.check_output("hostname"),
            "initiator": "none",
            "ip": "192.0.2.1",
            "os_type": "linux",
            "platform": "x86_64",
        }
        attachment = cloud.create_attachment(volume, instance=str(uuid.uuid4()), connector=connector)
        cloud.complete_attachment(attachment)
        return attachment

    return attach_one


def file(volume):
    return f"{FOLDER}/volume-{volume.id}"


def device(volume):
    return f"{DEVICES}/volume-{volume.id}"


def write(host, place, text):
    host.check_output("printf %s | dd of=%s bs=1 seek=1000000 conv=notrunc,fsync status=none", text, place)


def read(host, place, length):
    return host.check_output("dd if=%s bs=1 skip=1000000 count=%s status=none", place, str(length))


@pytest.mark.parametrize("unit", ["cinder-volume", "cinder-loopfile"])
def test_it_runs(host, runs, unit):
    if unit == "cinder-volume" and host.check_output("systemctl show --property NRestarts --value %s", unit) != "0":
        pytest.skip("it was killed by these tests")
    runs(unit)


def test_passwords_are_private(private):
    private("/etc/cinder/cinder-volume.conf", "cinder")


def test_the_life_of_a_volume(host, cloud, make, settle):
    volume = make()
    assert (volume.volume_type, host.file(file(volume)).size) == ("standard", 2**30)
    assert host.check_output("stat --format %%b %s", file(volume)) == "0"
    write(host, file(volume), "first")
    snapshot = cloud.create_snapshot(volume_id=volume.id, name=NAME)
    settle(snapshot, "available")
    write(host, file(volume), "later")
    larger, clone = make(2, snapshot_id=snapshot.id), make(source_volume_id=volume.id)
    assert (read(host, file(larger), 5), read(host, file(clone), 5)) == ("first", "later")
    assert host.file(file(larger)).size == 2 * 2**30
    cloud.extend_volume(clone, 3)
    settle(clone, "available")
    assert host.file(file(clone)).size == 3 * 2**30
    cloud.revert_volume_to_snapshot(volume, snapshot)
    settle(volume, "available")
    assert read(host, file(volume), 5) == "first"


def test_a_volume_in_use_has_a_device_that_keeps_its_name(host, cloud, make, attach, settle):
    volume = make()
    attachment = attach(volume)
    assert attachment.connection_info["device_path"] == device(volume)
    assert host.check_output("stat --dereference --format %%F %s", device(volume)) == "block special file"
    write(host, device(volume), "written")
    assert read(host, file(volume), 7) == "written"
    cloud.extend_volume(volume, 2)
    settle(volume, "in-use")
    # As a restart of the machine does, though without the machine.
    host.check_output("losetup --detach $(readlink %s) && rm %s", device(volume), device(volume))
    host.check_output("systemctl restart cinder-loopfile")
    assert read(host, device(volume), 7) == "written"
    cloud.delete_attachment(attachment)
    assert not host.file(device(volume)).exists


def test_servers_of_other_hosts_are_refused(cloud, make):
    volume = make()
    with pytest.raises(exceptions.SDKException):
        cloud.create_attachment(volume, instance=str(uuid.uuid4()), connector={"host": "elsewhere"})


def test_an_image_becomes_a_volume_and_a_volume_an_image(host, cloud, make, settle):
    images = openstack.connect(cloud="kos-admin").image
    data = os.urandom(1024) + bytes(4 * 2**20)
    image = images.create_image(name=NAME, data=data, disk_format="raw", container_format="bare")
    uploaded = None
    try:
        volume = make(image_id=image.id)
        assert host.check_output("head --bytes 1024 %s | sha256sum", file(volume)) == host.check_output(
            "head --bytes 1024 /var/lib/glance/images/%s | sha256sum", image.id
        )
        uploaded = cloud.upload_volume_to_image(volume, NAME, disk_format="raw", container_format="bare")
        settle(volume, "available")
        assert images.get_image(uploaded["image_id"]).size == 2**30
    finally:
        images.delete_image(image)
        if uploaded:
            images.delete_image(uploaded["image_id"])


def test_more_than_there_is_is_refused_with_a_reason(cloud, nothing_left, settle):
    volume = cloud.create_volume(name=NAME, size=900)
    volume = settle(volume, "error")
    messages = [message["user_message"] for message in cloud.get("/messages").json()["messages"] if message["resource_uuid"] == volume.id]
    assert any("Could not find any available weighted backend" in message for message in messages), messages


# In one with what follows: a copy takes less time than another login.
UNTIL_COPYING = "timeout 20 sh -c 'until [ -n \"$(ls %s/partial)\" ]; do sleep 0.02; done' && "
KILL = "systemctl kill --kill-whom=all --signal=KILL cinder-volume"


def kill(host):
    host.check_output(KILL)


def settled(cloud, kind, what):
    """Wait until the service is back and has put what it was at into a state that its owner can go on from."""
    end = time.monotonic() + PATIENCE
    while (status := kind(what).status) not in ("available", "error", "in-use", "reserved"):
        assert time.monotonic() < end, status
        time.sleep(0.5)
    return status


def test_a_kill_while_copying_leaves_nothing_half(host, cloud, make, counted):
    volume = make()
    host.check_output("dd if=/dev/urandom of=%s bs=1M count=400 conv=notrunc status=none", file(volume))
    snapshot = cloud.create_snapshot(volume_id=volume.id, name=NAME)
    host.check_output(UNTIL_COPYING + KILL, FOLDER)
    assert settled(cloud, cloud.get_snapshot, snapshot) == "error"
    assert host.check_output("ls %s/partial", FOLDER) == ""


def test_a_kill_while_reverting_leaves_both_to_their_owner(host, cloud, make, settle):
    volume = make()
    host.check_output("dd if=/dev/urandom of=%s bs=1M count=400 conv=notrunc status=none", file(volume))
    write(host, file(volume), "first")
    snapshot = cloud.create_snapshot(volume_id=volume.id, name=NAME)
    settle(snapshot, "available")
    write(host, file(volume), "later")
    cloud.revert_volume_to_snapshot(volume, snapshot)
    host.check_output(UNTIL_COPYING + KILL, FOLDER)
    assert (settled(cloud, cloud.get_volume, volume), settled(cloud, cloud.get_snapshot, snapshot)) == ("available", "available")
    assert (read(host, file(volume), 5), host.check_output("ls %s/partial", FOLDER)) == ("later", "")
    cloud.revert_volume_to_snapshot(volume, snapshot)
    settle(volume, "available")
    assert read(host, file(volume), 5) == "first"


@pytest.mark.parametrize("delay", [0, 0.1, 0.3, 0.6, 1.0])
def test_a_kill_at_any_time_leaks_nothing(host, cloud, make, attach, delay):
    """The fixture counts what is left when all has been deleted."""
    volume = make()
    made = cloud.create_volume(name=NAME, size=1)
    snapshot = cloud.create_snapshot(volume_id=volume.id, name=NAME)
    time.sleep(delay)
    kill(host)
    settled(cloud, cloud.get_volume, made)
    settled(cloud, cloud.get_snapshot, snapshot)


def test_a_kill_while_attaching_leaks_nothing(host, cloud, make, attach):
    volume = make()
    # Between the two steps that it is made of: there is a device, and Cinder knows nothing of it.
    host.check_output("systemctl stop cinder-volume")
    host.check_output("runuser -u cinder -- touch %s/exported/volume-%s && losetup --find --show %s", FOLDER, volume.id, file(volume))
    host.check_output("systemctl start cinder-volume")
    end = time.monotonic() + PATIENCE
    while file(volume) in host.check_output("losetup --list --noheadings --output BACK-FILE"):
        assert time.monotonic() < end
        time.sleep(0.5)
    assert not host.file(f"{FOLDER}/exported/volume-{volume.id}").exists


READ = """
import json, sys
from cinder import objects
objects.register_all()
from cinder.common import config
from cinder.volume import configuration, driver, manager
from cinder.volume.drivers import lvm
from oslo_utils import importutils
config.CONF(["--config-file", sys.argv[1]], project="cinder")
backend = configuration.Configuration(driver.volume_opts, config_group=config.CONF.enabled_backends[0])
backend.append_config_values(manager.volume_backend_opts)
backend.append_config_values(lvm.volume_opts)
names = "volume_driver volume_group lvm_type target_protocol target_helper target_ip_address max_over_subscription_ratio volume_backend_name".split()
importutils.import_class(backend.volume_driver)
print(json.dumps({name: str(getattr(backend, name)) for name in names}))
"""


def test_cinder_reads_the_other_backend_s_file_as_it_is_meant(host):
    found = json.loads(host.check_output("runuser -u cinder -- python3 -c %s /var/lib/cinder/lvm-example.conf 2>/dev/null", READ))
    assert found == {
        "volume_driver": "cinder.volume.drivers.lvm.LVMVolumeDriver",
        "volume_group": "cinder-volumes",
        "lvm_type": "thin",
        "target_protocol": "iscsi",
        "target_helper": "tgtadm",
        "target_ip_address": host.ansible.get_variables()["mgmt_ip"],
        "max_over_subscription_ratio": "4.0",
        "volume_backend_name": "lvm",
    }
