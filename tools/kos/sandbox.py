# SPDX-License-Identifier: GPL-3.0-or-later
"""The command tools/sandbox: machines that stand for hosts, on one Linux machine, made of systemd-nspawn."""

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
import typing as t

from kos import KosError, cli, sandbox_image
from kos import host as checks
from kos import sandbox_host as host
from kos import sandbox_plan as plan
from kos import sandbox_root as roots

__all__ = ["main"]

REGISTRY = pathlib.Path("/var/lib/kos/sandboxes")
STOP_SECONDS = 60.0
_MODULES = (
    "overlay",
    "bridge",
    "br_netfilter",
    "veth",
    "tun",
    "loop",
    "fuse",
    "vxlan",
    "ip_set",
    "openvswitch",
    "iptable_nat",
    "xt_MASQUERADE",
    "xt_conntrack",
    "xt_comment",
)
_COMMANDS = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "iptables": "iptables",
    "iptables-save": "iptables",
    "ip": "iproute2",
    "sysctl": "procps",
    "ssh-keygen": "openssh-client",
    "mkfs.ext4": "e2fsprogs",
}
# What later stages wrote about the cloud inside: without the machines it is wrong.
_CONTRACTS = ("inventory/cluster.yaml", "clouds.yaml", "cloud.yaml", "cloud.conf", "openrc", "kubeconfig")


class Session:
    """One run of the command: where things are, what was done, and how it is told."""

    def __init__(self, *, as_json: bool) -> None:
        self.paths = cli.Paths.of()
        self.state = self.paths.state
        self.actions: list[str] = []
        self._stream = sys.stderr if as_json else sys.stdout

    def say(self, text: str) -> None:
        """Tell the user what happens now."""
        print(text, file=self._stream, flush=True)

    def did(self, text: str) -> None:
        """Note one change, and tell it."""
        self.actions.append(text)
        self.say(f"  {text}")

    @property
    def file(self) -> pathlib.Path:
        """Where this state folder keeps its sandbox."""
        return self.state / "sandbox/sandbox.json"

    def load(self) -> plan.Sandbox | None:
        """Return this state folder's sandbox, if it has one."""
        try:
            sandbox = plan.Sandbox.from_json(self.file.read_text(encoding="utf-8"), str(self.file))
        except FileNotFoundError:
            return None
        if sandbox.state != os.path.realpath(self.state):
            raise KosError(f"the sandbox in {self.state} was made in {sandbox.state}, which its machines know; move the folder back.")
        return sandbox

    def need(self) -> plan.Sandbox:
        """Return this state folder's sandbox, or say how to get one."""
        sandbox = self.load()
        if sandbox is None:
            raise KosError(
                f"there is no sandbox in {self.state}; `tools/sandbox up` makes one, `tools/sandbox list` shows all of this machine."
            )
        return sandbox


def registered() -> list[plan.Sandbox]:
    """Return every sandbox of this host."""
    found = []
    for file in sorted(REGISTRY.glob("*.json")):
        with contextlib.suppress(FileNotFoundError):
            found.append(plan.Sandbox.from_json(file.read_text(encoding="utf-8"), str(file)))
    return found


# --- before anything changes


def _preflight(session: Session, *, fresh: bool) -> None:
    """Refuse what cannot work, in one sentence."""
    checks.check(checks.probe(session.state), checks.sandbox_needs(again=not fresh))
    contract = session.state / "inventory/hosts.yaml"
    if contract.exists():
        base = re.search(r"^\s*base:\s*\"?([\w-]+)", contract.read_text(encoding="utf-8"), re.MULTILINE)
        if not base or base.group(1) != "sandbox":
            raise KosError(
                f"{contract} was written by the base {base.group(1) if base else 'of somebody else'!r}; give this sandbox a state folder of its own (KOS_STATE)."
            )
    if fresh and _filesystem(session.state) == "overlay":
        raise KosError(
            f"{session.state} lies on an overlay, on which machines' file systems cannot lie; point KOS_STATE to another file system (in a container: a volume)."
        )


def _filesystem(place: pathlib.Path) -> str:
    real = os.path.realpath(place)
    best = max(
        (mount for mount in host.mounts() if real == mount.target or real.startswith(mount.target.rstrip("/") + "/")),
        key=lambda mount: len(mount.target),
    )
    return best.kind


# --- making and starting


def up(session: Session, options: argparse.Namespace) -> plan.Sandbox:
    """Make the sandbox of this state folder, or what is missing of it."""
    sandbox = session.load()
    _preflight(session, fresh=sandbox is None)
    if sandbox:
        for word, have, want in (("layout", sandbox.layout, options.layout), ("name", sandbox.name, options.name)):
            if want and want != have:
                raise KosError(
                    f"the sandbox in {session.state} has the {word} {have}, not {want}; destroy it first, or take another state folder (KOS_STATE)."
                )
    installed = checks.install(_COMMANDS)
    if installed:
        session.did(f"installed {' '.join(installed)}")
    if sandbox is None:
        sandbox = _create(session, options)
    return start(session, sandbox)


def _create(session: Session, options: argparse.Namespace) -> plan.Sandbox:
    state = os.path.realpath(session.state)
    name = options.name or plan.default_name(state)
    for old in registered():
        if old.state == state:
            session.say(f"removing what is left of {old.name}, whose state is gone")
            destroy(session, old)
        elif old.name == name:
            raise KosError(f"the name {name} belongs to the sandbox in {old.state}; choose another --name.")
    mirrors = roots.sources()
    root, made = roots.build(session.paths.cache, mirrors, session.say)
    if made:
        session.did(f"made the cached root {root}")
    with host.lock(REGISTRY.parent / "lock", "tools/sandbox that chooses its networks"):
        taken = [*host.address_networks(), *options.avoid]
        for other in registered():
            taken += [other.management, other.underlay, other.external]
        sandbox = plan.new_sandbox(
            name=name,
            layout=options.layout or "compact",
            state=state,
            cache=os.path.realpath(session.paths.cache),
            root=str(root),
            pool=options.pool,
            taken=taken,
            ports=host.listening_everywhere(),
        )
        host.write(REGISTRY / f"{name}.json", sandbox.to_json())
    host.write(session.file, sandbox.to_json())
    session.did(f"made the sandbox {name}: {sandbox.layout}, machines in {sandbox.management}, floating IPs in {sandbox.external}")
    return sandbox


def start(session: Session, sandbox: plan.Sandbox) -> plan.Sandbox:
    """Bring everything up that is not: networks, file systems, machines; write the contract."""
    if not pathlib.Path(sandbox.root, "etc/debian_version").exists():
        raise KosError(
            f"the cached root {sandbox.root}, which the machines lie on, is gone; `tools/sandbox destroy`, then make the sandbox anew."
        )
    host.write(REGISTRY / f"{sandbox.name}.json", sandbox.to_json())
    if os.path.isdir(f"/lib/modules/{os.uname().release}"):
        for module in _MODULES:
            host.run("modprobe", "-q", module, check=False)
    host.make_loop_devices()
    _connect(session, sandbox)
    ports = ("--port", str(sandbox.mirror_port), "--registry-port", str(sandbox.registry_port))
    _mirror(session, sandbox, "serve", "--address", sandbox.host_ip, *ports)
    key = _key_pair(session)
    dns = _resolvers()
    mirrors = roots.sources()
    down = [machine for machine in sandbox.machines if not host.find_machine(sandbox.merged(machine))]

    def prepare(machine: plan.Machine) -> None:
        folder = pathlib.Path(sandbox.folder(machine))
        # What a machine that ended of itself left behind.
        _clean_machine(session, sandbox, machine)
        host.mount_overlay(sandbox.root, folder)
        roots.furnish(folder / "root", sandbox, machine, clone=session.paths.root, mirrors=mirrors, dns=dns, public_key=key)

    _each(down, prepare)
    binds = [(str(roots.archives(pathlib.Path(sandbox.cache))), roots.ARCHIVES_INSIDE)]
    for machine in down:
        host.boot(sandbox, machine, binds, pathlib.Path(sandbox.folder(machine), "console.log"))
        session.did(f"started {sandbox.container(machine)} at {machine.mgmt_ip}")
    _connect(session, sandbox)

    def answered(machine: plan.Machine) -> None:
        host.wait_for(f"an answer of {machine.name}'s SSH server at {machine.mgmt_ip}", 90, lambda: host.ssh_answers(machine.mgmt_ip))

    _each(sandbox.machines, answered)
    _write_contract(session, sandbox, dns)
    return sandbox


def _connect(session: Session, sandbox: plan.Sandbox) -> None:
    for step in plan.network_steps(sandbox, host.observe()):
        host.run(*step.argv)
        session.did(step.what)


def _each(machines: t.Sequence[plan.Machine], work: t.Callable[[plan.Machine], None]) -> None:
    """Do the same on several machines at once; the first failure is the one that is told."""
    with concurrent.futures.ThreadPoolExecutor(max(1, len(machines))) as pool:
        for done in [pool.submit(work, machine) for machine in machines]:
            done.result()


def _key_pair(session: Session) -> str:
    private = session.state / "ssh/id_ed25519"
    if not private.exists():
        private.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        host.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "kos", "-f", str(private))
        session.did("made an SSH key pair")
    return private.with_name("id_ed25519.pub").read_text(encoding="ascii")


def _resolvers() -> list[str]:
    texts = []
    for file in ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"):
        with contextlib.suppress(OSError):
            texts.append(pathlib.Path(file).read_text(encoding="utf-8", errors="replace"))
    return plan.resolvers(*texts)


def _write_contract(session: Session, sandbox: plan.Sandbox, dns: t.Sequence[str]) -> None:
    known = session.state / "ssh/known_hosts"
    before = known.read_text(encoding="utf-8") if known.exists() else ""
    keys = {machine.mgmt_ip: roots.host_key(pathlib.Path(sandbox.merged(machine))) for machine in sandbox.machines}
    if host.write(known, plan.merge_known_hosts(before, keys), 0o600):
        session.did(f"wrote {known}")
    text = "# Written by tools/sandbox; the next `tools/sandbox up` writes it again.\n---\n" + plan.to_yaml(
        plan.contract(sandbox, dns=dns, mirror=True)
    )
    contract = session.state / "inventory/hosts.yaml"
    if host.write(contract, text):
        session.did(f"wrote {contract}")


# --- stopping and removing


def _clean_machine(session: Session, sandbox: plan.Sandbox, machine: plan.Machine) -> None:
    """Take away what a machine that does not run any more left on the host; its files stay."""
    folder = pathlib.Path(sandbox.folder(machine))
    name = sandbox.container(machine)
    for pid in host.stray_processes(name):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    host.wait_for(f"the end of what {name} ran", 20, lambda: not host.stray_processes(name))
    for device in host.detach_loops(host.devices_of(folder) if host.mounted(f"{folder}/root") else (), folder):
        session.did(f"detached {device}")
    if host.mounted(f"{folder}/root"):
        host.forget(name, f"{folder}/root")
    if host.unmount(f"{folder}/root"):
        session.did(f"unmounted {name}")
    host.remove_cgroups(name)


def _stop_machine(session: Session, sandbox: plan.Sandbox, machine: plan.Machine, seconds: float) -> None:
    pid = host.find_machine(sandbox.merged(machine))
    if pid:
        orderly = host.power_off(pid, seconds)
        session.did(f"stopped {sandbox.container(machine)}" + ("" if orderly or not seconds else f", by force after {seconds:.0f} seconds"))
    _clean_machine(session, sandbox, machine)


def stop(session: Session, sandbox: plan.Sandbox, seconds: float = STOP_SECONDS) -> None:
    """Power all machines off; their files and the host's network stay."""
    _mirror(session, sandbox, "stop")
    _each(sandbox.machines, lambda machine: _stop_machine(session, sandbox, machine, seconds))


def destroy(session: Session, sandbox: plan.Sandbox) -> None:
    """Remove the sandbox with everything that it made, and nothing else."""
    stop(session, sandbox, 0)
    for step in plan.network_removal(sandbox, host.observe()):
        host.run(*step.argv, check=False)
        session.did(step.what)
    for machine in sandbox.machines:
        roots.harvest(pathlib.Path(sandbox.cache), sandbox.container(machine))
    state = pathlib.Path(sandbox.state)
    if any(mount.target.startswith(f"{state}/sandbox/") for mount in host.mounts()):
        raise KosError(
            f"something below {state}/sandbox is still mounted and in use; end what uses it (see /proc/mounts), then repeat the command."
        )
    folder = state / "sandbox"
    if folder.exists():
        # The lock that this run may hold goes last, with the folder.
        shutil.rmtree(folder)
        session.did(f"removed {folder}")
    contract = state / "inventory/hosts.yaml"
    if contract.exists() and f'name: "{sandbox.name}"' in contract.read_text(encoding="utf-8"):
        for path in (*(state / name for name in _CONTRACTS), contract):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        session.did(f"removed the contracts in {state}")
    known = state / "ssh/known_hosts"
    if known.exists():
        host.write(
            known, plan.merge_known_hosts(known.read_text(encoding="utf-8"), {machine.mgmt_ip: "" for machine in sandbox.machines}), 0o600
        )
    entry = REGISTRY / f"{sandbox.name}.json"
    if entry.exists():
        entry.unlink()
        session.did(f"forgot {sandbox.name}")


def _mirror(session: Session, sandbox: plan.Sandbox, verb: str, *arguments: str) -> None:
    """Let the mirror that this state folder serves from, if it does, follow the sandbox."""
    tool = session.paths.root / "tools/mirror"
    if not tool.exists() or not pathlib.Path(sandbox.state, "mirror").is_dir():
        return
    environment = {**session.paths.environment(), "KOS_STATE": sandbox.state, "KOS_CACHE": sandbox.cache}
    argv = [str(tool), verb, "--json", *arguments]
    done = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        session.say(f"  the mirror did not {verb}: {done.stderr.strip()}")
        return
    with contextlib.suppress(ValueError, AttributeError):
        if json.loads(done.stdout).get("changed"):
            session.did(f"let the mirror {verb}")


# --- telling


def describe(sandbox: plan.Sandbox) -> dict[str, t.Any]:
    """Return a sandbox as `--json` shows it."""
    machines = []
    for machine in sandbox.machines:
        pid = host.find_machine(sandbox.merged(machine))
        machines.append(
            {
                **dataclasses.asdict(machine),
                "container": sandbox.container(machine),
                "running": pid != 0,
                "pid": pid,
                "ssh": pid != 0 and host.ssh_answers(machine.mgmt_ip),
                "console": f"{sandbox.folder(machine)}/console.log",
            }
        )
    return {
        **dataclasses.asdict(sandbox),
        "bridges": list(sandbox.bridges),
        "machines": machines,
        "exists": pathlib.Path(sandbox.state, "sandbox").exists(),
    }


def _tell_status(found: t.Mapping[str, t.Any]) -> str:
    rows = [
        (
            m["name"],
            "running" if m["running"] else "stopped",
            "answers" if m["ssh"] else "-",
            m["mgmt_ip"],
            m["underlay_ip"],
            " ".join(m["groups"]),
        )
        for m in found["machines"]
    ]
    head = f"{found['name']}: {found['layout']}, state in {found['state']}, external network {found['external']}\n"
    return head + cli.table(("machine", "state", "ssh", "management", "underlay", "groups"), rows)


def _tell_list(found: t.Sequence[t.Mapping[str, t.Any]]) -> str:
    rows = [
        (
            s["name"],
            s["layout"],
            f"{sum(m['running'] for m in s['machines'])}/{len(s['machines'])}",
            s["management"],
            s["state"] if s["exists"] else f"{s['state']} (gone)",
        )
        for s in found
    ]
    return cli.table(("name", "layout", "running", "management", "state"), rows) if rows else "There is no sandbox on this machine."


# --- the command line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tools/sandbox", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    for verb, text in (
        ("up", "make the sandbox of this state folder, or what is missing of it"),
        ("start", "bring a stopped sandbox back"),
        ("stop", "power the machines off and keep them"),
        ("status", "show the machines; the code is 3 unless all of them run"),
        ("list", "show all sandboxes of this host"),
        ("destroy", "remove the sandbox with everything it made"),
    ):
        one = verbs.add_parser(verb, parents=[common], help=text, description=text[0].upper() + text[1:] + ".")
        if verb == "up":
            one.add_argument("--layout", choices=list(plan.LAYOUTS), help="which machines there are (compact)")
            one.add_argument(
                "--pool",
                default=os.environ.get("KOS_SANDBOX_POOL") or plan.POOL,
                help="the range that three networks are taken from (%(default)s)",
            )
            one.add_argument(
                "--avoid", action="append", default=[], metavar="CIDR", help="a network that must not be taken; may be repeated"
            )
        if verb in ("up", "destroy"):
            one.add_argument(
                "--name",
                help="the sandbox's name"
                + (" (derived from the state folder)" if verb == "up" else ", where it is not this state folder's"),
            )
        if verb == "stop":
            one.add_argument(
                "--timeout", type=float, default=STOP_SECONDS, metavar="SECONDS", help="how long machines may take (%(default).0f)"
            )
    image = verbs.add_parser("image", parents=[common], help="make an image that servers boot from, and say where it is")
    image.add_argument("kind", choices=list(sandbox_image.RECIPES), help="what the servers are")
    image.add_argument(
        "files", type=pathlib.Path, help="the folder of files that images get beside their packages: common and one per kind"
    )
    ssh = verbs.add_parser("ssh", help="open a shell on a machine, or run a command on it")
    ssh.add_argument("machine")
    ssh.add_argument("command", nargs=argparse.REMAINDER)
    return parser


def _of_name(name: str) -> plan.Sandbox:
    found = {sandbox.name: sandbox for sandbox in registered()}
    if name not in found:
        raise KosError(f"there is no sandbox {name!r} on this machine; `tools/sandbox list` shows all: {', '.join(found) or 'none'}.")
    return found[name]


def _ssh(session: Session, options: argparse.Namespace) -> int:
    sandbox = session.need()
    machine = next((m for m in sandbox.machines if m.name == options.machine), None)
    if machine is None:
        raise KosError(f"{sandbox.name} has no machine {options.machine!r}; it has {', '.join(m.name for m in sandbox.machines)}.")
    variables = plan.contract(sandbox, dns=(), mirror=False)["all"]["children"]["openstack"]["hosts"][machine.name]
    argv = [
        "ssh",
        "-q",
        "-i",
        variables["ansible_ssh_private_key_file"],
        *variables["ansible_ssh_common_args"].split(),
        f"root@{machine.mgmt_ip}",
        *options.command,
    ]
    os.execvp("ssh", argv)


def main(argv: t.Sequence[str]) -> int:
    """Run tools/sandbox; the result is its exit code."""
    options = _parser().parse_args(argv)
    if options.verb == "ssh":
        return _ssh(Session(as_json=False), options)
    session = Session(as_json=options.json)
    result: dict[str, t.Any] = {}
    code = 0
    if options.verb == "list":
        found = [describe(sandbox) for sandbox in registered()]
        result, text = {"sandboxes": found}, _tell_list(found)
    elif options.verb == "status":
        state = describe(session.need())
        result, text = {"sandbox": state}, _tell_status(state)
        code = 0 if all(machine["running"] for machine in state["machines"]) else 3
    else:
        if os.geteuid() != 0:
            raise KosError("the sandbox makes machines, networks and mounts; run the command as root.")
        result, text = _change(session, options)
    if options.json:
        print(json.dumps({"changed": bool(session.actions), "actions": session.actions, **result}, indent=2))
    elif text:
        print(text)
    return code


def _change(session: Session, options: argparse.Namespace) -> tuple[dict[str, t.Any], str]:
    if options.verb == "image":
        file, made = sandbox_image.build(session.paths.cache, options.files.resolve(), options.kind, session.say)
        if made:
            session.did(f"made {file}")
        return {"image": str(file)}, str(file)
    if options.verb == "destroy":
        sandbox = _of_name(options.name) if options.name else session.load()
        if sandbox is None:
            left = [old for old in registered() if old.state == os.path.realpath(session.state)]
            if not left:
                return {"sandbox": None}, f"There is no sandbox in {session.state}."
            sandbox = left[0]
        with _locked(pathlib.Path(sandbox.state)):
            destroy(session, sandbox)
        return {"sandbox": None}, ""
    if options.verb == "up":
        # The checks come before the lock, which makes a folder.
        _preflight(session, fresh=session.load() is None)
    else:
        session.need()
    with _locked(session.state):
        if options.verb == "up":
            sandbox = up(session, options)
        elif options.verb == "start":
            sandbox = session.need()
            _preflight(session, fresh=False)
            start(session, sandbox)
        else:
            sandbox = session.need()
            stop(session, sandbox, options.timeout)
        state = describe(sandbox)
        return {"sandbox": state, "contract": str(session.state / "inventory/hosts.yaml")}, _tell_status(state)


@contextlib.contextmanager
def _locked(state: pathlib.Path) -> t.Iterator[None]:
    """Let one command at a time work on a state folder, which may be gone."""
    if not state.exists():
        state.mkdir(parents=True)
    with host.lock(state / "sandbox.lock", "tools/sandbox on this state folder"):
        yield
