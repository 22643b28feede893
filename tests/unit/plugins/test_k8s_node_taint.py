# SPDX-License-Identifier: GPL-3.0-or-later
"""The taints a node is to have, from those it has."""

from __future__ import annotations

import string
import typing as t

import pytest
from ansible_collections.kos.labs.plugins.module_utils.k8s_node_taint import (
    EFFECTS,
    Rule,
    Taint,
    holders,
    mistakes,
    name_mistake,
    plan_node,
    taints_of,
)
from hypothesis import given
from hypothesis import strategies as st

SINCE = {"timeAdded": "2026-11-21T10:00:00Z"}
NOT_READY = Taint("node.kubernetes.io/not-ready", "NoExecute", further=SINCE)


def node(*taints: Taint, **spec: t.Any) -> dict[str, t.Any]:
    return {"metadata": {"name": "w", "resourceVersion": "1"}, "spec": {"taints": [taint.fields() for taint in taints], **spec}}


def after(have: t.Sequence[Taint], rules: t.Sequence[Rule], state: str, **options: t.Any) -> list[str]:
    return [str(taint) for taint in plan_node(node(*have), rules=rules, state=state, **options).after]


A = Taint("a", "NoSchedule")
A_EXECUTE = Taint("a", "NoExecute", "v", SINCE)
B = Taint("b", "PreferNoSchedule", "x")


@pytest.mark.parametrize(
    ("state", "have", "rules", "expected"),
    [
        ("present", [], [Rule("a", "NoSchedule")], ["a:NoSchedule"]),
        ("present", [B], [Rule("a", "NoSchedule", "v")], ["b=x:PreferNoSchedule", "a=v:NoSchedule"]),
        ("present", [A], [Rule("a", "NoSchedule")], ["a:NoSchedule"]),
        ("present", [A, B], [Rule("a", "NoSchedule", "v")], ["a=v:NoSchedule", "b=x:PreferNoSchedule"]),
        ("present", [B], [Rule("b", "PreferNoSchedule")], ["b:PreferNoSchedule"]),
        ("present", [A], [Rule("a", "NoExecute")], ["a:NoSchedule", "a:NoExecute"]),
        ("present", [A], [], ["a:NoSchedule"]),
        ("absent", [A, A_EXECUTE, B], [Rule("a")], ["b=x:PreferNoSchedule"]),
        ("absent", [A, A_EXECUTE, B], [Rule("a", "NoExecute")], ["a:NoSchedule", "b=x:PreferNoSchedule"]),
        ("absent", [A, A_EXECUTE], [Rule("a", None, "w")], []),
        ("absent", [A, B], [Rule("b", "PreferNoSchedule", "y")], ["a:NoSchedule"]),
        ("absent", [B], [Rule("b", "NoExecute", "x")], ["b=x:PreferNoSchedule"]),
        ("absent", [], [Rule("a")], []),
        ("exact", [A, A_EXECUTE, B], [Rule("b", "PreferNoSchedule", "y")], ["b=y:PreferNoSchedule"]),
        ("exact", [A, B], [], []),
        ("exact", [NOT_READY, A], [Rule("b", "NoSchedule")], ["node.kubernetes.io/not-ready:NoExecute", "b:NoSchedule"]),
        ("exact", [A, B], [Rule("b", "PreferNoSchedule", "x"), Rule("a", "NoSchedule")], ["a:NoSchedule", "b=x:PreferNoSchedule"]),
    ],
)
def test_states(state, have, rules, expected):
    assert after(have, rules, state) == expected


def test_keep_names_keys_and_domains():
    assert after([NOT_READY, A, B], [], "exact", keep=["a"]) == ["a:NoSchedule"]
    assert after([NOT_READY, A], [], "exact", keep=[]) == []
    assert after([Taint("node.kubernetes.iox/y", "NoSchedule")], [], "exact") == []


def test_a_kept_taint_can_be_declared_like_any_other():
    assert after([NOT_READY], [Rule(NOT_READY.key, "NoExecute", "v")], "exact") == ["node.kubernetes.io/not-ready=v:NoExecute"]


def test_what_else_a_taint_has_stays():
    changed = plan_node(node(A_EXECUTE), rules=[Rule("a", "NoExecute", "w")], state="present").after
    assert [taint.fields() for taint in changed] == [{"key": "a", "value": "w", "effect": "NoExecute", **SINCE}]


def test_a_time_stamp_is_no_difference():
    assert not plan_node(node(A_EXECUTE), rules=[Rule("a", "NoExecute", "v")], state="exact").changed


def test_a_node_without_taints():
    for spec in ({}, {"taints": None}):
        plan = plan_node({"metadata": {"name": "w"}, "spec": spec}, rules=[], state="exact")
        assert (plan.name, plan.before, plan.after, plan.changed) == ("w", (), (), False)


KEYS = st.sampled_from(["a", "b", "example.com/c", "node.kubernetes.io/not-ready", "node.cloudprovider.kubernetes.io/uninitialized"])
TAINTS = st.builds(Taint, KEYS, st.sampled_from(EFFECTS), st.sampled_from(["", "x", "y"]), st.sampled_from([{}, SINCE, {"new": 1}]))
HAVE = st.lists(TAINTS, unique_by=lambda taint: taint.identity)
SET = st.lists(
    st.builds(Rule, KEYS, st.sampled_from(EFFECTS), st.sampled_from([None, "", "x", "y"])),
    unique_by=lambda rule: (rule.key, rule.effect),
)
FIND = st.lists(st.builds(Rule, KEYS, st.sampled_from([None, *EFFECTS]), st.sampled_from([None, "", "x"])))
ASKED = st.one_of(st.tuples(st.just("present"), SET), st.tuples(st.just("exact"), SET), st.tuples(st.just("absent"), FIND))


@given(HAVE, ASKED)
def test_a_second_plan_is_empty(have, asked):
    state, rules = asked
    first = plan_node(node(*have), rules=rules, state=state)
    assert first.before == tuple(have)
    assert not plan_node(node(*first.after), rules=rules, state=state).changed


@given(HAVE, ASKED)
def test_the_result_is_what_the_server_accepts(have, asked):
    state, rules = asked
    identities = [taint.identity for taint in plan_node(node(*have), rules=rules, state=state).after]
    assert len(set(identities)) == len(identities)


@given(HAVE, SET)
def test_present_loses_nothing(have, rules):
    got = {taint.identity: taint for taint in plan_node(node(*have), rules=rules, state="present").after}
    wanted = {(rule.key, rule.effect): rule.value or "" for rule in rules}
    assert {identity: got[identity].value for identity in wanted} == wanted
    assert all(got[taint.identity].further == taint.further for taint in have)
    assert all(got[taint.identity] == taint for taint in have if taint.identity not in wanted)
    assert set(got) == set(wanted) | {taint.identity for taint in have}


@given(HAVE, SET)
def test_exact_leaves_what_is_wanted_and_what_is_kept(have, rules):
    got = plan_node(node(*have), rules=rules, state="exact").after
    wanted = {(rule.key, rule.effect): rule.value or "" for rule in rules}
    kept = {taint.identity for taint in have if ".kubernetes.io/" in taint.key or taint.key.startswith("node.kubernetes.io/")}
    assert {taint.identity for taint in got} == set(wanted) | kept
    strictly = plan_node(node(*have), rules=rules, state="exact", keep=()).after
    assert {taint.identity: taint.value for taint in strictly} == wanted


@given(HAVE, FIND)
def test_absent_removes_what_matches_and_nothing_else(have, rules):
    got = plan_node(node(*have), rules=rules, state="absent").after
    for taint in have:
        named = any(r.key == taint.key and r.effect in (None, taint.effect) for r in rules)
        assert (taint in got) is not named


@given(HAVE, ASKED)
def test_reading_and_writing_are_inverse(have, asked):
    assert taints_of(node(*have)) == tuple(have)
    assert [taint.fields() for taint in taints_of(node(*have))] == node(*have)["spec"]["taints"]


LONG = "x" * 64


@pytest.mark.parametrize("key", ["a", "A.b_c-d", "example.com/a", "x" * 63, "1", "a-b.c/d", f"{'.'.join(['y' * 63] * 3)}.{'y' * 61}/a"])
def test_good_keys(key):
    assert mistakes(rules=[Rule(key, "NoSchedule", "v")], state="present", keep=[key], wait_gone=[Rule(key, "NoExecute")]) == []


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("", "is not the key of a taint"),
        ("-a", "is not the key of a taint"),
        ("a_", "is not the key of a taint"),
        ("a b", "is not the key of a taint"),
        ("a\n", "is not the key of a taint"),
        ("ä", "is not the key of a taint"),
        (LONG, "is not the key of a taint"),
        ("example.com/", "is not the key of a taint"),
        ("/a", "has a wrong part before the '/'"),
        ("Example.com/a", "has a wrong part before the '/'"),
        ("example..com/a", "has a wrong part before the '/'"),
        ("a/b/c", "has a wrong part before the '/'"),
        (f"{'.'.join(['y' * 63] * 4)}/a", "has a wrong part before the '/'"),
        ("a=v", "value and effect are options of their own"),
        ("a:NoSchedule", "value and effect are options of their own"),
    ],
)
def test_bad_keys(key, says):
    for place, options in (("taints[0].key", {"rules": [Rule(key)]}), ("wait_gone[0].key", {"rules": [], "wait_gone": [Rule(key)]})):
        (found,) = mistakes(state="absent", **options)
        assert found.startswith(f"{place}: {key!r} ")
        assert says in found


@pytest.mark.parametrize("value", [None, "", "a", "true", "A.b_c-d", "1.2", "x" * 63])
def test_good_values(value):
    assert mistakes(rules=[Rule("a", "NoSchedule", value)], state="exact") == []


@pytest.mark.parametrize("value", [" ", "a b", "a/b", ".a", "a.", "a\n", "é", LONG])
def test_bad_values(value):
    (found,) = mistakes(rules=[Rule("a", "NoSchedule", value)], state="present")
    assert found.startswith(f"taints[0].value: {value!r} is not")


@pytest.mark.parametrize("state", ["present", "exact"])
def test_a_taint_that_is_set_needs_an_effect(state):
    (found,) = mistakes(rules=[Rule("a")], state=state)
    assert found.startswith("taints[0].effect: ")
    assert mistakes(rules=[Rule("a")], state="absent") == []


def test_a_taint_cannot_be_wanted_twice():
    rules = [Rule("a", "NoSchedule", "x"), Rule("a", "NoExecute"), Rule("a", "NoSchedule", "y")]
    assert mistakes(rules=rules, state="exact") == ["taints[2]: a with NoSchedule is in taints[0], and a node can have it once"]
    assert mistakes(rules=rules, state="absent") == []


def test_waiting_for_what_is_set_is_refused():
    rules, awaited = [Rule("a", "NoSchedule", "x")], [Rule("b"), Rule("a")]
    assert mistakes(rules=rules, state="present", wait_gone=awaited) == ["wait_gone: a=x:NoSchedule is what taints[0] sets"]
    assert mistakes(rules=rules, state="absent", wait_gone=awaited) == []
    assert mistakes(rules=rules, state="present", wait_gone=[Rule("a", "NoExecute")]) == []


@pytest.mark.parametrize("entry", ["*", "/*", "a*", "Example.com/*", "a/b/*", ""])
def test_bad_entries_of_keep(entry):
    assert mistakes(rules=[], state="exact", keep=["a", entry]) == [f"keep[1]: {entry!r} is neither a key nor a domain with '/*'"]


@pytest.mark.parametrize("name", ["w", "worker-1.example.com", "1"])
def test_good_names(name):
    assert name_mistake(name) is None


@pytest.mark.parametrize("name", ["", "Worker", "a/b", "..", "../pods", "a_b", "-a", "a\n", "x" * 254])
def test_bad_names(name):
    assert repr(name) in name_mistake(name)


@given(st.text(alphabet=string.ascii_letters + string.digits + "-_./ =:\n", max_size=80))
def test_every_text_is_judged(text):
    assert all(isinstance(one, str) for one in mistakes(rules=[Rule(text, "NoSchedule", text)], state="present", keep=[text]))


def condition(kind: str, status: str, **more: str) -> dict[str, t.Any]:
    return {"status": {"conditions": [{"type": "Other", "status": "True"}, {"type": kind, "status": status, **more}]}}


CLOUD = "node.cloudprovider.kubernetes.io/"


@pytest.mark.parametrize(
    ("key", "has", "says"),
    [
        ("node.kubernetes.io/not-ready", condition("Ready", "False", reason="R", message="m"), "its condition Ready is False (R, m)"),
        ("node.kubernetes.io/unreachable", condition("Ready", "Unknown"), "its condition Ready is Unknown"),
        ("node.kubernetes.io/disk-pressure", {}, "its kubelet has not reported the condition DiskPressure"),
        (f"{CLOUD}uninitialized", {}, "no cloud controller manager has initialised it"),
        (f"{CLOUD}uninitialized", {"providerID": "openstack:///1"}, "its providerID is openstack:///1, but"),
        (f"{CLOUD}shutdown", {}, "its server is shut down"),
        ("node.kubernetes.io/unschedulable", {"unschedulable": True}, "it is cordoned"),
        ("node.kubernetes.io/unschedulable", {}, "it is not cordoned"),
        ("node.kubernetes.io/out-of-service", {}, "only who has set it"),
    ],
)
def test_what_holds_a_taint(key, has, says):
    status = {"status": has["status"]} if "status" in has else {}
    held = {**node(Taint(key, "NoSchedule"), A, **({} if status else has)), **status}
    (line,) = holders(held, [Rule(key)])
    assert line.startswith(f"w has {key}:NoSchedule; {says}") or says in line
    assert holders(held, [Rule("b")]) == []


def test_who_wrote_the_taints_last():
    fields = {"f:spec": {"f:taints": {}}}
    held = node(A_EXECUTE)
    held["metadata"]["managedFields"] = [
        {"manager": "kubelet", "time": "2026-11-21T10:00:00Z", "fieldsV1": fields},
        {"manager": "controller", "time": "2026-11-21T11:00:00Z", "fieldsV1": fields},
        {"manager": "other", "time": "2026-11-21T12:00:00Z", "fieldsV1": {"f:spec": {"f:unschedulable": {}}}},
        {"manager": "bare"},
    ]
    assert holders(held, [Rule("a")]) == [
        "w has a=v:NoExecute since 2026-11-21T10:00:00Z; controller wrote its taints last, 2026-11-21T11:00:00Z"
    ]
    held["metadata"]["managedFields"] = [{"manager": "kubelet", "fieldsV1": fields}]
    assert holders(held, iter([Rule("a")])) == ["w has a=v:NoExecute since 2026-11-21T10:00:00Z; kubelet wrote its taints last"]
