# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/test: rings of tests, each a list of steps, and the table at the end."""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import typing as t
import xml.etree.ElementTree

from kos import KosError, footprint, host, lab, sanity, venv
from kos.cli import Paths, say, table

__all__ = ["main"]

_MINUTE = 60
# Below the clone, so that two clones never meet; ignored by git and by the collection's build.
_STATES = ".cache/test"
# The lab in which the cloud routes to pods.
_ROUTED = "5"
# The first lab that has load balancers.
_BALANCED = "3"
# What verification has the cloud make takes it a minute or two each time: it is asked for where it is new, and of the newest lab.
BRIEFLY = ("--", "-e", json.dumps({"kube_verify_load_balancer_seconds": 0, "kube_verify_volume_seconds": 0}))
# What upstream tries every driver of volumes with.
UPSTREAMS = ("tests/e2e/storage/test_sanity.py", "tests/e2e/storage/test_external.py")
# What another sandbox takes of a disk, beyond what one needs with the caches that both share.
_ANOTHER_DISK = 10 * host.GB


@dataclasses.dataclass(frozen=True)
class Step:
    """A program to run, or a function to call, that passes or fails as one; pytest's tests count one by one."""

    name: str
    argv: t.Sequence[str] = ()
    call: t.Callable[[], str] | None = None
    pytest: bool = False
    limit: int = 10 * _MINUTE
    # Seconds after which the program is killed with all that it started, which is then what the step wants.
    killed_after: int = 0
    environ: t.Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """How a step ended."""

    ring: str
    name: str
    word: str
    passed: int = 0
    failed: int = 0
    seconds: float = 0.0
    note: str = ""


def main(argv: t.Sequence[str]) -> int:
    """Run the command; return 0 when nothing failed."""
    paths = Paths.of()
    options = _parse(argv)
    names = chosen(options)
    if names != ["1"]:
        host.check(host.probe(paths.root, paths.cache), lab.needs("sandbox", again=False))
    for number in (signal.SIGTERM, signal.SIGHUP):
        # A run that is told to end still takes its sandboxes away.
        signal.signal(number, _interrupt)
    venv.ensure(paths.root, "requirements.txt", "requirements-test.txt")
    host.install(lab.COMMANDS)
    verdicts: list[Verdict] = []
    with tempfile.TemporaryDirectory(prefix="kos-test-") as scratch:
        for group in lanes(names, host.probe(paths.root, paths.cache)):
            if len(group) == 1:
                say(f"\n=== ring {group[0]}")
                verdicts += RINGS[group[0]](paths, pathlib.Path(scratch), options)
            else:
                say(f"\n=== rings {' and '.join(group)}, side by side")
                verdicts += _side_by_side(group, paths, pathlib.Path(scratch), options)
    if options.verdicts:
        options.verdicts.write_text(json.dumps([dataclasses.asdict(verdict) for verdict in verdicts]), encoding="utf-8")
    else:
        say("\n" + report([*verdicts, *not_run(names)]))
    return int(any(verdict.failed for verdict in verdicts))


def lanes(names: t.Sequence[str], machine: host.Host) -> list[list[str]]:
    """Group rings: those in one group run at the same time, as two sandboxes mostly wait."""
    together = [name for name in names if name in SIDE_BY_SIDE]
    one = host.sandbox_needs(again=False)
    room = machine.memory >= len(together) * one.memory and all(
        free >= one.disk + (len(together) - 1) * _ANOTHER_DISK for free in machine.free.values()
    )
    if len(together) < 2 or not room:
        return [[name] for name in names]
    first = names.index(together[0])
    return [*([name] for name in names[:first]), together, *([name] for name in names[first + len(together) :])]


def _side_by_side(names: t.Sequence[str], paths: Paths, scratch: pathlib.Path, options: argparse.Namespace) -> list[Verdict]:
    """Run each ring in a process of its own, as by hand; its lines carry its name."""
    for name in names:
        # Here, as two that do it at once get into each other's way where an earlier run left something.
        _destroy(_test_state(paths, name))
    processes = {name: _ring_process(name, paths, scratch, options) for name in names}
    readers = [threading.Thread(target=_tell, args=each, daemon=True) for each in processes.items()]
    for reader in readers:
        reader.start()
    try:
        for process in processes.values():
            process.wait()
    except BaseException:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            # They end what they started and take their sandboxes away.
            process.wait(5 * _MINUTE)
        raise
    finally:
        for reader in readers:
            # What a kept sandbox runs may hold the other end open.
            reader.join(10)
    verdicts = []
    for name, process in processes.items():
        try:
            verdicts += [Verdict(**each) for each in json.loads(_verdicts(scratch, name).read_text(encoding="utf-8"))]
        except OSError:
            verdicts.append(Verdict(name, "all of it", "failed", failed=1, note=f"ended with {process.returncode}"))
    return verdicts


def _ring_process(name: str, paths: Paths, scratch: pathlib.Path, options: argparse.Namespace) -> subprocess.Popen[str]:
    argv = [sys.executable, str(paths.root / "tools/test"), name, "--verdicts", str(_verdicts(scratch, name))]
    argv += ["--keep"] * options.keep + ["--keep-going"] * options.keep_going
    argv += [word for scenario in options.scenario or () if name == "2" for word in ("--scenario", scenario)]
    # In a session of its own, so that an interrupt from a terminal reaches it once, through this process.
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def _verdicts(scratch: pathlib.Path, name: str) -> pathlib.Path:
    return scratch / f"verdicts-{name}.json"


def _tell(name: str, process: subprocess.Popen[str]) -> None:
    assert process.stdout
    with process.stdout as lines:
        for line in lines:
            say(f"{name}| {line.rstrip()}")


def chosen(options: argparse.Namespace) -> list[str]:
    """Return the rings to run, in their order."""
    return [name for name in RINGS if name in (options.rings or DEFAULT)]


def _interrupt(*_: object) -> t.NoReturn:
    raise KeyboardInterrupt


def report(verdicts: t.Sequence[Verdict]) -> str:
    """Return the table of steps and the line that sums up."""
    rows = [(v.ring, v.name, v.word, f"{v.passed}", f"{v.failed}", v.seconds, v.note) for v in verdicts]
    passed, failed = (sum(getattr(v, what) for v in verdicts) for what in ("passed", "failed"))
    seconds = sum(v.seconds for v in verdicts)
    return (
        table(("ring", "step", "verdict", "passed", "failed", "seconds", "note"), rows)
        + f"\n\n{passed} passed, {failed} failed in {seconds / _MINUTE:.1f} minutes of steps"
    )


def ring1(paths: Paths, scratch: pathlib.Path, _options: argparse.Namespace) -> list[Verdict]:
    """Check what can be checked without a machine."""
    state = dataclasses.replace(paths, state=scratch / "state")
    lab.prepare(state)
    playbooks = [
        str(path.relative_to(paths.root)) for folder in ("labs", "playbooks") for path in sorted((paths.root / folder).glob("*.yaml"))
    ]
    steps = [
        # The longest come first: two run at a time.
        Step("ansible-lint", ["ansible-lint", "--offline", "--profile", "production", "--nocolor"], limit=20 * _MINUTE),
        Step("unit tests", ["pytest", "tests/unit"], pytest=True, limit=20 * _MINUTE),
        Step("plugin sanity", call=lambda: sanity.check(paths, scratch)),
        Step("mypy", ["mypy"]),
        Step("playbook syntax", ["ansible-playbook", "--syntax-check", *playbooks]) if playbooks else None,
        Step("yamllint", ["yamllint", "--strict", "."]),
        Step("ruff check", ["ruff", "check", "."]),
        Step("ruff format", ["ruff", "format", "--check", "."]),
    ]
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return list(pool.map(lambda step: _run("1", step, state, scratch, quiet=True), filter(None, steps)))


def ring2(paths: Paths, scratch: pathlib.Path, options: argparse.Namespace) -> list[Verdict]:
    """Apply role by role to one sandbox, in the order of the stages."""
    state = _test_state(paths, "ring2")
    existing = [path.parent.name for path in sorted((paths.root / "molecule").glob("*/molecule.yml"))]
    scenarios = [name for name in in_order_of_stages(paths.root, existing) if name in (options.scenario or existing)]
    steps = [
        Step("reset", ["molecule", "reset", "-s", "default"]),
        Step("create", ["molecule", "create", "-s", "default"], limit=45 * _MINUTE),
    ]
    # These take from the mirror, which is filled now, but no machine.
    steps += [_real(module) for module in ("cloud_conf", "k8s_node_taint", "cloud_cinder_csi") if not options.scenario]
    if not options.scenario:
        # The first ring leaves them out where the mirror has never built anything.
        filled = {"KOS_MIRROR_IS_FILLED": "yes"}
        steps.append(Step("components in Go", ["pytest", "tests/unit/test_csi_companions.py"], pytest=True, environ=filled))
    steps += [Step(name, ["molecule", "test", "--destroy=never", "-s", name], limit=20 * _MINUTE) for name in scenarios]
    if "os_keystone" in scenarios:
        # Fewer parts than by default: their number matters to those who compare, not to what must work.
        environ = {
            "KOS_OCTAVIA_CLOUD": "kos-admin",
            "OS_CLIENT_CONFIG_FILE": str(state.state / "clouds.yaml"),
            "KOS_OCTAVIA_LISTENERS": "10",
            "KOS_OCTAVIA_MEMBERS": "100",
            "KOS_OCTAVIA_THEIR_LISTENERS": "1",
            "KOS_OCTAVIA_THEIR_MEMBERS": "5",
        }
        steps += [
            Step("Octavia without amphorae", ["ansible-playbook", "tests/real/octavia_lb/noop_cloud.yaml"]),
            _real("octavia_lb", environ),
        ]
    return _in_sandbox("2", steps, state, scratch, options)


def _real(module: str, environ: t.Mapping[str, str] | None = None) -> Step:
    """Try a module against the software that it is for."""
    return Step(f"{module}, real", ["pytest", f"tests/real/{module}"], pytest=True, limit=20 * _MINUTE, environ=environ or {})


def ring3(paths: Paths, scratch: pathlib.Path, options: argparse.Namespace) -> list[Verdict]:
    """Run the labs as a person does, one on top of the other, in a sandbox of their own."""
    state = _test_state(paths, "ring3")
    tools = paths.root / "tools"
    labs = lab.numbered(paths.root)
    steps = [
        Step(f"lab {labs[0]}, killed", [str(tools / "lab"), labs[0]], killed_after=75),
        *(step for name in labs for step in _lab(paths, name, briefly=_BALANCED < name < labs[-1])),
        *_again(labs[-1], tools, state),
        Step("end to end", ["pytest", *_clients_alone()], pytest=True, limit=30 * _MINUTE),
        _upstreams_tests(paths),
        Step("storage, briefly", ["pytest", "-rP", *UPSTREAMS], pytest=True, limit=30 * _MINUTE, environ={"KOS_BRIEFLY": "yes"}),
        Step("data before the stop", ["pytest", "tests/e2e/survive", "-k", "before"], pytest=True),
        *_stopped_and_started(tools),
        Step("data after the start", ["pytest", "tests/e2e/survive", "-k", "after"], pytest=True),
        # It runs tools/refresh, with something of somebody else in the project.
        Step("refresh", ["pytest", "tests/e2e/refresh"], pytest=True, limit=20 * _MINUTE),
    ]
    return _in_sandbox("3", steps, state, scratch, options)


def _clients_alone() -> list[str]:
    """Return what only looks at a lab as its users do; what stands in a folder of its own changes the lab, and has a step of its own."""
    return ["tests/e2e", "--ignore-glob=tests/e2e/*/*"]


def ring_full(paths: Paths, scratch: pathlib.Path, options: argparse.Namespace) -> list[Verdict]:
    """Run a lab on five machines, where networks lead from machine to machine."""
    state = _test_state(paths, "full")
    tools = paths.root / "tools"
    # Not the newest: without iSCSI a server's volume is on the machine that the server is on.
    steps = [
        Step(f"lab {_ROUTED} on five machines", [str(tools / "lab"), _ROUTED, "--layout", "full"], limit=60 * _MINUTE),
        *_again(_ROUTED, tools, state),
        *_stopped_and_started(tools),
    ]
    return _in_sandbox("full", steps, state, scratch, options)


def ring_faults(paths: Paths, scratch: pathlib.Path, options: argparse.Namespace) -> list[Verdict]:
    """Lose amphorae and workers of Octavia in the newest lab, and want more than there is."""
    state = _test_state(paths, "faults")
    steps = [
        _run_lab(paths, lab.numbered(paths.root)[-1]),
        # What passed says how long it took.
        Step("faults", ["pytest", "-rP", "tests/e2e/faults"], pytest=True, limit=75 * _MINUTE),
    ]
    return _in_sandbox("faults", steps, state, scratch, options)


def ring_masters(paths: Paths, scratch: pathlib.Path, options: argparse.Namespace) -> list[Verdict]:
    """Run the newest lab with new servers, three of them masters, of which one is lost."""
    state = _test_state(paths, "masters")
    tools = paths.root / "tools"
    labs = lab.numbered(paths.root)
    newest = labs[-1]
    steps = [
        _run_lab(paths, labs[0]),
        Step("refresh", [str(tools / "refresh"), "--yes"], limit=20 * _MINUTE),
        Step(
            f"lab {newest} after refresh, three masters",
            [str(tools / "lab"), newest, "--", "-e", "cluster_masters=3", "-e", "cluster_workers=1"],
            limit=30 * _MINUTE,
        ),
        # What passed says how long the API was silent.
        Step("three masters", ["pytest", "-rP", "tests/e2e/masters"], pytest=True, limit=20 * _MINUTE),
    ]
    return _in_sandbox("masters", steps, state, scratch, options)


def ring_existing(paths: Paths, scratch: pathlib.Path, options: argparse.Namespace) -> list[Verdict]:
    """Use the newest lab's cloud as somebody else's."""
    state = _test_state(paths, "existing")
    steps = [
        _run_lab(paths, lab.numbered(paths.root)[-1]),
        Step("existing cloud", ["pytest", "tests/existing"], pytest=True, limit=40 * _MINUTE),
    ]
    return _in_sandbox("existing", steps, state, scratch, options)


def ring_storage(paths: Paths, scratch: pathlib.Path, options: argparse.Namespace) -> list[Verdict]:
    """Try the volumes' driver with what upstream tries every driver with."""
    state = _test_state(paths, "storage")
    steps = [
        _run_lab(paths, lab.numbered(paths.root)[-1]),
        _upstreams_tests(paths),
        Step("storage", ["pytest", "-rP", "tests/e2e/storage"], pytest=True, limit=110 * _MINUTE),
    ]
    return _in_sandbox("storage", steps, state, scratch, options)


RINGS = {
    "1": ring1,
    "2": ring2,
    "3": ring3,
    "existing": ring_existing,
    "faults": ring_faults,
    "full": ring_full,
    "masters": ring_masters,
    "storage": ring_storage,
}
# What a change is tested with; the others take their time.
DEFAULT = ("1", "2", "3")
# Those that run at the same time where there is memory for their sandboxes.
SIDE_BY_SIDE = ("2", "3")


def _upstreams_tests(paths: Paths) -> Step:
    return Step("upstream's tests", [str(paths.root / "tools/mirror"), "auto", "--only=tests"], limit=40 * _MINUTE)


def _run_lab(paths: Paths, name: str, *options: str) -> Step:
    return Step(f"lab {name}", [str(paths.root / "tools/lab"), name, *options], limit=60 * _MINUTE)


def _lab(paths: Paths, name: str, *, briefly: bool) -> list[Step]:
    """Run a lab, and what only that one shows: those that come after it have another pod network."""
    steps = [_run_lab(paths, name, *(BRIEFLY if briefly else ()))]
    if name == _ROUTED:
        steps.append(Step(f"pod network of lab {name}", ["pytest", "tests/e2e/test_pod_network.py"], pytest=True, limit=15 * _MINUTE))
    return steps


def _again(name: str, tools: pathlib.Path, state: Paths) -> list[Step]:
    return [
        Step(f"lab {name} again", [str(tools / "lab"), name, *BRIEFLY], limit=15 * _MINUTE),
        Step("nothing changed", call=lambda: unchanged(state.state / "timings.json")),
    ]


def _stopped_and_started(tools: pathlib.Path) -> list[Step]:
    return [
        Step("stop", [str(tools / "sandbox"), "stop"]),
        Step("start", [str(tools / "sandbox"), "start"], limit=20 * _MINUTE),
        Step("verify after start", ["ansible-playbook", "playbooks/verify.yaml"]),
    ]


def unchanged(timings: pathlib.Path) -> str:
    """Raise a KosError unless the run that wrote this file changed nothing on any host."""
    hosts: dict[str, dict[str, int]] = json.loads(timings.read_text(encoding="utf-8"))["hosts"]
    changed = {name: counts["changed"] for name, counts in hosts.items() if counts["changed"]}
    if changed or not hosts:
        raise KosError(f"a second run changed {changed or 'no host at all'}; find the tasks in its output above.")
    return f"{len(hosts)} hosts unchanged"


def in_order_of_stages(root: pathlib.Path, names: t.Collection[str]) -> list[str]:
    """Sort roles by where the labs' playbooks first run them; those that none names come last."""
    # The last lab has all that the others have, in its place.
    text = "".join(_with_imports(path) for path in reversed(lab.labs(root).values()))
    # A look at the machines beforehand is not the role's place.
    named = list(dict.fromkeys(re.findall(r"kos\.labs\.(\w+)(?!\w|\s+tasks_from: preflight)", text)))
    place: dict[str, float] = {name: named.index(name) if name in named else len(named) for name in names if name != "default"}
    # The cloud that is there already is, here, the one that the other roles have made.
    if "base_existing" in place:
        place["base_existing"] = place.get("os_tenant", len(named)) + 0.5
    return sorted(place, key=lambda name: (place[name], name))


def not_run(names: t.Collection[str]) -> list[Verdict]:
    """Name what no step covers on this machine, and why."""
    left_out = [Verdict(ring, "all of it", "not run", note="not asked for") for ring in RINGS if ring not in names]
    if set(names) == {"1"}:
        return left_out
    gaps = [("instances on KVM", "this machine has none" if not os.access("/sys/module/kvm", os.F_OK) else "no scenario uses it yet")]
    here = all(os.path.isdir(f"/sys/module/{name}") for name in ("dm_mod", "iscsi_tcp"))
    gaps.append(("volumes by LVM and iSCSI", "no scenario uses them yet" if here else "this machine's kernel has neither"))
    if not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        gaps.append(("a host with cgroup v2", "this one has v1"))
    if not os.path.isdir("/run/systemd/system"):
        gaps.append(("a host that systemd manages", "this one has another init"))
    return left_out + [Verdict("-", name, "not run", note=why) for name, why in gaps]


def _in_sandbox(ring: str, steps: t.Sequence[Step], paths: Paths, scratch: pathlib.Path, options: argparse.Namespace) -> list[Verdict]:
    """Run steps one after the other until one fails; take the sandbox away whatever happened."""
    if not (paths.root / "tools/sandbox").exists():
        return [Verdict(ring, "sandbox", "not run", note="tools/sandbox does not exist")]
    _destroy(paths)
    before = footprint.take()
    lab.prepare(paths)
    verdicts: list[Verdict] = []
    try:
        for step in steps:
            if any(verdict.failed for verdict in verdicts) and not options.keep_going:
                verdicts.append(Verdict(ring, step.name, "not run", note="a step before it failed"))
                continue
            verdicts.append(_run(ring, step, paths, scratch))
    finally:
        if options.keep:
            say(f"Kept: KOS_STATE={paths.state} tools/sandbox status; … destroy removes it.")
        else:
            destroy = Step("destroy leaves nothing", call=lambda: _destroy_and_look(paths, before))
            verdicts.append(_run(ring, destroy, paths, scratch))
    return verdicts


def _test_state(paths: Paths, name: str) -> Paths:
    return dataclasses.replace(paths, state=paths.root / _STATES / name)


def _sandboxes(paths: Paths) -> list[dict[str, t.Any]]:
    done = subprocess.run(
        _sandbox(paths, "list", "--json"), env=paths.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise KosError(f"tools/sandbox list failed: {done.stderr.strip()[-400:]}")
    return list(json.loads(done.stdout)["sandboxes"])


def _destroy(paths: Paths) -> None:
    """Remove this test's sandbox and state, and what killed runs in clones that are gone have left."""
    for sandbox in _sandboxes(paths):
        state = pathlib.Path(sandbox["state"])
        if state != paths.state.resolve() and (not re.search(rf"/{_STATES}/(ring\d|{'|'.join(RINGS)})$", str(state)) or state.exists()):
            continue
        say(f"removing the sandbox {sandbox['name']} of {state}")
        argv = _sandbox(paths, "destroy", "--name", sandbox["name"])
        done = subprocess.run(argv, env=paths.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise KosError(f"tools/sandbox destroy --name {sandbox['name']} failed: {(done.stderr or done.stdout).strip()[-400:]}")
    shutil.rmtree(paths.state, ignore_errors=True)


def _destroy_and_look(paths: Paths, before: footprint.Footprint) -> str:
    _destroy(paths)
    others = _sandboxes(paths)
    foreign = {word for sandbox in others for word in _words(sandbox)}
    # A loop device's file is named as its machine sees it, so that it cannot be told whose it is.
    unknown = {"loop device"} if others else set()
    after = {kind: found for kind, found in footprint.take(foreign).items() if kind not in unknown}
    return footprint.check(before, after)


def _words(sandbox: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    """Yield what the things of a sandbox carry: its name, folder, bridges' prefix, networks."""
    yield from (sandbox["name"], sandbox["state"], sandbox["bridges"][0].rpartition("-")[0])
    yield from (sandbox[network].rpartition(".")[0] + "." for network in ("management", "underlay", "external"))


def _sandbox(paths: Paths, *arguments: str) -> list[str]:
    return [str(paths.root / "tools/sandbox"), *arguments]


def _run(ring: str, step: Step, paths: Paths, scratch: pathlib.Path, *, quiet: bool = False) -> Verdict:
    """Run one step; quiet steps show their output when they have ended, so that they can run side by side."""
    if not quiet:
        say(f"\n--- {step.name}")
    begun = time.monotonic()
    counts, note = None, ""
    if step.call:
        try:
            code, output, note = 0, "", step.call()
        except KosError as error:
            code, output, note = 1, f"{error}\n", str(error).partition("\n")[0]
    else:
        junit = scratch / f"{ring}-{step.name.replace(' ', '-')}.xml"
        argv = [*step.argv, f"--junitxml={junit}", "--durations=15", "--durations-min=10"] if step.pytest else step.argv
        code, output = _program(argv, paths, step, quiet=quiet)
        counts, note = _counts(junit) if step.pytest else (None, "")
        if code == 124:
            note = f"stopped after {step.limit // _MINUTE} minutes"
        elif step.killed_after:
            code, note = (0, f"after {step.killed_after} s") if code == -signal.SIGKILL else (1, f"ended by itself with {code}")
    seconds = round(time.monotonic() - begun, 1)
    passed, failed = counts or (int(code == 0), int(code != 0))
    if code != 0 and failed == 0:
        failed = 1
    if quiet:
        say(f"--- {step.name}: {'failed' if failed else 'passed'} in {seconds:.0f} s")
    if output and (failed or step.pytest):
        say(output.rstrip())
    return Verdict(ring, step.name, "failed" if failed else "passed", passed, failed, seconds, note[:100])


def _program(argv: t.Sequence[str], paths: Paths, step: Step, *, quiet: bool) -> tuple[int, str]:
    environment = {
        **paths.environment(),
        "MOLECULE_GLOB": "molecule/*/molecule.yml",
        "ANSIBLE_NOCOLOR": "1",
        "NO_COLOR": "1",
        # Tests read what Ansible prints.
        **({} if step.pytest else {"ANSIBLE_CALLBACKS_ENABLED": "kos.labs.kos_stages", "KOS_TIMINGS": str(paths.state / "step.json")}),
        **step.environ,
    }
    with subprocess.Popen(
        argv,
        cwd=paths.root,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=step.killed_after or step.limit)
        except subprocess.TimeoutExpired:
            if step.killed_after:
                _kill(_descendants(process.pid))
                process.wait()
                return process.returncode, ""
            _end(process)
            return 124, (process.communicate()[0] or "") if quiet else ""
        except BaseException:
            _end(process)
            raise
    return process.returncode, output or ""


def _descendants(number: int) -> list[int]:
    """Return a process and all that it started, parents first."""
    parents: dict[int, list[int]] = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name, in parentheses, may hold anything; the state and the parent follow it.
            parent = int(stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(stat.parent.name))
    found = [number]
    for each in found:
        found += parents.get(each, ())
    return found


def _end(process: subprocess.Popen[str]) -> None:
    """End a program with all it started: first kindly, so that it can tidy up."""
    # Ansible's workers have sessions of their own.
    family = _descendants(process.pid)[1:]
    for number, seconds in ((signal.SIGINT, 20), (signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, number)
            process.wait(seconds)
            break
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    _kill(family)


def _kill(processes: t.Iterable[int]) -> None:
    for each in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


def _counts(junit: pathlib.Path) -> tuple[tuple[int, int] | None, str]:
    """Read how many tests passed and failed, and a note of those that were skipped."""
    try:
        suites = list(xml.etree.ElementTree.parse(junit).getroot().iter("testsuite"))
    except (OSError, xml.etree.ElementTree.ParseError):
        return None, ""
    total, failed, errors, skipped = (
        sum(int(suite.get(name, "0")) for suite in suites) for name in ("tests", "failures", "errors", "skipped")
    )
    return (total - failed - errors - skipped, failed + errors), f"{skipped} skipped" if skipped else ""


def _with_imports(playbook: pathlib.Path) -> str:
    """Return the text of a playbook with those that it imports in their places."""
    text = playbook.read_text(encoding="utf-8")
    return re.sub(
        r"import_playbook:\s*(\S+\.ya?ml)",
        lambda match: _with_imports(playbook.parent / match[1]) if (playbook.parent / match[1]).exists() else match[0],
        text,
    )


def _ring(name: str) -> str:
    if name not in RINGS:
        raise argparse.ArgumentTypeError(f"there is no ring {name}; there are {', '.join(RINGS)}")
    return name


def _parse(argv: t.Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tools/test",
        description="Run the tests, each ring from the second on in a sandbox of its own.",
    )
    known = "; ".join(f"{name}: {(ring.__doc__ or '').rstrip('.')}" for name, ring in RINGS.items())
    # Not by choices: before Python 3.12 argparse looks for the list of none among them.
    parser.add_argument("rings", metavar="RING", nargs="*", type=_ring, help=f"{known} (default: {' '.join(DEFAULT)})")
    parser.add_argument("--keep", action="store_true", help="leave the sandboxes in place to look at them")
    parser.add_argument("--keep-going", action="store_true", help="go on after a step that failed")
    # How a ring that runs beside another one tells the process that shows them all.
    parser.add_argument("--verdicts", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--scenario", action="append", metavar="ROLE", help="ring 2: only this role (repeatable)")
    return parser.parse_args(argv)
