# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapter and the module, on an API server that keeps nodes in a dictionary and their versions as a real one does."""

from __future__ import annotations

import copy
import json
import types
import typing as t

import pytest
import yaml

pytest.importorskip("kubernetes")

from ansible.module_utils.testing import patch_module_args
from ansible_collections.kos.labs.plugins.module_utils import k8s_node_taint_api
from ansible_collections.kos.labs.plugins.module_utils.k8s_node_taint import Rule, plan_node
from ansible_collections.kos.labs.plugins.module_utils.k8s_node_taint_api import (
    Api,
    ConflictError,
    NodeTaintError,
    Patience,
    UnreachableError,
    apply,
    read_all,
    wait_until_gone,
)
from ansible_collections.kos.labs.plugins.modules import k8s_node_taint
from ansible_collections.kubernetes.core.plugins.module_utils.k8s.exceptions import CoreException
from kubernetes.dynamic.exceptions import api_exception
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError

A = {"key": "a", "effect": "NoSchedule"}
B = {"key": "b", "value": "x", "effect": "NoExecute", "timeAdded": "2026-11-21T10:00:00Z"}


def refusal(status, message="no", body=None):
    body = json.dumps({"message": message}) if body is None else body
    return api_exception(types.SimpleNamespace(status=status, reason="Because", body=body, headers={"Secret": "header"}))


class Server:
    """Answers as the client of kubernetes.core does. What stands in `before` runs ahead of a call; what it returns is raised."""

    def __init__(self, dry_run=False, **nodes):
        self.nodes = {name: self._node(name, taints) for name, taints in nodes.items()}
        self.dry_run = dry_run
        self.calls = []
        self.before = {}

    @staticmethod
    def _node(name, taints):
        return {"metadata": {"name": name, "resourceVersion": "1"}, "spec": {"taints": copy.deepcopy(taints)} if taints else {}}

    def _called(self, verb, name):
        self.calls.append((verb, name))
        hook = self.before.get((verb, name), lambda: None)
        problem = hook()
        if problem:
            raise problem

    def set(self, name, *taints):
        node = self.nodes[name]
        node["spec"]["taints"] = list(taints)
        node["metadata"]["resourceVersion"] = str(int(node["metadata"]["resourceVersion"]) + 1)

    def resource(self, kind, api_version):
        return kind, api_version

    def get(self, resource, name=None, label_selector=None, limit=None, _continue=None):
        assert resource == ("Node", "v1")
        self._called("get", name or label_selector)
        if name:
            if name not in self.nodes:
                raise refusal(404, f'nodes "{name}" not found')
            return self._answer(self.nodes[name])
        # One node per page, whatever is asked for.
        names = sorted(self.nodes)
        page = int(_continue or 0)
        more = {"continue": str(page + 1)} if page + 1 < len(names) else {}
        items = [self.nodes[name] for name in names[page : page + 1]] if label_selector != "none=here" else None
        return self._answer({"items": items, "metadata": more if items else {}})

    def patch(self, resource, body, name, content_type, field_manager):
        assert (resource, content_type) == (("Node", "v1"), "application/merge-patch+json")
        self._called("patch", name)
        node = copy.deepcopy(self.nodes[name])
        if body["metadata"]["resourceVersion"] != node["metadata"]["resourceVersion"]:
            raise refusal(409, "the object has been modified")
        node["spec"]["taints"] = body["spec"]["taints"]
        if not self.dry_run:
            self.set(name, *node["spec"]["taints"])
            node = self.nodes[name]
        return self._answer(node)

    @staticmethod
    def _answer(content):
        return types.SimpleNamespace(to_dict=lambda: copy.deepcopy(content))


def writes(server):
    return [name for verb, name in server.calls if verb == "patch"]


def run(server, rules, state="present", slept=None):
    api = Api(lambda: server)
    nodes = read_all(api, list(server.nodes))
    return list(
        apply(api, nodes, lambda node: plan_node(node, rules=rules, state=state), sleep=(slept if slept is not None else []).append)
    )


def test_only_what_differs_is_written():
    server = Server(w1=[A], w2=[B])
    first, second = run(server, [Rule("a", "NoSchedule")])
    assert (first.changed, second.changed, writes(server)) == (False, True, ["w2"])
    assert server.nodes["w2"]["spec"]["taints"] == [B, A]
    assert (second.node["metadata"]["resourceVersion"], second.error) == ("2", None)


def test_a_write_of_somebody_else_is_kept():
    server, slept = Server(w=[A]), []
    once = iter([lambda: server.set("w", A, B)])
    server.before["patch", "w"] = lambda: next(once, lambda: None)()
    (outcome,) = run(server, [Rule("c", "NoSchedule")], slept=slept)
    assert server.nodes["w"]["spec"]["taints"] == [A, B, {"key": "c", "effect": "NoSchedule"}]
    assert [taint.fields() for taint in outcome.before] == [A, B]
    assert (len(slept), server.calls) == (1, [("get", "w"), ("patch", "w"), ("get", "w"), ("patch", "w")])


def test_somebody_else_did_the_same():
    server = Server(w=[A])
    server.before["patch", "w"] = lambda: server.set("w", A, B)
    (outcome,) = run(server, [Rule("b", "NoExecute", "x")])
    assert (outcome.changed, outcome.error, len(writes(server))) == (False, None, 1)


@pytest.mark.parametrize("status", [409, 429])
def test_a_conflict_that_does_not_end_is_an_error(status):
    server, slept = Server(w=[A]), []
    server.before["patch", "w"] = lambda: refusal(status, "again")
    (outcome,) = run(server, [Rule("c", "NoSchedule")], slept=slept)
    assert outcome.error == f"node w: {status} again (given up after 20 tries)"
    assert (outcome.changed, len(writes(server)), len(slept)) == (False, 20, 19)
    assert all(0 <= pause <= 2 for pause in slept)


def test_one_refusal_does_not_keep_the_others():
    server = Server(w1=[], w2=[], w3=[])
    server.before["patch", "w2"] = lambda: refusal(403, "must not")
    outcomes = run(server, [Rule("a", "NoSchedule")])
    assert [(outcome.changed, outcome.error) for outcome in outcomes] == [(True, None), (False, "node w2: 403 must not"), (True, None)]


def test_a_lost_server_ends_the_work_but_not_the_report():
    server = Server(w1=[], w2=[], w3=[], w4=[A])
    server.before["patch", "w2"] = lambda: ProtocolError("Connection aborted.")
    outcomes = run(server, [Rule("a", "NoSchedule")])
    lost = "node w2: no answer, Connection aborted."
    assert [(one.changed, one.error) for one in outcomes] == [(True, None), (False, lost), (False, lost), (False, None)]
    assert writes(server) == ["w1", "w2"]


def test_selected_nodes_come_in_pages():
    server = Server(w1=[], w2=[], w3=[])
    api = Api(lambda: server)
    assert [node["metadata"]["name"] for node in api.select("a=b")] == ["w1", "w2", "w3"]
    assert api.select("none=here") == []


def test_all_names_that_are_wrong_are_said_and_none_is_read_twice():
    server = Server(w=[])
    with pytest.raises(NodeTaintError) as caught:
        read_all(Api(lambda: server), ["x", "w", "w", "y"])
    assert str(caught.value) == 'node x: 404 nodes "x" not found\nnode y: 404 nodes "y" not found'
    assert len(server.calls) == 3


def test_a_server_that_does_not_answer_is_asked_once():
    server = Server(w=[])
    inner = NewConnectionError(types.SimpleNamespace(host="h", port=1), "Failed to establish a new connection: refused")
    server.before["get", "w"] = lambda: MaxRetryError(None, "/", inner)
    with pytest.raises(UnreachableError, match=r"^node w: no answer, .*refused$"):
        read_all(Api(lambda: server), ["w", "x"])
    assert server.calls == [("get", "w")]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (refusal(500, "broken"), "500 broken"),
        (refusal(500, body="<html>"), "500 Because"),
        (refusal(500, body="{}"), "500 Because"),
        (refusal(500, body='{"message": ""}'), "500 Because"),
        (ProtocolError(), "no answer, ProtocolError"),
    ],
)
def test_words_of_errors(error, says):
    server = Server(w=[])
    server.before["get", "w"] = lambda: error
    with pytest.raises(NodeTaintError) as caught:
        Api(lambda: server).read("w")
    assert str(caught.value) == f"node w: {says}"
    assert not isinstance(caught.value, ConflictError)


def test_requests_have_a_limit(monkeypatch):
    from kubernetes.client.rest import RESTClientObject

    monkeypatch.setattr(RESTClientObject, "request", lambda _self, _method, **options: options)
    for _ in range(2):
        Api(lambda: Server())
    request = RESTClientObject.request
    assert request(None, "GET", _request_timeout=None, headers={}) == {"_request_timeout": (10.0, 60.0), "headers": {}}
    assert request(None, "GET", _request_timeout=3) == {"_request_timeout": 3}
    assert not hasattr(request.__wrapped__, "__wrapped__")


class Clock:
    """Time that passes only by sleeping; at some times something happens."""

    def __init__(self, **events):
        self.now = 0.0
        self.events = {float(at[1:]): action for at, action in events.items()}
        self.slept = []

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds
        for at in [at for at in self.events if at <= self.now]:
            self.events.pop(at)()

    def patience(self, timeout, interval=2):
        return Patience(timeout, interval, clock=lambda: self.now, sleep=self.sleep)


def wait(server, clock, timeout=10, rules=None):
    api = Api(lambda: server)
    nodes = read_all(api, list(server.nodes))
    server.calls.clear()
    return wait_until_gone(api, nodes, [Rule("a")] if rules is None else rules, clock.patience(timeout))


def test_what_is_not_there_is_not_waited_for():
    server, clock = Server(w=[B]), Clock()
    assert (wait(server, clock), clock.slept, server.calls) == ([], [], [])
    assert wait(Server(w=[A]), clock, rules=()) == []


def test_only_nodes_that_still_have_it_are_looked_at():
    server = Server(w1=[A], w2=[B], w3=[A])
    clock = Clock(t2=lambda: server.set("w1"), t4=lambda: server.set("w3"))
    assert wait(server, clock) == []
    assert server.calls == [("get", "w1"), ("get", "w3"), ("get", "w3")]


def test_the_wait_ends_in_time_with_what_is_left():
    server, clock = Server(w1=[A], w2=[A, B]), Clock(t2=lambda: server.set("w1"))
    assert wait(server, clock, timeout=5) == ["w2 has a:NoSchedule"]
    assert clock.slept == [2, 2, 1]


def test_no_time_is_one_look():
    server, clock = Server(w=[A]), Clock()
    assert (wait(server, clock, timeout=0), clock.slept) == (["w has a:NoSchedule"], [])


def test_a_server_that_restarts_is_waited_for():
    server = Server(w=[A])
    clock = Clock(
        t2=lambda: server.before.update({("get", "w"): lambda: ProtocolError("gone")}), t4=lambda: (server.before.clear(), server.set("w"))
    )
    assert wait(server, clock) == []


def test_the_last_trouble_is_said():
    server = Server(w=[A])
    clock = Clock(t2=lambda: server.nodes.clear())
    assert wait(server, clock) == ['node w: 404 nodes "w" not found']


@pytest.fixture
def module(capsys, monkeypatch):
    """Runs the module on a server; returns what it returned."""
    monkeypatch.setattr(k8s_node_taint.AnsibleModule, "log", lambda *_arguments, **_options: None)
    monkeypatch.setattr(k8s_node_taint_api.time, "sleep", lambda _seconds: None)

    def call(server=None, check=False, **arguments):
        def connect(module):
            if server is None:
                raise CoreException("no login")
            server.dry_run = module.check_mode
            return server

        monkeypatch.setattr(k8s_node_taint, "get_api_client", connect)
        given = {"_ansible_check_mode": check, "_ansible_diff": True, **arguments}
        with patch_module_args(given), pytest.raises(SystemExit) as ended:
            k8s_node_taint.main()
        result = json.loads(capsys.readouterr().out)
        assert bool(ended.value.code) is result.get("failed", False)
        return result

    return call


def test_check_mode_says_what_acting_does(module):
    server = Server(w1=[A], w2=[B])
    arguments = {"names": ["w1", "w2"], "taints": [{"key": "b", "value": "y", "effect": "NoExecute"}]}
    foreseen = module(server, check=True, **arguments)
    assert server.nodes["w1"]["spec"]["taints"] == [A]
    assert module(server, **arguments) == foreseen
    assert foreseen["diff"] == [
        {
            "before_header": "taints of node w1",
            "before": "a:NoSchedule\n",
            "after_header": "taints of node w1",
            "after": "a:NoSchedule\nb=y:NoExecute\n",
        },
        {
            "before_header": "taints of node w2",
            "before": "b=x:NoExecute\n",
            "after_header": "taints of node w2",
            "after": "b=y:NoExecute\n",
        },
    ]
    assert foreseen["nodes"][1] == {"name": "w2", "changed": True, "before": [B], "after": [{**B, "value": "y"}]}
    again = module(server, **arguments)
    assert (again["changed"], again["diff"]) == (False, [])


def test_partial_failure_names_what_was_changed(module):
    server = Server(w1=[], w2=[], w3=[A])
    server.before["patch", "w1"] = lambda: refusal(422, "is invalid")
    result = module(server, label_selectors=["x=y", "z"], taints=[A])
    assert result["msg"] == "node w1: 422 is invalid\nchanged nevertheless: w2"
    assert (result["failed"], result["changed"]) == (True, True)
    assert [(node["name"], node["changed"], node.get("error")) for node in result["nodes"]] == [
        ("w1", False, "node w1: 422 is invalid"),
        ("w2", True, None),
        ("w3", False, None),
    ]
    assert server.calls[0] == ("get", "x=y,z")
    assert [one["before_header"] for one in result["diff"]] == ["taints of node w2"]


def test_failure_without_change_says_so(module):
    server = Server(w=[])
    server.before["patch", "w"] = lambda: refusal(403, "must not")
    result = module(server, name="w", taints=[A])
    assert (result["msg"], result["changed"]) == ("node w: 403 must not\nno node was changed", False)


def test_unknown_nodes_are_found_before_anything_is_written(module):
    server = Server(w=[])
    assert module(server, names=["w", "x"], taints=[A])["msg"] == 'node x: 404 nodes "x" not found'
    assert writes(server) == []


def test_waiting(module):
    server = Server(w=[A])
    arguments = {"names": ["w"], "wait_gone": [{"key": "a"}], "wait_timeout": 0}
    result = module(server, **arguments)
    assert (result["failed"], result["msg"], result["holding"]) == (True, "not gone after 0 s:\nw has a:NoSchedule", ["w has a:NoSchedule"])
    result = module(server, check=True, **{**arguments, "wait_timeout": 300})
    assert (result["changed"], result["holding"]) == (False, ["w has a:NoSchedule"])
    server.set("w")
    assert module(server, **arguments)["holding"] == []


def test_what_the_same_task_removes_is_not_waited_for(module):
    server = Server(w=[A])
    arguments = {"names": ["w"], "state": "absent", "taints": [{"key": "a"}], "wait_gone": [{"key": "a"}]}
    for check in (True, False):
        result = module(server, check=check, **arguments)
        assert (result["changed"], result["holding"]) == (True, [])


def test_no_match(module):
    server = Server(w=[])
    assert (
        module(server, label_selectors=["none=here"], taints=[A])["msg"] == "no node matches none=here; set allow_no_match if that is fine"
    )
    assert module(server, names=[], taints=[A])["msg"] == "names is empty; set allow_no_match if that is fine"
    result = module(server, label_selector="none=here", taints=[A], allow_no_match=True)
    assert (result["changed"], result["nodes"], result["diff"]) == (False, [], [])


def test_a_login_that_fails_is_said(module):
    assert module(None, names=["w"], taints=[A])["msg"] == "no login"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"names": ["w"]}, "taints: give them, or wait_gone"),
        ({"names": ["w"], "state": "exact", "wait_gone": [{"key": "a"}]}, "taints: state exact needs them"),
        ({"names": ["w"], "state": "absent", "wait_gone": [{"key": "a"}]}, "taints: state absent needs them"),
        ({"names": ["w"], "taints": [{"key": "a"}]}, "taints[0].effect: a taint that is set needs one"),
        ({"names": ["w"], "taints": [{**A, "key": "a b"}]}, "taints[0].key: 'a b' is not the key of a taint"),
        ({"names": ["w"], "taints": [{**A, "value": "a b"}]}, "taints[0].value: 'a b' is not the value of a taint"),
        ({"names": ["w"], "taints": [{**A, "effect": "NoExec"}]}, "must be one of: NoSchedule, PreferNoSchedule, NoExecute, got: NoExec"),
        ({"names": ["w"], "taints": [{"effect": "NoExecute"}]}, "missing required arguments: key"),
        ({"names": ["w"], "taints": [{**A, "timeAdded": "x"}]}, "Unsupported parameters"),
        ({"names": ["w"], "taints": [A], "keep": ["*"]}, "keep[0]: '*' is neither"),
        ({"names": ["w"], "taints": [A], "wait_gone": [{"key": "-"}]}, "wait_gone[0].key: '-' is not"),
        ({"names": ["w"], "taints": [A], "wait_gone": [{"key": "a", "value": "x"}]}, "Unsupported parameters"),
        ({"names": ["w"], "taints": [A], "wait_gone": [{"key": "a", "effect": "x"}]}, "must be one of: NoSchedule"),
        ({"names": ["w"], "taints": [A], "wait_timeout": -1}, "wait_timeout: cannot be below 0"),
        ({"names": ["w"], "taints": [A], "wait_interval": 0}, "wait_interval: has to be above 0"),
        ({"names": ["w"], "taints": [A], "wait_timeout": "long"}, "cannot be converted to an int"),
        ({"names": ["w"], "taints": [A], "wait_interval": "long"}, "cannot be converted to a float"),
        ({"names": ["w"], "taints": [A], "allow_no_match": "perhaps"}, "not a valid boolean"),
        ({"names": ["w"], "taints": [A], "state": "there"}, "must be one of: present, absent, exact"),
        ({"names": ["w"], "taints": "a"}, "dictionary requested"),
        ({"names": ["W"], "taints": [A]}, "names: 'W' cannot be the name of a node"),
        ({"names": ["w"], "label_selectors": ["a"], "taints": [A]}, "mutually exclusive: names|label_selectors"),
        ({"taints": [A]}, "one of the following is required: names, label_selectors"),
        ({"names": None, "taints": [A]}, "names: give them, or label_selectors"),
        ({"label_selectors": [], "taints": [A]}, "label_selectors: an empty one would select every node"),
        ({"label_selectors": [" "], "taints": [A]}, "label_selectors: an empty one would select every node"),
    ],
)
def test_bad_input(module, arguments, says):
    server = Server(w=[])
    result = module(server, **arguments)
    assert result["failed"] is True
    assert says in result["msg"]
    assert server.calls == []


def documented(name):
    return yaml.safe_load(getattr(k8s_node_taint, name))


def test_every_option_is_documented_as_it_is():
    spec, options = k8s_node_taint.argument_spec(), documented("DOCUMENTATION")["options"]
    for name, option in options.items():
        assert option.get("default") == spec[name].get("default"), name
        assert option.get("choices") == spec[name].get("choices"), name
        assert option.get("suboptions", {}).keys() == spec[name].get("options", {}).keys(), name


def keys_of(contents: t.Mapping[str, t.Any], result: t.Mapping[str, t.Any]) -> None:
    undocumented = set(result) - set(contents)
    absent = {name for name, entry in contents.items() if entry["returned"] == "always"} - set(result)
    assert (undocumented, absent) == (set(), set())


def test_what_is_returned_is_what_is_documented(module):
    server = Server(w1=[], w2=[A])
    contents = documented("RETURN")
    common = {"changed", "diff", "failed", "msg", "invocation"}
    good = module(server, names=["w1", "w2"], taints=[A])
    server.before["patch", "w1"] = lambda: refusal(403)
    bad = module(server, names=["w1", "w2"], state="absent", taints=[{"key": "a"}])
    held = module(server, names=["w1"], wait_gone=[{"key": "a"}], wait_timeout=0)
    for result, expected in ((good, {"nodes", "holding"}), (bad, {"nodes"}), (held, {"nodes", "holding"})):
        assert set(result) - common == expected <= set(contents)
        for node in result["nodes"]:
            keys_of(contents["nodes"]["contains"], node)
    assert [("error" in node) for node in bad["nodes"]] == [True, False]


@pytest.mark.parametrize("number", range(4))
def test_examples(module, number):
    task = documented("EXAMPLES")[number]
    (arguments,) = (content for key, content in task.items() if key != "name")
    result = module(Server(worker1=[], worker2=[A]), **arguments)
    assert "failed" not in result
    assert result["changed"] is (number in (0, 2))
    assert len(documented("EXAMPLES")) == 4
