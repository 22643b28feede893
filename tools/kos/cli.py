# SPDX-License-Identifier: GPL-3.0-or-later
"""The shell of every command: where things are, how errors end, how tables look."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import signal
import subprocess
import sys
import typing as t

from kos import KosError

__all__ = ["Paths", "alone", "call", "run", "say", "table"]


@dataclasses.dataclass(frozen=True)
class Paths:
    """The clone, the state of one lab, and the cache that all labs share."""

    root: pathlib.Path
    state: pathlib.Path
    cache: pathlib.Path

    @classmethod
    def of(cls, environ: t.Mapping[str, str] = os.environ) -> Paths:
        """Read KOS_STATE and KOS_CACHE; the clone is the one that this file belongs to."""
        root = pathlib.Path(__file__).resolve().parents[2]
        home = pathlib.Path(environ.get("HOME") or pathlib.Path.home())
        return cls(
            root=root,
            state=pathlib.Path(os.path.abspath(environ.get("KOS_STATE") or root / ".state")),
            cache=pathlib.Path(os.path.abspath(environ.get("KOS_CACHE") or home / ".cache/kos")),
        )

    @property
    def venv(self) -> pathlib.Path:
        """The virtual environment that playbooks run in."""
        return self.root / ".venv"

    def environment(self, environ: t.Mapping[str, str] = os.environ) -> dict[str, str]:
        """Return what a program needs in its environment to work on this clone and this state."""
        return {
            **environ,
            "KOS_ROOT": str(self.root),
            "KOS_STATE": str(self.state),
            "KOS_CACHE": str(self.cache),
            "ANSIBLE_CONFIG": str(self.root / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(self.venv),
            "ANSIBLE_INVENTORY": f"{self.root / 'hosts.yaml'},{self.state / 'inventory'}",
            "PATH": f"{self.venv / 'bin'}:{environ.get('PATH', os.defpath)}",
        }


@contextlib.contextmanager
def alone(state: pathlib.Path) -> t.Iterator[None]:
    """Keep a second run away from the same state; raise a KosError when there is one."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise KosError(f"another run works on {state}; wait for it, or set KOS_STATE to another folder.") from None
    finally:
        os.close(descriptor)


def say(text: str) -> None:
    """Print one line at once, also into a pipe."""
    print(text, flush=True)


def table(head: t.Sequence[str], rows: t.Iterable[t.Sequence[object]]) -> str:
    """Lay out rows below a head; columns of numbers are set to the right."""
    cells = [[f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in [list(head), *cells]) for column in range(len(head))]
    right = [bool(cells) and all(_is_number(row[column]) for row in cells) for column in range(len(head))]

    def line(row: t.Sequence[str]) -> str:
        return "  ".join(cell.rjust(width) if to_right else cell.ljust(width) for cell, width, to_right in zip(row, widths, right)).rstrip()

    return "\n".join([line(head), "  ".join("-" * width for width in widths), *map(line, cells)])


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(".", "", 1).isdigit()


def call(argv: t.Sequence[str], **options: t.Any) -> int:
    """Run a program in the foreground to its end, hand on a request to stop, and return its code (128 + n for signal n)."""
    with subprocess.Popen(argv, **options) as process:
        hand_on = {
            number: signal.signal(number, lambda received, _frame: process.send_signal(received))
            for number in (signal.SIGTERM, signal.SIGHUP)
        }
        # The terminal sends SIGINT to the program too: let it end in its own way.
        hand_on[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            code = process.wait()
        finally:
            for number, handler in hand_on.items():
                signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def run(name: str, main: t.Callable[[t.Sequence[str]], int]) -> t.NoReturn:
    """Run a command: a KosError becomes one line and the code 2, an interrupt the code 130."""
    try:
        code = main(sys.argv[1:])
    except KosError as error:
        print(f"{name}: {error}", file=sys.stderr, flush=True)
        code = 2
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted; the same command continues where this one stopped.", file=sys.stderr, flush=True)
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    raise SystemExit(code)
