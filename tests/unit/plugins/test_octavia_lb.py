# SPDX-License-Identifier: GPL-3.0-or-later
"""The module octavia_lb: bad input, order of steps, floating IPs, waits, names, numbers of calls; its documents against itself."""

from __future__ import annotations

import copy
import json
import pathlib
import re
import typing as t

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.kos.labs.plugins.module_utils import octavia_lb as planner
from ansible_collections.kos.labs.plugins.module_utils.octavia_lb import KINDS, FloatingIP, OctaviaError, from_api, parse
from ansible_collections.kos.labs.plugins.module_utils.octavia_lb_api import Result, Service, reconcile
from ansible_collections.kos.labs.plugins.modules import octavia_lb as module
from keystoneauth1.exceptions import ConnectFailure
from octavia_cloud import Neutron, Octavia, Response

Options = dict[str, t.Any]
SUBNET = "11111111-1111-1111-1111-111111111111"
OTHER = "22222222-2222-2222-2222-222222222222"
PUBLIC = "33333333-3333-3333-3333-333333333333"
MONITOR = {"type": "HTTP", "delay": 5, "timeout": 3, "max_retries": 2}
REJECT = {"name": "p", "action": "REJECT"}
RULE = {"type": "PATH", "compare_type": "EQUAL_TO", "value": "/"}


def tree(**more: t.Any) -> Options:
    """A small load balancer with one of each."""
    known: Options = {
        "name": "lb",
        "vip_subnet": SUBNET,
        "listeners": [
            {
                "name": "http",
                "protocol": "HTTP",
                "protocol_port": 80,
                "default_pool": "web",
                "l7policies": [{**REJECT, "rules": [dict(RULE)]}],
            }
        ],
        "pools": [
            {
                "name": "web",
                "protocol": "HTTP",
                "members": [{"address": "10.0.0.1", "protocol_port": 8080}, {"address": "10.0.0.2", "protocol_port": 8080}],
                "health_monitor": dict(MONITOR),
            }
        ],
    }
    return copy.deepcopy({**known, **more})


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def run(
    cloud: Octavia, wanted: Options, *, check_mode: bool = False, neutron: Neutron | None = None, wait: bool = True, **more: t.Any
) -> Result:
    defaults: Options = {"state": "present", "recreate": "never", "on_error": "fail", "purge": None}
    clock = Clock()
    service = Service(load_balancer=cloud, network=lambda: neutron, sleep=clock.sleep, clock=clock, timeout=60, wait=wait)
    return reconcile(service, {**defaults, **wanted, **more}, check_mode=check_mode)


def steps(cloud: Octavia, wanted: Options, **more: t.Any) -> list[str]:
    return [str(step) for step in run(cloud, wanted, **more).plan.steps]


def changed(part: Options, **values: t.Any) -> Options:
    return {key: value for key, value in {**part, **values}.items() if value is not ...}


@pytest.fixture
def cloud() -> Octavia:
    """An Octavia with the small load balancer."""
    found = Octavia()
    run(found, tree())
    return found


# --- Bad input ------------------------------------------------------------------------------------------------------------------------


def listener(**values: t.Any) -> Options:
    return {"name": "lb", "listeners": [{"name": "l", "protocol": "HTTP", "protocol_port": 80, **values}]}


def policy(**values: t.Any) -> Options:
    return listener(l7policies=[{"name": "p", **values}])


def rule(**values: t.Any) -> Options:
    return policy(action="REJECT", rules=[{**RULE, **values}])


def pool(**values: t.Any) -> Options:
    return {"name": "lb", "pools": [{"name": "w", "protocol": "HTTP", **values}]}


def member(**values: t.Any) -> Options:
    return pool(members=[{"address": "10.0.0.1", "protocol_port": 80, **values}])


def monitor(**values: t.Any) -> Options:
    return pool(health_monitor={**MONITOR, **values})


BAD = [
    ({"name": "lb", "vip_address": "10.0.0"}, "10.0.0 is not an IP address"),
    ({"name": "lb", "vip_subnet": ""}, "vip_subnet cannot be empty"),
    ({"name": "lb", "flavor": ""}, "flavor cannot be empty"),
    ({"name": "lb", "additional_vips": [{"subnet": SUBNET, "address": "x"}]}, "x is not an IP address"),
    (listener(protocol_port=0), "protocol_port is 0, but must lie between 1 and 65535"),
    (listener(protocol_port=70000), "protocol_port"),
    (listener(connection_limit=-2), "connection_limit"),
    (listener(timeout_client_data=-1), "timeout_client_data"),
    (listener(timeout_member_connect=-1), "timeout_member_connect"),
    (listener(timeout_member_data=10**10), "timeout_member_data"),
    (listener(timeout_tcp_inspect=-1), "timeout_tcp_inspect"),
    (listener(allowed_cidrs=["10.0.0.0/33"]), "allowed_cidrs"),
    (listener(name=""), "name cannot be empty"),
    (listener(tls_versions=[]), "tls_versions cannot be empty"),
    (listener(alpn_protocols=[]), "alpn_protocols cannot be empty"),
    (listener(tls_ciphers=""), "tls_ciphers cannot be empty"),
    (listener(default_tls_container_ref="https://b/1"), "needs the protocol TERMINATED_HTTPS"),
    (listener(sni_container_refs=["https://b/1"]), "sni_container_refs needs the protocol"),
    (listener(client_ca_tls_container_ref="https://b/1"), "client_ca_tls_container_ref needs the protocol"),
    (
        listener(protocol="TERMINATED_HTTPS", client_crl_container_ref="https://b/1", client_ca_tls_container_ref=""),
        "client_crl_container_ref needs client_ca",
    ),
    (listener(protocol="TCP", insert_headers={"X-Forwarded-For": True}), "insert_headers needs the protocol HTTP"),
    (listener(hsts_max_age=1), "hsts_max_age needs the protocol TERMINATED_HTTPS"),
    (listener(protocol="TERMINATED_HTTPS", hsts_max_age=-1), "hsts_max_age is -1"),
    (listener(protocol="PROMETHEUS", default_pool="w"), "neither a pool nor L7 policies"),
    (listener(protocol="PROMETHEUS", l7policies=[REJECT]), "neither a pool nor L7 policies"),
    ({"name": "lb", "listeners": listener()["listeners"] * 2}, "listener l stands there twice"),
    ({"name": "lb", "pools": pool()["pools"] * 2}, "pool w stands there twice"),
    (listener(l7policies=[REJECT, REJECT]), "L7 policy p stands there twice"),
    (policy(action="REDIRECT_TO_POOL"), "REDIRECT_TO_POOL needs redirect_pool"),
    (policy(action="REDIRECT_TO_URL"), "needs redirect_url"),
    (policy(action="REDIRECT_PREFIX"), "needs redirect_prefix"),
    (policy(action="REJECT", redirect_url="https://a"), "redirect_url does not go with REJECT"),
    (policy(action="REJECT", redirect_http_code=301), "redirect_http_code does not go with REJECT"),
    (policy(action="REJECT", redirect_pool=""), "redirect_pool cannot be empty"),
    (policy(action="REJECT", rules=[dict(RULE)] * 51), "at most 50 rules"),
    (rule(type="HEADER"), "HEADER needs a key"),
    (rule(key="x"), "PATH has no key"),
    (rule(type="SSL_CONN_HAS_CERT", compare_type="REGEX"), "can be compared with EQUAL_TO only"),
    (rule(type="FILE_TYPE", compare_type="CONTAINS"), "EQUAL_TO or REGEX only"),
    (rule(compare_type="REGEX", value="("), "no regular expression"),
    (pool(session_persistence={"cookie_name": "x"}), "session_persistence needs a type"),
    (pool(session_persistence={"type": "APP_COOKIE"}), "need each other"),
    (pool(session_persistence={"type": "HTTP_COOKIE", "cookie_name": "x"}), "need each other"),
    (pool(session_persistence={"type": "SOURCE_IP", "persistence_timeout": 5}), "persistence_timeout is for UDP and SCTP"),
    (pool(session_persistence={"type": "SOURCE_IP", "persistence_granularity": "255.0.0.0"}), "persistence_granularity is for UDP"),
    (pool(protocol="UDP", session_persistence={"type": "HTTP_COOKIE"}), "is SOURCE_IP"),
    (pool(crl_container_ref="x", ca_tls_container_ref=""), "crl_container_ref needs ca_tls_container_ref"),
    (pool(lb_algorithm=""), "lb_algorithm cannot be empty"),
    (member(address="ten"), "ten is not an IP address"),
    (member(address=""), "address is missing"),
    (member(protocol_port=0), "protocol_port is 0"),
    (member(weight=257), "weight is 257"),
    (member(monitor_port=0), "monitor_port is 0"),
    (member(monitor_address="x"), "x is not an IP address"),
    (pool(members=[{"address": "fd00::1", "protocol_port": 1}, {"address": "fd00:0::1", "protocol_port": 1}]), "stands there twice"),
    (monitor(type=None), "type is missing"),
    (monitor(delay=None), "delay is missing"),
    (monitor(timeout=None), "timeout is missing"),
    (monitor(max_retries=None), "max_retries is missing"),
    (monitor(delay=-1), "delay is -1"),
    (monitor(timeout=-1), "timeout is -1"),
    (monitor(max_retries=11), "max_retries is 11"),
    (monitor(max_retries_down=0), "max_retries_down is 0"),
    (monitor(url_path="up"), "must start with a slash"),
    (monitor(expected_codes="20x"), "must be like 200"),
    (monitor(type="TCP", url_path="/"), "url_path needs the type HTTP"),
    (monitor(type="TCP", http_method="GET"), "http_method needs"),
    (monitor(type="PING", expected_codes="200"), "expected_codes needs"),
    (monitor(type="PING", http_version=1.1), "http_version needs"),
    (monitor(http_version=1.0, domain_name="a.example"), "domain_name needs http_version 1.1"),
    (monitor(type="UDP-CONNECT"), "needs a pool with UDP or SCTP"),
    (pool(protocol="UDP", health_monitor={**MONITOR, "type": "PING"}), "not by PING"),
]


@pytest.mark.parametrize(("wanted", "text"), BAD)
def test_bad_input_is_refused_in_a_sentence(wanted: Options, text: str) -> None:
    with pytest.raises(OctaviaError) as refused:
        parse(wanted)
    assert text in str(refused.value)
    assert "\n" not in str(refused.value)


GOOD = [
    rule(type="FILE_TYPE", value="jpg"),
    rule(type="FILE_TYPE", compare_type="REGEX", value="jpe?g"),
    rule(type="SSL_DN_FIELD", key="CN", value=""),
    pool(protocol="UDP", health_monitor={**MONITOR, "type": "UDP-CONNECT"}),
    pool(protocol="SCTP", session_persistence={"type": "SOURCE_IP", "persistence_timeout": 5}),
    pool(session_persistence={"type": "APP_COOKIE", "cookie_name": "x"}),
    pool(session_persistence={"type": None, "cookie_name": None}),
    pool(health_monitor={"type": None}),
    monitor(http_version=1.1, domain_name="a.example", expected_codes="200, 202"),
    {"name": "lb", "listeners": [{"name": n, "protocol": n, "protocol_port": 53} for n in ("TCP", "UDP", "SCTP")]},
    listener(description="", allowed_cidrs=[], tags=[], insert_headers={}, default_pool=""),
]


@pytest.mark.parametrize("wanted", GOOD)
def test_good_input(wanted: Options) -> None:
    cloud = Octavia()
    run(cloud, {**wanted, "vip_subnet": SUBNET})
    assert steps(cloud, {**wanted, "vip_subnet": SUBNET}) == []


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ({"name": "lb"}, "cannot be made without one of vip_subnet, vip_network and vip_port"),
        ({**listener(default_pool="nowhere"), "vip_subnet": SUBNET}, "default_pool is nowhere, but there is no such pool"),
        ({**policy(action="REDIRECT_TO_POOL", redirect_pool="x"), "vip_subnet": SUBNET}, "redirect_pool is x, but there is no such pool"),
        (
            {**listener(protocol="UDP", default_pool="w"), **pool(), "vip_subnet": SUBNET},
            "a pool with HTTP, w, does not go with the protocol UDP",
        ),
        ({**listener(protocol="TERMINATED_HTTPS"), "vip_subnet": SUBNET}, "needs default_tls_container_ref or sni_container_refs"),
        (
            {
                "name": "lb",
                "vip_subnet": SUBNET,
                "listeners": [{"name": n, "protocol": p, "protocol_port": 80} for n, p in (("a", "HTTP"), ("b", "PROMETHEUS"))],
            },
            "listeners a and b both want TCP port 80",
        ),
        ({"name": "lb", "vip_subnet": SUBNET, "floating_ip": {"address": "203.0.113.9"}}, "give floating_ip.network to have it made"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_anything_is_done(wanted: Options, text: str) -> None:
    cloud = Octavia()
    with pytest.raises(OctaviaError) as refused:
        run(cloud, wanted, neutron=Neutron())
    assert text in str(refused.value)
    assert cloud.writes == []


# --- Steps ----------------------------------------------------------------------------------------------------------------------------


def test_a_new_load_balancer_is_one_request() -> None:
    cloud = Octavia(slow=2)
    assert steps(cloud, tree(), check_mode=True) == ["create load balancer lb"]
    assert cloud.requests == ["GET /lbaas/loadbalancers"]
    done = run(cloud, tree())
    assert cloud.writes == ["POST /lbaas/loadbalancers"]
    assert len(cloud.requests) == 5, "look in check mode, look, make, and two looks until it is ACTIVE"
    assert done.load_balancer["pools"][0]["health_monitor"]["type"] == "HTTP"
    assert done.load_balancer["listeners"][0]["l7policies"][0]["rules"][0]["value"] == "/"
    assert done.load_balancer["provisioning_status"] == "ACTIVE"


def test_a_second_run_reads_each_kind_once(cloud: Octavia) -> None:
    cloud.requests.clear()
    assert steps(cloud, tree()) == []
    balancer, listener_, pool_, monitor_, policy_ = ("loadbalancers", "listeners", "pools", "healthmonitors", "l7policies")
    assert [request.split("/")[2] for request in cloud.requests] == [balancer, listener_, pool_, monitor_, policy_, pool_, policy_]


def test_members_of_a_pool_change_in_one_request(cloud: Octavia) -> None:
    wanted = tree()
    wanted["pools"][0]["members"] = [
        {"address": "10.0.0.2", "protocol_port": 8080, "weight": 5, "name": "two"},
        {"address": "10.0.0.3", "protocol_port": 8080, "subnet": SUBNET},
    ]
    cloud.requests.clear()
    assert steps(cloud, wanted) == ["set members of pool web"]
    assert len(cloud.writes) == 1
    assert sorted((m["address"], m["weight"], m["name"]) for m in cloud.items["member"].values()) == [
        ("10.0.0.2", 5, "two"),
        ("10.0.0.3", 1, ""),
    ]
    # Where none goes, only those that change are sent, and members of somebody else's stay.
    wanted["pools"][0]["members"][0]["weight"] = 6
    run(cloud, wanted)
    assert [m["weight"] for m in cloud.bodies[-1]["members"]] == [6]
    only = tree(pools=[{"name": "web", "protocol": "HTTP", "members": [{"address": "10.0.0.9", "protocol_port": 1}]}])
    run(cloud, only, purge={"members": False})
    assert [m["address"] for m in cloud.bodies[-1]["members"]] == ["10.0.0.9"]
    assert len(cloud.items["member"]) == 3


def test_an_address_keeps_its_spelling(cloud: Octavia) -> None:
    cloud.add("member", {"address": "FD00:0::7", "protocol_port": 80}, next(iter(cloud.items["pool"])))
    number = list(cloud.items["member"])[-1]
    wanted = {
        "name": "lb",
        "pools": [{"name": "web", "protocol": "HTTP", "members": [{"address": "fd00::7", "protocol_port": 80, "weight": 9}]}],
    }
    run(cloud, wanted, purge={"members": False})
    assert [cloud.items["member"][number][key] for key in ("address", "weight")] == ["FD00:0::7", 9]
    assert list(cloud.items["member"])[-1] == number


def test_what_is_left_out_stays_and_what_is_empty_goes(cloud: Octavia) -> None:
    assert steps(cloud, {"name": "lb"}) == []
    assert steps(cloud, {"name": "lb", "pools": [{"name": "web", "protocol": "HTTP"}]}) == []
    bare = {"name": "lb", "pools": [{"name": "web", "protocol": "HTTP", "members": [], "health_monitor": {}}]}
    assert steps(cloud, bare) == ["set members of pool web", "delete health monitor of pool web"]
    assert steps(cloud, {"name": "lb", "listeners": [], "pools": []}) == ["delete listener http", "delete pool web"]


def test_a_pool_in_use_is_replaced_before_it_goes(cloud: Octavia) -> None:
    wanted = tree()
    wanted["pools"][0] = {"name": "web", "protocol": "PROXY"}
    with pytest.raises(OctaviaError, match=r"pool web cannot be changed in place: protocol \(now HTTP, wanted PROXY\); set recreate"):
        run(cloud, wanted)
    wanted["listeners"][0]["l7policies"].append({"name": "q", "action": "REDIRECT_TO_POOL", "redirect_pool": "web"})
    assert steps(cloud, wanted, recreate="when_needed") == [
        "create pool web",
        "set members of pool web",
        "create health monitor of pool web",
        "update listener http",
        "create L7 policy q of listener http",
        "delete pool web",
    ]
    assert [pool["protocol"] for pool in cloud.items["pool"].values()] == ["PROXY"]
    assert len(cloud.items["member"]) == 2, "what nobody declares is taken along"


def test_a_policy_follows_a_pool_that_is_made_anew(cloud: Octavia) -> None:
    wanted = tree()
    wanted["listeners"][0]["l7policies"] = [{"name": "q", "action": "REDIRECT_TO_POOL", "redirect_pool": "web"}]
    run(cloud, wanted)
    wanted["pools"][0]["protocol"] = "PROXYV2"
    del wanted["listeners"]
    assert "update L7 policy q of listener http" in steps(cloud, wanted, recreate="when_needed")
    assert len(cloud.items["pool"]) == 1


def test_a_listener_that_is_made_anew_makes_room_first(cloud: Octavia) -> None:
    wanted = tree()
    wanted["listeners"][0].update(protocol="TCP", l7policies=[])
    with pytest.raises(OctaviaError, match=r"listener http cannot be changed in place: protocol"):
        run(cloud, wanted)
    assert steps(cloud, wanted, recreate="when_needed") == ["delete listener http", "create listener http"]
    wanted["listeners"][0].update(name="renamed")
    assert steps(cloud, wanted) == ["update listener renamed"]


def test_a_listener_that_is_made_anew_inherits_only_what_fits(cloud: Octavia) -> None:
    assert run(cloud, {"name": "lb", "listeners": [{"name": "http", "protocol": "HTTP", "protocol_port": 80, "connection_limit": 9}]})
    udp = {"name": "http", "protocol": "UDP", "protocol_port": 80, "l7policies": []}
    run(cloud, {"name": "lb", "listeners": [udp]}, recreate="when_needed")
    assert [(one["connection_limit"], one["default_pool_id"]) for one in cloud.items["listener"].values()] == [(9, None)]
    mixed = {"name": "lb", "listeners": [{**udp, "default_pool": "web"}], "pools": [{"name": "web", "protocol": "TCP"}]}
    with pytest.raises(OctaviaError, match="listener http: a pool with TCP, web, does not go with the protocol UDP"):
        run(cloud, mixed, recreate="when_needed")


def test_an_octavia_that_is_older_shows_less() -> None:
    cloud = Octavia()
    run(cloud, tree())
    shown = cloud.full(next(iter(cloud.items["loadbalancer"].values())))
    for listener_ in shown["listeners"]:
        del listener_["hsts_max_age"]
    assert "hsts_max_age" not in from_api(shown).of("listeners")[0].values


def test_a_policy_can_lose_its_description_together_with_its_target(cloud: Octavia) -> None:
    wanted = tree()
    wanted["listeners"][0]["l7policies"] = [
        {"name": "q", "action": "REDIRECT_TO_URL", "redirect_url": "https://a", "description": "old", "tags": ["old"]}
    ]
    run(cloud, wanted)
    wanted["listeners"][0]["l7policies"] = [{"name": "q", "action": "REJECT", "description": "", "tags": []}]
    assert steps(cloud, wanted) == ["update L7 policy q of listener http"]
    assert steps(cloud, wanted) == []


def test_policies_keep_their_order(cloud: Octavia) -> None:
    wanted = tree()

    def declare(*names: str) -> None:
        wanted["listeners"][0]["l7policies"] = [{"name": name, "action": "REJECT"} for name in names]

    def order() -> list[str]:
        numbers = cloud.order[next(iter(cloud.items["listener"]))]
        return [cloud.items["l7policy"][number]["name"] for number in numbers]

    for names in ("pqr", "rqp", "qxr", "xyzq", "q", "abq"):
        declare(*names)
        run(cloud, wanted)
        assert order() == list(names)
    declare("z")
    run(cloud, wanted, purge={"l7policies": False})
    assert order() == ["z", "a", "b", "q"]
    # Two policies change and move in one request each.
    wanted["listeners"][0]["l7policies"] = [{"name": "q", "action": "REDIRECT_TO_URL", "redirect_url": "https://a"}]
    assert steps(cloud, wanted, purge={"l7policies": False}) == ["update L7 policy q of listener http"]
    assert order() == ["q", "z", "a", "b"]


def test_a_policy_with_several_rules_counts_only_when_it_is_complete(cloud: Octavia) -> None:
    wanted = tree()
    rules = [dict(RULE), {**RULE, "value": "/x"}]
    wanted["listeners"][0]["l7policies"].append({"name": "two", "action": "REJECT", "rules": rules})
    assert steps(cloud, wanted) == [
        "create L7 policy two of listener http",
        "create L7 rule PATH EQUAL_TO / of two",
        "create L7 rule PATH EQUAL_TO /x of two",
        "update L7 policy two of listener http",
    ]
    assert all(policy["admin_state_up"] for policy in cloud.items["l7policy"].values())
    assert steps(cloud, wanted) == []


def test_rules_change_in_place_and_never_run_out(cloud: Octavia) -> None:
    wanted = tree()
    wanted["listeners"][0]["l7policies"][0]["rules"] = [{**RULE, "type": "HEADER", "key": "x", "invert": True}]
    assert steps(cloud, wanted) == ["update L7 rule HEADER x is not EQUAL_TO / of p"]
    wanted["listeners"][0]["l7policies"][0]["rules"] = [dict(RULE)]
    assert steps(cloud, wanted, purge={"rules": False}) == ["create L7 rule PATH EQUAL_TO / of p"]
    assert steps(cloud, wanted) == ["delete L7 rule HEADER x is not EQUAL_TO / of p"]


def test_a_member_in_another_subnet_is_made_anew(cloud: Octavia) -> None:
    wanted = tree()
    wanted["pools"][0]["members"][0]["subnet"] = SUBNET
    with pytest.raises(OctaviaError, match=r"member 10.0.0.1:8080 cannot be changed in place: subnet"):
        run(cloud, wanted)
    assert steps(cloud, wanted, recreate="when_needed") == ["delete member 10.0.0.1:8080 of pool web", "set members of pool web"]
    assert steps(cloud, wanted) == []


def test_a_monitor_of_another_type_is_made_anew(cloud: Octavia) -> None:
    wanted = tree()
    wanted["pools"][0]["health_monitor"]["type"] = "TCP"
    with pytest.raises(OctaviaError, match=r"health monitor cannot be changed in place: type \(now HTTP, wanted TCP\)"):
        run(cloud, wanted)
    assert steps(cloud, wanted, recreate="when_needed") == ["delete health monitor of pool web", "create health monitor of pool web"]


def test_another_vip_is_another_load_balancer(cloud: Octavia) -> None:
    wanted = {"name": "lb", "vip_subnet": OTHER}
    with pytest.raises(OctaviaError, match=f"vip_subnet \\(now {SUBNET}, wanted {OTHER}\\)"):
        run(cloud, wanted)
    done = run(cloud, wanted, recreate="when_needed")
    assert [str(step) for step in done.plan.steps] == ["delete load balancer lb", "create load balancer lb"]
    assert len(done.load_balancer["pools"][0]["members"]) == 2
    address = done.load_balancer["vip_address"]
    done = run(cloud, {"name": "lb", "availability_zone": "z"}, recreate="when_needed")
    assert (done.load_balancer["vip_address"], done.load_balancer["availability_zone"]) == (address, "z")
    done = run(cloud, {"name": "lb", "vip_address": "10.9.9.9"}, recreate="when_needed")
    assert (done.load_balancer["vip_address"], done.load_balancer["vip_subnet"]) == ("10.9.9.9", OTHER)
    assert run(cloud, {"name": "lb", "additional_vips": [{"subnet": SUBNET}]}, recreate="when_needed").plan.rebuilds
    assert steps(cloud, {"name": "lb", "additional_vips": [{"subnet": SUBNET}]}) == []
    assert steps(cloud, {"name": "lb", "additional_vips": [{"subnet": SUBNET, "address": "10.8.0.9"}]}) == []
    with pytest.raises(OctaviaError, match="additional_vips"):
        run(cloud, {"name": "lb", "additional_vips": [{"subnet": SUBNET, "address": "10.8.0.1"}]})


def test_a_pool_that_an_undeclared_policy_needs_stays(cloud: Octavia) -> None:
    wanted = tree()
    wanted["listeners"][0]["l7policies"] = [{"name": "q", "action": "REDIRECT_TO_POOL", "redirect_pool": "web"}]
    run(cloud, wanted)
    with pytest.raises(OctaviaError, match="pool web would be removed, but L7 policy q of listener http sends requests to it"):
        run(cloud, {"name": "lb", "pools": []})
    del wanted["listeners"][0]["l7policies"]
    wanted["listeners"][0]["default_pool"] = ""
    assert steps(cloud, wanted) == ["update listener http"]
    listener_ = {"name": "http", "protocol": "PROMETHEUS", "protocol_port": 80, "default_pool": ""}
    with pytest.raises(OctaviaError, match="a PROMETHEUS listener has no L7 policies"):
        run(cloud, {"name": "lb", "listeners": [listener_]}, recreate="when_needed")


def test_a_listener_forgets_a_pool_that_goes(cloud: Octavia) -> None:
    assert steps(cloud, {"name": "lb", "pools": [{"name": "new", "protocol": "HTTP"}]}) == [
        "create pool new",
        "update listener http",
        "delete pool web",
    ]


def test_names_that_stand_twice_are_refused(cloud: Octavia) -> None:
    twin = cloud.add("pool", {"name": "web", "protocol": "HTTP", "lb_algorithm": "SOURCE_IP"}, next(iter(cloud.items["loadbalancer"])))
    with pytest.raises(OctaviaError, match="2 parts are called pool web"):
        run(cloud, tree())
    assert len(from_api(cloud.full(next(iter(cloud.items["loadbalancer"].values())))).of("pools")) == 2
    twin["name"] = ""
    assert steps(cloud, tree()) == [f"delete pool {twin['id']}"]
    cloud.add("loadbalancer", {"name": "lb", "vip_subnet_id": SUBNET}, "")
    with pytest.raises(OctaviaError, match="2 load balancers are called lb"):
        run(cloud, tree())


def test_smaller_pools_come_first_where_a_quota_is_tight() -> None:
    cloud = Octavia(quotas={"member": 3})
    members = [{"address": f"10.0.0.{number}", "protocol_port": 80} for number in range(3)]
    pools = [{"name": "a", "protocol": "TCP", "members": members[:1]}, {"name": "b", "protocol": "TCP", "members": members[1:]}]
    run(cloud, {"name": "lb", "vip_subnet": SUBNET, "pools": pools})
    pools[0]["members"], pools[1]["members"] = members[:2], members[2:]
    assert steps(cloud, {"name": "lb", "pools": pools}) == ["set members of pool b", "set members of pool a"]
    pools[0]["members"] = members
    with pytest.raises(OctaviaError, match="was refused with 403: Quota has been met for resources: member"):
        run(cloud, {"name": "lb", "pools": pools})


def test_a_pool_that_nothing_uses_goes_before_its_successor_comes() -> None:
    cloud = Octavia(quotas={"pool": 1, "listener": 1})
    for name, port in (("a", 80), ("b", 81)):
        wanted = {**listener(name=name, protocol_port=port, default_pool=name), **pool(name=name), "vip_subnet": SUBNET}
        run(cloud, wanted)
    assert [one["name"] for kind in ("listener", "pool") for one in cloud.items[kind].values()] == ["b", "b"]


# --- States ---------------------------------------------------------------------------------------------------------------------------


def broken(cloud: Octavia) -> None:
    next(iter(cloud.items["loadbalancer"].values()))["provisioning_status"] = "ERROR"


def test_error_is_touched_only_when_asked(cloud: Octavia) -> None:
    broken(cloud)
    with pytest.raises(OctaviaError, match="lb is in ERROR and takes no changes"):
        run(cloud, tree())
    wanted = tree(description="mended")
    assert steps(cloud, wanted, on_error="failover") == ["failover load balancer lb", "update load balancer lb"]
    broken(cloud)
    assert steps(cloud, wanted, on_error="recreate") == ["delete load balancer lb", "create load balancer lb"]
    broken(cloud)
    assert steps(cloud, {"name": "lb", "state": "absent"}) == ["delete load balancer lb"]


def test_a_wait_that_fails_names_each_part(cloud: Octavia) -> None:
    cloud.break_next = True
    with pytest.raises(OctaviaError) as failed:
        run(cloud, tree(description="x"))
    assert str(failed.value).splitlines() == [
        "the load balancer is in ERROR:",
        "load balancer lb: ERROR, ONLINE",
        "listener http: ACTIVE, ONLINE",
        "pool web: ACTIVE, ONLINE",
        "member 10.0.0.1:8080: ACTIVE, ONLINE",
        "member 10.0.0.2:8080: ACTIVE, ONLINE",
        f"health monitor {next(iter(cloud.items['healthmonitor']))}: ACTIVE, ONLINE",
    ]
    assert failed.value.details["parts"] == str(failed.value).splitlines()[1:]


def test_a_wait_ends(cloud: Octavia) -> None:
    cloud.slow = 10**6
    with pytest.raises(OctaviaError, match="the load balancer is not ACTIVE after 60 s:\nload balancer lb: PENDING_UPDATE, ONLINE"):
        run(cloud, tree(description="x"))
    with pytest.raises(OctaviaError, match="the load balancer is not ACTIVE after 60 s"):
        run(cloud, tree())
    assert steps(cloud, tree(), check_mode=True) == [], "check mode does not wait"


def test_many_sound_parts_are_counted() -> None:
    cloud = Octavia()
    members = [{"address": f"10.0.{number // 200}.{number % 200}", "protocol_port": 80} for number in range(300)]
    run(cloud, {**listener(default_pool="w"), **pool(members=members), "vip_subnet": SUBNET})
    cloud.break_next = True
    next(iter(cloud.items["member"].values()))["operating_status"] = "ERROR"
    with pytest.raises(OctaviaError) as failed:
        run(cloud, {"name": "lb", "description": "x"})
    assert failed.value.details["parts"] == [
        "load balancer lb: ERROR, ONLINE",
        "member 10.0.0.0:80: ACTIVE, ERROR",
        "301 other parts: ACTIVE, ONLINE or NO_MONITOR",
    ]


def test_the_last_wait_can_be_left_out(cloud: Octavia) -> None:
    run(cloud, tree(description="x", tags=["t"]), wait=False)
    assert next(iter(cloud.items["loadbalancer"].values()))["provisioning_status"] == "PENDING_UPDATE"
    run(cloud, {"name": "lb", "state": "absent"}, wait=False)
    assert run(cloud, {"name": "lb", "state": "absent"}).plan.steps == ()
    assert run(Octavia(), tree(), wait=False).load_balancer["provisioning_status"] == "PENDING_CREATE"


class Shared(Octavia):
    """Somebody else changes the load balancer right before our writes."""

    def request(self, url: str, method: str, **options: t.Any) -> Response:
        if method == "PUT" and self.count < 10**6:
            self.count = 10**6
            balancer = next(iter(self.items["loadbalancer"].values()))
            balancer["provisioning_status"] = "PENDING_UPDATE"
            self.busy[balancer["id"]] = 2
        return super().request(url, method, **options)


def test_a_lock_of_somebody_else_is_waited_for() -> None:
    cloud = Shared()
    run(cloud, tree())
    assert steps(cloud, tree(description="x")) == ["update load balancer lb"]
    assert cloud.writes == ["POST /lbaas/loadbalancers"] + ["PUT /lbaas/loadbalancers/" + next(iter(cloud.items["loadbalancer"]))] * 2
    assert steps(cloud, tree(description="x")) == []


class Deaf(Octavia):
    """Answers in ways that do not help."""

    answer: t.ClassVar[Response] = Response(409, {"faultstring": "Load Balancer is immutable"})

    def request(self, url: str, method: str, **options: t.Any) -> Response:
        return self.answer if method == "PUT" or url.endswith("/status") else super().request(url, method, **options)


def test_a_lock_that_stays_ends_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = Deaf()
    run(cloud, tree())
    with pytest.raises(OctaviaError, match="refused with 409: Load Balancer is immutable"):
        run(cloud, tree(description="x"))
    page = Response(502)
    page.text = "<html>no gateway</html>"
    monkeypatch.setattr(page, "json", lambda: json.loads("<"))
    monkeypatch.setattr(Deaf, "answer", page)
    with pytest.raises(OctaviaError, match="refused with 502: <html>no gateway</html>"):
        run(cloud, tree(description="x"))
    monkeypatch.setattr(Deaf, "answer", Response(500, {"odd": {"x": ""}, "more": 1}))
    with pytest.raises(OctaviaError, match=r"refused with 500: \{'odd'"):
        run(cloud, tree(description="x"))
    monkeypatch.setattr(Deaf, "answer", Response(500, ["odd"]))
    with pytest.raises(OctaviaError, match=r"refused with 500: \['odd'\]"):
        run(cloud, tree(description="x"))
    cloud.break_next, cloud.slow = True, 2
    with pytest.raises(OctaviaError, match="its status tree cannot be read"):
        run(cloud, {**tree(), "state": "absent"})


class Unplugged(Octavia):
    """Its network is broken for one kind of request."""

    method = ""

    def request(self, url: str, method: str, **options: t.Any) -> Response:
        assert options["connect_retries"] == (0 if method == "POST" else 3), "a new part must not be made twice"
        if method == self.method:
            raise ConnectFailure("reset by peer")
        return super().request(url, method, **options)


def test_a_broken_connection_is_said_in_a_sentence() -> None:
    cloud = Unplugged()
    run(cloud, tree())
    for method in ("GET", "PUT"):
        cloud.method = method
        with pytest.raises(OctaviaError, match=f"{method} /lbaas/loadbalancers.* failed: reset by peer"):
            run(cloud, tree(description="x"))


class Forgetful(Octavia):
    """Loses its answer to a DELETE, so that the client's second try finds nothing."""

    def request(self, url: str, method: str, **options: t.Any) -> Response:
        answer = super().request(url, method, **options)
        return Response(404, {"faultstring": "not found"}) if method == "DELETE" else answer


def test_what_has_gone_need_not_go() -> None:
    cloud = Forgetful()
    run(cloud, tree())
    assert steps(cloud, {"name": "lb", "listeners": []}) == ["delete listener http"]
    assert steps(cloud, {"name": "lb", "state": "absent"}) == ["delete load balancer lb"]


class Vanishing(Octavia):
    """Somebody else removes it while we wait."""

    def request(self, url: str, method: str, **options: t.Any) -> Response:
        answer = super().request(url, method, **options)
        if method == "PUT":
            self.items["loadbalancer"].clear()
        return answer


def test_a_load_balancer_that_goes_away_is_an_error() -> None:
    cloud = Vanishing()
    run(cloud, tree())
    with pytest.raises(OctaviaError, match="has gone while this waited for it to be ACTIVE"):
        run(cloud, tree(description="x"))


class Late(Octavia):
    """Keeps what is deleted in sight, as DELETED."""

    def route(self, method: str, words: list[str], params: Options, body: t.Any) -> tuple[int, t.Any]:
        if method == "GET" and len(words) == 2 and words[0] == "loadbalancers":
            item = self.items["loadbalancer"].get(words[1])
            if item and item["provisioning_status"] == "PENDING_DELETE":
                return 200, {"loadbalancer": {**item, "provisioning_status": "DELETED"}}
        return super().route(method, words, params, body)


def test_deleted_is_gone() -> None:
    cloud = Late()
    run(cloud, tree())
    assert steps(cloud, {"name": "lb", "state": "absent"}) == ["delete load balancer lb"]


class Stubborn(Octavia):
    """Keeps another value than it was given."""

    def change(self, kind: str, item: Options, body: Options, *, new: bool = False) -> None:
        super().change(kind, item, body, new=new)
        if kind == "listener":
            item["connection_limit"] = 1


def test_what_the_cloud_does_not_keep_is_said() -> None:
    cloud = Stubborn()
    wanted = tree()
    wanted["listeners"][0]["connection_limit"] = 5
    assert [str(step) for step in run(cloud, wanted).left] == ["update listener http"]


def test_long_lists_come_in_pages() -> None:
    cloud = Octavia(page=2)
    wanted = tree()
    wanted["pools"] += [{"name": f"p{number}", "protocol": "HTTP", "health_monitor": dict(MONITOR)} for number in range(4)]
    wanted["listeners"][0]["l7policies"] = [{"name": f"q{number}", "action": "REJECT", "rules": [dict(RULE)]} for number in range(5)]
    run(cloud, wanted)
    assert steps(cloud, wanted) == []


def test_a_project_is_asked_for() -> None:
    cloud = Octavia()
    run(cloud, tree())
    next(iter(cloud.items["loadbalancer"].values()))["project_id"] = "other"
    service = Service(load_balancer=cloud, network=lambda: None, project_id="p")
    assert service.find("lb") is None


# --- Names ----------------------------------------------------------------------------------------------------------------------------


def test_names_become_ids_and_ids_are_taken_as_they_are() -> None:
    cloud, neutron = Octavia(), Neutron()
    names = {"subnets": SUBNET, "networks": PUBLIC, "ports": OTHER, "policies": PUBLIC, "security_groups": OTHER}
    neutron.named = {plural: [{"name": plural, "id": number}] for plural, number in names.items()}
    neutron.named["subnets"] += [{"name": "twice", "id": "a"}, {"name": "twice", "id": "b"}]
    cloud.flavors = [{"name": "big", "id": OTHER}]
    wanted = tree(
        vip_subnet="subnets",
        vip_network="networks",
        vip_port="ports",
        vip_qos_policy="policies",
        vip_security_groups=["security_groups"],
        flavor="big",
        additional_vips=[{"subnet": OTHER}],
        floating_ip={"network": "networks"},
    )
    for one in wanted["pools"][0]["members"]:
        one["subnet"] = "subnets"
    done = run(cloud, wanted, neutron=neutron)
    assert done.load_balancer["vip_subnet"] == SUBNET
    assert done.load_balancer["flavor"] == OTHER
    assert {one["subnet"] for one in done.load_balancer["pools"][0]["members"]} == {SUBNET}
    assert sum("subnets" in request for request in neutron.requests) == 1, "each name is looked up once"
    assert run(cloud, wanted, neutron=neutron).plan.steps == ()
    for name, text in (("nowhere", "no subnets are called nowhere; give an id"), ("twice", "2 subnets are called twice")):
        with pytest.raises(OctaviaError, match=text):
            run(cloud, tree(vip_subnet=name), neutron=neutron)
    with pytest.raises(OctaviaError, match="the cloud has no network service"):
        run(cloud, tree(vip_subnet="subnets"))


# --- Floating IPs ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def neutron() -> Neutron:
    found = Neutron()
    for number in (1, 2):
        ip = {"floating_ip_address": f"203.0.113.{number}", "floating_network_id": PUBLIC, "port_id": None, "description": ""}
        found.ips[f"theirs{number}"] = {"id": f"theirs{number}", **ip}
    return found


def test_a_floating_ip_of_ours_comes_and_goes(cloud: Octavia, neutron: Neutron) -> None:
    wanted = tree(floating_ip={"network": PUBLIC})
    done = run(cloud, wanted, neutron=neutron)
    assert [str(step) for step in done.plan.steps] == ["allocate floating IP"]
    ours = next(ip for number, ip in neutron.ips.items() if not number.startswith("theirs"))
    assert (done.floating_ip, ours["port_id"]) == (ours["floating_ip_address"], done.load_balancer["vip_port_id"])
    neutron.requests.clear()
    assert run(cloud, wanted, neutron=neutron).floating_ip == done.floating_ip
    assert neutron.requests == ["GET /floatingips"]
    assert steps(cloud, tree(), neutron=neutron) == []
    # A load balancer that is made anew keeps it.
    assert steps(cloud, tree(vip_subnet=OTHER), neutron=neutron, recreate="when_needed")[-1].startswith("associate floating IP")
    assert ours["port_id"] == next(iter(cloud.items["loadbalancer"].values()))["vip_port_id"]
    wanted["vip_subnet"] = SUBNET
    assert steps(cloud, wanted, neutron=neutron, recreate="when_needed")[-1].startswith("associate floating IP")
    assert steps(cloud, tree(floating_ip={}), neutron=neutron) == [f"release floating IP {done.floating_ip}"]
    run(cloud, wanted, neutron=neutron)
    assert [step.split()[0] for step in steps(cloud, {"name": "lb", "state": "absent"}, neutron=neutron)] == ["delete", "release"]
    assert sorted(neutron.ips) == ["theirs1", "theirs2"]
    assert steps(cloud, {"name": "lb", "state": "absent"}, neutron=neutron) == []


def test_a_floating_ip_of_theirs_is_only_let_go(cloud: Octavia, neutron: Neutron) -> None:
    wanted = tree(floating_ip={"address": "203.0.113.1"})
    assert steps(cloud, wanted, neutron=neutron) == ["associate floating IP 203.0.113.1"]
    assert run(cloud, wanted, neutron=neutron).floating_ip == "203.0.113.1"
    wanted["floating_ip"] = {"address": "203.0.113.2"}
    assert steps(cloud, wanted, neutron=neutron) == [
        "disassociate floating IP 203.0.113.1",
        "associate floating IP 203.0.113.2",
    ]
    done = run(cloud, tree(floating_ip={}), neutron=neutron)
    assert ([str(step) for step in done.plan.steps], done.floating_ip) == (["disassociate floating IP 203.0.113.2"], "")
    neutron.ips["theirs1"]["port_id"] = "elsewhere"
    with pytest.raises(OctaviaError, match=r"floating IP 203.0.113.1 belongs to port elsewhere"):
        run(cloud, tree(floating_ip={"address": "203.0.113.1"}), neutron=neutron)
    certain = tree(floating_ip={"network": PUBLIC, "address": "203.0.113.7"})
    assert run(cloud, certain, neutron=neutron).floating_ip == "203.0.113.7"


def test_releasing_what_has_gone_is_fine(cloud: Octavia, neutron: Neutron, monkeypatch: pytest.MonkeyPatch) -> None:
    run(cloud, tree(floating_ip={"network": PUBLIC}), neutron=neutron)
    real = neutron.request
    monkeypatch.setattr(neutron, "request", lambda url, method, **o: Response(404, {}) if method == "DELETE" else real(url, method, **o))
    assert steps(cloud, tree(floating_ip={}), neutron=neutron)[0].startswith("release")


def test_ours_is_preferred_and_a_second_one_goes() -> None:
    wish = planner.FloatingIPWish(network=PUBLIC)
    ips = [
        FloatingIP("a", "203.0.113.1", PUBLIC, ours=True),
        FloatingIP("b", "203.0.113.2", PUBLIC, port="vip"),
        FloatingIP("c", "203.0.113.3", PUBLIC, port="other"),
    ]
    assert [str(step) for step in planner._plan_ip(wish, ips, "vip")] == ["release floating IP 203.0.113.1"]
    assert [str(step) for step in planner._plan_ip(wish, ips[2:], "vip")] == ["allocate floating IP"]


# --- The module and its documents -----------------------------------------------------------------------------------------------------


class Connection:
    current_project_id = "p"

    def __init__(self, cloud: Octavia, neutron: Neutron | None = None) -> None:
        self.load_balancer, self.network = cloud, neutron

    def has_service(self, name: str) -> bool:
        return self.network is not None


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> t.Callable[..., Options]:
    """Run the module as Ansible does."""
    import openstack

    def run_module(cloud: Octavia, arguments: Options, *, check_mode: bool = False, neutron: Neutron | None = None) -> Options:
        monkeypatch.setattr(module.OctaviaLB, "openstack_cloud_from_module", lambda self: (openstack, Connection(cloud, neutron)))
        with patch_module_args({"_ansible_check_mode": check_mode, **arguments}), pytest.raises(SystemExit):
            module.main()
        return t.cast("Options", json.loads(capsys.readouterr().out))

    return run_module


def test_examples_do_what_they_say(play: t.Callable[..., Options]) -> None:
    cloud = Octavia()
    tasks = [task["kos.labs.octavia_lb"] for task in yaml.safe_load(module.EXAMPLES)]
    results = []
    for arguments in tasks:
        predicted = play(cloud, arguments, check_mode=True)
        assert predicted["changed"], arguments
        results.append(play(cloud, arguments))
        assert predicted["steps"] == results[-1]["steps"]
        assert predicted["diff"] == results[-1]["diff"]
        assert not play(cloud, arguments)["changed"], arguments
    assert len(results[0]["load_balancer"]["pools"][0]["members"]) == 2
    assert sorted(one["name"] for one in results[1]["load_balancer"]["listeners"]) == ["figures", "http"]
    assert [len(one["members"]) for one in results[2]["load_balancer"]["pools"]] == [3, 1]
    assert results[3]["load_balancer"] == {}


def test_the_guide_does_what_it_says(play: t.Callable[..., Options], root: pathlib.Path) -> None:
    cloud = Octavia()
    guide = (root / "docs/modules/octavia_lb.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block)[0]["kos.labs.octavia_lb"] for block in re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)]
    assert len(blocks) == 4
    for arguments in blocks:
        done = play(cloud, arguments)
        assert done["changed"], done
        assert not play(cloud, arguments)["changed"]


def documented(options: Options) -> Options:
    return {name: documented(option["suboptions"]) if "suboptions" in option else {} for name, option in options.items()}


def specified(spec: Options) -> Options:
    return {name: specified(option["options"]) if "options" in option else {} for name, option in spec.items()}


def test_options_are_documented_and_planned() -> None:
    known = yaml.safe_load(module.DOCUMENTATION)["options"]
    spec = module.OctaviaLB.argument_spec
    assert documented({name: option for name, option in known.items() if name not in ("wait", "timeout")}) == specified(spec)
    levels = {
        "load_balancer": spec,
        "listener": module.LISTENER,
        "l7policy": module.L7POLICY,
        "rule": module.RULE,
        "pool": module.POOL,
        "member": module.MEMBER,
        "health_monitor": module.HEALTH_MONITOR,
    }
    for kind, options in levels.items():
        planned = {attribute.option for attribute in KINDS[kind].attributes} | set(KINDS[kind].children)
        rest = {"state", "floating_ip", "purge", "recreate", "on_error"} if kind == "load_balancer" else set()
        assert set(options) - rest == planned, kind


def test_results_are_documented(play: t.Callable[..., Options]) -> None:
    known = yaml.safe_load(module.RETURN)
    cloud = Octavia()
    done = play(cloud, tree(), neutron=Neutron())
    assert set(done) - {"changed", "diff", "invocation"} == set(known) - {"parts"}
    assert set(known["load_balancer"]["contains"]) <= set(done["load_balancer"])
    assert all(type(done["load_balancer"][key]).__name__ == value["type"] for key, value in known["load_balancer"]["contains"].items())
    assert done["api_calls"] == len(cloud.requests)
    cloud.break_next = True
    failed = play(cloud, tree(description="x"))
    assert failed["failed"]
    assert failed["msg"].startswith("load balancer lb: the load balancer is in ERROR:\n")
    assert failed["parts"][0] == "load balancer lb: ERROR, ONLINE"


def test_the_module_warns_about_what_the_cloud_does_not_keep(play: t.Callable[..., Options], monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr("ansible.module_utils.basic.AnsibleModule.warn", lambda self, text: warnings.append(text))
    wanted = tree()
    wanted["listeners"][0]["connection_limit"] = 5
    assert play(Stubborn(), wanted)["changed"]
    assert warnings == ["the cloud keeps something else than it was given, so the next run would do again: update listener http"]


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"name": "lb", "state": "there"},
        {"name": "lb", "recreate": "always"},
        {"name": "lb", "on_error": "ignore"},
        {"name": "lb", "purge": {"lisseners": True}},
        {"name": "lb", "floating_ip": {"net": "x"}},
        {"name": "lb", "additional_vips": [{"address": "10.0.0.1"}]},
        listener(protocol="FTP"),
        listener(protocol_port="http"),
        listener(client_authentication="MAYBE"),
        listener(tls_versions=["TLSv9"]),
        listener(alpn_protocols=["h9"]),
        listener(unknown=1),
        policy(action="DROP"),
        policy(action="REDIRECT_TO_URL", redirect_url="https://a", redirect_http_code=200),
        rule(type="BODY"),
        rule(compare_type="IS"),
        pool(protocol="TERMINATED_HTTPS"),
        pool(lb_algorithm="RANDOM"),
        pool(session_persistence={"type": "FOREVER"}),
        member(weight="heavy"),
        monitor(type="FTP"),
        monitor(http_method="get"),
        monitor(http_version=2.0),
    ],
)
def test_values_that_cannot_be_are_refused_by_the_specification(play: t.Callable[..., Options], wanted: Options) -> None:
    cloud = Octavia()
    assert play(cloud, wanted)["failed"]
    assert cloud.requests == []


def test_a_diff_shows_what_changes(play: t.Callable[..., Options], cloud: Octavia) -> None:
    wanted = tree(tags=["b", "a"])
    wanted["listeners"][0].update(connection_limit=7)
    wanted["pools"][0]["members"].pop()
    shown = play(cloud, wanted, check_mode=True)["diff"]
    assert "load balancer lb: tags = []" in shown["before"]
    assert "load balancer lb: tags = ['a', 'b']" in shown["after"]
    assert "listener http: connection_limit = -1" in shown["before"]
    assert "members of pool web: 10.0.0.2:8080 = " in shown["before"]
    assert "10.0.0.2" not in shown["after"]
