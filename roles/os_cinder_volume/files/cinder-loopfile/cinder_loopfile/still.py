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

__all__ = ["freeze", "thaw"]

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


def _tell(device: str, word: int, fine: t.Container[int | None], proc: pathlib.Path) -> bool:
    descriptor = _open(device, proc)
    if descriptor is None:
        return False
    try:
        fcntl.ioctl(descriptor, word, 0)
    except OSError as problem:
        if problem.errno not in fine:
            raise
        return False
    finally:
        os.close(descriptor)
    return True


def freeze(device: str, proc: pathlib.Path = pathlib.Path("/proc")) -> bool:
    """Bring to disk what was written, and let writers wait; tell whether somebody has a file system there that does."""
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # What was written past any file system.
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return _tell(device, _FREEZE, (errno.EBUSY, errno.EOPNOTSUPP), proc)


def thaw(device: str, proc: pathlib.Path = pathlib.Path("/proc")) -> bool:
    """Let writers go on; tell whether they waited."""
    return _tell(device, _THAW, (errno.EINVAL,), proc)
