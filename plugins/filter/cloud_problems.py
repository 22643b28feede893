# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find what a cloud lacks for a cluster, before anything is made in it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: cloud_problems
short_description: Tell what a cloud lacks for a cluster
version_added: 0.1.0
author: The kos.labs authors
description:
  - Compares what a project of somebody's cloud has with what a cluster needs, and returns one sentence for each thing that is missing. Each says what to choose or what to ask the operator for.
  - What the cloud does not tell an ordinary user is not held against it.
options:
  _input:
    description:
      - What M(kos.labs.cloud_resources_info) found, with the keys C(images), C(flavors), C(networks), C(extensions), C(servers), C(compute_quota), C(network_quota),
        C(load_balancers) and those that P(kos.labs.cluster_servers#filter) reads.
    type: dict
    required: true
  wanted:
    description: >-
      C(cluster), C(node_prefix), C(masters) and C(workers), C(external_network), C(image), C(flavors) with C(master) and C(worker), C(extensions), C(services) as
      lists of types by name of what is offered, C(keypair), C(dns_servers), C(cidrs), C(mirror_url), C(project_id) of an earlier run, and of the login
      C(session) and what was C(refused).
    type: dict
    required: true
"""

EXAMPLES = r"""
problems: "{{ found.resources | kos.labs.cloud_problems(wanted) }}"
"""

RETURN = r"""
_value:
  description: The sentences; empty when nothing is missing.
  type: list
  elements: str
"""

import ipaddress
import typing as t
import urllib.parse

from ansible_collections.kos.labs.plugins.filter.cluster_servers import MARK_KEY, cluster_servers

Object = t.Mapping[str, t.Any]
Found = t.Mapping[str, t.Sequence[Object]]

# What fits at all: etcd and the API server, or a kubelet with a few pods; images and logs on the disk.
_LEAST = {"master": {"vcpus": 1, "ram": 1500, "disk": 8}, "worker": {"vcpus": 1, "ram": 900, "disk": 8}}
# What a person would choose.
_GOOD = {"vcpus": 2, "ram": 2000, "disk": 10}
_UNITS = {"vcpus": "processors", "ram": "MiB of memory", "disk": "GiB of disk"}
_ONLY_LOOK = frozenset({"reader", "load-balancer_observer", "load-balancer_global_observer"})
_SHOWN = 8


def cloud_problems(found: Found, wanted: Object) -> list[str]:
    """Return one sentence for each thing that a cloud lacks."""
    problems: list[str] = []
    for check in (_roles, _network, _image, _flavors, _extensions, _services, _owner, _addresses, _quota):
        problems.extend(check(found, wanted))
    return problems


def _roles(_found: Found, wanted: Object) -> t.Iterator[str]:
    session = wanted["session"]
    if set(session["roles"]) <= _ONLY_LOOK:
        yield (
            f"{_user(session)} may only look at project {session['project_name']} (roles: {_list(session['roles'])}): "
            f"ask its owner for the role member."
        )


def external_networks(found: Found) -> list[str]:
    """Return the names of the networks that floating IPs may come from."""
    return sorted(each["name"] for each in found.get("networks", ()) if each.get("is_router_external"))


def _network(found: Found, wanted: Object) -> t.Iterator[str]:
    name, there = wanted.get("external_network"), external_networks(found)
    if not there:
        yield "The cloud shows no external network: ask its operator for one, floating IPs come from it."
    elif not name and len(there) > 1:
        yield f"The cloud has {len(there)} external networks: set base_existing_external_network to one of {_list(there)}."
    elif name and name not in there:
        other = (
            " (a network of that name is there, but not external)" if name in [each["name"] for each in found.get("networks", ())] else ""
        )
        yield f"The cloud has no external network {name}{other}: set base_existing_external_network to {_one_of(there)}."
    elif there.count(name or there[0]) > 1:
        yield f"The cloud has {there.count(name or there[0])} external networks called {name or there[0]}: ask its operator for a name that is only one's."


def _image(found: Found, wanted: Object) -> t.Iterator[str]:
    name = wanted.get("image")
    there = [each for each in found.get("images", ()) if each.get("status", "active") == "active"]
    names = sorted({each["name"] for each in there if each.get("name")}, key=lambda each: ("debian" not in each.lower(), each))
    hint = f"set base_existing_image to {_one_of(names)}" if names else "upload one with `openstack image create`"
    of_that_name = [each for each in there if each["name"] == name]
    if not name:
        yield f"Nodes need an image with Debian 12 or newer and cloud-init: {hint}."
    elif not of_that_name:
        yield f"The cloud has no active image {name} for this project: {hint}."
    elif len(of_that_name) > 1:
        yield f"The cloud has {len(of_that_name)} images called {name} for this project: set base_existing_image to a name that only one has."


def _flavors(found: Found, wanted: Object) -> t.Iterator[str]:
    there = {each["name"]: each for each in found.get("flavors", ())}
    image = next((each for each in found.get("images", ()) if each["name"] == wanted.get("image")), {})
    good = sorted(
        (each for each in there.values() if not _too_small(each, _GOOD)), key=lambda each: (each["ram"], each["vcpus"], each["disk"])
    )
    such = _list([f"{each['name']} ({each['vcpus']} processors, {each['ram']} MiB, {each['disk']} GiB)" for each in good[:3]])
    hint = (
        f"such as {such}" if good else "to one with at least 2 processors, 2 GiB of memory and 10 GiB of disk, which its operator must make"
    )
    told = set()
    for kind in ("master", "worker") if wanted.get("workers") else ("master",):
        name = wanted["flavors"].get(kind)
        variable = f"base_existing_flavor_{kind}"
        if name in told:
            continue
        told.add(name)
        if not name:
            yield f"Nodes need a flavor: set {variable}, {hint}."
        elif name not in there:
            yield f"The cloud has no flavor {name} for this project: set {variable}, {hint}."
        else:
            least = {
                **_LEAST[kind],
                "disk": max(_LEAST[kind]["disk"], image.get("min_disk") or 0),
                "ram": max(_LEAST[kind]["ram"], image.get("min_ram") or 0),
            }
            short = _too_small(there[name], least)
            if short:
                yield f"Flavor {name} is too small for a {kind}, it has {_list(short)}: set {variable}, {hint}."


def _too_small(flavor: Object, least: t.Mapping[str, int]) -> list[str]:
    return [
        f"{flavor.get(what) or 0} {_UNITS[what]} and {number} are needed"
        for what, number in least.items()
        if (flavor.get(what) or 0) < number
    ]


def _extensions(found: Found, wanted: Object) -> t.Iterator[str]:
    # A network service that does not tell has them all the same.
    if not found.get("extensions"):
        return
    missing = sorted(set(wanted.get("extensions", ())) - {each["alias"] for each in found["extensions"]})
    if missing:
        yield f"The cloud's network service lacks {_list(missing)}: its operator must switch that on, or use another cloud."


def _services(_found: Found, wanted: Object) -> t.Iterator[str]:
    session, refused = wanted["session"], wanted.get("refused", {})
    for name, types in wanted.get("services", {}).items():
        if not set(types) & set(session["services"]):
            yield (
                f"The lab needs {name.capitalize()} and the cloud's catalog has no {types[0]} service: use a cloud that has it, "
                f"or go without what it is for by -e '{{\"kos_cloud_offers\": []}}'."
            )
        elif name == "octavia" and "load_balancers" in refused:
            yield (
                f"Octavia lets {_user(session)} make no load balancers ({refused['load_balancers']}): "
                f"ask the operator for the role load-balancer_member in project {session['project_name']}."
            )


def _owner(found: Found, wanted: Object) -> t.Iterator[str]:
    session, cluster = wanted["session"], wanted["cluster"]
    before = wanted.get("project_id")
    if before and before != session["project_id"]:
        yield (
            f"The cluster of this state folder is in project {before}, and this login is for {session['project_name']} ({session['project_id']}): "
            f"use the login of then, or another state folder with KOS_STATE."
        )
    others = sorted(
        each["name"]
        for each in found.get("servers", ())
        if (each.get("metadata") or {}).get(MARK_KEY) == cluster and each.get("key_name") != wanted.get("keypair")
    )
    if others:
        yield (
            f"Project {session['project_name']} has a cluster {cluster} already that another state folder made ({_list(others)}): "
            f"set cluster_name and cluster_node_prefix to other names, or KOS_STATE to that folder."
        )
    foreign = [] if others else _have(found, wanted)["foreign"]
    if foreign:
        yield (
            f"Project {session['project_name']} already has {_list(foreign)}, not made for cluster {cluster}: choose another cluster_name, "
            f"and for servers another cluster_node_prefix, or remove what nobody needs."
        )


def _addresses(_found: Found, wanted: Object) -> t.Iterator[str]:
    for server in wanted.get("dns_servers", ()):
        try:
            ipaddress.ip_address(str(server))
        except ValueError:
            yield f"base_existing_dns_servers has {server}: list addresses of resolvers."
    host = urllib.parse.urlsplit(wanted.get("mirror_url") or "").hostname
    try:
        alone = host == "localhost" or (host is not None and ipaddress.ip_address(host).is_loopback)
    except ValueError:
        alone = False
    if alone:
        yield f"mirror_url is {wanted['mirror_url']}, which for a node is the node itself: set it to an address of this machine that servers in the cloud reach."


def _quota(found: Found, wanted: Object) -> t.Iterator[str]:
    session = wanted["session"]
    short = [
        f"{free} more {what.replace('_', ' ')} of the {needed} that are needed"
        if free > 0
        else f"no more {what.replace('_', ' ')} of {needed} that are needed"
        for what, (free, needed) in quota(found, wanted).items()
        if needed > free
    ]
    if short:
        yield (
            f"The quota of project {session['project_name']} leaves {_list(short)}: ask its operator for more, delete what nobody needs, "
            f"or take fewer workers (cluster_workers) or smaller flavors."
        )


def quota(found: Found, wanted: Object) -> dict[str, tuple[int, int]]:
    """Return by resource how many a project may still make and how many the cluster lacks, of those that are limited and needed."""
    have, masters = _have(found, wanted), _names(wanted, "master")
    flavors = {each["name"]: each for each in found.get("flavors", ())}
    # A flavor that is not there is another sentence.
    servers = [flavors.get(wanted["flavors"].get("master" if name in masters else "worker"), {}) for name in have["missing"]["servers"]]
    groups = 2 - len(have["security_groups"])
    needed = {
        "compute_quota": {
            "instances": len(servers),
            "cores": sum(each.get("vcpus", 0) for each in servers),
            "ram": sum(each.get("ram", 0) for each in servers),
            "server_groups": 2 - len(have["server_groups"]),
        },
        "network_quota": {
            "networks": int(have["network"] is None),
            "subnets": int(have["subnet"] is None),
            "routers": int(have["router"] is None),
            # Besides the nodes' there are the router's, and one or two for DHCP.
            "ports": len(have["missing"]["ports"]) + (2 if have["network"] is None else 0),
            "floating_ips": len(have["missing"]["floating_ips"]),
            "security_groups": groups,
            "security_group_rules": 8 * groups,
        },
    }
    free = {"compute_quota": _free_compute(found), "network_quota": _free_network(found)}
    return {
        what: (free[kind][what], number)
        for kind, numbers in needed.items()
        for what, number in numbers.items()
        if number and what in free[kind]
    }


def _names(wanted: Object, kind: str) -> list[str]:
    return [f"{wanted.get('node_prefix') or ''}{kind}{number}" for number in range(1, int(wanted[f"{kind}s"]) + 1)]


def _have(found: Found, wanted: Object) -> dict[str, t.Any]:
    return cluster_servers(found, wanted["cluster"], [*_names(wanted, "master"), *_names(wanted, "worker")])


def _free_compute(found: Found) -> dict[str, int]:
    (limits,) = found.get("compute_quota") or ({},)
    used, reserved = limits.get("usage") or {}, limits.get("reservation") or {}
    return {
        name: max(limit - used.get(name, 0) - reserved.get(name, 0), 0)
        for name, limit in limits.items()
        if isinstance(limit, int) and limit >= 0
    }


def _free_network(found: Found) -> dict[str, int]:
    (limits,) = found.get("network_quota") or ({},)
    return {
        name: max(each["limit"] - each.get("used", 0) - each.get("reserved", 0), 0)
        for name, each in limits.items()
        if isinstance(each, dict) and each.get("limit", -1) >= 0
    }


def _user(session: Object) -> str:
    return f"user {session['user_name']}" if session.get("user_name") else "this login"


def _list(words: t.Sequence[str]) -> str:
    shown = list(words[:_SHOWN]) + ([f"{len(words) - _SHOWN} more"] if len(words) > _SHOWN else [])
    return ", ".join(shown) or "none"


def _one_of(words: t.Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"one of {_list(words)}"


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Name the filters."""
        return {"cloud_problems": cloud_problems, "external_networks": external_networks}
