# SPDX-License-Identifier: GPL-3.0-or-later
"""The images that servers boot from in the sandbox: root file systems that Nova's LXC driver boots."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import typing as t

from kos import sandbox_host as host
from kos import sandbox_root

__all__ = ["RECIPES", "Recipe", "build", "key"]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One kind of image; its files lie in a folder of its own and in one that all kinds share."""

    name: str
    packages: tuple[str, ...]
    # What links in /etc/systemd/system lead to, and the links.
    enabled: t.Mapping[str, str]
    # Commands for the new file system, "$1", after the files have been copied.
    hooks: tuple[str, ...] = ()


# To become a server: cloud-init, its metadata, SSH.
_PACKAGES = (
    "ca-certificates", "cloud-init", "curl", "dbus", "ethtool", "iproute2", "iputils-ping", "libnss-myhostname", "mount", "netbase",
    "openssh-server", "openssl", "procps", "python3", "sudo", "systemd-sysv",
)  # fmt: skip
_ENABLED = {
    "/etc/systemd/system/systemd-networkd.service": "multi-user.target.wants/systemd-networkd.service",
    "/etc/systemd/system/openstack-seed.service": "cloud-init-local.service.requires/openstack-seed.service",
}
# ssh.service listens by itself, and nothing waits for a link that the seed has waited for. A login on the console hangs up those who write there:
# cloud-init, which prints the host keys that the lab waits for.
_MASKED = (
    "ssh.socket systemd-networkd-wait-online.service systemd-udevd.service console-getty.service "
    "e2scrub_all.timer e2scrub_reap.service apt-daily.timer apt-daily-upgrade.timer"
)
RECIPES: t.Mapping[str, Recipe] = {
    "node": Recipe(
        "debian-13-node",
        # What kubelet, kube-proxy and flannel call, and what tells of new disks.
        packages=(*_PACKAGES, "conntrack", "e2fsprogs", "inotify-tools", "iptables", "kmod", "nftables", "systemd-resolved"),
        enabled={
            **_ENABLED,
            "/etc/systemd/system/disk-links.service": "sysinit.target.wants/disk-links.service",
            "/etc/systemd/system/loop-devices.service": "sysinit.target.wants/loop-devices.service",
            "/usr/lib/systemd/system/systemd-resolved.service": "multi-user.target.wants/systemd-resolved.service",
            "/dev/null": _MASKED,
        },
        # The servers themselves, not resolved's stub: pods inherit this file, and the stub's address is the node's alone.
        hooks=('ln -sfn ../run/systemd/resolve/resolv.conf "$1"/etc/resolv.conf',),
    ),
    "amphora": Recipe(
        "amphora",
        packages=(*_PACKAGES, "haproxy", "keepalived", "nftables", "octavia-agent"),
        enabled={
            **_ENABLED,
            "/etc/systemd/system/amphora-agent.service": "multi-user.target.wants/amphora-agent.service",
            # The packages' own units want kernel modules for an encrypted disk in memory and for UDP; haproxy and keepalived are started by the agent.
            "/dev/null": f"{_MASKED} octavia-agent.service octavia-agent-netns.service octavia-agent-certs-ramfs.service haproxy.service "
            "keepalived.service ipvsadm.service rsyslog.service cron.service anacron.service atd.service networking.service pollinate.service man-db.timer",
        },
        hooks=(
            # A card of a container is called eth1@if24 in a list of links, which upstream's script takes for the name: a restarted amphora would lose its cards.
            'sed -i \'s/{sub(":","",$2)}/{sub("(@.*)?:","",$2)}/\' '
            '"$1"/usr/lib/python3/dist-packages/octavia/amphorae/backends/agent/api_server/templates/amphora-netns.systemd.j2',
            'chroot "$1" dpkg-divert --quiet --local --rename --divert /usr/sbin/haproxy.real --add /usr/sbin/haproxy',
            'ln -sfn /usr/local/sbin/haproxy-in-lxc "$1"/usr/sbin/haproxy',
            # What is the whole kernel's is not an amphora's to set.
            "sed -i '/^fs\\./d' \"$1\"/etc/sysctl.d/octavia-agent-sysctl.conf",
            'mkdir -p "$1"/etc/octavia "$1"/var/lib/octavia "$1"/var/log/octavia',
        ),
    ),
}
# Removed: what must differ between instances, and what nobody reads in an instance.
EMPTIED = (
    "etc/hostname etc/resolv.conf etc/ssh/ssh_host_* var/cache/apt/* var/lib/apt/lists/* usr/share/doc/* usr/share/man/* usr/share/locale/*"
)
HEADROOM_MIB = 200


def _parts(trees: t.Iterable[pathlib.Path], recipe: Recipe) -> t.Iterator[bytes]:
    yield repr((sandbox_root.RELEASE, recipe, EMPTIED, HEADROOM_MIB)).encode()
    for tree in trees:
        # Python leaves its own things beside what it runs.
        for file in sorted(path for path in tree.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
            yield f"{file.relative_to(tree)} {file.stat().st_mode:o}".encode()
            yield file.read_bytes()


def key(trees: t.Iterable[pathlib.Path], recipe: Recipe) -> str:
    """Return what names the image that these trees of files and this recipe make."""
    digest = hashlib.sha256()
    for part in _parts(trees, recipe):
        digest.update(part + b"\0")
    return digest.hexdigest()[:12]


def _hooks(trees: t.Iterable[pathlib.Path], recipe: Recipe) -> list[str]:
    units = '"$1"/etc/systemd/system'
    links = []
    for target, names in recipe.enabled.items():
        for name in names.split():
            links.append(f"--customize-hook=mkdir -p {units}/{os.path.dirname(name)} && ln -sfn {target} {units}/{name}")
    removed = " ".join(f'"$1"/{path}' for path in EMPTIED.split())
    return [
        # Packages ask for the name of the machine while they are set up.
        '--essential-hook=printf "127.0.0.1 localhost\\n" > "$1"/etc/hosts',
        # The tree brings an init of its own in the place of the package's link.
        '--customize-hook=rm -f "$1"/usr/sbin/init',
        *(f"--customize-hook=sync-in {tree} /" for tree in trees),
        '--customize-hook=for place in cloud containerd haproxy systemd; do [ ! -d "$1"/etc/$place ] || chown -R root:root "$1"/etc/$place; done',
        '--customize-hook=find "$1"/usr/local -name __pycache__ -prune -exec rm -rf {} +',
        '--customize-hook=chown -R root:root "$1"/usr/local "$1"/usr/sbin/init',
        *links,
        # The seed needs the network before cloud-init's first stage, which the packaged unit waits for; only a copy can drop an ordering.
        f'--customize-hook=sed "s/ network-pre.target//" "$1"/usr/lib/systemd/system/systemd-networkd.service > {units}/systemd-networkd.service',
        f"--customize-hook=rm -rf {removed}",
        '--customize-hook=: > "$1"/etc/machine-id; printf "127.0.0.1 localhost\\n" > "$1"/etc/hosts',
        *(f"--customize-hook={hook}" for hook in recipe.hooks),
        # What systemd rebuilds at the first start of another /usr was built with the packages.
        '--customize-hook=touch "$1"/etc/.updated "$1"/var/.updated',
    ]


def build(cache: pathlib.Path, files: pathlib.Path, kind: str, say: t.Callable[[str], None]) -> tuple[pathlib.Path, bool]:
    """Return an image's file below the cache, and whether it had to be made; `files` has a folder for each kind, and `common`."""
    recipe = RECIPES[kind]
    trees = [files / "common", files / kind]
    image = cache / "images" / f"{recipe.name}-{key(trees, recipe)}.raw"
    if image.exists():
        return image, False
    image.parent.mkdir(parents=True, exist_ok=True)
    with host.lock(image.with_suffix(".lock"), "tools/sandbox that makes the same image", 900):
        if image.exists():
            return image, False
        say(f"making the image {recipe.name} (once; about half a minute)")
        folder = sandbox_root.workplace(image)
        sandbox_root.bootstrap(folder, recipe.packages, _hooks(trees, recipe), sandbox_root.sources())
        used = int(host.run("du", "-sm", str(folder)).split()[0])
        fresh = image.with_suffix(".part")
        fresh.unlink(missing_ok=True)
        host.run("mkfs.ext4", "-q", "-F", "-d", str(folder), str(fresh), f"{used + HEADROOM_MIB}M")
        os.rename(fresh, image)
        sandbox_root.sweep(image)
    return image, True
