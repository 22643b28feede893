# SPDX-License-Identifier: GPL-3.0-or-later
"""What a sandbox leaves on its host: taken before and after, the difference is what destroy forgot."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import typing as t

from kos import KosError

__all__ = ["Footprint", "check", "left_over", "take"]

Footprint = t.Mapping[str, frozenset[str]]


def take(foreign: t.Iterable[str] = ()) -> Footprint:
    """Look at this host's interfaces, mounts, loop devices, firewall rules and servers; leave out what holds a foreign word."""
    words = [word for word in foreign if word]
    seen = {
        "interface": [path.name for path in pathlib.Path("/sys/class/net").iterdir()],
        "mount": [line.split()[4] for line in pathlib.Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()],
        "loop device": _lines("losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"),
        "firewall rule": [
            f"{name}: {line}" for name in ("filter", "nat", "mangle") for line in _lines("iptables", "-t", name, "-S") if line[:2] == "-A"
        ],
        "process": list(_processes()),
    }
    return {kind: frozenset(what for what in found if not any(word in what for word in words)) for kind, found in seen.items()}


def left_over(before: Footprint, after: Footprint) -> list[str]:
    """Name what is there now and was not before."""
    return [f"{kind} {what}" for kind, now in after.items() for what in sorted(now - before.get(kind, frozenset()))]


def check(before: Footprint, after: Footprint) -> str:
    """Raise a KosError that names what was left over."""
    rest = left_over(before, after)
    if rest:
        raise KosError(f"left on the host: {'; '.join(rest)}.")
    return "no interface, mount, loop device, rule or process is left"


def _lines(*argv: str) -> list[str]:
    program = shutil.which(argv[0], path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        return []
    done = subprocess.run([program, *argv[1:]], capture_output=True, text=True, check=False)
    return [" ".join(line.split()) for line in done.stdout.splitlines()]


def _processes() -> t.Iterator[str]:
    """Yield the command lines of the servers that stand outside the machines."""
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if line.startswith("systemd-nspawn") or "/systemd-nspawn " in line or "docker-registry serve" in line or "mirror_httpd.py" in line:
            yield line
