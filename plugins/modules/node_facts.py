#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell what a node offers to a container runtime and a kubelet."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_facts
short_description: Tell what a node offers to a container runtime and a kubelet
version_added: 0.1.0
description:
  - Reads in one go what decides how containerd and the kubelet are to be configured on a node, so that roles need not ask what kind of machine it is.
options:
  packages:
    description: Debian packages of which RV(ansible_facts.kos_node.missing_packages) lists those that are not installed.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Works the same in check mode.
    support: full
  diff_mode:
    description: Changes nothing, so there is no difference to show.
    support: none
author:
  - The kos.labs authors (@kos-labs)
"""

EXAMPLES = r"""
- name: Read what the node offers
  kos.labs.node_facts:
    packages: [iptables]

- name: Say which cgroup hierarchy it has
  ansible.builtin.debug:
    var: ansible_facts['kos_node']['cgroup_version']
"""

RETURN = r"""
ansible_facts:
  description: What was found.
  returned: always
  type: dict
  contains:
    kos_node:
      description: All facts of this module.
      returned: always
      type: dict
      contains:
        addresses:
          description: Global IPv4 addresses; each with the name and the MTU of its interface.
          type: dict
          sample: {"172.18.0.11": {"interface": "eth0", "mtu": 1450}}
        bridge_netfilter:
          description: Whether bridged packets can be made to pass iptables.
          type: bool
        cloud_provider:
          description: What a kubelet that is installed already is told about a cloud provider; empty without one.
          type: str
          sample: external
        cgroup_version:
          description: 2 for the unified hierarchy, else 1.
          type: int
        joined:
          description: Whether a kubelet has got a client certificate, so whether the node has been in a cluster.
          type: bool
        missing_packages:
          description: Those of O(packages) that are not installed.
          type: list
          elements: str
        nameservers:
          description: Addresses of name servers that a pod can use, out of RV(ansible_facts.kos_node.resolv_conf).
          type: list
          elements: str
        oom_score_adjustable:
          description: Whether a process may lower its OOM score; false in many containers.
          type: bool
        overlay:
          description: Whether the kernel has overlayfs.
          type: bool
        resolv_conf:
          description: The file with the real name servers, not with the stub of systemd-resolved.
          type: str
        swap:
          description: Whether swap is on.
          type: bool
        systemd:
          description: Whether systemd is the init.
          type: bool
"""

import json
import os
import re
import typing as t

from ansible.module_utils.basic import AnsibleModule

CERTIFICATE = "/var/lib/kubelet/pki/kubelet-client-current.pem"
UNIT = "/etc/systemd/system/kubelet.service"
RESOLVED = "/run/systemd/resolve/resolv.conf"


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def parse_addresses(text: str) -> dict[str, dict[str, t.Any]]:
    """Return global addresses out of what `ip -json -4 address` prints."""
    found: dict[str, dict[str, t.Any]] = {}
    for link in json.loads(text or "[]"):
        for address in link.get("addr_info", []):
            if address.get("scope") == "global" and "local" in address:
                found[address["local"]] = {"interface": link["ifname"], "mtu": link["mtu"]}
    return found


def parse_nameservers(text: str) -> list[str]:
    """Return the name servers of a resolv.conf that exist outside the node's own network namespace."""
    servers = [words[1] for words in map(str.split, text.splitlines()) if len(words) > 1 and words[0] == "nameserver"]
    return [server for server in servers if not server.startswith("127.") and server != "::1"]


def parse_installed(text: str) -> set[str]:
    """Return the names that dpkg-query calls installed, out of lines `name status`."""
    rows = (line.split() for line in text.splitlines())
    return {row[0].split(":")[0] for row in rows if len(row) == 2 and row[1] == "installed"}


def parse_cloud_provider(text: str) -> str:
    """Return the value of --cloud-provider in a kubelet's unit, empty without one."""
    found = re.search(r"\s--cloud-provider=(\S*)", text)
    return found.group(1) if found else ""


def oom_score_adjustable(path: str = "/proc/self/oom_score_adj") -> bool:
    """Try it: capabilities say little in a user namespace."""
    now = _read(path).strip()
    if not now:
        return False
    lower = str(max(int(now) - 1, -1000))
    try:
        for value in (lower, now):
            with open(path, "w", encoding="ascii") as file:
                file.write(value)
    except OSError:
        return False
    return True


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"packages": {"type": "list", "elements": "str", "default": []}},
        supports_check_mode=True,
    )
    missing = list(module.params["packages"])
    if missing:
        # 1: some are unknown, which the answer shows by their absence.
        command = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\\n", *missing]
        code, out, err = module.run_command(command, handle_exceptions=False)
        if code not in (0, 1):
            module.fail_json(msg=f"dpkg-query does not answer, is this Debian? {err.strip()}")
        installed = parse_installed(out)
        missing = [name for name in missing if name not in installed]
    _code, addresses, _err = module.run_command(["ip", "-json", "-4", "address"], check_rc=True)
    resolv_conf = RESOLVED if parse_nameservers(_read(RESOLVED)) else "/etc/resolv.conf"
    facts = {
        "addresses": parse_addresses(addresses),
        "bridge_netfilter": os.path.exists("/proc/sys/net/bridge/bridge-nf-call-iptables"),
        "cloud_provider": parse_cloud_provider(_read(UNIT)),
        "cgroup_version": 2 if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else 1,
        "joined": os.path.exists(CERTIFICATE),
        "missing_packages": missing,
        "nameservers": parse_nameservers(_read(resolv_conf)),
        "oom_score_adjustable": oom_score_adjustable(),
        "overlay": "overlay" in _read("/proc/filesystems").split(),
        "resolv_conf": resolv_conf,
        "swap": len(_read("/proc/swaps").splitlines()) > 1,
        "systemd": os.path.isdir("/run/systemd/system"),
    }
    module.exit_json(changed=False, ansible_facts={"kos_node": facts})


if __name__ == "__main__":
    main()
