# SPDX-License-Identifier: GPL-3.0-or-later
"""The file system of sandbox machines: one cached root for all, and what each machine has of its own."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import pathlib
import shutil
import subprocess
import typing as t
import uuid

from kos import KosError
from kos import sandbox_host as host
from kos import sandbox_plan as plan

__all__ = ["aptconf", "bootstrap", "build", "furnish", "host_key", "key"]

RELEASE = "trixie"
# What Ansible, the roles' modules and the sandbox's own services need before any role has run.
PACKAGES = (
    "ca-certificates", "conntrack", "curl", "dbus", "e2fsprogs", "ethtool", "iproute2", "iptables", "iputils-ping", "kmod",
    "netbase", "nftables", "openssh-server", "procps", "python3", "python3-apt", "python3-debian", "sudo", "systemd-sysv",
)  # fmt: skip
# What services of OpenStack are made of: two thirds of what the roles install, unpacked and compiled once instead of on every machine of every sandbox.
# None brings a daemon that runs; services are the roles' to install.
LIBRARIES = (
    "genisoimage", "mariadb-client", "mariadb-server-core", "python3-glance", "python3-keystone", "python3-libvirt", "python3-memcache", "python3-neutron",
    "python3-nova", "python3-octavia", "python3-octaviaclient", "python3-openstackclient", "python3-placement", "python3-pymysql", "qemu-utils",
)  # fmt: skip
# Started by their packages, and wrong or useless here.
MASKED = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer", "man-db.timer",
    "console-getty.service", "getty@.service", "systemd-machined.service", "systemd-machined.socket", "polkit.service", "systemd-networkd.service",
    "systemd-networkd-wait-online.service", "systemd-udevd.service", "systemd-udevd-kernel.socket", "systemd-udevd-control.socket", "tmp.mount",
)  # fmt: skip
ENABLED = {
    "kos-prepare.service": "sysinit.target",
    "kos-network.service": "sysinit.target",
    "kos-links.service": "multi-user.target",
    "kos-guests.service": "multi-user.target",
}
DIVERTED = (
    # libvirt's LXC driver asks machined where D-Bus can start it, and machined cannot know machines that it did not start.
    "/usr/share/dbus-1/system-services/org.freedesktop.machine1.service",
    # Ours stands before it.
    "/usr/lib/libvirt/libvirt_lxc",
)
# What one machine is known by must not be the same in all; an initiator's name is made where its service starts first.
_UNIQUE = (
    'rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/machine-id "$1"/var/lib/dbus/machine-id "$1"/etc/hostname "$1"/etc/resolv.conf',
    'echo GenerateName=yes >"$1"/etc/iscsi/initiatorname.iscsi',
)
RECIPE = 1
_MACHINE_FILES = pathlib.Path("roles/base_sandbox/files/machine")
_APT_SETTINGS = (
    "Acquire::http", "Acquire::https", "Acquire::Check-Valid-Until", "Acquire::Check-Date", "Acquire::Retries", "Acquire::ForceIPv4", "Acquire::ForceIPv6",
)  # fmt: skip


def sources() -> tuple[str, str]:
    """Return the Debian mirrors that machines take packages from."""
    chosen = os.environ.get("KOS_DEBIAN_MIRROR", "").rstrip("/")
    files = [
        "/etc/apt/sources.list",
        *sorted(glob.glob("/etc/apt/sources.list.d/*.list")),
        *sorted(glob.glob("/etc/apt/sources.list.d/*.sources")),
    ]
    texts = []
    for file in files:
        with contextlib.suppress(OSError):
            texts.append(pathlib.Path(file).read_text(encoding="utf-8", errors="replace"))
    main, security = plan.debian_mirrors(texts)
    return (chosen or main), security


def aptconf() -> str:
    """Return the host's settings for reaching a mirror (proxies, time limits, checks), as one apt.conf file."""
    return host.run("apt-config", "dump", "--no-empty", "--format", '%F "%v";%n', *_APT_SETTINGS, check=False)


def key(mirrors: tuple[str, str]) -> str:
    """Return the name of the cached root that this recipe makes."""
    recipe = (RECIPE, RELEASE, mirrors, PACKAGES, LIBRARIES, DIVERTED, _UNIQUE)
    return f"{RELEASE}-{hashlib.sha256(repr(recipe).encode()).hexdigest()[:12]}"


def _keyrings() -> list[str]:
    found = sorted(
        file
        for file in glob.glob(f"/usr/share/keyrings/debian-archive-{RELEASE}-*")
        if file.endswith((".gpg", ".pgp", ".asc")) and not os.path.islink(file)
    )
    if not found:
        raise KosError(f"the keys of Debian {RELEASE} are missing; install a debian-archive-keyring that has them (2023.4 or newer).")
    return found


def bootstrap(target: pathlib.Path, packages: t.Iterable[str], options: t.Iterable[str], mirrors: tuple[str, str]) -> None:
    """Make a Debian root file system in a new folder; `options` are mmdebstrap's own. A log and apt's settings are left beside it."""
    main, security = mirrors
    log = target.with_name(f"{target.name}.log")
    conf = target.with_name(f"{target.name}.apt.conf")
    host.write(conf, aptconf())
    argv = [
        # It goes when we go, however that is, and unmounts what it mounted.
        "setpriv",
        "--pdeathsig=TERM",
        "mmdebstrap",
        "--mode=root",
        "--format=directory",
        "--variant=minbase",
        *(f"--keyring={keyring}" for keyring in _keyrings()),
        f"--include={','.join(packages)}",
        f"--aptopt={conf}",
        '--aptopt=Acquire::Languages "none"',
        "--dpkgopt=force-unsafe-io",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        *options,
        '--customize-hook=rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap',
        RELEASE,
        str(target),
        f"deb {main} {RELEASE} main",
        f"deb {main} {RELEASE}-updates main",
        f"deb {security} {RELEASE}-security main",
    ]
    with open(log, "wb") as output:
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment, check=False)
    if done.returncode != 0:
        tail = " / ".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:])
        raise KosError(f"mmdebstrap failed; mend what it says (KOS_DEBIAN_MIRROR chooses another mirror) and repeat the command: {tail}")


def sweep(made: pathlib.Path) -> None:
    """Remove what attempts to make this have left; the caller holds a lock."""
    for left in made.parent.glob(f"{made.name}.new.*"):
        # One that was killed could not unmount what it had mounted.
        host.unmount(str(left))
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink()


def workplace(made: pathlib.Path) -> pathlib.Path:
    """Return a folder, not there yet, to make this in; the caller holds a lock."""
    sweep(made)
    return made.with_name(f"{made.name}.new.{os.getpid()}")


def build(cache: pathlib.Path, mirrors: tuple[str, str], say: t.Callable[[str], None]) -> tuple[pathlib.Path, bool]:
    """Return the cached root, and whether it had to be made."""
    root = cache / "root" / key(mirrors)
    if (root / "etc/debian_version").exists():
        return root, False
    with host.lock(cache / "root" / f"{root.name}.lock", "tools/sandbox that makes the same root", 900):
        if (root / "etc/debian_version").exists():
            return root, False
        fresh = workplace(root)
        say(f"making the root of all machines (Debian {RELEASE}, once; about two minutes)")
        hooks = [f'--customize-hook=chroot "$1" dpkg-divert --quiet --local --rename --add {path}' for path in DIVERTED]
        hooks += [f"--customize-hook={command}" for command in _UNIQUE]
        bootstrap(fresh, PACKAGES + LIBRARIES, ["--skip=cleanup/apt/lists", *hooks], mirrors)
        os.rename(fresh, root)
        sweep(root)
    return root, True


def archives(cache: pathlib.Path) -> pathlib.Path:
    """Return the folder of downloaded packages, which all machines share."""
    return cache / "apt"


ARCHIVES_INSIDE = "/var/cache/kos-apt"


def furnish(
    root: pathlib.Path,
    sandbox: plan.Sandbox,
    machine: plan.Machine,
    *,
    clone: pathlib.Path,
    mirrors: tuple[str, str],
    dns: t.Sequence[str],
    public_key: str,
) -> bool:
    """Write what a machine has of its own into its mounted file system; tell whether anything changed."""
    changed = False
    first = not (root / "etc/kos-machine.env").exists()
    source = clone / _MACHINE_FILES
    for file in sorted(source.rglob("*")):
        if file.is_file():
            inside = file.relative_to(source)
            target = root / inside
            if not first and not str(inside).startswith(_OURS):
                continue
            mode = 0o755 if os.access(file, os.X_OK) else 0o644
            changed |= host.write(target, file.read_text(encoding="utf-8"), mode)
    for name, text in _texts(sandbox, machine, mirrors=mirrors, dns=dns).items():
        # Name resolution and proxies follow the host.
        if first or name in _FOLLOWING:
            changed |= host.write(root / name, text)
    for certificate in sorted(pathlib.Path("/usr/local/share/ca-certificates").rglob("*.crt")):
        changed |= host.write(root / certificate.relative_to("/"), certificate.read_text(encoding="utf-8", errors="replace"))
    if not (root / "etc/machine-id").exists():
        changed |= host.write(root / "etc/machine-id", f"{uuid.uuid4().hex}\n", 0o444)
    (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    changed |= host.write(root / "root/.ssh/authorized_keys", public_key, 0o600)
    units = root / "etc/systemd/system"
    for unit in MASKED:
        changed |= _link("/dev/null", units / unit)
    for unit, starter in ENABLED.items():
        changed |= _link(f"../{unit}", units / f"{starter}.wants" / unit)
    key = root / "etc/ssh/ssh_host_ed25519_key"
    if not key.exists():
        # The key comes last: where it is, the rest is.
        host.write(root / "etc/ssh/sshd_config.d/kos-machine.conf", "HostKey /etc/ssh/ssh_host_ed25519_key\nUseDNS no\n")
        host.run("chroot", str(root), "update-ca-certificates", check=False)
        host.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", machine.name, "-f", str(key))
        changed = True
    _seed(pathlib.Path(sandbox.cache), sandbox.container(machine))
    return changed


def _seed(cache: pathlib.Path, container: str) -> None:
    """Offer a machine the packages that others downloaded; while it runs, its apt does the same after each transaction."""
    own = archives(cache) / container
    shared = own.with_name("shared")
    for folder in (shared, own, own / "partial"):
        folder.mkdir(parents=True, exist_ok=True)
    for package in shared.glob("*.deb"):
        with contextlib.suppress(FileExistsError):
            os.link(package, own / package.name)


# What no role would write; everything else is a role's to change once it stands.
_OURS = ("usr/local/lib/kos-machine/", "etc/systemd/system/kos-")
_FOLLOWING = ("etc/resolv.conf", "etc/kos-machine.env", "etc/apt/apt.conf.d/80kos-host")


def _texts(sandbox: plan.Sandbox, machine: plan.Machine, *, mirrors: tuple[str, str], dns: t.Sequence[str]) -> dict[str, str]:
    main, security = mirrors
    signed = "Signed-By: /usr/share/keyrings/debian-archive-keyring.pgp"
    prefix = sandbox.management.split("/")[1]
    gateway = sandbox.gateway
    external = sandbox.external
    environment = {
        "MGMT_ADDRESS": f"{machine.mgmt_ip}/{prefix}",
        "MGMT_GATEWAY": sandbox.host_ip,
        "UNDERLAY_ADDRESS": f"{machine.underlay_ip}/{prefix}",
        "EXTERNAL_CIDR": external,
        "EXTERNAL_VIA": "" if machine == gateway else gateway.mgmt_ip,
    }
    hosts = "".join(f"{other.mgmt_ip} {other.name}\n" for other in sandbox.machines)
    return {
        "etc/hostname": f"{machine.name}\n",
        "etc/hosts": f"127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{hosts}",
        "etc/resolv.conf": "".join(f"nameserver {address}\n" for address in dns),
        "etc/apt/sources.list": "",
        "etc/apt/sources.list.d/debian.sources": (
            f"Types: deb\nURIs: {main}\nSuites: {RELEASE} {RELEASE}-updates\nComponents: main\n{signed}\n\n"
            f"Types: deb\nURIs: {security}\nSuites: {RELEASE}-security\nComponents: main\n{signed}\n"
        ),
        "etc/apt/apt.conf.d/80kos-host": aptconf(),
        "etc/apt/apt.conf.d/91kos-archives": f'Dir::Cache::archives "{ARCHIVES_INSIDE}/{sandbox.container(machine)}/";\n',
        # Last: where it is, the rest is.
        "etc/kos-machine.env": "".join(f"{name}={value}\n" for name, value in environment.items()),
    }


def _link(target: str, path: pathlib.Path) -> bool:
    if path.is_symlink() and os.readlink(path) == target:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    path.symlink_to(target)
    return True


def host_key(root: pathlib.Path) -> str:
    """Return the key that a machine's SSH server shows, read from its file system."""
    return " ".join((root / "etc/ssh/ssh_host_ed25519_key.pub").read_text(encoding="ascii").split()[:2])


def harvest(cache: pathlib.Path, container: str) -> None:
    """Keep the packages that a machine downloaded, and forget its folder."""
    own = archives(cache) / container
    shared = own.with_name("shared")
    for package in own.glob("*.deb"):
        with contextlib.suppress(OSError):
            os.link(package, shared / package.name)
    shutil.rmtree(own, ignore_errors=True)
