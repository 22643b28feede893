# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find what cannot work in the settings of a lab, before anything is made."""

from __future__ import annotations

DOCUMENTATION = r"""
name: lab_problems
short_description: Tell what cannot work in the settings of a lab
version_added: 0.1.0
author: The kos.labs authors
description:
  - Checks settings that only make sense together, such as address ranges that must not overlap, and returns one sentence for each
    problem, which says what to set.
options:
  _input:
    description:
      - The settings. C(choices) maps names to values with what they may be; C(cidrs) maps names of ranges to ranges, empty ones are left out;
        C(dns_address) must be in the range C(service_network), C(service_network) and C(pod_network) name ranges.
      - C(cluster_name), C(masters) and C(workers) say what the cluster is, C(mtus) lists who carries what.
      - C(versions) are the versions asked for, C(known_versions) lists those that can be had, both by name of the variable.
    type: dict
    required: true
"""

EXAMPLES = r"""
- ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems | join(' ') }}"
  vars:
    problems: "{{ settings | kos.labs.lab_problems }}"
"""

RETURN = r"""
_value:
  description: The sentences; empty when nothing is wrong.
  type: list
  elements: str
"""

import ipaddress
import itertools
import re
import typing as t

Settings = t.Mapping[str, t.Any]
Network = t.Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
_PREFIX = re.compile(r"[a-z][-a-z0-9]{0,18}-")
_PODS_OF_A_NODE = 24
# Two masters keep no quorum when one is lost, so an even number only adds what can fail.
_MASTERS_AT_MOST = 7


def lab_problems(settings: Settings) -> list[str]:
    """Return one sentence for each thing that cannot work."""
    found: list[str] = []
    for check in (_choices, _name, _prefix, _counts, _networks, _versions, _mtus):
        found.extend(check(settings))
    return found


def _choices(settings: Settings) -> t.Iterator[str]:
    for name, (value, allowed) in settings.get("choices", {}).items():
        for each in value if isinstance(value, (list, tuple)) else [value]:
            if each not in allowed:
                yield f"{name} is {each}: set it to {_or(allowed)}."


def _name(settings: Settings) -> t.Iterator[str]:
    name = settings.get("cluster_name", "kos")
    if not _LABEL.fullmatch(str(name)):
        yield f"cluster_name is {name!r}: use at most 40 small letters, digits and hyphens, a letter first and no hyphen last."


def _prefix(settings: Settings) -> t.Iterator[str]:
    prefix = settings.get("node_prefix") or ""
    if prefix and not _PREFIX.fullmatch(str(prefix)):
        yield f"cluster_node_prefix is {prefix!r}: use at most 20 small letters, digits and hyphens, a letter first and a hyphen last."


def _counts(settings: Settings) -> t.Iterator[str]:
    masters, workers = settings.get("masters", 1), settings.get("workers", 0)
    if not _whole(masters) or not _whole(workers) or int(workers) < 0:
        yield f"cluster_masters is {masters} and cluster_workers {workers}: set them to whole numbers."
    elif not 1 <= int(masters) <= _MASTERS_AT_MOST:
        yield f"cluster_masters is {masters}: set it to 1, 3, 5 or 7, since etcd runs on every master."
    elif int(masters) % 2 == 0:
        yield (
            f"cluster_masters is {masters}: set it to {int(masters) - 1} or {int(masters) + 1}, since etcd runs on every master "
            f"and an even number of members tolerates no more failures than one less."
        )


def _networks(settings: Settings) -> t.Iterator[str]:
    networks: dict[str, Network] = {}
    for name, text in settings.get("cidrs", {}).items():
        if not text:
            continue
        try:
            networks[name] = ipaddress.ip_network(str(text))
        except ValueError as error:
            yield f"{name} is {text}: set it to an address range such as 10.1.0.0/16 ({error})."
    for (one, first), (other, second) in itertools.combinations(networks.items(), 2):
        if first.version == second.version and first.overlaps(second):
            yield f"{one} {first} and {other} {second} overlap: choose ranges that do not, nodes have routes to both."
    yield from _addresses(settings, networks)


def _addresses(settings: Settings, networks: t.Mapping[str, Network]) -> t.Iterator[str]:
    services, pods = networks.get(settings.get("service_network", "")), networks.get(settings.get("pod_network", ""))
    address = settings.get("dns_address")
    if services is not None and address:
        try:
            dns = ipaddress.ip_address(str(address))
        except ValueError:
            yield f"cluster_dns_address is {address}: set it to an address in {services}."
        else:
            if dns not in services or dns in (services[0], services[1], services[-1]):
                yield f"cluster_dns_address is {dns}: set it to an address in {services} other than the first two and the last, the second is the API's."
    nodes = settings.get("masters", 1), settings.get("workers", 0)
    if pods is not None and pods.version == 4 and all(_whole(number) for number in nodes):
        ranges = 2 ** max(_PODS_OF_A_NODE - pods.prefixlen, 0) if pods.prefixlen <= _PODS_OF_A_NODE else 0
        if ranges < sum(int(number) for number in nodes):
            yield f"cluster_pod_cidr {pods} has /{_PODS_OF_A_NODE} ranges for {ranges} nodes: choose a larger one."


def _versions(settings: Settings) -> t.Iterator[str]:
    known = settings.get("known_versions", {})
    for name, version in settings.get("versions", {}).items():
        if name in known and version not in known[name]:
            yield (
                f"{name} is {version}, and only of {_or(known[name])} digests and sources are known: set it to that, "
                f"or see docs/components.md for how to move to another."
            )


def _mtus(settings: Settings) -> t.Iterator[str]:
    for rule in settings.get("mtus", []):
        if rule.get("inner") and rule.get("outer") and int(rule["inner"]) + int(rule["overhead"]) > int(rule["outer"]):
            most = int(rule["outer"]) - int(rule["overhead"])
            yield (
                f"{rule['name']} is {rule['inner']}, and {rule['carrier']} carries {rule['outer']} of which the overlay takes {rule['overhead']}: "
                f"set it to at most {most}."
            )


def _whole(value: t.Any) -> bool:
    return bool(re.fullmatch(r"-?\d+", str(value)))


def _or(values: t.Sequence[t.Any]) -> str:
    texts = [str(value) for value in values]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Name the filter."""
        return {"lab_problems": lab_problems}
