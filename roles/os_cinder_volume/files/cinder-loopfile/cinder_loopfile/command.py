# SPDX-License-Identifier: GPL-3.0-or-later
"""What needs root.

restore attaches at the start of the host what was attached, detach detaches a volume, copy copies one while those who write to it wait,
thaw lets go on whoever waits for a copy that was killed, with --folder for any.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import typing as t

from cinder_loopfile import loops, still, store

__all__ = ["main"]


def run(argv: t.Sequence[str], _root: bool = True, **options: t.Any) -> str:
    """Run a program with the rights that we have."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        raise store.StoreError(f"{argv[0]}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def main(argv: t.Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    start = verbs.add_parser("restore")
    start.add_argument("--folder", type=pathlib.Path, required=True, help="where volumes are kept")
    start.add_argument("--devices", type=pathlib.Path, default=pathlib.Path("/run/cinder-volumes"), help="where their devices get names")
    start.add_argument("--owner", help="who makes and removes these names: the service's user")
    for verb in ("detach", "copy", "thaw"):
        verbs.add_parser(verb).add_argument("file", type=pathlib.Path, nargs="?" if verb == "thaw" else None, help="the volume's")
    verbs.choices["copy"].add_argument("copy", type=pathlib.Path, help="a file that is there, to fill")
    verbs.choices["thaw"].add_argument("--folder", type=pathlib.Path, help="where volumes are kept")
    options = parser.parse_args(argv)
    try:
        if options.verb == "restore":
            restore(options)
        elif options.verb == "detach":
            detach(options.file)
        elif options.verb == "copy":
            copy(options.file, options.copy)
        elif options.file:
            thaw(options.file)
        elif options.folder:
            thaw_all(options.folder)
        else:
            parser.error("name a volume's file, or a folder")
    except (store.StoreError, OSError) as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


def _devices(file: pathlib.Path) -> list[str]:
    return store.Store(file.parent, file.parent, run).loops(file.name)


def detach(file: pathlib.Path) -> None:
    """Detach a volume, and what its servers have made of its device."""
    for device in _devices(file):
        # It may go by itself meanwhile.
        with contextlib.suppress(FileNotFoundError):
            loops.release(device, os.path.realpath(file))


def copy(file: pathlib.Path, to: pathlib.Path) -> None:
    """Copy a volume while those who write to it wait, with the rights of whom the folder belongs to."""
    # In order if it can be.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    owner = file.parent.stat()
    with contextlib.ExitStack() as waiting:
        for device in _devices(file):
            waiting.enter_context(still.still(device))
        run([*store.COPY, str(file), str(to)], user=owner.st_uid, group=owner.st_gid, extra_groups=[])


def thaw(file: pathlib.Path) -> None:
    """Let go on whoever waits for a copy of a volume."""
    for device in _devices(file):
        still.thaw(device)


def thaw_all(folder: pathlib.Path) -> None:
    """Let go on whoever waits for a service that is gone."""
    for waiting in (folder / "frozen").glob("*"):
        # One that cannot is one server's trouble, not all servers'.
        try:
            thaw(folder / waiting.name)
            print(f"let those who write to {waiting.name} go on")
        except (store.StoreError, OSError) as problem:
            print(f"{waiting.name}: {problem}", file=sys.stderr)


def restore(options: argparse.Namespace) -> None:
    """Attach what was attached when the host went down, before anything asks for it."""
    options.devices.mkdir(mode=0o755, parents=True, exist_ok=True)
    if options.owner:
        shutil.chown(options.devices, options.owner, options.owner)
    if (options.folder / "exported").is_dir():
        for line in store.Store(options.folder, options.devices, run).restore():
            print(line)


if __name__ == "__main__":
    sys.exit(main())
