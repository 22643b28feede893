# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.kos.labs.plugins.filter.cluster_servers import cluster_servers, describe
from ansible_collections.kos.labs.plugins.modules.server_host_keys_info import parse_host_keys

MARK = describe("kos")


def neutron(name, **more):
    return {"id": f"id-{name}", "name": name, "description": MARK, **more}


def port(node, *, description=MARK, **more):
    defaults = {"network_id": "id-kos", "device_id": f"id-{node}", "device_owner": "compute:nova", "allowed_address_pairs": []}
    address = [{"subnet_id": "id-kos", "ip_address": "172.18.0.9"}]
    return {**neutron(f"kos-{node}", **defaults), "fixed_ips": address, "description": description, **more}


def server(name, cluster="kos", **more):
    return {
        "id": f"id-{name}",
        "name": name,
        "status": "ACTIVE",
        "metadata": {"kos_cluster": cluster} if cluster else {},
        **more,
    }


@pytest.fixture
def project():
    """A project with a complete cluster kos, and a neighbour."""
    interface = {**port("x"), "id": "id-interface", "name": "", "description": "", "device_owner": "network:router_interface"}
    return {
        "networks": [neutron("kos", mtu=1450), {**neutron("other"), "description": describe("other")}],
        "subnets": [neutron("kos", network_id="id-kos")],
        "routers": [neutron("kos")],
        "security_groups": [
            neutron("kos-nodes", security_group_rules=[]),
            {**neutron("default"), "description": "Default security group", "security_group_rules": []},
        ],
        "ports": [port("master1"), port("worker1"), {**interface, "device_id": "id-kos"}],
        "floating_ips": [neutron("", id="id-fip", floating_ip_address="203.0.113.5", port_id="id-kos-master1")],
        "servers": [server("master1"), server("worker1"), server("master1-of-other", "other")],
        "server_groups": [{"id": "id-group", "name": "kos-masters", "member_ids": ["id-master1"]}],
    }


def look(project, names=("master1", "worker1")):
    return cluster_servers(project, "kos", names)


def test_finds_what_is_ours(project):
    have = look(project)
    assert (have["network"]["id"], have["subnet"]["id"], have["router"]["id"]) == ("id-kos", "id-kos", "id-kos")
    assert have["router_interface"] == "id-interface"
    assert sorted(have["servers"]) == ["master1", "worker1"]
    assert have["ports"]["master1"]["floating_ip"] == "203.0.113.5"
    assert have["ports"]["worker1"]["floating_ip"] is None
    assert have["server_groups"] == {"masters": "id-group"}
    assert list(have["security_groups"]) == ["nodes"]
    assert (have["foreign"], have["surplus"], have["guests"]) == ([], [], [])


def test_an_empty_project_has_nothing():
    have = look({})
    assert have["network"] is have["subnet"] is have["router"] is have["router_interface"] is None
    assert not any(have[kind] for kind in ("ports", "servers", "security_groups", "server_groups", "floating_ips", "foreign", "guests"))


@pytest.mark.parametrize("kind", ["networks", "subnets", "routers"])
def test_our_name_without_our_mark_is_foreign(project, kind):
    project[kind] = [{**project[kind][0], "description": "made by hand"}]
    have = look(project)
    assert have[kind[:-1]] is None
    assert have["foreign"] == [f"{kind[:-1]} kos (id-kos)"]


@pytest.mark.parametrize("cluster", [None, "other"])
def test_a_server_of_somebody_else_is_foreign(project, cluster):
    project["servers"][0] = server("master1", cluster)
    project["server_groups"] = []
    have = look(project)
    assert have["foreign"] == ["server master1 (id-master1)"]
    assert "master1" not in have["servers"]


def test_a_server_of_another_cluster_with_another_name_is_nobodys_concern(project):
    assert look(project)["foreign"] == []


def test_foreign_ports_and_groups(project):
    project["ports"][0]["description"] = ""
    project["security_groups"][0]["description"] = "mine"
    project["server_groups"][0]["member_ids"] = ["id-of-somebody"]
    assert look(project)["foreign"] == [
        "port kos-master1 (id-kos-master1)",
        "security group kos-nodes (id-kos-nodes)",
        "server group kos-masters (id-group)",
    ]


def test_servers_that_are_no_longer_wanted_are_surplus(project):
    assert look(project, ["master1"])["surplus"] == ["worker1"]


def test_ports_of_others_in_our_network_are_guests(project):
    project["ports"].append({**port("x"), "id": "id-vip", "name": "octavia-lb-1", "description": "", "device_owner": "Octavia"})
    assert look(project)["guests"] == ["octavia-lb-1 (Octavia)"]


def balancer(cluster, service="web", **more):
    return {
        "id": f"id-{cluster}-{service}",
        "name": f"kube_service_{cluster}_default_{service}",
        "description": f"Kubernetes external service default/{service} from cluster {cluster}",
        "vip_port_id": f"id-vip-{cluster}",
        "tags": [f"kube_service_{cluster}_default_{service}"],
        **more,
    }


def vip(cluster):
    return {**port("x"), "id": f"id-vip-{cluster}", "name": f"octavia-lb-{cluster}", "description": "", "device_owner": "Octavia"}


def test_what_services_have_made_is_ours_and_no_guest(project):
    project["load_balancers"] = [balancer("kos")]
    project["ports"].append(vip("kos"))
    words = "Floating IP for Kubernetes external service default/web from cluster"
    project["floating_ips"] += [
        neutron("", id=f"id-{cluster}", description=f"{words} {cluster}", floating_ip_address="203.0.113.6", port_id=f"id-vip-{cluster}")
        for cluster in ("kos", "other")
    ]
    group = neutron("lb-sg-1-default-web", description="Security Group for default/web Service LoadBalancer in cluster kos")
    project["security_groups"].append({**group, "security_group_rules": []})
    have = look(project)
    assert have["guests"] == []
    assert [each["name"] for each in have["services"]["load_balancers"]] == ["kube_service_kos_default_web"]
    assert [each["id"] for each in have["services"]["floating_ips"]] == ["id-kos"]
    assert [each["name"] for each in have["services"]["security_groups"]] == ["lb-sg-1-default-web"]


@pytest.mark.parametrize(
    "foreign",
    [
        balancer("other"),
        balancer("kos-2"),
        balancer("kos_2"),
        balancer("kos", name="my own"),
        balancer("kos", description="mine, in spite of its name"),
    ],
)
def test_load_balancers_of_others_are_guests(project, foreign):
    project["load_balancers"] = [{**foreign, "vip_port_id": "id-vip-x"}]
    project["ports"].append(vip("x"))
    have = look(project)
    assert have["services"]["load_balancers"] == []
    assert have["guests"] == ["octavia-lb-x (Octavia)"]


def test_the_load_balancer_of_the_api_is_ours_by_its_mark(project):
    project["load_balancers"] = [{**vip("kos"), "name": "kos-api", "description": MARK, "vip_port_id": "id-vip-kos"}]
    project["ports"].append(vip("kos"))
    have = look(project)
    assert (have["api_balancer"]["name"], have["guests"], have["foreign"]) == ("kos-api", [], [])
    project["load_balancers"][0]["description"] = "of somebody else"
    have = look(project)
    assert (have["api_balancer"], have["foreign"]) == (None, ["load balancer kos-api (id-vip-kos)"])


def test_another_cluster_that_shares_a_load_balancer_is_a_guest(project):
    tags = ["kube_service_kos_default_web", "kube_service_kos_default_api", "kube_service_other_default_web", "blue"]
    project["load_balancers"] = [balancer("kos", tags=tags)]
    assert look(project)["guests"] == ["kube_service_other_default_web (shares kube_service_kos_default_web)"]


RULE = {
    "direction": "ingress",
    "ether_type": "IPv4",
    "protocol": "tcp",
    "port_range_min": 22,
    "port_range_max": 22,
    "remote_ip_prefix": "0.0.0.0/0",
}
BETWEEN = {"direction": "ingress", "ether_type": "IPv4", "remote_group": "kos-nodes"}


def missing(project, names=("master1", "worker1"), groups=None, addresses=()):
    return cluster_servers(project, "kos", names, groups, addresses)["missing"]


def test_everything_is_missing_at_first():
    assert missing({}, groups={"nodes": [RULE]}) == {
        "security_groups": ["nodes"],
        "ports": ["master1", "worker1"],
        "addresses": {},
        "servers": ["master1", "worker1"],
        "floating_ips": ["master1", "worker1"],
    }


def test_only_what_is_missing_is_named(project):
    wanted = missing(project, names=["master1", "worker1", "worker2"])
    assert (wanted["ports"], wanted["servers"], wanted["floating_ips"]) == (["worker2"], ["worker2"], ["worker1", "worker2"])


@pytest.mark.parametrize(
    ("stored", "differs"),
    [
        ([], True),
        ([{**RULE, "id": "1"}], True),
        ([{**RULE, "id": "1"}, {"direction": "ingress", "ethertype": "IPv4", "remote_group_id": "id-kos-nodes"}], False),
        ([{**RULE, "id": "1"}, {"direction": "ingress", "ethertype": "IPv4", "remote_group_id": "another"}], True),
        (
            [
                {**RULE, "port_range_max": "22"},
                {"direction": "ingress", "ethertype": "IPv4", "remote_group_id": "id-kos-nodes"},
                {"direction": "egress"},
            ],
            True,
        ),
    ],
    ids=["none", "one of two", "equal", "another group", "one too many"],
)
def test_security_groups_are_compared_rule_by_rule(project, stored, differs):
    project["security_groups"][0]["security_group_rules"] = stored
    assert missing(project, groups={"nodes": [RULE, BETWEEN]})["security_groups"] == (["nodes"] if differs else [])


def test_addresses_are_added_to_those_that_others_set(project):
    project["ports"][0]["allowed_address_pairs"] = [{"ip_address": "172.18.0.100"}]
    project["ports"][1]["allowed_address_pairs"] = [{"ip_address": "10.1.0.0/16"}, {"ip_address": "172.18.0.100"}]
    assert missing(project, addresses=["10.1.0.0/16"])["addresses"] == {"master1": ["10.1.0.0/16", "172.18.0.100"]}


BLOCK = """
[   12.3] cloud-init[152]: Generating public/private ed25519 key pair.
-----BEGIN SSH HOST KEY FINGERPRINTS-----
256 SHA256:abc root@n1 (ED25519)
-----END SSH HOST KEY FINGERPRINTS-----
-----BEGIN SSH HOST KEY KEYS-----
{keys}
-----END SSH HOST KEY KEYS-----
[[0;32m  OK  [0m] Reached target cloud-init.target.
"""


def console(*keys):
    return BLOCK.format(keys="\n".join(keys))


def test_reads_the_keys_from_a_console():
    text = console("ssh-ed25519 AAAAC3Nz+/= root@n1", "[  1.0] cloud-init[9]: ecdsa-sha2-nistp256 AAAAE2Vj root@n1")
    assert parse_host_keys(text) == ["ecdsa-sha2-nistp256 AAAAE2Vj", "ssh-ed25519 AAAAC3Nz+/="]


@pytest.mark.parametrize("text", ["", "Debian GNU/Linux 13", console("ssh-ed25519 AAAA").split("-----END SSH HOST KEY KEYS")[0]])
def test_a_console_without_a_whole_block_has_no_keys(text):
    assert parse_host_keys(text) == []


def test_the_last_block_counts():
    assert parse_host_keys(console("ssh-ed25519 OLD") + console("ssh-ed25519 NEW")) == ["ssh-ed25519 NEW"]
