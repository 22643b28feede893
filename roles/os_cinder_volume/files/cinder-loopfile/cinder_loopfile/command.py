# SPDX-License-Identifier: GPL-3.0-or-later
"""What needs root.

restore attaches at the start of the host what was attached, detach detaches a volume, freeze and thaw have file systems on a device wait and
go on. With --folder, thaw is for all that a killed service left waiting.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import shutil
import subprocess
import sys
import typing as t

from cinder_loopfile import loops, still, store

__all__ = ["main"]


def run(argv: t.Sequence[str], _root: bool = True) -> str:
    """Run a program with the rights that we have."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise store.StoreError(f"{argv[0]}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def main(argv: t.Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=["restore", "detach", "freeze", "thaw"])
    parser.add_argument("device", nargs="?", help="for freeze and thaw; for detach the volume's file")
    parser.add_argument("--folder", type=pathlib.Path, help="where volumes are kept")
    parser.add_argument("--devices", type=pathlib.Path, default=pathlib.Path("/run/cinder-volumes"), help="where their devices get names")
    parser.add_argument("--owner", help="who makes and removes these names: the service's user")
    options = parser.parse_args(argv)
    if options.device and options.verb != "restore":
        {"detach": detach, "freeze": still.freeze, "thaw": still.thaw}[options.verb](options.device)
        return 0
    if not options.folder or options.verb in ("detach", "freeze"):
        parser.error("name a device, or a folder")
    if options.verb == "thaw":
        return thaw_all(options.folder)
    return restore(options)


def detach(file: str) -> None:
    """Detach a volume, and what its servers have made of its device."""
    place = pathlib.Path(file)
    for device in store.Store(place.parent, place.parent, run).loops(place.name):
        # It may go by itself meanwhile.
        with contextlib.suppress(FileNotFoundError):
            loops.release(device, file)


def thaw_all(folder: pathlib.Path) -> int:
    """Let go on whoever waits for a service that is gone."""
    for waiting in (folder / "frozen").glob("*"):
        for device in store.Store(folder, folder, run).loops(waiting.name):
            still.thaw(device)
            print(f"let those who write to {waiting.name} go on")
    return 0


def restore(options: argparse.Namespace) -> int:
    """Attach what was attached when the host went down, before anything asks for it."""
    options.devices.mkdir(mode=0o755, parents=True, exist_ok=True)
    if options.owner:
        shutil.chown(options.devices, options.owner, options.owner)
    failed = False
    volumes = store.Store(options.folder, options.devices, run)
    if (options.folder / "exported").is_dir():
        for name in volumes.exports():
            # One that cannot be attached is one server's trouble, not all servers'.
            try:
                for line in volumes.restore_one(name):
                    print(line)
            except (store.StoreError, OSError) as problem:
                print(f"{name}: {problem}", file=sys.stderr)
                failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
