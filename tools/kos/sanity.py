# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible's own checks of the plugins, run on a copy that lies where ansible-test wants a collection to lie."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess

from kos import KosError
from kos.cli import Paths

__all__ = ["check"]

# The others look at style, which ruff does here, or at what a collection from Galaxy has.
_TESTS = ("action-plugin-docs", "ansible-doc", "runtime-metadata", "validate-modules")


def check(paths: Paths, scratch: pathlib.Path) -> str:
    """Raise a KosError with what ansible-test found."""
    collections = scratch / "ansible_collections"
    copy = collections / "kos/labs"
    for name in ("plugins", "meta", "changelogs"):
        shutil.copytree(paths.root / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(paths.root / "galaxy.yml", copy)
    library = next(paths.venv.glob("lib/python3.*/site-packages"))
    for name in ("ansible", "community", "kubernetes", "openstack"):
        (collections / name).symlink_to(library / "ansible_collections" / name)
    home = paths.root / ".cache/test/sanity"
    _bring_pip(home, library)
    argv = ["ansible-test", "sanity", "--color", "no", "--python", library.parent.name.removeprefix("python")]
    for name in _TESTS:
        argv += ["--test", name]
    environment = {name: value for name, value in paths.environment().items() if not name.startswith("ANSIBLE_")}
    done = subprocess.run(
        argv, cwd=copy, env={**environment, "HOME": str(home)}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("ERROR:", "FATAL:"))]
        raise KosError("\n".join(errors) or done.stderr)
    return ", ".join(_TESTS)


def _bring_pip(home: pathlib.Path, library: pathlib.Path) -> None:
    """Spare ansible-test a download: the pip that Python brings is enough."""
    source = (library / "ansible_test/_internal/python_requirements.py").read_text(encoding="utf-8")
    versions = re.findall(r"pip='([\d.]+)'", source)
    if not versions:
        return
    script = home / ".ansible/test/cache" / f"get_pip_{versions[-1].replace('.', '_')}.py"
    script.parent.mkdir(parents=True, exist_ok=True)
    lines = ["import subprocess, sys", 'sys.exit(subprocess.call([sys.executable, "-m", "ensurepip", "--default-pip", "--upgrade"]))']
    script.write_text(os.linesep.join(lines) + os.linesep, encoding="ascii")
