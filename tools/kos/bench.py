# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/bench: seconds per stage and memory of the machines, throughput between pods, as tables for docs/performance.md."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import time
import typing as t

from kos import KosError, bench_volumes, host, lab
from kos.cli import Paths, say, table

__all__ = ["main", "rate", "stage_rows"]

_NAMESPACE = "kos-bench"
_PORT = 9000
# 64 MB each.
_TRANSFERS, _BLOCKS = 5, 1024
_TWO = 2


def main(argv: t.Sequence[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="tools/bench",
        description="Measure. Without an option: show what the last tools/lab took and what memory its machines use now.",
    )
    parser.add_argument("--lab", metavar="LAB", help="run this lab first, from what stands now")
    parser.add_argument("--again", action="store_true", help="measure a second run as well")
    parser.add_argument("--refresh", action="store_true", help="measure tools/refresh and the lab on top of it as well")
    parser.add_argument("--pods", action="store_true", help="measure between pods of two nodes of the lab that stands, and nothing else")
    parser.add_argument("--volumes", action="store_true", help="measure the volumes of the lab that stands, and nothing else")
    options = parser.parse_args(argv)
    paths = Paths.of()
    say(machine())
    if options.volumes:
        bench_volumes.measure(paths)
        return 0
    if options.pods:
        say(
            "\n" + table(("way of pods", "MB/s, median", "least", "most", "round trip, ms", "load before", "after"), [_between_pods(paths)])
        )
        return 0
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


def rate(text: str) -> float:
    """Return the MB per second that dd has printed of itself, in whatever way it does."""
    match = re.search(r"(\d+) bytes .*?, ([\d.e-]+) s", text)
    if not match or not float(match[2]):
        raise KosError(f"dd said nothing of its speed but: {text.strip() or 'nothing'}")
    return int(match[1]) / float(match[2]) / 1e6


def _between_pods(paths: Paths) -> tuple[str, float, float, float, str, str, str]:
    """Send zeros by TCP between pods of two nodes, one transfer after the other, and ping."""
    kubectl = [str(paths.state / "bin/kubectl"), "--kubeconfig", str(paths.state / "kubeconfig/admin")]

    def run(*arguments: str, text: str | None = None) -> str:
        done = subprocess.run([*kubectl, *arguments], input=text or "", capture_output=True, text=True, check=False)
        if done.returncode:
            raise KosError(f"kubectl {' '.join(arguments[:6])} failed: {done.stderr.strip() or 'no message'}")
        return done.stdout

    config = json.loads(run("-n", "kube-flannel", "get", "configmap", "kube-flannel", "-o", "jsonpath={.data.net-conf\\.json}"))
    version = lab.remembered("agnhost_version", paths.root / "group_vars/all/versions.yaml")
    if version is None:
        raise KosError("group_vars/all/versions.yaml has no agnhost_version.")
    image = f"registry.k8s.io/e2e-test-images/agnhost:{version}"
    before = os.getloadavg()[0]
    try:
        run("apply", "-f", "-", text=json.dumps(_peers(image)))
        run("-n", _NAMESPACE, "rollout", "status", "daemonset/peer", "--timeout=180s")
        items = json.loads(run("-n", _NAMESPACE, "get", "pods", "-o", "json"))["items"]
        if len(items) < _TWO:
            raise KosError("there is one worker only; packets between nodes need two.")
        (one, _), (other, address) = ((pod["metadata"]["name"], pod["status"]["podIP"]) for pod in items[:_TWO])
        rates = []
        for _ in range(_TRANSFERS):
            receive = [*kubectl, "-n", _NAMESPACE, "exec", other, "--", "sh", "-c", f"nc -l -p {_PORT} >/dev/null"]
            with subprocess.Popen(receive) as receiver:
                try:
                    # A second for it to listen; dd's clock starts later.
                    send = f"sleep 1; {{ dd if=/dev/zero bs=64k count={_BLOCKS} 2>&3 | nc -N {address} {_PORT}; }} 3>&1"
                    rates.append(rate(run("-n", _NAMESPACE, "exec", one, "--", "sh", "-c", send)))
                finally:
                    receiver.terminate()
        pings = run("-n", _NAMESPACE, "exec", one, "--", "ping", "-c", "50", "-i", "0.1", "-q", address)
    finally:
        run("delete", "namespace", _NAMESPACE, "--ignore-not-found", "--timeout=120s")
    trip = re.search(r"= [\d.]+/([\d.]+)/", pings)
    return (
        config["Backend"]["Type"],
        round(statistics.median(rates), 1),
        round(min(rates), 1),
        round(max(rates), 1),
        trip[1] if trip else "unknown",
        f"{before:.1f}",
        f"{os.getloadavg()[0]:.1f}",
    )


def _peers(image: str) -> dict[str, t.Any]:
    """Return a pod on each worker that does nothing by itself."""
    labels = {"app": "peer"}
    container = {
        "name": "peer",
        "image": image,
        "args": ["pause"],
        "securityContext": {"runAsUser": 0, "capabilities": {"add": ["NET_RAW"]}},
    }
    spec = {"terminationGracePeriodSeconds": 1, "containers": [container]}
    meta = {"name": "peer", "namespace": _NAMESPACE}
    template = {"metadata": {"labels": labels}, "spec": spec}
    peers = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": meta,
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE}}
    return {"apiVersion": "v1", "kind": "List", "items": [space, peers]}


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
