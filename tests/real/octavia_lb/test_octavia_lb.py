# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a real Octavia API."""

from __future__ import annotations

import copy
import os
import typing as t

import pytest

# What openstacksdk says of its own insides.
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning", "ignore::DeprecationWarning", "ignore::ResourceWarning")
Options = dict[str, t.Any]
NAME = "kos-octavia-lb-test"
CERTIFICATE = "http://127.0.0.1/v1/containers/0d0ff8b6-9d0f-4c59-8e49-3c1f3c4b2f10"
LISTENERS = int(os.environ.get("KOS_OCTAVIA_LISTENERS", "50"))
MEMBERS = int(os.environ.get("KOS_OCTAVIA_MEMBERS", "500"))
# openstack.cloud takes a task for each part, which takes its time.
THEIR_LISTENERS = int(os.environ.get("KOS_OCTAVIA_THEIR_LISTENERS", "5"))
THEIR_MEMBERS = int(os.environ.get("KOS_OCTAVIA_THEIR_MEMBERS", "50"))
THEIR_RUNS = int(os.environ.get("KOS_OCTAVIA_THEIR_RUNS", "2"))


def before(subnet: str) -> Options:
    return {
        "name": NAME,
        "description": "made by a test",
        "tags": ["one", "two"],
        "vip_subnet": subnet,
        "vip_address": "10.211.0.50",
        "recreate": "when_needed",
        "listeners": [
            {
                "name": "http",
                "protocol": "HTTP",
                "protocol_port": 80,
                "default_pool": "web",
                "connection_limit": 1000,
                "timeout_client_data": 40000,
                "allowed_cidrs": ["10.0.0.0/8", "192.0.2.0/24"],
                "insert_headers": {"X-Forwarded-For": True, "X-Forwarded-Port": "true"},
                "tags": ["front"],
                "l7policies": [
                    {
                        "name": "api",
                        "action": "REDIRECT_TO_POOL",
                        "redirect_pool": "api",
                        "rules": [
                            {"type": "PATH", "compare_type": "STARTS_WITH", "value": "/api"},
                            {"type": "HEADER", "key": "x-test", "compare_type": "EQUAL_TO", "value": "1", "invert": True},
                        ],
                    },
                    {"name": "old", "action": "REDIRECT_TO_URL", "redirect_url": "https://old.example/", "redirect_http_code": 301},
                    {"name": "none", "action": "REJECT", "rules": [{"type": "HOST_NAME", "compare_type": "ENDS_WITH", "value": ".bad"}]},
                ],
            },
            {"name": "tcp", "protocol": "TCP", "protocol_port": 22, "default_pool": "ssh"},
            {"name": "udp", "protocol": "UDP", "protocol_port": 53, "default_pool": "dns"},
            {"name": "figures", "protocol": "PROMETHEUS", "protocol_port": 9100},
            {
                "name": "tls",
                "protocol": "TERMINATED_HTTPS",
                "protocol_port": 443,
                "default_tls_container_ref": CERTIFICATE,
                "sni_container_refs": [CERTIFICATE + "1"],
                "default_pool": "web",
                "tls_versions": ["TLSv1.2", "TLSv1.3"],
                "alpn_protocols": ["h2", "http/1.1"],
            },
        ],
        "pools": [
            {
                "name": "web",
                "protocol": "HTTP",
                "lb_algorithm": "LEAST_CONNECTIONS",
                "session_persistence": {"type": "APP_COOKIE", "cookie_name": "session"},
                "members": [
                    {"address": "10.211.0.11", "protocol_port": 8080, "name": "one", "weight": 3, "tags": ["m"]},
                    {"address": "10.211.0.12", "protocol_port": 8080, "backup": True, "monitor_port": 8081, "subnet": subnet},
                    {"address": "fd00:0::13", "protocol_port": 8080},
                ],
                "health_monitor": {
                    "type": "HTTP",
                    "delay": 5,
                    "timeout": 3,
                    "max_retries": 2,
                    "url_path": "/up",
                    "expected_codes": "200, 204",
                    "http_version": 1.1,
                    "domain_name": "web.example",
                },
            },
            {"name": "api", "protocol": "HTTP", "members": [{"address": "10.211.0.21", "protocol_port": 9000}]},
            {"name": "ssh", "protocol": "PROXY", "session_persistence": {"type": "SOURCE_IP"}},
            {
                "name": "dns",
                "protocol": "UDP",
                "session_persistence": {"type": "SOURCE_IP", "persistence_timeout": 60, "persistence_granularity": "255.255.0.0"},
                "health_monitor": {"type": "UDP-CONNECT", "delay": 6, "timeout": 4, "max_retries": 2},
            },
        ],
    }


def after(subnet: str) -> Options:
    """Something of each kind changes, comes, goes, and has to be made anew."""
    tree = before(subnet)
    tree.update(description="", tags=["two"])
    http, tcp, udp, _figures, tls = tree["listeners"]
    http.update(connection_limit=-1, allowed_cidrs=[], insert_headers={}, tags=[], timeout_client_data=50000)
    api, old, none = http["l7policies"]
    api["rules"] = [{"type": "PATH", "compare_type": "REGEX", "value": "^/v[12]/"}]
    old.update(action="REDIRECT_PREFIX", redirect_prefix="https://new.example")
    del old["redirect_url"]
    http["l7policies"] = [none, {"name": "new", "action": "REJECT"}, old, api]
    tcp.update(protocol="HTTPS", default_pool="")
    tls.update(sni_container_refs=[], tls_versions=["TLSv1.3"], default_pool="")
    tree["listeners"] = [http, tcp, udp, tls, {"name": "more", "protocol": "HTTP", "protocol_port": 81, "default_pool": "ssh"}]
    web, api_pool, ssh, dns = tree["pools"]
    web.update(lb_algorithm="ROUND_ROBIN", session_persistence={}, protocol="PROXY")
    web["members"] = [
        {"address": "10.211.0.12", "protocol_port": 8080, "backup": False, "weight": 9, "subnet": subnet},
        {"address": "10.211.0.14", "protocol_port": 8080},
    ]
    web["health_monitor"].update(delay=7, url_path="/", expected_codes="200-204")
    api_pool.update(members=[], tags=["empty"])
    ssh.update(lb_algorithm="SOURCE_IP", protocol="PROXYV2")
    dns["health_monitor"].update(max_retries_down=2, delay=8)
    dns["session_persistence"] = {"type": "SOURCE_IP"}
    return tree


def seen(connection: t.Any) -> t.Any:
    """What another client sees, without what changes by itself."""
    service = connection.load_balancer
    balancer = next(iter(service.load_balancers(name=NAME)), None)
    if balancer is None:
        return None
    ids = {"load_balancer_id": balancer.id}
    pools = list(service.pools(**ids))
    parts = [balancer, *service.listeners(**ids), *pools, *(member for pool in pools for member in service.members(pool.id))]
    return [(part.id, part.name, part.updated_at, part.provisioning_status) for part in parts]


def test_twelve_steps(lb: t.Callable[..., t.Any], connection: t.Any, subnet: str) -> None:
    absent = {"name": NAME, "state": "absent"}
    rounds = [("create", before(subnet)), ("modify", after(subnet)), ("delete", absent)]
    for word, options in rounds:
        for changed in (True, False):
            there = seen(connection)
            predicted = lb(check_mode=True, **options).result
            assert seen(connection) == there, f"check mode has changed something: {word}"
            done = lb(**options).result
            print(f"{word}{'' if changed else ' again'}: {len(done['steps'])} steps, {done['api_calls']} requests")
            print("".join(f"    {step}\n" for step in done["steps"]), end="")
            assert (predicted["changed"], done["changed"]) == (changed, changed), (word, done["steps"], done["diff"])
            assert predicted["steps"] == done["steps"]
            assert predicted["diff"] == done["diff"]
            assert "warnings" not in done, done["warnings"]
            if word == "delete":
                assert seen(connection) is None
            else:
                check(connection, options, done["load_balancer"])


def check(connection: t.Any, options: Options, told: Options) -> None:
    """Compare what is there by another way of reading."""
    service = connection.load_balancer
    balancer = next(iter(service.load_balancers(name=NAME)), None)
    assert (balancer.id, balancer.provisioning_status) == (told["id"], "ACTIVE")
    assert (balancer.description, sorted(balancer.tags)) == (options["description"], sorted(options["tags"]))
    pools = {pool.name: pool for pool in service.pools(load_balancer_id=balancer.id)}
    listeners = {one.name: one for one in service.listeners(load_balancer_id=balancer.id)}
    assert sorted(pools) == sorted(pool["name"] for pool in options["pools"])
    assert sorted(listeners) == sorted(one["name"] for one in options["listeners"])
    for wanted in options["pools"]:
        pool = pools[wanted["name"]]
        assert pool.protocol == wanted["protocol"]
        members = {(member.address, member.protocol_port): member for member in service.members(pool.id)}
        assert len(members) == len(wanted.get("members", []))
        for member in wanted.get("members", []):
            found = members[member["address"].replace(":0::", "::"), member["protocol_port"]]
            assert found.weight == member.get("weight", 1)
            assert found.backup == member.get("backup", False)
        monitor = wanted.get("health_monitor")
        assert bool(pool.health_monitor_id) == bool(monitor)
        if monitor:
            assert service.get_health_monitor(pool.health_monitor_id).delay == monitor["delay"]
    for wanted in options["listeners"]:
        listener = listeners[wanted["name"]]
        assert (listener.protocol, listener.protocol_port) == (wanted["protocol"], wanted["protocol_port"])
        assert listener.default_pool_id == (pools[wanted["default_pool"]].id if wanted.get("default_pool") else None)
        policies = sorted(service.l7_policies(listener_id=listener.id), key=lambda policy: policy.position)
        assert [policy.name for policy in policies] == [policy["name"] for policy in wanted.get("l7policies", [])]
        assert all(policy.is_admin_state_up for policy in policies)
        for policy, its in zip(policies, wanted.get("l7policies", [])):
            rules = sorted(rule.rule_value for rule in service.l7_rules(policy.id))
            assert rules == sorted(rule["value"] for rule in its.get("rules", []))


def test_what_cannot_be_changed_in_place_is_refused(lb: t.Callable[..., t.Any], subnet: str) -> None:
    options = {**before(subnet), "recreate": "never"}
    lb(**options)
    other = copy.deepcopy(options)
    other["listeners"][0]["protocol_port"] = 8080
    refused = lb(may_fail=True, **other).result
    assert "listener http cannot be changed in place: protocol_port (now 80, wanted 8080)" in refused["msg"]
    other = copy.deepcopy(options)
    other["vip_address"] = "10.211.0.51"
    assert "vip_address" in lb(may_fail=True, **other).result["msg"]
    anew = lb(**{**other, "recreate": "when_needed"}).result
    assert anew["steps"] == [f"delete load balancer {NAME}", f"create load balancer {NAME}"]
    assert anew["load_balancer"]["vip_address"] == "10.211.0.51"


def many(subnet: str, listeners: int, members: int) -> Options:
    each = members // listeners
    return {
        "name": NAME,
        "vip_subnet": subnet,
        "listeners": [
            {"name": f"l{number}", "protocol": "TCP", "protocol_port": 1000 + number, "default_pool": f"p{number}"}
            for number in range(listeners)
        ],
        "pools": [
            {
                "name": f"p{number}",
                "protocol": "TCP",
                "members": [{"address": f"10.211.{number}.{1 + one}", "protocol_port": 80} for one in range(each)],
            }
            for number in range(listeners)
        ],
    }


def test_fifty_listeners_and_five_hundred_members(lb: t.Callable[..., t.Any], subnet: str) -> None:
    tree = many(subnet, LISTENERS, MEMBERS)
    figures = {}
    for word in ("create", "again", "change"):
        if word == "change":
            for pool in tree["pools"][:5]:
                pool["members"][0]["weight"] = 7
        done = lb(**tree)
        figures[word] = (done.result["api_calls"], done.requests, done.seconds)
        assert done.result["changed"] is (word != "again")
    print(f"kos.labs.octavia_lb, {LISTENERS} listeners, {LISTENERS} pools, {MEMBERS} members:")
    for word, (calls, requests, seconds) in figures.items():
        print(f"    {word}: {calls} calls of Octavia, {requests} requests with logging in, {seconds:.0f} s")
    assert figures["again"][0] <= 3 + LISTENERS
    assert figures["create"][0] < 100


@pytest.mark.skipif(not THEIR_LISTENERS, reason="KOS_OCTAVIA_THEIR_LISTENERS is 0")
def test_the_same_by_openstack_cloud(play: t.Callable[..., t.Any], lb: t.Callable[..., t.Any], subnet: str) -> None:
    tree = many(subnet, THEIR_LISTENERS, THEIR_MEMBERS)
    # Their module for the load balancer itself asks Neutron for the subnet, which may not be there.
    lb(name=NAME, vip_subnet=subnet)
    tasks: list[tuple[str, Options]] = []
    for listener in tree["listeners"]:
        known = {key: listener[key] for key in ("name", "protocol", "protocol_port")}
        tasks.append(("openstack.cloud.lb_listener", {**known, "load_balancer": NAME}))
    for pool in tree["pools"]:
        tasks.append(("openstack.cloud.lb_pool", {"name": pool["name"], "protocol": "TCP", "listener": pool["name"].replace("p", "l")}))
        for member in pool["members"]:
            name = member["address"].replace(".", "-")
            tasks.append(("openstack.cloud.lb_member", {**member, "name": name, "pool": pool["name"]}))
    print(f"openstack.cloud, {THEIR_LISTENERS} listeners, {THEIR_LISTENERS} pools, {THEIR_MEMBERS} members, {len(tasks)} tasks:")
    for word in ("create", "again")[:THEIR_RUNS]:
        done = play(tasks)[-1]
        print(f"    {word}: {done.requests} requests with logging in, {done.seconds:.0f} s")
    # The module takes over what others made.
    adopted = lb(**tree).result
    assert not [step for step in adopted["steps"] if step.startswith(("create", "delete"))], adopted["steps"]
