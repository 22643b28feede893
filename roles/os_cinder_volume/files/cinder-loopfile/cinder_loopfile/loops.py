# SPDX-License-Identifier: GPL-3.0-or-later
"""Loop devices that go together with those that show them.

Servers are containers of this host. A kubelet in one makes a loop device of a raw volume's, in the same kernel, and only an orderly end of
the pod removes it: a server that stops, dies or is deleted leaves it, and it keeps the volume. Needs root.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pathlib
import struct
import typing as t

__all__ = ["release"]

_CLEAR, _STATUS = 0x4C01, 0x4C05
_SYS_BLOCK = pathlib.Path("/sys/block")


@contextlib.contextmanager
def _open(device: str) -> t.Iterator[int]:
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _shown(descriptor: int) -> int:
    """Return the number of the device that a loop device shows; 0 where it shows a file."""
    return int(struct.unpack_from("=3Q", fcntl.ioctl(descriptor, _STATUS, bytes(232)))[2])


def _clear(descriptor: int) -> None:
    number = os.fstat(descriptor).st_rdev
    for place in sorted(_SYS_BLOCK.glob("loop*/loop")):
        # A device may go while we look.
        with contextlib.suppress(OSError), _open(f"/dev/{place.parent.name}") as upper:
            if _shown(upper) == number:
                _clear(upper)
    try:
        fcntl.ioctl(descriptor, _CLEAR)
    except OSError as problem:
        if problem.errno != errno.ENXIO:
            raise


def release(device: str, file: str) -> None:
    """Detach a loop device, after those that show it; one in use goes when nobody has it open any more."""
    with _open(device) as descriptor:
        # Its number may be another file's by now. While it is open it stays what it is.
        backing = (_SYS_BLOCK / pathlib.Path(device).name / "loop/backing_file").read_text(encoding="utf-8", errors="surrogateescape")
        if backing.rstrip("\n") == file:
            _clear(descriptor)
