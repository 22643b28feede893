# SPDX-License-Identifier: GPL-3.0-or-later
"""The image of cluster nodes in the sandbox: a root file system that Nova's LXC driver boots."""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import typing as t

from kos import sandbox_host as host
from kos import sandbox_root

__all__ = ["build", "key"]

# cloud-init and SSH to become a server; the rest is what kubelet, kube-proxy and flannel call.
PACKAGES = (
    "ca-certificates", "cloud-init", "conntrack", "curl", "dbus", "e2fsprogs", "ethtool", "iproute2", "iptables", "iputils-ping", "kmod",
    "libnss-myhostname", "mount", "netbase", "nftables", "openssh-server", "openssl", "procps", "python3", "sudo",
    "systemd-resolved", "systemd-sysv",
)  # fmt: skip
ENABLED = {
    "/etc/systemd/system/systemd-networkd.service": "multi-user.target.wants/systemd-networkd.service",
    "/usr/lib/systemd/system/systemd-resolved.service": "multi-user.target.wants/systemd-resolved.service",
    "/etc/systemd/system/openstack-seed.service": "cloud-init-local.service.requires/openstack-seed.service",
    # ssh.service listens by itself, and nothing waits for a link that the seed has waited for. A login on the console hangs up those who write there:
    # cloud-init, which prints the host keys that the lab waits for.
    "/dev/null": "ssh.socket systemd-networkd-wait-online.service systemd-udevd.service console-getty.service "
    "e2scrub_all.timer e2scrub_reap.service apt-daily.timer apt-daily-upgrade.timer",
}
# Removed: what must differ between instances, and what nobody reads in an instance.
EMPTIED = (
    "etc/hostname etc/resolv.conf etc/ssh/ssh_host_* var/cache/apt/* var/lib/apt/lists/* usr/share/doc/* usr/share/man/* usr/share/locale/*"
)
HEADROOM_MIB = 200


def _recipe(tree: pathlib.Path) -> t.Iterator[bytes]:
    yield repr((sandbox_root.RELEASE, PACKAGES, ENABLED, EMPTIED, HEADROOM_MIB)).encode()
    for file in sorted(path for path in tree.rglob("*") if path.is_file()):
        yield f"{file.relative_to(tree)} {file.stat().st_mode:o}".encode()
        yield file.read_bytes()


def key(tree: pathlib.Path) -> str:
    """Return what names the image that this tree of files and this recipe make."""
    digest = hashlib.sha256()
    for part in _recipe(tree):
        digest.update(part + b"\0")
    return digest.hexdigest()[:12]


def _hooks(tree: pathlib.Path) -> list[str]:
    units = '"$1"/etc/systemd/system'
    links = []
    for target, names in ENABLED.items():
        for name in names.split():
            links.append(f"--customize-hook=mkdir -p {units}/{os.path.dirname(name)} && ln -sfn {target} {units}/{name}")
    removed = " ".join(f'"$1"/{path}' for path in EMPTIED.split())
    return [
        # The tree brings an init of its own in the place of the package's link.
        '--customize-hook=rm -f "$1"/usr/sbin/init',
        f"--customize-hook=sync-in {tree} /",
        '--customize-hook=chown -R root:root "$1"/etc/cloud "$1"/etc/containerd "$1"/usr/local "$1"/usr/sbin/init',
        *links,
        # The seed needs the network before cloud-init's first stage, which the packaged unit waits for; only a copy can drop an ordering.
        f'--customize-hook=sed "s/ network-pre.target//" "$1"/usr/lib/systemd/system/systemd-networkd.service > {units}/systemd-networkd.service',
        f"--customize-hook=rm -rf {removed}",
        '--customize-hook=: > "$1"/etc/machine-id; printf "127.0.0.1 localhost\\n" > "$1"/etc/hosts',
        # The servers themselves, not resolved's stub: pods inherit this file, and the stub's address is the node's alone.
        '--customize-hook=ln -sfn ../run/systemd/resolve/resolv.conf "$1"/etc/resolv.conf',
    ]


def build(cache: pathlib.Path, tree: pathlib.Path, say: t.Callable[[str], None]) -> tuple[pathlib.Path, bool]:
    """Return the image's file below the cache, and whether it had to be made."""
    image = cache / "images" / f"debian-13-node-{key(tree)}.raw"
    if image.exists():
        return image, False
    image.parent.mkdir(parents=True, exist_ok=True)
    with host.lock(image.with_suffix(".lock"), "tools/sandbox that makes the same image", 900):
        if image.exists():
            return image, False
        say("making the image of cluster nodes (once; about half a minute)")
        folder = image.with_suffix(".new")
        shutil.rmtree(folder, ignore_errors=True)
        sandbox_root.bootstrap(folder, PACKAGES, _hooks(tree), sandbox_root.sources())
        used = int(host.run("du", "-sm", str(folder)).split()[0])
        fresh = image.with_suffix(".part")
        fresh.unlink(missing_ok=True)
        host.run("mkfs.ext4", "-q", "-F", "-d", str(folder), str(fresh), f"{used + HEADROOM_MIB}M")
        os.rename(fresh, image)
        shutil.rmtree(folder)
    return image, True
