# SPDX-License-Identifier: GPL-3.0-or-later
"""What tools/sandbox does to the host: commands, mounts, processes, control groups, links. It decides nothing."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import time
import typing as t

from kos import KosError
from kos import sandbox_plan as plan

__all__ = [
    "address_networks",
    "boot",
    "commands_missing",
    "detach_loops",
    "find_machine",
    "forget",
    "has_systemd",
    "listening_everywhere",
    "lock",
    "make_loop_devices",
    "mount_overlay",
    "observe",
    "power_off",
    "run",
    "ssh_answers",
    "stray_processes",
    "unmount",
    "wait_for",
    "write",
]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LOOP_CTL_ADD = 0x4C80
_LOOP_CLR_FD = 0x4C01
_LOOP_GET_STATUS64 = 0x4C05
_LOOPS = 128


def run(*argv: str, check: bool = True, **options: t.Any) -> str:
    """Run a command and return its output; a failure that matters becomes one sentence."""
    environment = {**os.environ, "PATH": _PATH, "LC_ALL": "C.UTF-8", **options.pop("env", {})}
    try:
        done = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **options)
    except FileNotFoundError as error:
        raise KosError(f"the command {argv[0]} is missing; install the package that has it.") from error
    if check and done.returncode != 0:
        said = " / ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise KosError(f"`{shlex.join(argv)}` failed ({done.returncode}): {said}")
    return done.stdout


def commands_missing(commands: t.Iterable[str]) -> list[str]:
    """Return those commands that the host does not have."""
    return [command for command in commands if shutil.which(command, path=_PATH) is None]


def wait_for(what: str, seconds: float, ready: t.Callable[[], bool], *, every: float = 0.1) -> None:
    """Wait until something is so; say what did not come when the time is over."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise KosError(f"{what} did not happen within {seconds:.0f} seconds; `tools/sandbox status` and the console log tell more.")
        time.sleep(every)


def write(path: pathlib.Path, text: str, mode: int = 0o644) -> bool:
    """Write a file whole or not at all, unless it stands there already; tell whether it changed."""
    try:
        if not path.is_symlink() and path.read_text(encoding="utf-8") == text and path.stat().st_mode & 0o7777 == mode:
            return False
    except (OSError, UnicodeDecodeError):
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(fresh, mode)
    os.replace(fresh, path)
    return True


@contextlib.contextmanager
def lock(path: pathlib.Path, who: str, seconds: float = 600) -> t.Iterator[None]:
    """Hold a lock file; wait for another holder, but not for ever."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="ascii") as file:

        def taken() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                return False
            return True

        end = time.monotonic() + seconds
        while not taken():
            if time.monotonic() > end:
                raise KosError(f"another {who} has been running for {seconds:.0f} seconds; wait for it or end it, then repeat the command.")
            time.sleep(0.2)
        yield


# --- network


def observe() -> plan.Observed:
    """Look at the host's links, routes, firewall rules and settings."""
    links = {
        link["ifname"]: plan.Link(
            up="UP" in link["flags"],
            master=link.get("master", ""),
            addresses=frozenset(f"{a['local']}/{a['prefixlen']}" for a in link.get("addr_info", ()) if a["family"] == "inet"),
        )
        for link in json.loads(run("ip", "-j", "address", "show") or "[]")
        if "ifname" in link
    }
    routes = {route["dst"]: route.get("gateway", "") for route in _routes()}
    rules = {table: run("iptables-save", "-t", table, check=False).splitlines() for table in ("nat", "filter")}
    settings = {}
    for key in plan.AT_LEAST:
        with contextlib.suppress(OSError):
            settings[key] = pathlib.Path("/proc/sys", *key.split(".")).read_text(encoding="ascii").strip()
    return plan.Observed(links=links, routes=routes, rules=rules, settings=settings)


def _routes() -> list[dict[str, t.Any]]:
    return [
        route
        for route in json.loads(run("ip", "-j", "-4", "route", "show", "table", "all") or "[]")
        if "dst" in route and route.get("type", "unicast") in ("unicast", "blackhole", "unreachable", "prohibit")
    ]


def address_networks() -> list[str]:
    """Return every IPv4 network that the host has an address in or a route to."""
    networks = [route["dst"] for route in _routes() if route["dst"] != "default"]
    for link in observe().links.values():
        networks.extend(link.addresses)
    return networks


def listening_everywhere() -> set[int]:
    """Return the TCP ports on which something listens at every address."""
    ports = set()
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in pathlib.Path("/proc/net", name).read_text(encoding="ascii").splitlines()[1:]:
                words = line.split()
                address, port = words[1].rsplit(":", 1)
                if words[3] == "0A" and not address.strip("0"):
                    ports.add(int(port, 16))
    return ports


def ssh_answers(address: str) -> bool:
    """Tell whether an SSH server greets at an address."""
    try:
        with socket.create_connection((address, 22), timeout=1) as connection:
            connection.settimeout(2)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


# --- mounts and loop devices


def mounts() -> list[plan.Mount]:
    """Return what is mounted on the host."""
    return plan.parse_mounts(pathlib.Path("/proc/self/mounts").read_text(encoding="utf-8"))


def mounted(place: str) -> bool:
    """Tell whether something is mounted at exactly this place."""
    return any(mount.target == place for mount in mounts())


def mount_overlay(lower: str, folder: pathlib.Path) -> bool:
    """Mount a machine's file system below its folder; tell whether it was missing."""
    merged = folder / "root"
    if mounted(str(merged)):
        return False
    for part in ("upper", "work", "root"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "overlay", "kos", "-o", f"lowerdir={lower},upperdir={folder / 'upper'},workdir={folder / 'work'}", str(merged))
    return True


def forget(name: str, merged: str) -> None:
    """Remove what systemd-nspawn keeps about a machine that it could not end in order."""
    for kind in ("propagate", "unix-export"):
        place = f"/run/systemd/nspawn/{kind}/{name}"
        unmount(place)
        with contextlib.suppress(OSError):
            os.rmdir(place)
    with contextlib.suppress(OSError):
        root = os.stat(merged)
        os.unlink(f"/run/systemd/nspawn/locks/inode-{root.st_dev}:{root.st_ino}")


def unmount(place: str) -> bool:
    """Unmount everything at and below a place, deepest first; tell whether there was something."""
    found = [mount.target for mount in mounts() if mount.target == place or mount.target.startswith(f"{place}/")]
    for target in sorted(found, key=len, reverse=True):
        if run("umount", target, check=False) == "" and mounted(target):
            run("umount", "--lazy", target)
    return bool(found)


def make_loop_devices() -> None:
    """Make loop devices up to the number that machines expect; those that exist stay as they are."""
    with contextlib.suppress(FileNotFoundError), open("/dev/loop-control", "rb") as control:
        for number in range(_LOOPS):
            if not os.path.exists(f"/sys/block/loop{number}"):
                with contextlib.suppress(OSError):
                    fcntl.ioctl(control, _LOOP_CTL_ADD, number)


def devices_of(folder: pathlib.Path) -> set[int]:
    """Return the device numbers that files of a mounted machine carry, whatever layer they are in."""
    found = set()
    for place in (folder / "root", folder / "root/etc/hostname", folder / "root/usr/bin/env"):
        with contextlib.suppress(OSError):
            found.add(os.stat(place).st_dev)
    # Files of the cached root may carry the number of the disk that everything is on: that would be too much.
    return found - {os.stat(folder.parent).st_dev} if folder.parent.exists() else found


def _loops() -> t.Iterator[plan.Loop]:
    """Yield the loop devices in use."""
    for block in sorted(pathlib.Path("/sys/block").glob("loop*/loop/backing_file")):
        # A device may go while we look.
        with contextlib.suppress(OSError), open(f"/dev/{block.parts[3]}", "rb", buffering=0) as device:
            status = struct.unpack_from("=3Q", fcntl.ioctl(device, _LOOP_GET_STATUS64, bytes(232)))
            yield plan.Loop(os.fstat(device.fileno()).st_rdev, status[0], status[2], block.read_text(encoding="utf-8").strip())


def detach_loops(devices: t.Container[int], folder: pathlib.Path) -> list[str]:
    """Detach the loop devices whose files lie in those file systems or below that folder, and those that servers have made of them."""
    gone = []
    for loop in plan.loops_of(_loops(), devices, str(folder)):
        name = f"/dev/loop{os.minor(loop.number)}"
        with contextlib.suppress(OSError), open(name, "rb", buffering=0) as device:
            fcntl.ioctl(device, _LOOP_CLR_FD)
            gone.append(name)
    return gone


# --- machines


def has_systemd() -> bool:
    """Tell whether systemd runs the host."""
    return os.path.isdir("/run/systemd/system")


def find_machine(merged: str) -> int:
    """Return the process that runs the machine with this root, 0 where none does."""
    wanted = f"--directory={merged}".encode()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = pathlib.Path(entry.path, "cmdline").read_bytes().split(b"\0")
                if os.path.basename(words[0]) == b"systemd-nspawn" and wanted in words:
                    return int(entry.name)
    return 0


def children(pid: int) -> list[int]:
    """Return a process's children."""
    with contextlib.suppress(OSError):
        return [int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    return []


def _cgroups() -> tuple[bool, list[str]]:
    return plan.cgroup_mounts(mounts())


def _join_cgroup(name: str, places: t.Sequence[str]) -> None:
    """Put this process into a control group of its own in every hierarchy, so that no two machines share one."""
    for place in places:
        group = os.path.join(place, name)
        os.makedirs(group, exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):
            with contextlib.suppress(OSError):
                with open(os.path.join(place, setting), encoding="ascii") as file:
                    value = file.read().strip()
                with open(os.path.join(group, setting), "w", encoding="ascii") as file:
                    file.write(value)
        with contextlib.suppress(OSError), open(os.path.join(group, "cgroup.clone_children"), "w", encoding="ascii") as file:
            file.write("1")
        with open(os.path.join(group, "cgroup.procs"), "w", encoding="ascii") as file:
            file.write(str(os.getpid()))


def remove_cgroups(name: str) -> bool:
    """Remove a machine's control groups that nothing runs in any more."""
    found = False
    for place in _cgroups()[1]:
        for folder, _folders, _files in os.walk(os.path.join(place, name), topdown=False):
            found = True
            with contextlib.suppress(OSError):
                os.rmdir(folder)
    return found


def boot(sandbox: plan.Sandbox, machine: plan.Machine, binds: t.Sequence[tuple[str, str]], log: pathlib.Path) -> None:
    """Start a machine that does not run, in the background, and wait until the host's ends of its links are there."""
    unified, places = _cgroups()
    devices = [device for device in plan.DEVICES if os.path.exists(device)]
    argv = plan.nspawn_argv(sandbox, machine, binds=binds, devices=devices, modules=os.path.isdir("/lib/modules"))
    environment = plan.nspawn_environment(unified=unified)
    name = sandbox.container(machine)
    # The ends of a machine that was killed a moment ago may still be on their way out.
    links = sandbox.links(machine)
    for link in links:
        if os.path.exists(f"/sys/class/net/{link}"):
            run("ip", "link", "delete", link, check=False)
    if has_systemd():
        run("systemctl", "reset-failed", f"{name}.service", check=False)
        run(
            "systemd-run", "--quiet", "--collect", f"--unit={name}", "--slice=machine.slice", f"--description=kos sandbox machine {name}",
            "--property=Type=notify", "--property=NotifyAccess=all", "--property=Delegate=yes", "--property=TasksMax=infinity",
            "--property=KillMode=mixed", "--property=TimeoutStopSec=60",
            f"--property=StandardOutput=append:{log}", f"--property=StandardError=append:{log}",
            *(f"--setenv={key}={value}" for key, value in environment.items()),
            *argv,
        )  # fmt: skip
    else:
        with open(log, "ab") as output:
            subprocess.Popen(
                argv,
                env={"PATH": _PATH, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
                preexec_fn=lambda: _join_cgroup(name, places),
            )
    merged = sandbox.merged(machine)

    def linked() -> bool:
        if not all(os.path.exists(f"/sys/class/net/{link}") for link in links):
            if find_machine(merged) == 0 and not has_systemd():
                tail = " / ".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:])
                raise KosError(f"the machine {name} ended at once: {tail}")
            return False
        return True

    time.sleep(0.05)
    wait_for(f"the start of {name}", 30, linked, every=0.05)


def power_off(pid: int, seconds: float) -> bool:
    """End a machine: in order if it does so in time, else at once. Tell whether it went in order."""

    def ended(within: float) -> bool:
        end = time.monotonic() + within
        while _alive(pid):
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def signal_inside(number: int) -> None:
        for init in children(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(init, number)

    if seconds > 0:
        signal_inside(signal.SIGRTMIN + 4)
        if ended(seconds):
            return True
    # systemd-nspawn itself is left the time to take away what it made.
    signal_inside(signal.SIGKILL)
    if not ended(5):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_for(f"the end of process {pid}", 20, lambda: not _alive(pid))
    return False


def _alive(pid: int) -> bool:
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] not in ("Z", "X")


def stray_processes(name: str) -> list[int]:
    """Return the processes that are left in a machine's control groups."""
    found: set[int] = set()
    for place in _cgroups()[1]:
        for group in pathlib.Path(place, name).rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                found.update(int(line) for line in group.read_text(encoding="ascii").split())
    return sorted(found)
