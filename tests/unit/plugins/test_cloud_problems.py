# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cloud lacks is told at once, in sentences that say what to choose or to ask for."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.kos.labs.plugins.filter.cloud_problems import cloud_problems, external_networks, quota

LIMIT = {"limit": 50, "used": 0, "reserved": 0}
FOUND = {
    "networks": [
        {"id": "n1", "name": "public", "is_router_external": True, "description": ""},
        {"id": "n2", "name": "mine", "is_router_external": False, "description": ""},
    ],
    "subnets": [],
    "routers": [],
    "security_groups": [],
    "ports": [],
    "floating_ips": [],
    "servers": [],
    "server_groups": [],
    "extensions": [{"alias": alias} for alias in ("router", "external-net", "security-group", "allowed-address-pairs")],
    "images": [{"name": "debian-13", "status": "active", "min_disk": 3, "min_ram": 0}, {"name": "cirros", "status": "active"}],
    "flavors": [
        {"name": "tiny", "vcpus": 1, "ram": 512, "disk": 1},
        {"name": "medium", "vcpus": 2, "ram": 4096, "disk": 20},
        {"name": "diskless", "vcpus": 2, "ram": 4096, "disk": 0},
    ],
    "compute_quota": [
        {"instances": 10, "cores": 20, "ram": 51200, "server_groups": 10, "usage": {"cores": 4}, "reservation": {"cores": 0}}
    ],
    "network_quota": [dict.fromkeys(("networks", "subnets", "routers", "ports", "floating_ips", "security_groups"), LIMIT)],
}
WANTED = {
    "cluster": "kos",
    "masters": 1,
    "workers": 2,
    "external_network": "public",
    "image": "debian-13",
    "flavors": {"master": "medium", "worker": "medium"},
    "extensions": ["router", "security-group"],
    "services": {},
    "keypair": "kos-kos-1234",
    "dns_servers": ["192.0.2.53"],
    "mirror_url": "",
    "project_id": "",
    "session": {
        "project_id": "p1",
        "project_name": "lab",
        "user_name": "anna",
        "roles": ["member", "reader"],
        "services": ["compute", "network"],
    },
    "refused": {},
}

SERVER = {"id": "s", "name": "master1", "status": "ACTIVE", "metadata": {"kos_cluster": "kos"}, "key_name": "kos-kos-other"}


def without(kind):
    return {name: value for name, value in FOUND.items() if name != kind}


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (FOUND, WANTED),
        (FOUND, {**WANTED, "external_network": ""}),
        ({**FOUND, "servers": [SERVER]}, {**WANTED, "cluster": "blue", "node_prefix": "blue-"}),
        (without("compute_quota"), WANTED),
        (without("extensions"), WANTED),
        ({**FOUND, "network_quota": [{"floating_ips": {"limit": -1}}], "compute_quota": [{"instances": -1}]}, WANTED),
        (FOUND, {**WANTED, "mirror_url": "http://192.0.2.1:8480", "project_id": "p1"}),
        (FOUND, {**WANTED, "workers": 0, "flavors": {"master": "medium", "worker": ""}}),
    ],
)
def test_a_good_cloud_has_no_problem(found, wanted):
    assert cloud_problems(found, wanted) == []


def changed(base, **changes):
    result = copy.deepcopy(base)
    for key, value in changes.items():
        name, _, inner = key.partition("__")
        if inner:
            result[name][inner] = value
        else:
            result[name] = value
    return result


TWO = [{**FOUND["networks"][0], "name": name} for name in ("blue", "green")]


@pytest.mark.parametrize(
    ("found", "wanted", "sentence"),
    [
        (
            FOUND,
            changed(WANTED, session__roles=["reader"]),
            "user anna may only look at project lab (roles: reader): ask its owner for the role member.",
        ),
        (changed(FOUND, networks=[]), WANTED, "The cloud shows no external network: ask its operator"),
        (changed(FOUND, networks=TWO), changed(WANTED, external_network=""), "set base_existing_external_network to one of blue, green."),
        (FOUND, changed(WANTED, external_network="ext"), "no external network ext: set base_existing_external_network to public."),
        (FOUND, changed(WANTED, external_network="mine"), "mine (a network of that name is there, but not external)"),
        (
            FOUND,
            changed(WANTED, image=""),
            "Nodes need an image with Debian 12 or newer and cloud-init: set base_existing_image to one of debian-13, cirros.",
        ),
        (
            FOUND,
            changed(WANTED, image="debian-12"),
            "no active image debian-12 for this project: set base_existing_image to one of debian-13, cirros.",
        ),
        (changed(FOUND, images=[]), WANTED, "upload one with"),
        (changed(FOUND, images=FOUND["images"][:1] * 2), WANTED, "The cloud has 2 images called debian-13"),
        (
            FOUND,
            changed(WANTED, flavors={"master": "", "worker": ""}),
            "set base_existing_flavor_master, such as medium (2 processors, 4096 MiB, 20 GiB).",
        ),
        (
            FOUND,
            changed(WANTED, flavors={"master": "medium", "worker": "big"}),
            "no flavor big for this project: set base_existing_flavor_worker",
        ),
        (
            FOUND,
            changed(WANTED, flavors={"master": "diskless", "worker": "medium"}),
            "too small for a master, it has 0 GiB of disk and 8 are needed",
        ),
        (FOUND, changed(WANTED, extensions=["router", "extraroute"]), "network service lacks extraroute"),
        (
            FOUND,
            changed(WANTED, services={"octavia": ["load-balancer"]}),
            "The lab needs Octavia and the cloud's catalog has no load-balancer service",
        ),
        (
            FOUND,
            changed(WANTED, services={"octavia": ["network"]}, refused={"load_balancers": "403 no"}),
            "Octavia lets user anna make no load balancers (403 no): ask the operator for the role load-balancer_member",
        ),
        (FOUND, changed(WANTED, project_id="p0"), "is in project p0, and this login is for lab (p1)"),
        (
            changed(FOUND, servers=[SERVER]),
            WANTED,
            "has a cluster kos already that another state folder made (master1): set cluster_name and cluster_node_prefix",
        ),
        (
            changed(FOUND, servers=[{**SERVER, "metadata": {}}]),
            WANTED,
            "Project lab already has server master1 (s), not made for cluster kos: choose",
        ),
        (FOUND, changed(WANTED, dns_servers=["dns.example.org"]), "base_existing_dns_servers has dns.example.org"),
        (FOUND, changed(WANTED, mirror_url="http://127.0.0.1:8480"), "which for a node is the node itself"),
        (
            changed(FOUND, compute_quota=[{"instances": 2, "cores": 4, "usage": {"cores": 4, "instances": 1}}]),
            WANTED,
            "leaves 1 more instances of the 3 that are needed, no more cores of 6 that are needed: ask its operator for more",
        ),
        (
            changed(FOUND, network_quota=[{"floating_ips": {"limit": 1, "used": 1}}]),
            WANTED,
            "leaves no more floating ips of 3 that are needed",
        ),
    ],
)
def test_what_is_missing_is_one_sentence(found, wanted, sentence):
    problems = cloud_problems(found, wanted)
    assert len(problems) == 1
    assert sentence in problems[0]
    assert problems[0].endswith(".")


def test_everything_is_told_at_once():
    problems = cloud_problems(
        changed(FOUND, networks=[], compute_quota=[{"instances": 0}]), changed(WANTED, image="", flavors={"master": "", "worker": ""})
    )
    # Flavors of masters and workers are one question.
    assert len(problems) == 4


def test_a_cluster_that_stands_needs_no_more():
    mark = "kos.labs cluster kos"
    servers = [
        {"id": name, "name": name, "status": "ACTIVE", "metadata": {"kos_cluster": "kos"}, "key_name": WANTED["keypair"]}
        for name in ("master1", "worker1", "worker2")
    ]
    ports = [
        {
            "id": name,
            "name": f"kos-{name}",
            "description": mark,
            "network_id": "n",
            "fixed_ips": [{"ip_address": "172.18.0.9", "subnet_id": "s"}],
        }
        for name in ("master1", "worker1", "worker2")
    ]
    found = changed(
        FOUND,
        servers=servers,
        ports=ports,
        networks=[*FOUND["networks"], {"id": "n", "name": "kos", "description": mark}],
        subnets=[{"id": "s", "name": "kos", "description": mark}],
        routers=[{"id": "r", "name": "kos", "description": mark}],
        floating_ips=[
            {"id": name, "port_id": name, "floating_ip_address": "192.0.2.9", "description": mark}
            for name in ("master1", "worker1", "worker2")
        ],
        security_groups=[
            {"id": name, "name": f"kos-{name}", "description": mark, "security_group_rules": []} for name in ("nodes", "masters")
        ],
        server_groups=[{"id": name, "name": f"kos-{name}", "member_ids": []} for name in ("masters", "workers")],
        compute_quota=[{"instances": 3, "cores": 6, "usage": {"instances": 3, "cores": 6}}],
    )
    assert quota(found, WANTED) == {}
    assert cloud_problems(found, WANTED) == []


def test_external_networks_are_listed():
    assert external_networks(FOUND) == ["public"]
