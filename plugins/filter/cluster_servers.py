# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Sort what a project holds into what belongs to a cluster, what it lacks, and what is in its way."""

from __future__ import annotations

DOCUMENTATION = r"""
name: cluster_servers
short_description: Tell what of a project belongs to a cluster, and what it lacks
version_added: 0.1.0
author: The kos.labs authors
description:
  - An object belongs to a cluster when it carries the cluster's mark, which is the description of Neutron's objects and the metadata
    of servers. What carries a name that the cluster needs, but not the mark, is somebody else's.
options:
  _input:
    description:
      - What M(kos.labs.cloud_resources_info) found, with the keys C(networks), C(subnets), C(routers), C(security_groups), C(ports),
        C(floating_ips), C(servers), C(server_groups) and C(load_balancers).
    type: dict
    required: true
  cluster:
    description: Name of the cluster.
    type: str
    required: true
  nodes:
    description: Names of the servers that the cluster wants.
    type: list
    elements: str
    required: true
  security_groups:
    description: Rules of the wanted security groups, as M(openstack.cloud.security_group) takes them, by name without the cluster's.
    type: dict
    default: {}
  allowed_addresses:
    description: Address ranges that every node's port is to let through.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
have: "{{ found.resources | kos.labs.cluster_servers(cluster='kos', nodes=['master1', 'worker1']) }}"
"""

RETURN = r"""
_value:
  description:
    - C(cluster) and C(mark), and what is ours, or null or empty, as C(network), C(subnet), C(router), C(router_interface), C(api_balancer),
      C(security_groups), C(server_groups), C(ports), C(floating_ips) and C(servers), the plural ones by name without the cluster's.
    - C(missing) names what is wanted and not there, C(surplus) servers that are no longer wanted, C(foreign) what of others has a
      name that the cluster needs, and C(guests) ports of others in the cluster's network and other clusters that share a load balancer of ours.
  type: dict
"""

import re
import typing as t

MARK_KEY = "kos_cluster"
"""The key in a server's metadata; Neutron's objects carry `describe()` as description."""

Object = t.Mapping[str, t.Any]


def cluster_servers(
    found: t.Mapping[str, t.Sequence[Object]],
    cluster: str,
    nodes: t.Sequence[str],
    security_groups: t.Mapping[str, t.Sequence[Object]] | None = None,
    allowed_addresses: t.Collection[str] = (),
) -> dict[str, t.Any]:
    """Tell what of a project belongs to a cluster, and what it lacks."""
    have = sort_out(cluster=cluster, names=nodes, found=found)
    missing = find_missing(have=have, names=nodes, security_groups=security_groups or {}, allowed_addresses=allowed_addresses)
    return {"cluster": cluster, "mark": describe(cluster), **have, "missing": missing}


def describe(cluster: str) -> str:
    """Return the description that marks what belongs to a cluster."""
    return f"kos.labs cluster {cluster}"


def sort_out(*, cluster: str, names: t.Iterable[str], found: t.Mapping[str, t.Sequence[Object]]) -> dict[str, t.Any]:
    """Tell what is ours from what is not.

    `names` are the server names that the cluster wants. `found` holds, by kind, everything of the project. An object that
    carries our name but not our mark is somebody else's: it is named in `foreign`, and nobody may touch it. What is ours is
    keyed by its name without the cluster's.
    """
    mark = describe(cluster)
    foreign: list[str] = []

    def ours(kind: str, *, reserved: t.Callable[[str], bool]) -> list[Object]:
        mine = []
        for each in found.get(kind, ()):
            if each.get("description") == mark:
                mine.append(each)
            elif reserved(each.get("name") or ""):
                foreign.append(f"{kind[:-1].replace('_', ' ')} {each['name']} ({each['id']})")
        return mine

    def only(kind: str, called: str = cluster) -> dict[str, t.Any] | None:
        mine = ours(kind, reserved=lambda name: name == called)
        return dict(mine[0]) if mine else None

    wanted, prefix = set(names), f"{cluster}-"
    network, subnet, router = only("networks"), only("subnets"), only("routers")
    balancer = only("load_balancers", f"{cluster}-api")
    groups = ours("security_groups", reserved=lambda name: name in (f"{cluster}-nodes", f"{cluster}-masters"))
    ports = ours("ports", reserved=lambda name: name in {f"{cluster}-{node}" for node in wanted})
    addresses = ours("floating_ips", reserved=lambda name: False)

    servers = []
    for server in found.get("servers", ()):
        if (server.get("metadata") or {}).get(MARK_KEY) == cluster:
            servers.append(server)
        elif server["name"] in wanted:
            foreign.append(f"server {server['name']} ({server['id']})")

    # Nova keeps neither description nor metadata of a server group: it is ours if it has our name and no member of others.
    ids = {server["id"] for server in servers}
    server_groups = {}
    for group in found.get("server_groups", ()):
        if group["name"] not in (f"{cluster}-masters", f"{cluster}-workers"):
            continue
        if set(group.get("member_ids") or ()) <= ids:
            server_groups[group["name"][len(prefix) :]] = group["id"]
        else:
            foreign.append(f"server group {group['name']} ({group['id']})")

    address_of = {each["port_id"]: each for each in addresses if each.get("port_id")}
    interfaces = [
        each["id"]
        for each in found.get("ports", ())
        if router is not None and subnet is not None and each.get("device_id") == router["id"]
        if subnet["id"] in [address["subnet_id"] for address in each["fixed_ips"]]
    ]
    services, sharers = of_services(cluster, found)
    balancers = [*services["load_balancers"], *([balancer] if balancer else [])]
    own_ports = {each["id"] for each in ports} | {each["vip_port_id"] for each in balancers}
    guests = [
        f"{each['name'] or each['id']} ({each.get('device_owner') or 'no owner'})"
        for each in found.get("ports", ())
        if network is not None and each["network_id"] == network["id"] and each["id"] not in own_ports
        if not (each.get("device_owner") or "").startswith("network:")
    ]
    return {
        "network": network,
        "subnet": subnet,
        "router": router,
        "router_interface": interfaces[0] if interfaces else None,
        "api_balancer": balancer,
        "security_groups": {
            each["name"][len(prefix) :]: {"id": each["id"], "name": each["name"], "rules": list(each["security_group_rules"])}
            for each in groups
        },
        "server_groups": server_groups,
        "ports": {
            each["name"][len(prefix) :]: {
                "id": each["id"],
                "name": each["name"],
                "node_ip": each["fixed_ips"][0]["ip_address"],
                "floating_ip": address_of.get(each["id"], {}).get("floating_ip_address"),
                "allowed_addresses": [pair["ip_address"] for pair in each.get("allowed_address_pairs") or ()],
            }
            for each in ports
            if each["name"].startswith(prefix)
        },
        "floating_ips": [{name: each[name] for name in ("id", "floating_ip_address", "port_id")} for each in addresses],
        "servers": {
            each["name"]: {
                "id": each["id"],
                "name": each["name"],
                "status": each["status"],
            }
            for each in servers
        },
        "surplus": sorted({each["name"] for each in servers} - wanted),
        "foreign": sorted(foreign),
        "guests": sorted(guests) + sharers,
        "services": services,
    }


def of_services(cluster: str, found: t.Mapping[str, t.Sequence[Object]]) -> tuple[dict[str, list[dict[str, t.Any]]], list[str]]:
    """Return what the cloud controller manager made for Services of a cluster, and the load balancers that others share.

    It names load balancers kube_service_CLUSTER_NAMESPACE_SERVICE, tags each with the names of all Services that share it, and
    tells the cluster in each description. Namespaces and Services have no underscores. Source: pkg/openstack/loadbalancer.go and
    loadbalancer_sg.go of cloud-provider-openstack 1.36.
    """
    of_cluster = re.compile(rf"kube_service_{re.escape(cluster)}_[^_]+_[^_]+")
    from_cluster = re.compile(
        rf"(Kubernetes external service|Floating IP for|Security Group for) .* (from|in) cluster {re.escape(cluster)}"
    )

    def ours(kind: str) -> list[Object]:
        return [each for each in found.get(kind, ()) if from_cluster.fullmatch(each.get("description") or "")]

    balancers = [each for each in ours("load_balancers") if of_cluster.fullmatch(each["name"])]
    shared = {
        each["name"]: [tag for tag in each.get("tags") or () if tag.startswith("kube_service_") and not of_cluster.fullmatch(tag)]
        for each in balancers
    }
    return {
        "load_balancers": [{name: each[name] for name in ("id", "name", "vip_port_id")} for each in balancers],
        "floating_ips": [{name: each[name] for name in ("id", "floating_ip_address")} for each in ours("floating_ips")],
        "security_groups": [{name: each[name] for name in ("id", "name")} for each in ours("security_groups")],
    }, sorted(f"{tag} (shares {name})" for name, tags in shared.items() for tag in tags)


def find_missing(
    *,
    have: t.Mapping[str, t.Any],
    names: t.Sequence[str],
    security_groups: t.Mapping[str, t.Sequence[Object]],
    allowed_addresses: t.Collection[str],
) -> dict[str, t.Any]:
    """Tell what a cluster still needs, given what `sort_out` found.

    Security groups are listed when their rules differ at all: a rule too many is an open door. Ports are only ever added to,
    since load balancers and others hang their own groups and addresses on them.
    """
    ids = {group["name"]: group["id"] for group in have["security_groups"].values()}

    def differs(name: str) -> bool:
        if name not in have["security_groups"]:
            return True
        wanted = {_rule_key({**rule, "remote_group_id": ids.get(rule.get("remote_group") or "")}) for rule in security_groups[name]}
        return wanted != {_rule_key(rule) for rule in have["security_groups"][name]["rules"]}

    ports, servers = have["ports"], have["servers"]
    addresses = {
        name: sorted(set(ports[name]["allowed_addresses"]) | set(allowed_addresses))
        for name in names
        if name in ports and not set(allowed_addresses) <= set(ports[name]["allowed_addresses"])
    }
    return {
        "security_groups": [name for name in security_groups if differs(name)],
        "ports": [name for name in names if name not in ports],
        "addresses": addresses,
        "servers": [name for name in names if name not in servers],
        "floating_ips": [name for name in names if not ports.get(name, {}).get("floating_ip")],
    }


def _rule_key(rule: Object) -> tuple[str, ...]:
    # Rules within a group are Neutron's own JSON, which says ethertype where the SDK and its modules say ether_type.
    names = ("direction", "protocol", "port_range_min", "port_range_max", "remote_group_id", "remote_ip_prefix")
    return (rule.get("ether_type") or rule.get("ethertype") or "", *(str(rule.get(name) or "") for name in names))


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Name the filters."""
        return {
            "cluster_servers": cluster_servers,
        }
