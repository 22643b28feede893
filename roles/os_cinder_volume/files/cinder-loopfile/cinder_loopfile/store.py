# SPDX-License-Identifier: GPL-3.0-or-later
"""Sparse files in a folder, and loop devices for those that are in use. Knows nothing of Cinder.

A kill at any step leaves no half file under a final name, and nothing that `prepare` does not find.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import os
import pathlib
import re
import threading
import time
import typing as t
import uuid

__all__ = ["COPY", "NoRoomError", "Room", "Run", "Store", "StoreError"]

# Runs a program, as root if told so, and returns what it printed; raises a StoreError where that fails.
Run = t.Callable[[t.Sequence[str], bool], str]

# Holes stay holes.
COPY = ("cp", "--reflink=auto", "--sparse=always", "--")

_LOG = logging.getLogger(__name__)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_GIB = 2**30
# Seconds.
_PATIENCE = 10.0
# How often to try another device when somebody was faster.
_ATTEMPTS = 8


class StoreError(Exception):
    """It cannot be done; the text says why, and what to do."""


class NoRoomError(StoreError):
    """There is no room for what was asked for."""


class Room(t.NamedTuple):
    """Bytes: what the files may fill, what of it is free, what was promised to them."""

    total: int
    free: int
    promised: int


class Store:
    """A folder of volumes and snapshots; `devices` is where loop devices get names that stay the same, `loop_devices` how many the host has nodes for."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        devices: str | os.PathLike[str],
        run: Run,
        *,
        over_subscription: float = 1.0,
        loop_devices: int = 128,
        sys_block: str | os.PathLike[str] = "/sys/block",
    ) -> None:
        self.folder = pathlib.Path(folder)
        self.devices = pathlib.Path(devices)
        self.over_subscription = over_subscription
        self.loop_devices = loop_devices
        self._run = run
        self._sys_block = pathlib.Path(sys_block)
        self._partial = self.folder / "partial"
        self._exported = self.folder / "exported"
        self._frozen = self.folder / "frozen"
        self._growths: dict[str, threading.Lock] = {}
        self._lock: int | None = None
        # What is being copied counts before it is there.
        self._pending = 0

    # --- the life of a store

    def prepare(self) -> list[str]:
        """Take the store over: sweep what a killed service left, attach what should be; return what was done."""
        for place in (self.folder, self._partial, self._exported, self._frozen):
            place.mkdir(mode=0o750, parents=True, exist_ok=True)
        if self._lock is None:
            self._lock = self._claim()
        done = self.thaw()
        for leftover in sorted(self._partial.iterdir()):
            leftover.unlink()
            done.append(f"removed the unfinished {leftover.name}")
        wanted = self.exports()
        unused = [name for name in self.names() if name not in wanted and self.loops(name)]
        return done + self._each(unused, self._detach_unused) + self.restore()

    def _each(self, names: t.Iterable[str], work: t.Callable[[str], list[str]]) -> list[str]:
        """Return what was done for all of them. One that fails is one server's trouble, not all servers'."""
        done = []
        for name in names:
            try:
                done += work(name)
            except (StoreError, OSError) as problem:
                _LOG.warning("%s: %s", name, problem)
        return done

    def _detach_unused(self, name: str) -> list[str]:
        self._detach(name)
        return [f"detached {name}, which nobody uses"]

    def restore(self) -> list[str]:
        """Attach what was attached when the host went down."""
        self.devices.mkdir(mode=0o755, parents=True, exist_ok=True)
        return self._each(self.exports(), self._restore_one)

    def _restore_one(self, name: str) -> list[str]:
        if not self.path(name).exists():
            self.unexport(name)
            return [f"forgot {name}, whose file is gone"]
        with self._alone(name):
            # The service may have detached it since we looked.
            if self._is_linked(name) or name not in self.exports():
                return []
            self._export(name)
            return [f"attached {name}"]

    def _claim(self) -> int:
        """Take the folder for this process: a second one would sweep away what the first is at."""
        descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        if not _locked(descriptor):
            os.close(descriptor)
            raise StoreError(f"another service keeps its volumes in {self.folder}; give each backend a folder of its own")
        return descriptor

    # --- files

    def path(self, name: str) -> pathlib.Path:
        """Return where a volume or a snapshot lies."""
        if not _NAME.fullmatch(name) or name in ("partial", "exported", "frozen"):
            raise StoreError(f"{name!r} cannot be the name of a volume")
        return self.folder / name

    def names(self) -> list[str]:
        """Return what there is."""
        return sorted(entry.name for entry in self.folder.iterdir() if _NAME.fullmatch(entry.name) and entry.is_file())

    def create(self, name: str, size: int) -> None:
        """Make an empty volume."""
        self._check_room(size)
        with self.replacing(name, size, new=True):
            pass

    def copy(self, source: str, name: str, size: int) -> None:
        """Make a volume or a snapshot with what another one holds, of at least its size; holes stay holes."""
        with self._growth(source):
            size = max(size, self.size(source))
            self._check_room(size)
            with self.replacing(name, size, new=True) as partial:
                if self.loops(source):
                    self._fill_still(source, partial)
                else:
                    self._fill(source, partial)

    def _growth(self, name: str) -> threading.Lock:
        """Return what keeps a volume from growing while it is copied, and from being copied twice at once."""
        return self._growths.setdefault(name, threading.Lock())

    def revert(self, source: str, name: str, size: int) -> None:
        """Have a volume that is not in use hold what a snapshot of it holds."""
        with self.replacing(name, max(size, self.size(source))) as partial:
            self._fill(source, partial)

    def _fill_still(self, source: str, partial: pathlib.Path) -> None:
        """Copy a file while those who write to it wait, with all on disk that they have written."""
        # Whoever comes after a kill knows by this whom to let go on.
        _touch(self._frozen / source)
        try:
            self._run(["cinder-loopfile", "copy", str(self.path(source)), str(partial)], True)
        except StoreError:
            self._thaw(source)
            raise
        (self._frozen / source).unlink()

    def thaw(self) -> list[str]:
        """Let go on whoever waits for a copy that nobody makes any more; return what was done."""
        return self._each(sorted(entry.name for entry in self._frozen.iterdir()), self._thaw)

    def _thaw(self, name: str) -> list[str]:
        # Its mark stays where it fails.
        if self.loops(name):
            self._run(["cinder-loopfile", "thaw", str(self.path(name))], True)
        with contextlib.suppress(FileNotFoundError):
            (self._frozen / name).unlink()
        return [f"let those who write to {name} go on"]

    def _fill(self, source: str, partial: pathlib.Path) -> None:
        """Copy a file in another process, which does not hold up this one. Where files can share blocks it is one atomic step."""
        self._run([*COPY, str(self.path(source)), str(partial)], False)

    @contextlib.contextmanager
    def replacing(self, name: str, size: int, *, new: bool = False) -> t.Iterator[pathlib.Path]:
        """Give a file to fill, which becomes the volume of that name in one step when the block ends well."""
        final = self.path(name)
        if new and final.exists():
            raise StoreError(f"{name} is there already")
        if not new and self.loops(name):
            raise StoreError(f"{name} is in use, so that it cannot be replaced; detach it first")
        partial = self._partial / f"{name}.{uuid.uuid4().hex}"
        pending = size if new else 0
        self._pending += pending
        try:
            os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o640))
            yield partial
            with open(partial, "r+b") as file:
                if os.fstat(file.fileno()).st_size > size:
                    raise StoreError(f"{name} is to have {size} bytes and its source has more")
                os.truncate(file.fileno(), size)
                os.fsync(file.fileno())
            if new:
                # Unlike a rename this refuses to replace what is there.
                os.link(partial, final)
            else:
                os.rename(partial, final)
            _sync_folder(self.folder)
        finally:
            self._pending -= pending
            with contextlib.suppress(FileNotFoundError):
                partial.unlink()

    def delete(self, name: str) -> None:
        """Remove a volume or a snapshot, which may be gone already."""
        self.unexport(name)
        with contextlib.suppress(FileNotFoundError):
            self.path(name).unlink()
        _sync_folder(self.folder)

    def size(self, name: str) -> int:
        """Return how large a volume looks."""
        try:
            return self.path(name).stat().st_size
        except FileNotFoundError:
            raise StoreError(f"there is no {self.path(name)}: somebody removed it") from None

    def extend(self, name: str, size: int) -> None:
        """Make a volume larger, also one in use; a volume never becomes smaller."""
        with self._growth(name):
            before = self.size(name)
            if size > before:
                self._check_room(size - before)
                with open(self.path(name), "r+b") as file:
                    os.truncate(file.fileno(), size)
                    os.fsync(file.fileno())
        # Again after a kill in between, too.
        for device in self.loops(name):
            self._run(["losetup", "--set-capacity", device], True)

    def flush(self, name: str) -> None:
        """Bring to the file what its loop device has not written yet."""
        for device in self.loops(name):
            self._run(["sync", device], True)

    def room(self) -> Room:
        """Count."""
        found = os.statvfs(self.folder)
        free = found.f_bavail * found.f_frsize
        used = promised = 0
        for name in self.names():
            with contextlib.suppress(FileNotFoundError):
                status = self.path(name).stat()
                used += status.st_blocks * 512
                promised += status.st_size
        return Room(free + used, free, promised + self._pending)

    def _check_room(self, more: int) -> None:
        """Raise unless so many bytes more may be promised."""
        room = self.room()
        limit = int(room.total * self.over_subscription)
        if room.promised + more > limit:
            raise NoRoomError(
                f"no room for {more / _GIB:.1f} GiB in {self.folder}: {room.promised / _GIB:.1f} GiB of {limit / _GIB:.1f} GiB are promised; "
                "delete volumes or snapshots, or enlarge the disk"
            )

    # --- loop devices

    def exports(self) -> list[str]:
        """Return what is, or at the next start is to be, attached."""
        return sorted(entry.name for entry in self._exported.iterdir())

    def device(self, name: str) -> pathlib.Path:
        """Return the path that a volume's device has as long as it is exported, whatever its number."""
        return self.devices / self.path(name).name

    def export(self, name: str) -> pathlib.Path:
        """Attach a volume to a loop device, unless it is; return the path of the device."""
        with self._alone(name):
            return self._export(name)

    @contextlib.contextmanager
    def _alone(self, name: str) -> t.Iterator[None]:
        """Keep others from attaching and detaching a volume: other requests to the service, and `restore` of another process."""
        try:
            descriptor = os.open(self.path(name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            # There is nothing to attach any more.
            yield
            return
        try:
            end = time.monotonic() + 2 * _PATIENCE
            # A lock that waits would hold up all else that the service does.
            while not _locked(descriptor):
                if time.monotonic() > end:
                    raise StoreError(f"somebody else has been attaching or detaching {name} for a while; try again")
                time.sleep(0.1)
            yield
        finally:
            os.close(descriptor)

    def _export(self, name: str) -> pathlib.Path:
        self.size(name)
        marked = _touch(self._exported / name)
        try:
            device = self._attached(name)
        except StoreError:
            # What a server had before has it again at the next start.
            if marked:
                (self._exported / name).unlink()
            raise
        link = self.device(name)
        fresh = link.with_name(f".{link.name}")
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        fresh.symlink_to(device)
        fresh.rename(link)
        return link

    def _attached(self, name: str) -> str:
        """Return a volume's loop device, made if there is none."""
        # A server that is being deleted lets go of its disks a moment after it was told to.
        end = time.monotonic() + _PATIENCE
        while any(self._is_ending(device) for device in self.loops(name)) and time.monotonic() < end:
            time.sleep(0.2)
        loops = self.loops(name)
        if any(self._is_ending(device) for device in loops):
            raise StoreError(f"{name} is still held open where it was detached; unmount it there and try again")
        if loops:
            return loops[0]
        try:
            return self._attach(name)
        except StoreError as problem:
            raise StoreError(f"{name} gets no loop device ({problem}); the host may have no more of them") from problem

    def unexport(self, name: str) -> None:
        """Detach a volume, which may be detached already."""
        with self._alone(name):
            with contextlib.suppress(FileNotFoundError):
                self.device(name).unlink()
            self._detach(name)
            with contextlib.suppress(FileNotFoundError):
                (self._exported / name).unlink()
                _sync_folder(self._exported)

    def loops(self, name: str) -> list[str]:
        """Return the loop devices that show a file, as the kernel tells. Names of volumes are unique, so that a path tells which file it is."""
        # As the kernel names files, whatever links lead there. What runs as root is named as the folder was: rights are given by name.
        path = os.path.realpath(self.path(name))
        found = []
        for backing in sorted(self._sys_block.glob("loop*/loop/backing_file")):
            # A device may go while we look.
            with contextlib.suppress(OSError):
                if backing.read_text(encoding="utf-8", errors="surrogateescape").rstrip("\n") == path:
                    found.append(f"/dev/{backing.parts[-3]}")
        return found

    def _is_ending(self, device: str) -> bool:
        """Tell whether a device goes as soon as nobody has it open: detached while it was in use."""
        try:
            return (self._sys_block / pathlib.Path(device).name / "loop/autoclear").read_text(encoding="utf-8").strip() == "1"
        except OSError:
            return False

    def _is_linked(self, name: str) -> bool:
        try:
            return os.readlink(self.device(name)) in self.loops(name)
        except OSError:
            return False

    def _attach(self, name: str) -> str:
        """Attach a volume to a free loop device, and return that.

        The highest one: Nova's LXC driver takes root disks from the lowest on, and when it starts a server again it first releases
        the device that this server had before, whoever has it by now. Source: teardown_container in nova/virt/disk/api.py.
        """
        numbers = reversed(range(self.loop_devices))
        free = (number for number in numbers if not (self._sys_block / f"loop{number}/loop/backing_file").exists())
        problem = StoreError(f"all {self.loop_devices} are in use")
        for number in itertools.islice(free, _ATTEMPTS):
            device = f"/dev/loop{number}"
            try:
                # Past the host's cache, where file system and kernel can: what a server has cached would be cached twice.
                self._run(["losetup", "--direct-io=on", device, str(self.path(name))], True)
            except StoreError as found:
                problem = found
            else:
                return device
        raise problem

    def _detach(self, name: str) -> None:
        # Those that are ending, too: something may have been made of them since, which keeps them.
        if self.loops(name):
            self._run(["cinder-loopfile", "detach", str(self.path(name))], True)


def _locked(descriptor: int) -> bool:
    """Take the lock of an open file, unless somebody has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _touch(path: pathlib.Path) -> bool:
    """Make an empty file that a power cut does not take; tell whether there was none."""
    if path.exists():
        return False
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o640))
    _sync_folder(path.parent)
    return True


def _sync_folder(folder: pathlib.Path) -> None:
    """Bring to disk which names a folder has."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
