# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes as sparse files: what their store keeps, refuses, and finds again after a kill at any step."""

from __future__ import annotations

import configparser
import contextlib
import functools
import importlib
import itertools
import os
import pathlib
import re
import subprocess
import sys
import threading
import time
import typing as t
from unittest import mock

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

PACKAGE = pathlib.Path(__file__).parents[2] / "roles/os_cinder_volume/files/cinder-loopfile"
MIB = 2**20
VOLUME, OTHER, SNAPSHOT = "volume-11111111-1111-4111-8111-111111111111", "volume-2222", "snapshot-3333"


@pytest.fixture(scope="module")
def package():
    sys.path.insert(0, str(PACKAGE))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(PACKAGE))


@pytest.fixture(scope="module")
def store(package):
    return package("cinder_loopfile.store")


LOOPS = 8


class Kernel:
    """Loop devices as sysfs shows them, and the two programs that make and remove them."""

    def __init__(self, folder: pathlib.Path, error: type[Exception]) -> None:
        self.sys_block, self.error = folder, error
        # By others, a moment ago.
        self.taken: set[str] = set()
        self.calls: list[t.Sequence[str]] = []
        self.as_root: list[t.Sequence[str]] = []
        self.full = False
        self.stuck: set[str] = set()
        self.meanwhile: t.Callable[[], None] = lambda: None
        folder.mkdir()

    def attached(self) -> dict[str, str]:
        return {place.parts[-3]: place.read_text().strip() for place in self.sys_block.glob("loop*/loop/backing_file")}

    def run(self, argv: t.Sequence[str], root: bool) -> str:
        self.calls.append(argv)
        if root:
            self.as_root.append(argv)
        if argv[:2] == ["losetup", "--direct-io=on"]:
            loop = pathlib.Path(argv[2]).name
            if loop in self.attached() or loop in self.taken:
                raise self.error("Device or resource busy")
            (self.sys_block / loop / "loop").mkdir(parents=True, exist_ok=True)
            (self.sys_block / loop / "loop/backing_file").write_text(os.path.realpath(argv[-1]) + "\n")
            (self.sys_block / loop / "loop/autoclear").write_text("0\n")
            return ""
        if argv[:2] == ["cinder-loopfile", "detach"]:
            for loop, file in self.attached().items():
                if file == os.path.realpath(argv[2]):
                    (self.sys_block / loop / "loop/backing_file").unlink()
            return ""
        if argv[:2] == ["cinder-loopfile", "thaw"] and argv[2] in self.stuck:
            raise self.error("mounted nowhere")
        if argv[0] == "cp" or argv[:2] == ["cinder-loopfile", "copy"]:
            assert root == (argv[0] != "cp")
            self.meanwhile()
            if self.full:
                pathlib.Path(argv[-1]).write_bytes(b"half")
                raise self.error("cp: No space left on device")
            subprocess.run(["cp", "--sparse=always", *argv[-2:]], check=True)
        return ""


@pytest.fixture
def kernel(tmp_path, store):
    return Kernel(tmp_path / "sys", store.StoreError)


@pytest.fixture
def make(tmp_path, store, kernel):
    """Return a maker of stores on the same folder: a service that was killed leaves its folder to the next one."""
    made = []

    def new(**options):
        for old in made:
            if old._lock is not None:
                os.close(old._lock)
                old._lock = None
        new_one = store.Store(
            tmp_path / "volumes", tmp_path / "devices", kernel.run, loop_devices=LOOPS, sys_block=kernel.sys_block, **options
        )
        made.append(new_one)
        return new_one

    yield new
    new()


@pytest.fixture
def volumes(make):
    fresh = make()
    fresh.prepare()
    return fresh


def test_a_volume_takes_no_disk_until_it_is_written(volumes):
    volumes.create(VOLUME, 64 * MIB)
    status = volumes.path(VOLUME).stat()
    assert (status.st_size, status.st_blocks, status.st_mode & 0o007) == (64 * MIB, 0, 0)


def test_a_volume_is_not_made_twice(volumes, store):
    volumes.create(VOLUME, MIB)
    volumes.path(VOLUME).write_bytes(b"data")
    with pytest.raises(store.StoreError, match="is there already"):
        volumes.create(VOLUME, MIB)
    assert volumes.path(VOLUME).read_bytes() == b"data"


def test_names_cannot_leave_the_folder(volumes, store):
    for name in ("../x", "a/b", "", ".lock", "partial"):
        with pytest.raises(store.StoreError, match="cannot be the name"):
            volumes.create(name, MIB)


def test_a_snapshot_keeps_what_was_there_and_a_volume_of_it_may_be_larger(volumes):
    volumes.create(VOLUME, 4 * MIB)
    with open(volumes.path(VOLUME), "r+b") as file:
        file.seek(2 * MIB)
        file.write(b"before")
    volumes.copy(VOLUME, SNAPSHOT, 4 * MIB)
    with open(volumes.path(VOLUME), "r+b") as file:
        file.seek(2 * MIB)
        file.write(b"after!")
    volumes.copy(SNAPSHOT, OTHER, 8 * MIB)
    data = volumes.path(OTHER).read_bytes()
    assert (len(data), data[2 * MIB : 2 * MIB + 6]) == (8 * MIB, b"before")
    assert volumes.path(OTHER).stat().st_blocks * 512 < MIB
    volumes.revert(SNAPSHOT, VOLUME, 4 * MIB)
    assert volumes.path(VOLUME).read_bytes()[2 * MIB : 2 * MIB + 6] == b"before"


def test_a_copy_is_never_smaller_than_its_source(volumes):
    volumes.create(VOLUME, 4 * MIB)
    volumes.copy(VOLUME, OTHER, MIB)
    assert volumes.size(OTHER) == 4 * MIB


def test_what_is_in_use_holds_still_while_it_is_copied(volumes, kernel):
    volumes.create(VOLUME, MIB)
    volumes.export(VOLUME)
    volumes.copy(VOLUME, SNAPSHOT, MIB)
    assert (kernel.calls[-1][:3], volumes.names()) == (["cinder-loopfile", "copy", str(volumes.path(VOLUME))], [SNAPSHOT, VOLUME])
    assert volumes.thaw() == []


@pytest.mark.parametrize("in_use", [False, True])
def test_a_volume_grows_after_it_was_copied(volumes, kernel, in_use):
    volumes.create(VOLUME, MIB)
    if in_use:
        volumes.export(VOLUME)
    growing = threading.Thread(target=volumes.extend, args=(VOLUME, 2 * MIB))

    def grow():
        growing.start()
        growing.join(0.2)
        assert growing.is_alive()

    kernel.meanwhile = grow
    volumes.copy(VOLUME, SNAPSHOT, MIB)
    growing.join(10)
    assert (volumes.size(SNAPSHOT), volumes.size(VOLUME)) == (MIB, 2 * MIB)


def test_writers_go_on_after_a_copy_that_failed_or_was_killed(volumes, kernel, store, make):
    volumes.create(VOLUME, MIB)
    volumes.export(VOLUME)
    kernel.full = True
    with pytest.raises(store.StoreError, match="No space left"):
        volumes.copy(VOLUME, SNAPSHOT, MIB)
    assert kernel.calls[-1] == ["cinder-loopfile", "thaw", str(volumes.path(VOLUME))]
    (volumes.folder / "frozen" / VOLUME).touch()
    assert make().prepare() == [f"let those who write to {VOLUME} go on"]
    assert kernel.calls[-1] == ["cinder-loopfile", "thaw", str(volumes.path(VOLUME))]


def test_who_cannot_go_on_is_remembered_and_no_one_else_s_trouble(volumes, make, kernel, caplog):
    for name in (VOLUME, OTHER):
        volumes.create(name, MIB)
        volumes.export(name)
        (volumes.folder / "frozen" / name).touch()
    kernel.stuck = {str(volumes.path(VOLUME))}
    again = make()
    assert again.prepare() == [f"let those who write to {OTHER} go on"]
    assert f"{VOLUME}: mounted nowhere" in caplog.text
    kernel.stuck = set()
    assert again.thaw() == [f"let those who write to {VOLUME} go on"]


def test_a_failed_copy_leaves_nothing(volumes, store, kernel):
    volumes.create(VOLUME, MIB)
    kernel.full = True
    before = volumes.room().promised
    with pytest.raises(store.StoreError, match="No space left"):
        volumes.copy(VOLUME, SNAPSHOT, MIB)
    assert volumes.names() == [VOLUME]
    assert list((volumes.folder / "partial").iterdir()) == []
    assert volumes.room().promised == before


def test_an_image_replaces_a_volume_in_one_step_and_not_one_in_use(volumes, store):
    volumes.create(VOLUME, 4 * MIB)
    with volumes.replacing(VOLUME, 4 * MIB) as partial:
        partial.write_bytes(b"image")
        assert volumes.path(VOLUME).stat().st_blocks == 0
    data = volumes.path(VOLUME).read_bytes()
    assert (len(data), data[:5]) == (4 * MIB, b"image")
    with pytest.raises(store.StoreError, match="its source has more"), volumes.replacing(VOLUME, MIB) as partial:
        partial.write_bytes(b"x" * (MIB + 1))
    volumes.export(VOLUME)
    with pytest.raises(store.StoreError, match="in use"), volumes.replacing(VOLUME, MIB):
        pass


def test_room_is_what_the_disk_has_times_the_ratio(volumes, store, make):
    room = volumes.room()
    volumes.create(VOLUME, room.total // 2)
    with pytest.raises(store.NoRoomError, match=r"no room for .* GiB in .* are promised; delete volumes"):
        volumes.create(OTHER, room.total // 2 + 2 * MIB)
    with pytest.raises(store.NoRoomError):
        volumes.extend(VOLUME, room.total * 2)
    with pytest.raises(store.NoRoomError):
        volumes.copy(VOLUME, SNAPSHOT, room.total)
    assert volumes.names() == [VOLUME]
    generous = make(over_subscription=4.0)
    generous.create(OTHER, room.total)
    assert generous.room().promised == room.total // 2 + room.total


def test_what_is_being_copied_counts(volumes, store):
    room = volumes.room()
    with volumes.replacing(VOLUME, room.total // 2 + MIB, new=True), pytest.raises(store.NoRoomError):
        volumes.create(OTHER, room.total // 2 + MIB)


def test_extending_reaches_a_device_in_use_and_nothing_shrinks(volumes, kernel):
    volumes.create(VOLUME, MIB)
    volumes.export(VOLUME)
    volumes.extend(VOLUME, 2 * MIB)
    assert (volumes.size(VOLUME), kernel.calls[-1]) == (2 * MIB, ["losetup", "--set-capacity", "/dev/loop7"])
    volumes.extend(VOLUME, MIB)
    assert volumes.size(VOLUME) == 2 * MIB


def test_a_device_keeps_its_name_when_its_number_changes(volumes, kernel, make):
    volumes.create(VOLUME, MIB)
    volumes.create(OTHER, MIB)
    path = volumes.export(OTHER)
    assert (volumes.export(OTHER), os.readlink(path)) == (path, "/dev/loop7")
    # The host restarts: no loop device, nothing below /run, and another volume gets the first number.
    kernel.run(["cinder-loopfile", "detach", str(volumes.path(OTHER))], True)
    path.unlink()
    volumes.export(VOLUME)
    assert make().restore() == [f"attached {OTHER}"]
    assert os.readlink(path) == "/dev/loop6"
    assert make().restore() == []


def test_two_that_attach_and_detach_a_volume_do_so_in_turn(volumes, store, kernel, tmp_path, monkeypatch):
    """The service detaches it while the host's start attaches it."""
    volumes.create(VOLUME, MIB)
    volumes.export(VOLUME)
    start = store.Store(tmp_path / "volumes", tmp_path / "devices", kernel.run, loop_devices=LOOPS, sys_block=kernel.sys_block)
    real, restoring = volumes._run, threading.Thread(target=start.restore)

    def run(argv, root):
        restoring.start()
        restoring.join(0.3)
        assert restoring.is_alive()
        return real(argv, root)

    monkeypatch.setattr(volumes, "_run", run)
    volumes.unexport(VOLUME)
    restoring.join(10)
    assert (volumes.exports(), kernel.attached(), list(volumes.devices.iterdir())) == ([], {}, [])
    monkeypatch.setattr(store, "_PATIENCE", 0.0)
    with volumes._alone(VOLUME), pytest.raises(store.StoreError, match="somebody else has been attaching"):
        start.export(VOLUME)


def test_the_command_restores_what_it_can(volumes, kernel, package, monkeypatch, capsys, caplog):
    command = package("cinder_loopfile.command")
    monkeypatch.setattr(command, "run", kernel.run)
    original = package("cinder_loopfile.store").Store
    monkeypatch.setattr(command.store, "Store", lambda *args: original(*args, loop_devices=1, sys_block=kernel.sys_block))
    for name in (VOLUME, OTHER):
        volumes.create(name, MIB)
        (volumes.folder / "exported" / name).touch()
    (volumes.folder / "exported/volume-gone").touch()
    assert command.main(["restore", "--folder", str(volumes.folder), "--devices", str(volumes.devices)]) == 0
    told = capsys.readouterr()
    assert (f"attached {VOLUME}" in told.out, "forgot volume-gone" in told.out) == (True, True)
    assert f"{OTHER} gets no loop device" in caplog.text
    # There may be one at the next start.
    assert volumes.exports() == [VOLUME, OTHER]


def test_somebody_else_was_faster(volumes, kernel):
    kernel.taken = {"loop7", "loop5"}
    volumes.create(VOLUME, MIB)
    volumes.create(OTHER, MIB)
    assert [os.readlink(volumes.export(name)) for name in (VOLUME, OTHER)] == ["/dev/loop6", "/dev/loop4"]


def test_no_loop_device_is_told_and_forgotten(volumes, store, kernel):
    kernel.taken = {f"loop{number}" for number in range(LOOPS)}
    volumes.create(VOLUME, MIB)
    with pytest.raises(store.StoreError, match="gets no loop device"):
        volumes.export(VOLUME)
    assert volumes.exports() == []


def test_a_volume_that_is_still_open_where_it_was_is_not_attached_again(volumes, store, kernel, monkeypatch):
    volumes.create(VOLUME, MIB)
    volumes.export(VOLUME)
    (kernel.sys_block / "loop7/loop/autoclear").write_text("1\n")
    monkeypatch.setattr(store, "_PATIENCE", 0.0)
    with pytest.raises(store.StoreError, match="still held open"):
        volumes.export(VOLUME)


def test_one_that_cannot_be_attached_is_not_all_servers_trouble(volumes, store, kernel, monkeypatch, caplog, make):
    for name in (VOLUME, OTHER):
        volumes.create(name, MIB)
        volumes.export(name)
    (kernel.sys_block / "loop7/loop/autoclear").write_text("1\n")
    (kernel.sys_block / "loop6/loop/backing_file").unlink()
    volumes.device(VOLUME).unlink()
    monkeypatch.setattr(store, "_PATIENCE", 0.0)
    assert make().prepare() == [f"attached {OTHER}"]
    assert f"{VOLUME} is still held open" in caplog.text
    assert volumes.exports() == [VOLUME, OTHER]


def test_a_volume_that_is_let_go_of_meanwhile_is(volumes, store, kernel, monkeypatch):
    volumes.create(VOLUME, MIB)
    volumes.export(VOLUME)
    (kernel.sys_block / "loop7/loop/autoclear").write_text("1\n")
    monkeypatch.setattr(store.time, "sleep", lambda _: (kernel.sys_block / "loop7/loop/backing_file").unlink())
    assert volumes.loops(VOLUME) == ["/dev/loop7"]
    volumes.export(VOLUME)
    assert (volumes.loops(VOLUME), volumes._is_ending("/dev/loop7")) == (["/dev/loop7"], False)


def test_deleting_and_detaching_twice_is_no_error(volumes, kernel):
    volumes.create(VOLUME, MIB)
    volumes.export(VOLUME)
    for _ in range(2):
        volumes.unexport(VOLUME)
    volumes.export(VOLUME)
    for _ in range(2):
        volumes.delete(VOLUME)
    assert (volumes.names(), volumes.exports(), kernel.attached(), list(volumes.devices.iterdir())) == ([], [], {}, [])


def test_a_file_that_somebody_removed_is_named(volumes, store):
    for use in (volumes.export, volumes.size, lambda name: volumes.extend(name, MIB), lambda name: volumes.copy(name, OTHER, MIB)):
        with pytest.raises(store.StoreError, match=f"there is no .*{VOLUME}"):
            use(VOLUME)
    assert volumes.exports() == []


def test_two_services_do_not_share_a_folder(volumes, tmp_path, store, kernel):
    second = store.Store(tmp_path / "volumes", tmp_path / "devices", kernel.run, loop_devices=LOOPS, sys_block=kernel.sys_block)
    with pytest.raises(store.StoreError, match="a folder of its own"):
        second.prepare()
    assert volumes.prepare() == []


def killed_after(steps: int, work: t.Callable[[], None], targets: t.Sequence[tuple[t.Any, str]]) -> bool:
    """Do work in another process, which ends without a word before its n-th step; tell whether it came so far."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    left = steps

    def counted(function: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
        def call(*args: t.Any, **options: t.Any) -> t.Any:
            nonlocal left
            left -= 1
            if left < 0:
                os._exit(9)
            return function(*args, **options)

        return call

    for target, name in targets:
        setattr(target, name, counted(getattr(target, name)))
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


WORK: t.Mapping[str, t.Callable[[t.Any], t.Any]] = {
    "create": lambda store: store.create(OTHER, MIB),
    "snapshot": lambda store: store.copy(VOLUME, SNAPSHOT, MIB),
    "snapshot in use": lambda store: store.copy("volume-attached", SNAPSHOT, MIB),
    "revert": lambda store: store.revert("snapshot-before", VOLUME, MIB),
    "attach": lambda store: store.export(VOLUME),
    "detach": lambda store: store.unexport("volume-attached"),
    "extend": lambda store: store.extend("volume-attached", 2 * MIB),
    "delete": lambda store: store.delete(VOLUME),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of a fork beside threads
@pytest.mark.parametrize("work", WORK)
def test_a_kill_at_any_step_leaves_nothing_half(work, make, kernel, store):
    volumes = make()
    volumes.prepare()
    step, ended = 0, False
    while not ended:
        for name in volumes.names():
            volumes.delete(name)
        for name in (VOLUME, "volume-attached"):
            volumes.create(name, MIB)
            volumes.path(name).write_bytes(b"x" * MIB)
        volumes.export("volume-attached")
        volumes.create("snapshot-before", MIB)
        volumes.path("snapshot-before").write_bytes(b"y" * MIB)
        targets = [
            *((os, name) for name in ("open", "truncate", "fsync", "link", "rename", "readlink")),
            *((pathlib.Path, name) for name in ("unlink", "symlink_to", "rename")),
            (volumes, "_run"),
        ]
        ended = not killed_after(step, functools.partial(WORK[work], volumes), targets)
        volumes = make()
        volumes.prepare()
        assert {volumes.size(name) for name in volumes.names()} <= {MIB, 2 * MIB}, step
        if work == "revert":
            assert volumes.path(VOLUME).read_bytes() in (b"x" * MIB, b"y" * MIB), step
        if SNAPSHOT in volumes.names():
            assert volumes.path(SNAPSHOT).read_bytes() == b"x" * MIB, step
        assert [*(volumes.folder / "partial").iterdir(), *(volumes.folder / "frozen").iterdir()] == [], step
        assert sorted(kernel.attached().values()) == [str(volumes.path(name)) for name in volumes.exports()], step
        assert sorted(place.name for place in volumes.devices.iterdir() if not place.name.startswith(".")) == volumes.exports(), step
        # Whoever asked asks again.
        if not (work in ("create", "snapshot", "snapshot in use") and {OTHER, SNAPSHOT} & set(volumes.names())):
            WORK[work](volumes)
        step += 1
    assert step > 2


def real_loops() -> bool:
    return os.geteuid() == 0 and subprocess.run(["losetup", "--find"], capture_output=True, check=False).returncode == 0


@pytest.fixture
def real(tmp_path, store, package):
    """Return a store with the kernel's own loop devices, whose rights we have."""
    command = package("cinder_loopfile.command")

    def run(argv, root):
        if argv[0] == "cinder-loopfile":
            assert command.main(argv[1:]) == 0
            return ""
        return command.run(argv, root)

    volumes = store.Store(tmp_path / "volumes", tmp_path / "devices", run)
    volumes.prepare()
    yield volumes
    os.close(volumes._lock)


def gone(volumes: t.Any, name: str) -> bool:
    """Wait a moment: a device that somebody looks at goes when he has."""
    end = time.monotonic() + 10
    while volumes.loops(name) and time.monotonic() < end:
        time.sleep(0.1)
    return not volumes.loops(name)


@pytest.mark.skipif(not real_loops(), reason="loop devices are root's")
def test_it_works_with_the_kernel_s_own(real):
    volumes = real
    volumes.create(VOLUME, 8 * MIB)
    device = volumes.export(VOLUME)
    try:
        device.write_bytes(b"through the device")
        volumes.extend(VOLUME, 16 * MIB)
        with open(device, "rb") as file:
            assert file.seek(0, os.SEEK_END) == 16 * MIB
    finally:
        volumes.delete(VOLUME)
    assert gone(volumes, VOLUME)


@pytest.mark.skipif(not real_loops(), reason="loop devices are root's")
def test_a_volume_goes_with_what_a_server_made_of_its_device(real):
    real.create(VOLUME, 8 * MIB)
    real.create(OTHER, 8 * MIB)
    free = (f"/dev/loop{number}" for number in range(99, 0, -1) if not os.path.exists(f"/sys/block/loop{number}/loop"))
    made = list(itertools.islice(free, 2))
    for name, device in zip((VOLUME, OTHER), made, strict=True):
        subprocess.run(["losetup", device, real.export(name)], check=True)
    try:
        # One is detached while it is open, and its device was told to go before.
        with open(made[0], "rb"):
            subprocess.run(["losetup", "--detach", os.readlink(real.device(VOLUME))], check=True)
            real.unexport(VOLUME)
            assert real.loops(VOLUME) != []
        assert gone(real, VOLUME)
        assert pathlib.Path(f"/sys/block/{pathlib.Path(made[1]).name}/loop/backing_file").exists()
    finally:
        for name in (VOLUME, OTHER):
            real.delete(name)
    assert gone(real, OTHER)


@pytest.fixture
def driver(volumes, package, monkeypatch):
    """Return Cinder's end of it, without Cinder."""

    class Base:
        def __init__(self) -> None:
            self.configuration = mock.MagicMock()

    names = ("cinder", "cinder.image", "cinder.objects", "cinder.volume", "oslo_concurrency", "oslo_config", "oslo_log")
    for name in names:
        monkeypatch.setitem(sys.modules, name, mock.MagicMock())
    sys.modules["oslo_config"].cfg.CONF.init_host_max_objects_retrieval = 0
    sys.modules["cinder"].interface.volumedriver = lambda made: made
    sys.modules["cinder"].exception.VolumeBackendAPIException = RuntimeError
    sys.modules["cinder"].exception.VolumeNotFound = type("VolumeNotFound", (Exception,), {"__init__": lambda self, **_: None})
    sys.modules["cinder.objects"].fields.SnapshotStatus = mock.Mock(
        DELETING="deleting", RESTORING="restoring", AVAILABLE="available", ERROR="error"
    )
    sys.modules["cinder.objects"].fields.VolumeAttachStatus = mock.Mock(ATTACHED="attached")
    sys.modules["cinder.volume"].driver.VolumeDriver = Base
    sys.modules["oslo_concurrency"].processutils.ProcessExecutionError = OSError
    monkeypatch.delitem(sys.modules, "cinder_loopfile.driver", raising=False)
    made = package("cinder_loopfile.driver").LoopFileDriver()
    made._store = volumes
    yield made
    del sys.modules["cinder_loopfile.driver"]


def entry(name: str, status: str = "available", **more: t.Any) -> mock.Mock:
    """Return what Cinder knows of a volume or a snapshot."""
    made = mock.Mock(**{"status": status, "attach_status": "detached", "volume_attachment": [], **more})
    # Which Mock means for itself.
    made.name = name
    return made


def test_a_service_starts_although_one_volume_cannot_be_detached(driver, volumes, monkeypatch):
    for name in (VOLUME, OTHER):
        volumes.create(name, MIB)
        volumes.export(name)
    real = volumes._run

    def run(argv, root):
        if argv[-1] == str(volumes.path(VOLUME)):
            raise OSError("no")
        return real(argv, root)

    monkeypatch.setattr(volumes, "_run", run)
    assert driver.update_provider_info([entry(VOLUME), entry(OTHER)], []) == (None, None)
    assert volumes.exports() == [VOLUME]


def test_a_volume_stays_attached_however_it_was(driver, volumes):
    one, two, three = (
        entry(VOLUME, attach_status="attached"),
        entry(OTHER, volume_attachment=[mock.Mock(connector={"host": "here"})]),
        entry("left"),
    )
    two.volume_attachment.append(mock.Mock(connector=None))
    three.volume_attachment = [mock.Mock(connector=None)]
    for name in (VOLUME, OTHER, "left"):
        volumes.create(name, MIB)
        volumes.export(name)
    driver.update_provider_info([one, two, three], [])
    assert volumes.exports() == [VOLUME, OTHER]


def test_a_revert_that_was_killed_is_over(driver):
    volume, snapshot = entry(VOLUME, "reverting"), entry(SNAPSHOT, "restoring")
    driver.update_provider_info([volume], [snapshot])
    assert (volume.status, snapshot.status) == ("available", "available")
    assert (volume.save.call_count, snapshot.save.call_count) == (1, 1)
    assert driver.snapshot_revert_use_temp_snapshot() is False


class Volume(mock.Mock):
    """A volume as Cinder hands it to the driver."""

    exists = mock.Mock(return_value=True)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("way", ["create_volume", "create_volume_from_snapshot", "create_cloned_volume"])
def test_a_volume_that_was_deleted_while_it_was_made_leaves_nothing(driver, volumes, monkeypatch, way, known):
    monkeypatch.setattr(Volume, "exists", mock.Mock(return_value=known))
    monkeypatch.setattr(sys.modules["cinder_loopfile.driver"], "GIB", MIB)
    volumes.create(OTHER, MIB)
    volume, source = Volume(size=1), Volume(size=1)
    volume.name, source.name = VOLUME, OTHER
    with contextlib.nullcontext() if known else pytest.raises(sys.modules["cinder"].exception.VolumeNotFound):
        getattr(driver, way)(*[volume, source][: 1 if way == "create_volume" else 2])
    assert volumes.names() == sorted([OTHER, *[VOLUME] * known])


def test_files_that_nobody_knows_of_are_told_and_stay(driver, volumes):
    for name in (VOLUME, OTHER, SNAPSHOT):
        volumes.create(name, MIB)
    driver.update_provider_info([entry(VOLUME)], [entry(SNAPSHOT)])
    told = [call.args for call in sys.modules["cinder_loopfile.driver"].LOG.warning.call_args_list]
    assert [words[1] for words in told if words[0].startswith("Nobody knows")] == [volumes.path(OTHER)]
    assert OTHER in volumes.names()


# In a namespace of its own, as servers are. A copy begins, and waits until it is told to go on.
STILL = """
set -eu
python=$1 place=$2/place PATH=$2:$PATH device=$4 image=$5
export PYTHONPATH=$3
cd "$2"
mkdir place
mkfifo go
printf '#!/bin/sh\necho $$ >%s/begun\nread line <%s/go\nexec /bin/cp "$@"\n' "$2" "$2" >cp
chmod +x cp
mkfs.ext4 -q "$device"
copy=
trap 'kill $copy 2>/dev/null || true; umount -l "$place" 2>/dev/null || true' EXIT
mount "$device" "$place"
echo before >place/file
loopfile() { "$python" -m cinder_loopfile.command "$@"; }
"$python" -m cinder_loopfile.command copy "$image" "$2/copy" & copy=$!
timeout 20 sh -c 'until [ -s begun ]; do sleep 0.05; done'
"""


def still(script: str, volumes: t.Any) -> tuple[list[str], str]:
    volumes.create(VOLUME, 32 * MIB)
    folder, device = volumes.folder.parent, os.path.realpath(volumes.export(VOLUME))
    argv = ["unshare", "--mount", "sh", "-c", STILL + script, "sh", sys.executable, folder, PACKAGE, device, volumes.path(VOLUME)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
        return done.stdout.splitlines(), done.stderr
    finally:
        volumes.delete(VOLUME)


@pytest.mark.skipif(not real_loops(), reason="loop devices and mounts are root's")
def test_a_file_system_holds_still_and_stays(real):
    script = """
umount "$place" 2>/dev/null || echo stays
(echo after >place/file) & writer=$!
sleep 0.3
kill -0 $writer && echo waits
echo >go
wait $copy
wait $writer
# What was there, without a mount that would replay a journal.
debugfs -R 'cat /file' copy 2>/dev/null
cat place/file
umount "$place" && loopfile thaw "$image" && echo goes
"""
    assert still(script, real) == (["stays", "waits", "before", "after", "goes"], "")


@pytest.mark.skipif(not real_loops(), reason="loop devices and mounts are root's")
def test_a_file_system_that_went_while_it_was_frozen_is_told(real):
    script = """
kill -KILL $copy $(cat begun)
wait $copy 2>/dev/null || umount "$place"
loopfile thaw "$image" 2>&1 || true
# It is the same one.
mount "$device" "$place"
loopfile thaw "$image"
echo after >place/file
cat place/file
"""
    told, problem = still(script, real)
    assert ("is held there that is mounted nowhere" in told[0], told[1:], problem) == (True, ["after"], "")


@pytest.mark.parametrize("given", ["/volumes", "/link", "/volumes/", "/./volumes//"])
def test_rootwrap_lets_it_do_what_it_does(root, tmp_path, store, kernel, given):
    """Also where the folder is a link, or is written in another way."""
    (tmp_path / "volumes").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "volumes")
    variables = yaml.safe_load((root / "roles/os_cinder_volume/vars/main.yml").read_text(encoding="utf-8"))
    templar = Templar(DataLoader(), variables={"ansible_managed": "", "os_cinder_volume_dir": f"{tmp_path}{given}"})
    folder = templar.template(trust_as_template(variables["_os_cinder_volume_dir"]))
    templar.available_variables["_os_cinder_volume_dir"] = folder
    template = (root / "roles/os_cinder_volume/templates/loopfile.filters.j2").read_text(encoding="utf-8")
    rules = configparser.ConfigParser(interpolation=None)
    rules.read_string(templar.template(trust_as_template(template)))
    # Kind, program, user, and an expression for each word.
    allowed = [[word.strip() for word in rule.split(",")][3:] for rule in rules["Filters"].values()]

    volumes = store.Store(folder, tmp_path / "devices", kernel.run, loop_devices=LOOPS, sys_block=kernel.sys_block)
    volumes.prepare()
    volumes.create(VOLUME, MIB)
    volumes.export(VOLUME)
    volumes.extend(VOLUME, 2 * MIB)
    volumes.copy(VOLUME, SNAPSHOT, MIB)
    volumes.flush(VOLUME)
    (volumes.folder / "frozen" / VOLUME).touch()
    volumes.thaw()
    volumes.delete(VOLUME)
    os.close(volumes._lock)
    assert [argv[:2] for argv in kernel.as_root] == [
        ["losetup", "--direct-io=on"],
        ["losetup", "--set-capacity"],
        ["cinder-loopfile", "copy"],
        ["sync", "/dev/loop7"],
        ["cinder-loopfile", "thaw"],
        ["cinder-loopfile", "detach"],
    ]
    for argv in kernel.as_root:
        assert [rule for rule in allowed if len(rule) == len(argv) and all(re.fullmatch(*each) for each in zip(rule, argv, strict=True))], (
            argv
        )
    assert kernel.attached() == {}


def test_nova_leaves_volumes_alone_that_are_roots(root):
    """It detaches whatever has one of these words in its path: teardown_container in nova/virt/disk/api.py."""
    variables = yaml.safe_load((root / "roles/os_cinder_volume/vars/main.yml").read_text(encoding="utf-8"))
    assert [word for word in ("loop", "nbd") if word in variables["_os_cinder_volume_devices"]] == []


def test_the_wait_for_the_service_is_not_a_controller_s_to_skip(root):
    """What runs once runs on the play's first host, by that one's conditions."""
    plays = yaml.safe_load((root / "playbooks/openstack.yaml").read_text(encoding="utf-8"))
    hosts = [play["hosts"] for play in plays for role in play.get("roles", ()) if role["role"] == "kos.labs.os_cinder_volume"]
    assert hosts == ["storage"]
