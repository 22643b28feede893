# SPDX-License-Identifier: GPL-3.0-or-later
"""What a sandbox consists of, worked out from what is given: names, subnets, commands, contract. No input, no output."""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import json
import re
import shlex
import typing as t

from kos import KosError

__all__ = [
    "LAYOUTS",
    "Link",
    "Loop",
    "Machine",
    "Mount",
    "Observed",
    "Sandbox",
    "Step",
    "cgroup_mounts",
    "choose_port",
    "choose_subnets",
    "contract",
    "debian_mirrors",
    "default_name",
    "loops_of",
    "merge_known_hosts",
    "network_removal",
    "network_steps",
    "new_sandbox",
    "nspawn_argv",
    "nspawn_environment",
    "parse_mounts",
    "resolvers",
    "to_yaml",
]

VERSION = 1
POOL = "10.123.0.0/16"
MIRROR_PORT = 8480
REGISTRY_PORT = 5480
MTU = 1500
# The first machine's last number; below it are the host's own addresses.
FIRST = 11

Groups = tuple[str, ...]
LAYOUTS: t.Mapping[str, t.Sequence[tuple[str, Groups]]] = {
    "compact": (("controller1", ("controller", "network", "compute", "storage")),),
    "full": (
        ("controller1", ("controller",)),
        ("network1", ("network",)),
        ("compute1", ("compute",)),
        ("compute2", ("compute",)),
        ("storage1", ("storage",)),
    ),
}
# In what a sandbox differs from machines as roles expect them, in the roles' own words.
ROLE_VARIABLES: t.Mapping[str, t.Any] = {
    "os_nova_compute_virt_type": "lxc",
    # An LXC instance takes what it uses, not what its flavor says.
    "os_nova_compute_ram_allocation_ratio": 4.0,
    "os_neutron_underlay_interface": "under0",
    "os_chrony_control_clock": False,
    # The overlay's disk is a shared one, and a sandbox that lost power can be made anew.
    "os_mariadb_flush_log_at_trx_commit": 0,
    "os_neutron_datapath_type": "netdev",
    "os_neutron_ovs_other_config": {"userspace-tso-enable": "true"},
    # An LXC instance cannot be given a drive with files.
    "os_octavia_user_data_config_drive": True,
    # The kernel has neither device mapper nor iSCSI, and one machine has it to itself in the layout compact.
    "os_cinder_volume_backend": "loopfile",
    # Volumes of a lab are mostly empty, as its disk should be.
    "os_cinder_volume_over_subscription": 4.0,
    # An amphora carries UDP and SCTP with the kernel's ip_vs, which an LXC instance cannot load.
    "os_tenant_load_balancer_protocols": ["TCP"],
}
DEVICES = ("/dev/loop-control", "/dev/net/tun", "/dev/kmsg", "/dev/fuse", "/dev/kvm", "/dev/vhost-net")


@dataclasses.dataclass(frozen=True)
class Machine:
    """One machine of a sandbox; `index` counts from 1 and makes its addresses and link names."""

    name: str
    groups: Groups
    index: int
    mgmt_ip: str
    underlay_ip: str


@dataclasses.dataclass(frozen=True)
class Sandbox:
    """Everything that is decided once, when a sandbox is made, and kept until it is destroyed."""

    name: str
    layout: str
    state: str
    cache: str
    root: str
    management: str
    underlay: str
    external: str
    mirror_port: int
    registry_port: int
    machines: tuple[Machine, ...]
    version: int = VERSION

    @property
    def prefix(self) -> str:
        """What every link of this sandbox begins with; 15 characters are all that a link's name may have."""
        if re.fullmatch(r"kos-[0-9a-f]{6}", self.name):
            return self.name.replace("-", "")
        return "kos" + hashlib.sha256(self.name.encode()).hexdigest()[:6]

    @property
    def bridges(self) -> tuple[str, str]:
        """The host's bridges for management and underlay."""
        return f"{self.prefix}-m", f"{self.prefix}-u"

    def links(self, machine: Machine) -> tuple[str, str]:
        """Return the host's ends of a machine's two links."""
        management, underlay = self.bridges
        return f"{management}{machine.index}", f"{underlay}{machine.index}"

    @property
    def comment(self) -> str:
        """What marks this sandbox's firewall rules."""
        return f"kos-sandbox:{self.name}"

    @property
    def host_ip(self) -> str:
        """The host's address among the machines."""
        return str(ipaddress.ip_network(self.management)[1])

    @property
    def gateway(self) -> Machine:
        """The machine that the external network lies behind."""
        return next(machine for machine in self.machines if "network" in machine.groups)

    def container(self, machine: Machine) -> str:
        """Return the name of a machine among all machines of this host."""
        return f"{self.name}-{machine.name}"

    def folder(self, machine: Machine) -> str:
        """Where a machine's file system is kept."""
        return f"{self.state}/sandbox/machines/{machine.name}"

    def merged(self, machine: Machine) -> str:
        """Where a machine's file system is mounted while it runs."""
        return f"{self.folder(machine)}/root"

    def to_json(self) -> str:
        """Return the text that the state folder and the registry keep."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Sandbox:
        """Read what `to_json` wrote; `where` is for the message."""
        try:
            data = json.loads(text)
            if data["version"] != VERSION:
                raise KosError(
                    f"{where} was written by another version of tools/sandbox; destroy that sandbox with the clone that made it."
                )
            machines = tuple(Machine(**{**machine, "groups": tuple(machine["groups"])}) for machine in data.pop("machines"))
            return cls(machines=machines, **data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise KosError(f"{where} is damaged ({error}); restore it, or remove it and clean up by hand.") from error


def default_name(state: str) -> str:
    """Return the name of the sandbox that belongs to a state folder."""
    return "kos-" + hashlib.sha256(state.encode()).hexdigest()[:6]


def choose_subnets(pool: str, count: int, taken: t.Iterable[str]) -> list[str]:
    """Return the first `count` networks of 256 addresses in `pool` that overlap with nothing that is taken."""
    try:
        space = ipaddress.IPv4Network(pool)
    except ValueError as error:
        raise KosError(f"{pool} is not an IPv4 network ({error}); give --pool (or KOS_SANDBOX_POOL) one such as {POOL}.") from error
    used = [ipaddress.ip_network(network, strict=False) for network in taken]
    used = [network for network in used if network.version == 4 and network.prefixlen > 0]
    found: list[str] = []
    for network in space.subnets(new_prefix=24) if space.prefixlen <= 24 else ():
        if not any(network.overlaps(other) for other in used):
            found.append(str(network))
            if len(found) == count:
                return found
    raise KosError(
        f"{pool} has no {count} free networks of 256 addresses; give --pool (or KOS_SANDBOX_POOL) another range such as 10.124.0.0/16."
    )


def choose_port(first: int, taken: t.Container[int]) -> int:
    """Return the first port from `first` on that nobody listens on at every address."""
    for port in range(first, first + 100):
        if port not in taken:
            return port
    raise KosError(f"all ports from {first} to {first + 99} are in use; stop some of their servers.")


def new_sandbox(
    *, name: str, layout: str, state: str, cache: str, root: str, pool: str, taken: t.Iterable[str], ports: t.Container[int]
) -> Sandbox:
    """Decide everything about a sandbox that does not exist yet."""
    if layout not in LAYOUTS:
        raise KosError(f"there is no layout {layout!r}; choose one of {', '.join(LAYOUTS)}.")
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}[a-z0-9]", name):
        raise KosError(f"{name!r} cannot be a sandbox's name; use 2 to 32 small letters, digits and hyphens, a letter first.")
    for path in (state, cache):
        if re.search(r"[:,\\\"\s]", path):
            raise KosError(
                f"the folder {path!r} has a blank, comma, colon, quote or backslash in its name, which mounts cannot carry; choose another one."
            )
    management, underlay, external = choose_subnets(pool, 3, taken)
    machines = tuple(
        Machine(
            name=machine,
            groups=groups,
            index=index,
            mgmt_ip=str(ipaddress.ip_network(management)[FIRST + index - 1]),
            underlay_ip=str(ipaddress.ip_network(underlay)[FIRST + index - 1]),
        )
        for index, (machine, groups) in enumerate(LAYOUTS[layout], start=1)
    )
    return Sandbox(
        name=name,
        layout=layout,
        state=state,
        cache=cache,
        root=root,
        management=management,
        underlay=underlay,
        external=external,
        mirror_port=choose_port(MIRROR_PORT, ports),
        registry_port=choose_port(REGISTRY_PORT, ports),
        machines=machines,
    )


# --- the host's network


@dataclasses.dataclass(frozen=True)
class Link:
    """A network link of the host."""

    up: bool
    master: str
    addresses: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Observed:
    """What the host has at the moment: links, routes (destination to gateway), firewall rules by table, settings."""

    links: t.Mapping[str, Link]
    routes: t.Mapping[str, str]
    rules: t.Mapping[str, t.Sequence[str]]
    settings: t.Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Step:
    """One command that changes the host, and what it is for."""

    what: str
    argv: tuple[str, ...]


# Kubernetes and several systemds on one kernel need more watches than one machine does.
AT_LEAST: t.Mapping[str, int] = {
    "net.ipv4.ip_forward": 1,
    "fs.inotify.max_user_instances": 8192,
    "fs.inotify.max_user_watches": 1048576,
}


def _rules(sandbox: Sandbox, observed: Observed) -> t.Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield table, chain and match of every firewall rule that a sandbox wants."""
    management, underlay = sandbox.bridges
    mark = ("-m", "comment", "--comment", sandbox.comment)
    for source in (sandbox.management, sandbox.external):
        yield "nat", "POSTROUTING", ("-s", source, "!", "-o", management, *mark, "-j", "MASQUERADE")
    forward = [rule for rule in observed.rules.get("filter", ()) if "FORWARD" in rule and sandbox.comment not in rule]
    if any(rule.startswith(("-A FORWARD", ":FORWARD DROP")) for rule in forward):
        yield "filter", "FORWARD", ("-i", management, *mark, "-j", "ACCEPT")
        yield "filter", "FORWARD", ("-o", management, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", *mark, "-j", "ACCEPT")
        yield "filter", "FORWARD", ("-i", underlay, "-o", underlay, *mark, "-j", "ACCEPT")


def _same_rule(wanted: t.Sequence[str], line: str) -> bool:
    """Tell whether a line of iptables-save is that rule; the order of options is not kept by iptables."""
    return sorted(wanted) == sorted(shlex.split(line))


def network_steps(sandbox: Sandbox, observed: Observed) -> list[Step]:
    """Return the commands that are missing for the sandbox's bridges, routes, NAT and settings."""
    steps: list[Step] = []
    for key, least in AT_LEAST.items():
        if int(observed.settings.get(key) or 0) < least:
            steps.append(Step(f"raise {key} to {least}", ("sysctl", "-qw", f"{key}={least}")))
    nets = (sandbox.management, sandbox.underlay)
    for bridge, cidr in zip(sandbox.bridges, nets):
        network = ipaddress.ip_network(cidr)
        address = f"{network[1]}/{network.prefixlen}"
        link = observed.links.get(bridge)
        if link is None:
            # An address of its own: else it takes a machine's, and another one whenever machines come and go.
            mac = "02:" + ":".join(re.findall("..", hashlib.sha256(bridge.encode()).hexdigest()[:10]))
            steps.append(
                Step(
                    f"add the bridge {bridge}",
                    ("ip", "link", "add", bridge, "address", mac, "type", "bridge", "stp_state", "0", "forward_delay", "0"),
                )
            )
        # The host has no business in the underlay; an address there would only widen what it is reached by.
        if cidr == sandbox.management and (link is None or address not in link.addresses):
            steps.append(Step(f"give {bridge} the address {address}", ("ip", "address", "replace", address, "dev", bridge)))
        if link is None or not link.up:
            steps.append(Step(f"set {bridge} up", ("ip", "link", "set", bridge, "up")))
    for machine in sandbox.machines:
        for name, bridge in zip(sandbox.links(machine), sandbox.bridges):
            link = observed.links.get(name)
            if link is not None and (link.master != bridge or not link.up):
                steps.append(Step(f"plug {name} into {bridge}", ("ip", "link", "set", name, "master", bridge, "up")))
    gateway = sandbox.gateway.mgmt_ip
    if observed.routes.get(sandbox.external) != gateway:
        steps.append(
            Step(
                f"lead {sandbox.external} to {gateway}",
                ("ip", "route", "replace", sandbox.external, "via", gateway, "dev", sandbox.bridges[0]),
            )
        )
    for table, chain, match in _rules(sandbox, observed):
        if not any(_same_rule(("-A", chain, *match), line) for line in observed.rules.get(table, ()) if line.startswith("-A")):
            verb = ("-I", chain, "1") if table == "filter" else ("-A", chain)
            steps.append(Step(f"add a rule to {table} {chain}", ("iptables", "-w", "-t", table, *verb, *match)))
    return steps


def network_removal(sandbox: Sandbox, observed: Observed) -> list[Step]:
    """Return the commands that take away what this sandbox has in the host's network; nothing else matches."""
    steps = []
    for table, lines in observed.rules.items():
        for line in lines:
            words = shlex.split(line) if line.startswith("-A") else []
            if sandbox.comment in words:
                steps.append(Step(f"remove a rule from {table} {words[1]}", ("iptables", "-w", "-t", table, "-D", *words[1:])))
    # Machines' ends first: a bridge that loses them last does not change its address on the way.
    own = sorted((link for link in observed.links if link.startswith(f"{sandbox.prefix}-")), key=len, reverse=True)
    steps.extend(Step(f"remove {link}", ("ip", "link", "delete", link)) for link in own)
    return steps


# --- machines


@dataclasses.dataclass(frozen=True)
class Mount:
    """One line of /proc/mounts."""

    source: str
    target: str
    kind: str
    options: tuple[str, ...]


def parse_mounts(text: str) -> list[Mount]:
    """Read /proc/mounts, with its octal escapes."""

    def plain(word: str) -> str:
        return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), word)

    rows = (line.split() for line in text.splitlines() if line.strip())
    return [Mount(plain(row[0]), plain(row[1]), row[2], tuple(row[3].split(","))) for row in rows]


class Loop(t.NamedTuple):
    """A loop device: its number, the file system that its file lies in, the device that it shows if that is one, and the file's name."""

    number: int
    lies_in: int
    shows: int
    file: str


def loops_of(loops: t.Iterable[Loop], devices: t.Container[int], folder: str) -> list[Loop]:
    """Return those whose files lie in these file systems or below a folder, each after what shows it: servers make loop devices of loop devices."""
    rest = list(loops)
    found = [loop for loop in rest if loop.lies_in in devices or loop.file.startswith(f"{folder}/")]
    # Grows while it is read.
    for below in found:
        found.extend(loop for loop in rest if loop.shows == below.number and loop not in found)
    return found[::-1]


def cgroup_mounts(mounts: t.Iterable[Mount]) -> tuple[bool, list[str]]:
    """Return whether the host uses cgroup v2 alone, and where its hierarchies are mounted."""
    places = {
        mount.target: mount.kind for mount in mounts if mount.kind in ("cgroup", "cgroup2") and mount.target.startswith("/sys/fs/cgroup")
    }
    if places.get("/sys/fs/cgroup") == "cgroup2":
        return True, ["/sys/fs/cgroup"]
    return False, sorted(places)


def nspawn_environment(*, unified: bool) -> dict[str, str]:
    """Return what systemd-nspawn reads from its environment."""
    environment = {
        # Kubernetes and libvirt set kernel parameters of their own network and control groups.
        "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "1",
        # Images are converted below /tmp: a disk has room for them, memory has not.
        "SYSTEMD_NSPAWN_TMPFS_TMP": "0",
        "SYSTEMD_NSPAWN_USE_CGNS": "1",
    }
    if not unified:
        environment["SYSTEMD_NSPAWN_UNIFIED_HIERARCHY"] = "0"
    return environment


def nspawn_argv(
    sandbox: Sandbox, machine: Machine, *, binds: t.Sequence[tuple[str, str]], devices: t.Sequence[str], modules: bool
) -> list[str]:
    """Return the command that boots a machine."""
    links = sandbox.links(machine)
    return [
        "systemd-nspawn",
        f"--directory={sandbox.merged(machine)}",
        f"--machine={sandbox.container(machine)}",
        f"--hostname={machine.name}",
        "--boot",
        "--register=no",
        "--keep-unit",
        "--private-network",
        f"--network-veth-extra={links[0]}:mgmt0",
        f"--network-veth-extra={links[1]}:under0",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        "--console=pipe",
        "--capability=all",
        # The clock belongs to the host.
        "--drop-capability=CAP_SYS_TIME",
        "--system-call-filter=@keyring bpf @mount @module @raw-io",
        *(f"--bind={device}" for device in devices),
        *(["--bind-ro=/lib/modules"] if modules else []),
        *(f"--bind={source}:{target}" for source, target in binds),
    ]


# --- texts


def resolvers(*texts: str) -> list[str]:
    """Return the name servers of the first resolv.conf that names one which a machine can reach, so none on the loopback."""
    for text in texts:
        found = []
        for line in text.splitlines():
            words = line.split()
            if len(words) >= 2 and words[0] == "nameserver":
                try:
                    address = ipaddress.ip_address(words[1].split("%")[0])
                except ValueError:
                    continue
                if address.version == 4 and not address.is_loopback:
                    found.append(str(address))
        if found:
            return found
    return []


def debian_mirrors(texts: t.Iterable[str]) -> tuple[str, str]:
    """Return the Debian and the security mirror that a host's apt sources name, else the public ones."""
    urls = [
        url.rstrip("/")
        for text in texts
        for line in text.splitlines()
        if not line.lstrip().startswith("#")
        for url in re.findall(r"\bhttps?://[^\s\]]+", line)
    ]
    main = next((url for url in urls if url.endswith("/debian")), "http://deb.debian.org/debian")
    security = next((url for url in urls if url.endswith("/debian-security")), "http://deb.debian.org/debian-security")
    return main, security


def merge_known_hosts(text: str, ours: t.Mapping[str, str]) -> str:
    """Return known_hosts with our addresses' keys replaced (or, for an empty key, removed) and all other lines kept."""
    kept = [line for line in text.splitlines() if line.strip() and line.split()[0] not in ours]
    return "".join(f"{line}\n" for line in [*kept, *(f"{address} {key}" for address, key in ours.items() if key)])


def contract(sandbox: Sandbox, *, dns: t.Sequence[str], mirror: bool) -> dict[str, t.Any]:
    """Return the hosts contract as docs/architecture.md has it."""
    external = ipaddress.ip_network(sandbox.external)
    variables: dict[str, t.Any] = {
        "hosts_contract": {"version": 1, "base": "sandbox", "layout": sandbox.layout, "name": sandbox.name},
        "management_cidr": sandbox.management,
        "underlay_cidr": sandbox.underlay,
        "underlay_mtu": MTU,
        "external_cidr": sandbox.external,
        "external_gateway": str(external[1]),
        "external_pool_start": str(external[10]),
        "external_pool_end": str(external[250]),
        "external_dns": list(dns),
        **ROLE_VARIABLES,
    }
    if mirror:
        variables["mirror_url"] = f"http://{sandbox.host_ip}:{sandbox.mirror_port}"
        variables["mirror_registry"] = f"{sandbox.host_ip}:{sandbox.registry_port}"
    groups: dict[str, t.Any] = {
        group: {"hosts": {m.name: {} for m in sandbox.machines if group in m.groups}}
        for group in ("controller", "network", "compute", "storage")
    }
    hosts = {
        machine.name: {
            "ansible_host": machine.mgmt_ip,
            "ansible_user": "root",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_private_key_file": f"{sandbox.state}/ssh/id_ed25519",
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={sandbox.state}/ssh/known_hosts -o GlobalKnownHostsFile=/dev/null -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes",
            "mgmt_ip": machine.mgmt_ip,
            "underlay_ip": machine.underlay_ip,
        }
        for machine in sandbox.machines
    }
    return {"all": {"vars": variables, "children": {"openstack": {"hosts": hosts, "children": groups}}}}


def to_yaml(data: t.Any, indent: int = 0) -> str:
    """Write plain data as block YAML; strings are quoted as JSON does, which YAML reads alike (within 16 bits)."""
    pad = "  " * indent
    if isinstance(data, dict) and data:
        lines = []
        for key, value in data.items():
            if isinstance(value, (dict, list)) and value:
                lines.append(f"{pad}{key}:\n{to_yaml(value, indent + 1)}")
            else:
                lines.append(f"{pad}{key}: {json.dumps(value)}\n")
        return "".join(lines)
    if isinstance(data, list) and data:
        return "".join(f"{pad}- {json.dumps(value)}\n" for value in data)
    return f"{pad}{json.dumps(data)}\n"
