# SPDX-License-Identifier: GPL-3.0-or-later
"""File systems on a loop device that hold still while its file is copied, as they do for a snapshot of device mapper.

Servers are containers of this host, so their mounts are this kernel's. Needs root.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pathlib
import re
import typing as t

__all__ = ["still", "thaw"]

_FREEZE, _THAW = 0xC0045877, 0xC0045878


def _open(device: str, proc: pathlib.Path) -> int | None:
    """Open the file system that is on a device wherever somebody has it mounted; None where nobody has."""
    number = os.stat(device).st_rdev
    name = f"{os.major(number)}:{os.minor(number)}"
    for process in proc.iterdir():
        if not process.name.isdigit():
            continue
        # A process may end while we look.
        with contextlib.suppress(OSError):
            for line in (process / "mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
                words = line.split()
                if words[2] != name:
                    continue
                place = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), words[4])
                descriptor = os.open(f"{process}/root{place}", os.O_RDONLY | os.O_CLOEXEC)
                # Another file system may be mounted over it.
                if os.fstat(descriptor).st_dev == number:
                    return descriptor
                os.close(descriptor)
    return None


def _tell(descriptor: int, word: int, fine: t.Container[int | None]) -> bool:
    try:
        fcntl.ioctl(descriptor, word, 0)
    except OSError as problem:
        if problem.errno not in fine:
            raise
        return False
    return True


@contextlib.contextmanager
def still(device: str, proc: pathlib.Path = pathlib.Path("/proc")) -> t.Iterator[bool]:
    """Bring to disk what was written, and let writers wait while the block runs; tell whether somebody has a file system there that does."""
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # What was written past any file system.
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    # Open it cannot be unmounted: one that is frozen when its last mount goes stays frozen, and nobody finds it any more.
    place = _open(device, proc)
    if place is None:
        yield False
        return
    frozen = False
    try:
        frozen = _tell(place, _FREEZE, (errno.EBUSY, errno.EOPNOTSUPP))
        yield frozen
    finally:
        if frozen:
            _tell(place, _THAW, (errno.EINVAL,))
        os.close(place)


def thaw(device: str, proc: pathlib.Path = pathlib.Path("/proc")) -> bool:
    """Let writers go on for whom a process waited that is gone; tell whether they waited."""
    place = _open(device, proc)
    if place is None:
        _check_free(device)
        return False
    try:
        return _tell(place, _THAW, (errno.EINVAL,))
    finally:
        os.close(place)


def _check_free(device: str) -> None:
    """Raise if a file system is on a device although nobody has it mounted: a frozen one."""
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as problem:
        if problem.errno != errno.EBUSY:
            raise
        raise OSError(
            problem.errno, "a file system is held there that is mounted nowhere; mount it where it was, and restart the service", device
        ) from None
