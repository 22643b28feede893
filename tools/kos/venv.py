# SPDX-License-Identifier: GPL-3.0-or-later
"""The virtual environment: made once, brought up to date when its requirements change, repaired after an interrupt."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import typing as t

from kos import KosError, host
from kos.cli import say

__all__ = ["Python", "candidates", "ensure", "newest"]

OLDEST, NEWEST = (3, 11), (3, 14)
# Written last, so that what it says is true; the other one stands while an installation runs.
_STAMP, _RUNNING = ".kos-requirements.json", ".kos-installing"
_MAKE = ("-m", "venv", "--clear")
_PROBE = "import ctypes, ssl, venv, sys, importlib.util as u; print(*sys.version_info[:3], int(u.find_spec('ensurepip') is not None))"


class Python(t.NamedTuple):
    """An interpreter that exists and works."""

    version: tuple[int, int, int]
    path: str
    can_make_venv: bool


def candidates(environ: t.Mapping[str, str] = os.environ) -> list[str]:
    """List interpreters by name, the newest first: those on PATH, then those that pyenv and uv have installed."""
    home = pathlib.Path(environ.get("HOME") or pathlib.Path.home())
    folders = [pathlib.Path(folder) for folder in environ.get("PATH", os.defpath).split(":") if folder]
    pyenv = pathlib.Path(environ.get("PYENV_ROOT") or home / ".pyenv") / "versions"
    folders += sorted(pyenv.glob("*/bin"), reverse=True) + sorted((home / ".local/share/uv/python").glob("*/bin"), reverse=True)
    return [
        str(folder / f"python3.{minor}")
        for minor in range(NEWEST[1], OLDEST[1] - 1, -1)
        for folder in folders
        if os.access(folder / f"python3.{minor}", os.X_OK)
    ]


def newest(names: t.Iterable[str] | None = None) -> Python:
    """Return the newest interpreter that works; one that can make a virtual environment comes before one that cannot."""
    second: Python | None = None
    for name in [*candidates(), sys.executable] if names is None else names:
        python = _probe(name)
        if python is None or not OLDEST <= python.version[:2] <= NEWEST:
            continue
        if python.can_make_venv:
            return python
        second = second or python
    if second:
        return second
    raise KosError(
        f"no Python between {_dotted(OLDEST)} and {_dotted(NEWEST)} is here; install one (Debian 12 and Ubuntu 24.04 have it as python3, pyenv and uv have all)."
    )


def ensure(root: pathlib.Path, *requirements: str) -> pathlib.Path:
    """Make .venv hold what the named requirements files of the clone say; return its folder."""
    folder = root / ".venv"
    wanted = {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in requirements}
    with _alone(root):
        if _stamp(folder).items() >= wanted.items() and not (folder / _RUNNING).exists() and _works(folder):
            _link_collection(root, folder)
            return folder
        if (folder / _RUNNING).exists() or not _works(folder):
            _make(folder)
        say(f"Installing {' and '.join(requirements)} into .venv (about a minute the first time)")
        (folder / _RUNNING).touch()
        _pip(root, folder, requirements)
        (folder / _STAMP).write_text(json.dumps({**_stamp(folder), **wanted}, indent=1) + "\n", encoding="ascii")
        (folder / _RUNNING).unlink()
        _link_collection(root, folder)
    return folder


def _make(folder: pathlib.Path) -> None:
    python = newest()
    if not python.can_make_venv:
        host.apt_install([f"python{_dotted(python.version[:2])}-venv"])
    say(f"Making .venv with Python {_dotted(python.version)} ({python.path})")
    folder.mkdir(exist_ok=True)
    (folder / _RUNNING).touch()
    made = subprocess.run([python.path, *_MAKE, str(folder)], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        (folder / _RUNNING).touch()
        raise KosError(
            f"{python.path} could not make {folder}, remove the folder and repeat the command: {(made.stderr or made.stdout).strip()[-400:]}"
        )


def _pip(root: pathlib.Path, folder: pathlib.Path, requirements: t.Sequence[str]) -> None:
    argv = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    for name in requirements:
        argv += ["--requirement", str(root / name)]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.strip().splitlines()[-3:]
        raise KosError(
            f"pip could not install {' and '.join(requirements)}, check the network or the package index and repeat the command: {' / '.join(errors)[:600]}"
        )


def _link_collection(root: pathlib.Path, folder: pathlib.Path) -> None:
    """Let kos.labs.* resolve to the clone itself, without an installed copy that grows old."""
    link = folder / "ansible_collections/kos/labs"
    if link.is_symlink() and link.resolve() == root.resolve():
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        link.unlink()
    link.symlink_to(os.path.relpath(root, link.parent), target_is_directory=True)


@contextlib.contextmanager
def _alone(root: pathlib.Path) -> t.Iterator[None]:
    """Let one command at a time work on .venv."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _works(folder: pathlib.Path) -> bool:
    python = _probe(str(folder / "bin/python"))
    return python is not None and python.version[:2] >= OLDEST and (folder / "bin/pip").exists()


def _stamp(folder: pathlib.Path) -> dict[str, str]:
    try:
        return dict(json.loads((folder / _STAMP).read_text(encoding="ascii")))
    except (OSError, ValueError):
        return {}


def _probe(name: str) -> Python | None:
    try:
        # pyenv's shims exist for versions that are not switched on: only a run tells.
        done = subprocess.run([name, "-I", "-c", _PROBE], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.fullmatch(r"(\d+) (\d+) (\d+) ([01])", done.stdout.strip())
    if done.returncode != 0 or match is None:
        return None
    major, minor, patch, ensurepip = map(int, match.groups())
    return Python((major, minor, patch), name, bool(ensurepip))


def _dotted(version: t.Sequence[int]) -> str:
    return ".".join(map(str, version))
