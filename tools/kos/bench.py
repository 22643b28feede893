# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/bench: seconds per stage and memory of the machines, as tables for docs/performance.md."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import re
import subprocess
import time
import typing as t

from kos import KosError, host
from kos.cli import Paths, say, table

__all__ = ["main", "stage_rows"]


def main(argv: t.Sequence[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="tools/bench",
        description="Measure. Without an option: show what the last tools/lab took and what memory its machines use now.",
    )
    parser.add_argument("--lab", metavar="LAB", help="run this lab first, from what stands now")
    parser.add_argument("--again", action="store_true", help="measure a second run as well")
    parser.add_argument("--refresh", action="store_true", help="measure tools/refresh and the lab on top of it as well")
    options = parser.parse_args(argv)
    paths = Paths.of()
    say(machine())
    if options.lab:
        _measure(paths, f"lab {options.lab}", ["lab", options.lab])
    else:
        say(f"\n{_stages(paths)}")
    name = options.lab or re.sub(r"^lab|\.yaml$", "", _timings(paths)["playbook"])
    if options.again:
        _measure(paths, f"lab {name}, second run", ["lab", name])
    if options.refresh:
        seconds = _timed(paths, ["refresh"])
        say(f"\nrefresh: {seconds:.0f} s")
        _measure(paths, f"lab {name} after refresh", ["lab", name])
    rows = memory_rows(_processes(paths))
    if rows:
        say("\nMemory of the machines (PSS)\n" + table(("program", "processes", "MB"), rows))
    return 0


def machine() -> str:
    """Describe this machine in a line."""
    return f"{os.cpu_count()} cores, {host.probe().memory / host.GB:.0f} GB of memory, Linux {platform.release()}, Python {platform.python_version()}"


def stage_rows(report: t.Mapping[str, t.Any]) -> list[tuple[str, int, int, float]]:
    """Add up the plays of each stage: tasks, changes, seconds."""
    rows: dict[str, tuple[str, int, int, float]] = {}
    for step in report["stages"]:
        name, tasks, changed, seconds = rows.get(step["stage"], (step["stage"], 0, 0, 0.0))
        rows[name] = (name, tasks + step["tasks"], changed + step["changed"], round(seconds + step["seconds"], 1))
    return list(rows.values())


def memory_rows(processes: t.Iterable[tuple[str, int]], smallest: int = 20) -> list[tuple[str, int, int]]:
    """Add up proportional memory (in kB) by program, the largest first, in MB; the small ones in one row."""
    sums: dict[str, tuple[int, int]] = {}
    for name, size in processes:
        count, total = sums.get(name, (0, 0))
        sums[name] = (count + 1, total + size)
    rows = sorted(((name, count, round(total / 1000)) for name, (count, total) in sums.items()), key=lambda row: -row[2])
    small = [row for row in rows if row[2] < smallest]
    rows = [row for row in rows if row[2] >= smallest]
    if small:
        rows.append(("others", sum(row[1] for row in small), sum(row[2] for row in small)))
    return [*rows, ("all", sum(row[1] for row in rows), sum(row[2] for row in rows))] if rows else []


def _measure(paths: Paths, what: str, argv: t.Sequence[str]) -> None:
    seconds = _timed(paths, argv)
    say(f"\n{what}: {seconds:.0f} s\n{_stages(paths)}")


def _timed(paths: Paths, argv: t.Sequence[str]) -> float:
    begun = time.monotonic()
    log = paths.state / "log"
    log.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (log / "bench.log").open("w", encoding="utf-8") as output:
        done = subprocess.run(
            [str(paths.root / "tools" / argv[0]), *argv[1:]],
            env=paths.environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        raise KosError(f"tools/{' '.join(argv)} failed; read {log / 'bench.log'}.")
    return time.monotonic() - begun


def _timings(paths: Paths) -> dict[str, t.Any]:
    try:
        return dict(json.loads((paths.state / "timings.json").read_text(encoding="utf-8")))
    except OSError:
        raise KosError(f"nothing was measured in {paths.state} yet; run tools/lab 2 first, or tools/bench --lab 2.") from None


def _stages(paths: Paths) -> str:
    report = _timings(paths)
    rows = stage_rows(report)
    return table(
        ("stage", "tasks", "changed", "seconds"),
        [*rows, ("all", sum(row[1] for row in rows), sum(row[2] for row in rows), report["seconds"])],
    )


def _processes(paths: Paths) -> t.Iterator[tuple[str, int]]:
    """Yield name and PSS of each process in a machine of this state: those below its systemd-nspawn."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    roots = set()
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text(encoding="utf-8", errors="replace")
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        pid = int(folder.name)
        parents[pid] = int(stat.rpartition(")")[2].split()[1])
        names[pid] = _name(stat, command)
        if "systemd-nspawn" in command.split(" ", 1)[0] and str(paths.state) in command:
            roots.add(pid)
    for pid, name in names.items():
        above = pid
        while above and above not in roots:
            above = parents.get(above, 0)
        if above:
            try:
                rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
            except OSError:
                continue
            match = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
            if match:
                yield name, int(match[1])


def _name(stat: str, command: str) -> str:
    """Name a process as people do: the script of an interpreter, otherwise the program."""
    words = command.split()
    program = words[0].rpartition("/")[2] if words else stat.partition("(")[2].rpartition(")")[0]
    if re.fullmatch(r"python[\d.]*", program):
        script = next((word for word in words[1:] if not word.startswith("-")), program)
        program = script.rpartition("/")[2]
    return program.rstrip(":")
