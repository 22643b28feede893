# SPDX-License-Identifier: GPL-3.0-or-later
"""What a command asks of the machine it runs on, and the packages it adds to it."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import platform
import shutil
import subprocess
import typing as t

from kos import KosError

__all__ = ["Host", "Needs", "check", "install", "probe", "sandbox_needs"]

GB = 10**9
# What a sandbox takes: memory, disk, and disk once it stands.
_MEMORY, _DISK, _DISK_TO_GO_ON = 10, 40, 5


@dataclasses.dataclass(frozen=True)
class Host:
    """What matters about a machine."""

    system: str
    machine: str
    root: bool
    has_apt: bool
    memory: int
    free: t.Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a command wants of a machine; sizes are in bytes, 0 means any."""

    machines: tuple[str, ...] = ("x86_64", "aarch64")
    root: bool = False
    apt: bool = False
    memory: int = 0
    disk: int = 0


def sandbox_needs(*, again: bool, environ: t.Mapping[str, str] = os.environ) -> Needs:
    """Say what a sandbox wants of this machine; `again` when it stands already."""
    return Needs(
        machines=("x86_64",),
        root=True,
        apt=True,
        memory=_bytes(environ, "KOS_MIN_MEMORY_GB", _MEMORY),
        disk=_bytes(environ, "KOS_MIN_DISK_GB", _DISK_TO_GO_ON if again else _DISK),
    )


def probe(*places: pathlib.Path) -> Host:
    """Look at this machine; `places` are folders, which need not exist yet, whose free space matters."""
    return Host(
        system=platform.system(),
        machine=platform.machine(),
        root=os.geteuid() == 0,
        has_apt=shutil.which("apt-get") is not None,
        memory=_memory(),
        free={str(place): shutil.disk_usage(_existing(place)).free for place in places},
    )


def check(host: Host, needs: Needs) -> None:
    """Raise a KosError that says what is missing on this machine and what to do about it."""
    if host.system != "Linux" or host.machine not in needs.machines:
        raise KosError(f"this is {host.system} on {host.machine}; use a Linux machine with {', '.join(needs.machines)}.")
    if needs.apt and not host.has_apt:
        raise KosError(
            "the sandbox is made with Debian's tools and there is no apt-get here; use Debian 12 or newer or Ubuntu 24.04 or newer."
        )
    if needs.root and not host.root:
        raise KosError("the sandbox makes machines, networks and mounts; run the command as root (sudo keeps nothing from you here).")
    if host.memory < needs.memory:
        raise KosError(
            f"{host.memory / GB:.1f} GB of memory is too little, {needs.memory / GB:.0f} GB are needed; "
            "use a larger machine (KOS_MIN_MEMORY_GB changes the limit)."
        )
    for place, free in host.free.items():
        if free < needs.disk:
            raise KosError(
                f"{free / GB:.0f} GB of free disk space at {place} is too little, {needs.disk / GB:.0f} GB are needed; "
                "free some, or point KOS_STATE and KOS_CACHE to another disk (KOS_MIN_DISK_GB changes the limit)."
            )


def install(commands: t.Mapping[str, str]) -> list[str]:
    """Install the Debian packages of those commands that are missing, in one go; return the packages."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    packages = sorted({package for command, package in commands.items() if shutil.which(command, path=path) is None})
    if packages:
        apt_install(packages)
    return packages


def apt_install(packages: t.Sequence[str]) -> None:
    """Install Debian packages without asking anything."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise KosError(
            f"these packages are missing and cannot be installed from here: install {' '.join(packages)} and repeat the command."
        )
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for argv in (
        ["apt-get", "-o", "DPkg::Lock::Timeout=300", "-qq", "update"],
        ["apt-get", "-o", "DPkg::Lock::Timeout=300", "-qq", "-y", "--no-install-recommends", "install", *packages],
    ):
        done = subprocess.run(
            argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if done.returncode != 0:
            tail = " / ".join(done.stdout.strip().splitlines()[-3:])
            raise KosError(f"installing {' '.join(packages)} failed, mend the package sources and repeat the command: {tail}")


def _memory() -> int:
    total = (
        next(
            int(line.split()[1]) * 1024
            for line in pathlib.Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
            if line.startswith("MemTotal:")
        )
        if os.path.exists("/proc/meminfo")
        else 0
    )
    # In a container the group's limit is what counts.
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = pathlib.Path(limit).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            total = min(total, int(text))
    return total


def _existing(place: pathlib.Path) -> pathlib.Path:
    return next(folder for folder in (place, *place.parents) if folder.exists())


def _bytes(environ: t.Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isdigit():
        raise KosError(f"{name} is {text!r}; set it to a whole number of gigabytes.")
    return int(text) * GB
