# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Check what one stage hands to the next."""

from __future__ import annotations

DOCUMENTATION = r"""
name: contract_problems
short_description: Tell what is wrong with a contract
version_added: 0.1.0
author: The kos.labs authors
description:
  - Checks a contract, which is what one stage writes for the next, and returns one sentence for each thing that is wrong.
  - Each sentence names the place and the stage that writes it.
positional: kind
options:
  _input:
    description: The contract, or the YAML text of the file that holds it.
    type: raw
    required: true
  kind:
    description: Which contract it is.
    type: str
    choices: [hosts, cloud, clouds, cluster, kubeconfig]
    required: true
  where:
    description: The file that holds it, for the sentence.
    type: str
    required: true
  expect:
    description: Values that keys of the contract must have, so that a foreign one is refused.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems | join(' ') }}"
  vars:
    problems: "{{ lookup('ansible.builtin.file', file, errors='ignore') | kos.labs.contract_problems('cloud', where=file) }}"
"""

RETURN = r"""
_value:
  description: The sentences; empty when nothing is wrong.
  type: list
  elements: str
"""

import typing as t

import yaml

WRITERS = {
    "hosts": "playbooks/base.yaml",
    "cloud": "playbooks/openstack.yaml (with kos_base: existing you)",
    "clouds": "playbooks/openstack.yaml (with kos_base: existing you)",
    "cluster": "playbooks/nodes.yaml",
    "kubeconfig": "playbooks/control_plane.yaml",
}
VERSION = 1

_SHAPES: dict[str, dict[str, t.Any]] = {
    "hosts": {"version": int, "base": str, "layout": str, "name": str},
    "cloud": {
        "version": int,
        "name": str,
        "credential": str,
        "region": str,
        "external_network": str,
        "image": str,
        "image_user": str,
        "flavors": {"master": str, "worker": str},
        "keypair": str,
        "private_key": str,
        "network_mtu": int,
        "dns_servers": list,
        "offers": list,
    },
    "clouds": {},
    "cluster": {"version": int, "cluster_name": str},
    "kubeconfig": {"clusters": list, "users": list, "contexts": list, "current-context": str},
}
_WORDS = {int: "a number", str: "a text", list: "a list", dict: "a mapping"}


def contract_problems(contract: t.Any, kind: str, *, where: str, expect: t.Mapping[str, t.Any] | None = None) -> list[str]:
    """Return one sentence for each thing that is wrong with a contract."""
    writer = WRITERS[kind]
    if contract is None or contract == "":
        return [f"There is no {where}: {writer} writes it, run that first."]
    if isinstance(contract, str):
        try:
            contract = yaml.safe_load(contract)
        except yaml.YAMLError:
            return [f"{where} is not YAML: {writer} writes it, let it do so again."]
        if kind == "cloud":
            contract = contract.get("cloud") if isinstance(contract, dict) else None
        elif kind == "clouds":
            contract = contract.get("clouds") if isinstance(contract, dict) else None
    if not isinstance(contract, dict):
        return [f"{where} holds no {kind} contract: {writer} writes it, let it do so again."]
    if "version" in _SHAPES[kind] and contract.get("version") != VERSION:
        return [f"{where} has version {contract.get('version')} and this release reads {VERSION}: let {writer} write it again."]
    wrong = [f"{where}: {problem}; {writer} writes it." for problem in _mismatches(contract, _SHAPES[kind])]
    for key, value in (expect or {}).items():
        if key in contract and contract[key] != value:
            wrong.append(
                f"{where} was made with {key} {contract[key]} and you ask for {value}: "
                f"set it back, or choose another state folder with KOS_STATE."
            )
    return wrong


def _mismatches(value: t.Mapping[str, t.Any], shape: t.Mapping[str, t.Any], path: str = "") -> t.Iterator[str]:
    for key, kind in shape.items():
        name = f"{path}{key}"
        if key not in value:
            yield f"{name} is missing"
        elif isinstance(kind, dict):
            if isinstance(value[key], dict):
                yield from _mismatches(value[key], kind, f"{name}.")
            else:
                yield f"{name} must be {_WORDS[dict]}"
        elif not isinstance(value[key], kind) or isinstance(value[key], bool):
            yield f"{name} must be {_WORDS[kind]}"


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Name the filter."""
        return {"contract_problems": contract_problems}
