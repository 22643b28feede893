# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is wanted and whatever is there: a simulated Octavia, which minds locks and immutability, gets there, and stays there."""

from __future__ import annotations

import typing as t

from ansible_collections.kos.labs.plugins.module_utils.octavia_lb import KINDS, OctaviaError, Part, Purge, from_api, merge, parse, to_dict
from ansible_collections.kos.labs.plugins.module_utils.octavia_lb_api import Result, Service, reconcile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from octavia_cloud import POOLS_OF_LISTENER, Neutron, Octavia

SUBNETS = ["11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"]
Options = dict[str, t.Any]


def options(**known: st.SearchStrategy[t.Any]) -> st.SearchStrategy[Options]:
    """Each of these, or nothing at all."""
    return st.fixed_dictionaries({}, optional=known)


TAGS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=2)
WORDS = st.sampled_from(["", "one", "two"])
PORTS = st.sampled_from([80, 443, 53])

RULES = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {
                "type": st.sampled_from(["PATH", "HOST_NAME"]),
                "compare_type": st.sampled_from(["STARTS_WITH", "EQUAL_TO"]),
                "value": st.sampled_from(["/x", "/y"]),
            },
            optional={"invert": st.booleans(), "tags": TAGS, "admin_state_up": st.booleans()},
        ),
        st.fixed_dictionaries(
            {
                "type": st.just("HEADER"),
                "compare_type": st.just("EQUAL_TO"),
                "key": st.sampled_from(["x-a", "x-b"]),
                "value": st.sampled_from(["", "1"]),
            }
        ),
    ),
    max_size=3,
)
MEMBERS = st.lists(
    st.builds(
        lambda known, more: {**known, **more},
        st.fixed_dictionaries(
            {
                "address": st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00:0::1", "FD00::2"]),
                "protocol_port": st.sampled_from([8080, 8081]),
            }
        ),
        options(
            name=WORDS,
            weight=st.integers(0, 3),
            backup=st.booleans(),
            subnet=st.sampled_from(SUBNETS),
            monitor_address=st.sampled_from(["", "10.0.0.9"]),
            monitor_port=st.sampled_from([1, 2]),
            admin_state_up=st.booleans(),
            tags=TAGS,
        ),
    ),
    max_size=4,
    unique_by=lambda member: (member["address"].lower(), member["protocol_port"]),
)


@st.composite
def monitors(draw: st.DrawFn, protocol: str) -> Options:
    kinds = ["UDP-CONNECT", "TCP", "HTTP"] if protocol == "UDP" else ["HTTP", "TCP", "PING"]
    kind = draw(st.sampled_from(kinds))
    known = {"type": kind, "delay": draw(st.integers(3, 5)), "timeout": 2, "max_retries": draw(st.integers(1, 2))}
    more = options(max_retries_down=st.integers(1, 3), name=WORDS, admin_state_up=st.booleans(), tags=TAGS)
    http = options(url_path=st.sampled_from(["/", "/up"]), expected_codes=st.sampled_from(["200", "200-204", "200, 202"]))
    return {**known, **draw(more), **(draw(http) if kind == "HTTP" else {})}


@st.composite
def pools(draw: st.DrawFn) -> list[Options]:
    found = []
    for name in draw(st.lists(st.sampled_from(["web", "api", "dns"]), unique=True)):
        protocol = draw(st.sampled_from(["HTTP", "TCP", "UDP", "PROXY"]))
        pool = {"name": name, "protocol": protocol}
        pool.update(
            draw(
                options(
                    lb_algorithm=st.sampled_from(["ROUND_ROBIN", "SOURCE_IP"]),
                    description=WORDS,
                    tags=TAGS,
                    members=MEMBERS,
                    session_persistence=st.sampled_from([{}, {"type": "SOURCE_IP"}]),
                    health_monitor=st.one_of(st.just({}), monitors(protocol)),
                    admin_state_up=st.booleans(),
                )
            )
        )
        found.append(pool)
    return found


@st.composite
def policies(draw: st.DrawFn, targets: list[str]) -> list[Options]:
    found = []
    for name in draw(st.lists(st.sampled_from(["p", "q", "r"]), unique=True)):
        ways: list[Options] = [
            {"action": "REJECT"},
            {"action": "REDIRECT_TO_URL", "redirect_url": "https://a.example/"},
            {"action": "REDIRECT_PREFIX", "redirect_prefix": "https://b.example", "redirect_http_code": 301},
        ]
        ways += [{"action": "REDIRECT_TO_POOL", "redirect_pool": target} for target in targets]
        more = draw(options(rules=RULES, description=WORDS, admin_state_up=st.booleans()))
        found.append({"name": name, **draw(st.sampled_from(ways)), **more})
    return found


@st.composite
def trees(draw: st.DrawFn, *, decided: bool = False) -> Options:
    """Draw a load balancer; a decided one says of each listener which pool it has, so nothing that it inherits can be in the way."""
    tree: Options = {"name": "lb", "vip_subnet": draw(st.sampled_from([SUBNETS[0]] * 8 + [SUBNETS[1]]))}
    tree.update(draw(options(description=WORDS, tags=TAGS, admin_state_up=st.booleans())))
    declared = draw(pools())
    listeners, places = [], set()
    for name in draw(st.lists(st.sampled_from(["a", "b", "c", "d"]), unique=True)):
        protocol = draw(st.sampled_from(["HTTP", "TCP", "UDP", "TERMINATED_HTTPS", "PROMETHEUS"]))
        port = draw(PORTS)
        place = ("UDP" if protocol == "UDP" else "TCP", port)
        if place in places:
            continue
        places.add(place)
        listener: Options = {"name": name, "protocol": protocol, "protocol_port": port}
        targets = [pool["name"] for pool in declared if pool["protocol"] in POOLS_OF_LISTENER[protocol]]
        listener.update(
            draw(
                options(
                    description=WORDS,
                    tags=TAGS,
                    connection_limit=st.sampled_from([-1, 10]),
                    allowed_cidrs=st.sampled_from([[], ["10.0.0.0/8"], ["10.1.2.3/16", "192.0.2.0/24"]]),
                    timeout_client_data=st.sampled_from([1000, 2000]),
                )
            )
        )
        if decided or draw(st.booleans()):
            listener["default_pool"] = draw(st.sampled_from(["", *targets]))
        listener["l7policies"] = []
        if protocol in ("HTTP", "TERMINATED_HTTPS"):
            listener["l7policies"] = draw(policies(targets))
            listener.update(draw(options(insert_headers=st.sampled_from([{}, {"X-Forwarded-For": True}]))))
        if protocol == "TERMINATED_HTTPS":
            listener["default_tls_container_ref"] = draw(st.sampled_from(["https://b/1", "https://b/2"]))
            listener.update(draw(options(sni_container_refs=st.sampled_from([[], ["https://b/3"]]))))
        listeners.append(listener)
    tree["pools"] = declared
    tree["listeners"] = listeners
    return tree


def run(cloud: Octavia, tree: Options, *, check_mode: bool = False, neutron: Neutron | None = None, **more: t.Any) -> Result:
    defaults: Options = {"state": "present", "recreate": "when_needed", "on_error": "fail", "purge": None}
    service = Service(load_balancer=cloud, network=lambda: neutron, sleep=lambda seconds: None, timeout=60)
    return reconcile(service, {**defaults, **tree, **more}, check_mode=check_mode)


def tree_of(cloud: Octavia) -> Part:
    balancer = next(iter(cloud.items["loadbalancer"].values()))
    return from_api(cloud.full(balancer))


def same(want: Part, have: Part, *, every: bool = False) -> None:
    """All that is declared is there, or every value, and nothing else where it is declared."""
    # Octavia has a say in these.
    free = {"redirect_http_code"} if every else set()
    for option in (set(want.values) if every and want.kind != "load_balancer" else set(want.declared)) - free:
        assert have.values[option] == want.values[option], (want.title, option)
    for option in KINDS[want.kind].children:
        if want.children.get(option) is not None:
            if option == "rules":
                assert sorted(part.key for part in want.of(option)) == sorted(part.key for part in have.of(option))
                continue
            ours, theirs = list(want.of(option)), list(have.of(option))
            if option != "l7policies":
                ours.sort(key=lambda part: part.key)
                theirs.sort(key=lambda part: part.key)
            assert [part.key for part in ours] == [part.key for part in theirs], want.title
            for one, other in zip(ours, theirs):
                same(one, other, every=every)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(first=trees(decided=True), second=trees(decided=True), slow=st.integers(0, 3))
def test_apply_leads_to_what_is_wanted_and_a_second_run_changes_nothing(first: Options, second: Options, slow: int) -> None:
    cloud = Octavia(slow=slow)
    for tree in (first, second, first):
        predicted = run(cloud, tree, check_mode=True)
        asked = len(cloud.writes)
        done = run(cloud, tree)
        assert [str(step) for step in predicted.plan.steps] == [str(step) for step in done.plan.steps]
        assert done.left == ()
        assert len(cloud.writes) - asked == len(done.plan.steps), "each step is one call, and none is refused"
        same(parse(tree), tree_of(cloud))
        assert done.load_balancer["listeners"] == to_dict(tree_of(cloud))["listeners"]
        before = len(cloud.writes)
        assert run(cloud, tree).plan.steps == ()
        assert len(cloud.writes) == before


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(first=trees(), second=trees(), levels=st.fixed_dictionaries({level: st.booleans() for level in vars(Purge())}))
def test_what_is_not_declared_stays_where_nothing_is_purged(first: Options, second: Options, levels: dict[str, bool]) -> None:
    levels = {**levels, "health_monitor": True}
    cloud = Octavia()
    run(cloud, first)
    have = tree_of(cloud)
    try:
        after = merge(parse(second), have, Purge(**levels))
    except OctaviaError:
        # Ports may be taken, policies may hold pools, protocols may not match: said before anything is done.
        return
    level_options = {level: value for level, value in levels.items() if level != "health_monitor"}
    done = run(cloud, second, purge=level_options)
    assert done.left == ()
    if not levels["pools"]:
        assert {pool.key for pool in have.of("pools")} <= {pool.key for pool in tree_of(cloud).of("pools")}
    same(after, tree_of(cloud), every=True)
    assert run(cloud, second, purge=level_options).plan.steps == ()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(tree=trees())
def test_absent_leaves_nothing(tree: Options) -> None:
    cloud = Octavia()
    run(cloud, tree)
    assert [str(step) for step in run(cloud, {"name": "lb", "state": "absent"}).plan.steps] == ["delete load balancer lb"]
    assert not any(cloud.items.values())
    assert run(cloud, {"name": "lb", "state": "absent"}).plan.steps == ()
