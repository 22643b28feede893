# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against a real API server: each state in check mode, for real, and again; what goes wrong; several writers; waiting."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading
import time
import typing as t

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.kos.labs.plugins.module_utils import k8s_node_taint_api
from ansible_collections.kos.labs.plugins.module_utils.k8s_node_taint import Rule, mistakes, plan_node
from ansible_collections.kos.labs.plugins.module_utils.k8s_node_taint_api import Api, ConflictError, apply
from ansible_collections.kos.labs.plugins.modules import k8s_node_taint
from ansible_collections.kubernetes.core.plugins.module_utils.k8s.client import get_api_client
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

A = {"key": "example.com/a", "effect": "NoSchedule"}
B = {"key": "example.com/b", "value": "x", "effect": "NoExecute", "timeAdded": "2026-11-21T10:00:00Z"}
C = {"key": "example.com/c", "value": "y", "effect": "PreferNoSchedule"}
NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
UNINITIALIZED = {"key": "node.cloudprovider.kubernetes.io/uninitialized", "value": "true", "effect": "NoSchedule"}


@pytest.fixture
def run(kubeconfig, capsys, monkeypatch):
    """Runs the module, as the administrator if nothing else is said; returns what it returned."""
    monkeypatch.setattr(k8s_node_taint.AnsibleModule, "log", lambda *_arguments, **_options: None)

    def call(check=False, **arguments):
        given = {"_ansible_check_mode": check, "_ansible_diff": True, "kubeconfig": kubeconfig, **arguments}
        with patch_module_args(given), pytest.raises(SystemExit):
            k8s_node_taint.main()
        return json.loads(capsys.readouterr().out)

    return call


@pytest.mark.parametrize(
    ("have", "arguments", "expected"),
    [
        ([], {"taints": [A, C]}, [A, C]),
        ([B], {"taints": [A]}, [B, A]),
        ([B, C], {"taints": [{**B, "value": "z"}]}, [{**B, "value": "z"}, C]),
        ([B], {"taints": [{**B, "effect": "NoSchedule"}]}, [B, {"key": B["key"], "value": "x", "effect": "NoSchedule"}]),
        ([A, B, C], {"taints": [{"key": A["key"]}], "state": "absent"}, [B, C]),
        ([A, {**A, "effect": "NoExecute"}], {"taints": [{"key": A["key"]}], "state": "absent"}, []),
        ([A, {**A, "effect": "NoExecute"}], {"taints": [A], "state": "absent"}, [{**A, "effect": "NoExecute"}]),
        ([NOT_READY, A, B], {"taints": [C], "state": "exact"}, [NOT_READY, C]),
        ([NOT_READY, A, B], {"taints": [C], "state": "exact", "keep": []}, [C]),
        ([A, B], {"taints": [B], "state": "exact"}, [B]),
        ([A, B], {"taints": [], "state": "exact"}, []),
        ([A, B, C], {"taints": [{"key": "example.com/b", "value": "other"}], "state": "absent"}, [A, C]),
        ([A, B], {"taints": [B, A]}, [A, B]),
    ],
)
def test_twelve_steps(cluster, run, have, arguments, expected):
    """In check mode nothing is written and the same is said as for real; a second time there is nothing to do."""
    name = cluster.node("w", have)
    taints = [{key: value for key, value in taint.items() if key != "timeAdded"} for taint in arguments["taints"]]
    arguments = {**arguments, "names": [name], "taints": taints}
    version = cluster.version(name)
    foreseen = run(check=True, **arguments)
    assert (cluster.version(name), cluster.taints(name)) == (version, have)
    done = run(**arguments)
    assert done == foreseen
    assert cluster.taints(name) == expected
    (node,) = done["nodes"]
    assert (done["changed"], node["before"], node["after"]) == (have != expected, have, expected)
    assert (cluster.version(name) == version) is (have == expected)
    version = cluster.version(name)
    for check in (True, False):
        again = run(check=check, **arguments)
        assert (again["changed"], again["diff"]) == (False, [])
    assert cluster.version(name) == version


def test_what_else_a_node_has_stays(cluster, run):
    name = cluster.node("w", [A], unschedulable=True, providerID="x:///1", labels={"l": "1"})
    before = cluster.request("GET", f"/api/v1/nodes/{name}")
    run(names=[name], taints=[C])
    after = cluster.request("GET", f"/api/v1/nodes/{name}")
    assert {**after["spec"], "taints": []} == {**before["spec"], "taints": []}
    assert after["metadata"]["labels"] == before["metadata"]["labels"]
    assert "kos.labs.k8s_node_taint" in [entry["manager"] for entry in after["metadata"]["managedFields"]]


def test_the_server_does_not_set_the_time(cluster, run):
    name = cluster.node("w")
    run(names=[name], taints=[{"key": "example.com/b", "effect": "NoExecute"}])
    assert cluster.taints(name) == [{"key": "example.com/b", "effect": "NoExecute"}]


@pytest.mark.parametrize("check", [True, False])
def test_calls(cluster, run, check):
    """One request reads a node by name, one lists those selected, one writes each that differs."""
    names = [cluster.node(f"n{number}", [A] if number % 2 else [], labels={"example.com/set": "calls"}) for number in range(6)]
    run(names=names, state="absent", taints=[{"key": "example.com/none"}])

    def counted(**arguments):
        before = cluster.calls()
        run(check=check, taints=[A], **arguments)
        after = cluster.calls()
        return {
            place: count - before.get(place, 0) for place, count in after.items() if count != before.get(place, 0) and place[1] == "nodes"
        }

    assert counted(label_selectors=["example.com/set=calls"]) == {("LIST", "nodes"): 1, ("PATCH", "nodes"): 3}
    second = counted(names=names)
    assert second == {("GET", "nodes"): 6, **({("PATCH", "nodes"): 3} if check else {})}


def test_selectors(cluster, run):
    for name, labels in (("s1", {"example.com/x": "1", "example.com/y": "1"}), ("s2", {"example.com/x": "1"}), ("s3", {})):
        cluster.node(name, labels=labels)
    result = run(label_selectors=["example.com/x=1", "example.com/y"], taints=[A])
    assert [node["name"] for node in result["nodes"]] == ["s1"]
    result = run(label_selectors=["example.com/x in (1, 2)"], taints=[A])
    assert [(node["name"], node["changed"]) for node in result["nodes"]] == [("s1", False), ("s2", True)]
    assert cluster.taints("s3") == []
    assert "no node matches example.com/x=7" in run(label_selectors=["example.com/x=7"], taints=[A])["msg"]
    assert run(label_selectors=["example.com/x=7"], taints=[A], allow_no_match=True)["nodes"] == []
    assert run(label_selectors=["==="], taints=[A])["msg"].startswith("nodes with ===: 400 ")


def test_many_nodes_come_in_pages(cluster, run, monkeypatch):
    names = [cluster.node(f"page-{number}", labels={"example.com/set": "pages"}) for number in range(5)]
    monkeypatch.setattr(k8s_node_taint_api, "_PAGE", 2)
    assert [node["name"] for node in run(check=True, label_selectors=["example.com/set=pages"], taints=[A])["nodes"]] == names


def test_an_unknown_node_is_named_and_nothing_is_written(cluster, run):
    cluster.node("w")
    for check in (True, False):
        result = run(check=check, names=["w", "nobody-1", "nobody-2"], taints=[A])
        assert result["msg"] == 'node nobody-1: 404 nodes "nobody-1" not found\nnode nobody-2: 404 nodes "nobody-2" not found'
    assert cluster.taints("w") == []


def test_lack_of_rights_fails_in_check_mode_as_for_real(cluster, run):
    cluster.node("w")
    for check in (True, False):
        result = run(check=check, kubeconfig=cluster.kubeconfig("reader"), names=["w"], taints=[A])
        assert result["msg"].startswith('node w: 403 nodes "w" is forbidden: User "reader" cannot patch resource "nodes"')
        assert result["msg"].endswith("\nno node was changed")
        assert result["changed"] is False
        result = run(check=check, kubeconfig=cluster.kubeconfig("nobody"), names=["w"], taints=[A])
        assert result["msg"].startswith('node w: 403 nodes "w" is forbidden: User "nobody" cannot get resource "nodes"')
        result = run(check=check, kubeconfig=cluster.kubeconfig("stranger"), names=["w"], taints=[A])
        assert "401" in result["msg"]
    # Who may only read can still see that nothing differs.
    assert run(kubeconfig=cluster.kubeconfig("reader"), names=["w"], state="exact", taints=[])["changed"] is False


def test_partial_failure(cluster, run):
    names = [cluster.node(name) for name in ("first", "allowed", "last")]
    arguments = {"kubeconfig": cluster.kubeconfig("single"), "names": names, "taints": [A]}
    foreseen = run(check=True, **arguments)
    result = run(**arguments)
    assert result == foreseen
    assert (result["failed"], result["changed"]) == (True, True)
    assert "node first: 403" in result["msg"]
    assert "node last: 403" in result["msg"]
    assert result["msg"].endswith("\nchanged nevertheless: allowed")
    assert [cluster.taints(name) for name in names] == [[], [A], []]


def test_a_server_that_does_not_answer(cluster, run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{taken.getsockname()[1]}"
        begun = time.monotonic()
        result = run(kubeconfig=cluster.kubeconfig(url=url), names=["w"], taints=[A])
    assert "Connection refused" in result["msg"]
    assert result["msg"].startswith("the API server: no answer, ")
    assert time.monotonic() - begun < 20


def test_a_server_that_says_nothing(cluster, run, monkeypatch):
    monkeypatch.setattr(k8s_node_taint_api, "_SILENCE", (0.5, 0.5))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        begun = time.monotonic()
        result = run(kubeconfig=cluster.kubeconfig(url=url), names=["w"], taints=[A])
    assert "timed out" in result["msg"]
    assert time.monotonic() - begun < 20


def test_a_certificate_of_somebody_else(cluster, run, tmp_path):
    config = yaml.safe_load(pathlib.Path(cluster.kubeconfig()).read_text(encoding="utf-8"))
    del config["clusters"][0]["cluster"]["certificate-authority"]
    result = run(kubeconfig=config, names=["w"], taints=[A])
    assert ": no answer, " in result["msg"]
    assert "certificate verify failed" in result["msg"]


TEXT = st.one_of(
    st.text(alphabet="aZ0-_./= :\u00e9", max_size=8),
    st.from_regex(r"\A[a-z0-9.-]{1,6}/[A-Za-z0-9_.-]{1,6}\Z"),
    st.integers(60, 66).map("x".__mul__),
    st.integers(250, 256).map(lambda length: ("y" * 60 + ".") * 4 + "y" * (length - 244) + "/n"),
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXT, TEXT)
@example("a\n", "")
@example("a", "v\n")
@example("a/b/c", "")
@example("", "")
def test_the_server_and_the_module_judge_alike(cluster, key, value):
    with contextlib.suppress(RuntimeError):
        cluster.request("POST", "/api/v1/nodes", {"metadata": {"name": "judged", "labels": {"a": "b"}}})
    wrong = mistakes(rules=[Rule(key, "NoSchedule", value)], state="present")
    body = {"spec": {"taints": [{"key": key, "value": value, "effect": "NoSchedule"}]}}
    try:
        cluster.request("PATCH", "/api/v1/nodes/judged?dryRun=All", body, kind="application/merge-patch+json")
        refused = ""
    except RuntimeError as error:
        refused = str(error)
    assert bool(wrong) == ("422" in refused), (key, value, wrong, refused)


def test_two_writers_at_once_lose_nothing(cluster, kubeconfig):
    """Eight writers add and remove taints of one node at the same time; each finds its own, and all are there in the end."""
    name = cluster.node("busy", [B])
    writers, rounds = 8, 6
    conflicts = []
    ready = threading.Barrier(writers)

    class Counting(Api):
        def write(self, node, taints):
            try:
                return super().write(node, taints)
            except ConflictError:
                conflicts.append(node["metadata"]["name"])
                raise

    def work(number: int) -> list[str | None]:
        api = Counting(lambda: get_api_client(kubeconfig=kubeconfig))
        errors = []
        for turn in range(rounds):
            ready.wait(60)
            state = "absent" if turn % 2 else "present"
            rules = [Rule(f"example.com/w{number}-{which}", "NoSchedule") for which in ("x", "y")][: 2 - turn % 2]
            (outcome,) = apply(api, [api.read(name)], lambda node, rules=rules, state=state: plan_node(node, rules=rules, state=state))
            errors.append(outcome.error)
        return errors

    with concurrent.futures.ThreadPoolExecutor(writers) as pool:
        errors = [error for result in pool.map(work, range(writers)) for error in result]
    assert errors == [None] * writers * rounds
    print(f"{writers * rounds} changes, {len(conflicts)} conflicts")
    assert conflicts, "nobody met: the test shows nothing"
    # Each round ends with x removed and y there.
    expected = {"example.com/b", *(f"example.com/w{number}-y" for number in range(writers))}
    assert {taint["key"] for taint in cluster.taints(name)} == expected
    assert B in cluster.taints(name)


@pytest.fixture
def playbook(root, kubeconfig, tmp_path):
    """Runs ansible-playbook with these tasks and returns its output."""

    def play(name: str, tasks: t.Sequence[t.Mapping[str, t.Any]], *argv: str) -> str:
        defaults = {"group/kos.labs.k8s": {"kubeconfig": kubeconfig}}
        content = {"hosts": "localhost", "gather_facts": False, "module_defaults": defaults, "tasks": list(tasks)}
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump([content]), encoding="utf-8")
        program = pathlib.Path(sys.executable).with_name("ansible-playbook")
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_COLLECTIONS_PATH": str(root / ".venv"), "ANSIBLE_HOME": str(tmp_path)}
        done = subprocess.run(
            [program, path, *argv],
            # Away from the clone's ansible.cfg.
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return play


def test_two_playbooks_at_once(cluster, playbook):
    """The module as Ansible runs it, with the login from the action group's defaults."""
    name = cluster.node("w", [B])
    keys = [[f"example.com/p{number}-{turn}" for turn in range(4)] for number in range(2)]
    tasks = [[{"name": key, "kos.labs.k8s_node_taint": {"name": name, "taints": [{**A, "key": key}]}} for key in own] for own in keys]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for output in pool.map(playbook, ("one", "other"), tasks):
            assert "changed=4" in output
    assert {taint["key"] for taint in cluster.taints(name)} == {"example.com/b", *keys[0], *keys[1]}


def test_examples_as_they_stand(cluster, playbook):
    """The documentation's tasks, in check mode and for real."""
    for name in ("worker1", "worker2"):
        cluster.node(name, [])
    cluster.node("master1", [NOT_READY, C], labels={"node-role.kubernetes.io/control-plane": ""})
    tasks = yaml.safe_load(k8s_node_taint.EXAMPLES)
    for task in tasks:
        assert task["kos.labs.k8s_node_taint"].pop("kubeconfig")
    foreseen = playbook("examples", tasks, "--check", "--diff")
    # The second example removes what the first one sets, and in check mode nothing is set.
    assert "changed=2" in foreseen
    assert "+example.com/dedicated=research:NoSchedule" in foreseen
    assert cluster.taints("worker1") == []
    assert "changed=3" in playbook("examples", tasks)
    assert cluster.taints("worker1") == []
    assert cluster.taints("master1") == [NOT_READY, {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]


def test_the_guide_as_it_stands(cluster, playbook, root):
    """Its tasks, in their order, lead to what it says."""
    for name in ("worker1", "worker2"):
        cluster.node(name, [C])
    cluster.node("gpu1", [], labels={"example.com/gpu": "true"})
    cluster.node("master1", [NOT_READY, C], labels={"node-role.kubernetes.io/control-plane": ""})
    text = (root / "docs/modules/k8s_node_taint.md").read_text(encoding="utf-8")
    tasks = [task for block in re.findall(r"^```yaml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE) for task in yaml.safe_load(block)]
    assert "ok=5 " in playbook("guide", tasks)
    assert cluster.taints("gpu1") == [{"key": "example.com/gpu", "value": "true", "effect": "NoSchedule"}]
    assert cluster.taints("worker1") == [C]
    assert cluster.taints("master1") == [NOT_READY, {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]


def test_waiting_for_somebody_who_comes(cluster, run):
    names = [cluster.node("w1", [A, UNINITIALIZED]), cluster.node("w2", [UNINITIALIZED])]
    timers = [threading.Timer(delay, cluster.set_taints, (name, rest)) for delay, name, rest in ((1, "w2", []), (2, "w1", [A]))]
    for timer in timers:
        timer.start()
    begun = time.monotonic()
    try:
        result = run(names=names, taints=[C], wait_gone=[{"key": UNINITIALIZED["key"]}], wait_timeout=30, wait_interval=0.2)
    finally:
        for timer in timers:
            timer.join()
    assert (result["changed"], result["holding"]) == (True, [])
    assert 1.9 < time.monotonic() - begun < 10


def test_waiting_for_somebody_who_does_not_come(cluster, run):
    name = cluster.node("w", [A, UNINITIALIZED])
    begun = time.monotonic()
    arguments = {"names": [name], "wait_gone": [{"key": UNINITIALIZED["key"]}], "wait_timeout": 2, "wait_interval": 0.5}
    result = run(**arguments)
    assert 2 <= time.monotonic() - begun < 6
    assert result["msg"].startswith(
        f"not gone after 2 s:\nw has {UNINITIALIZED['key']}=true:NoSchedule; its providerID is empty: no cloud controller manager"
    )
    assert "wrote its taints last, 20" in result["msg"]
    foreseen = run(check=True, **arguments)
    assert "failed" not in foreseen
    assert foreseen["holding"] == result["holding"]
    assert cluster.taints(name) == [A, UNINITIALIZED]


def test_a_cordoned_node_says_so(cluster, run):
    name = cluster.node("w", [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}], unschedulable=True)
    result = run(names=[name], wait_gone=[{"key": "node.kubernetes.io/unschedulable"}], wait_timeout=0)
    assert "it is cordoned" in result["msg"]


def test_a_new_node_of_the_server_is_not_ready(cluster, run):
    """The taint that the server itself gives a new node survives an exact list."""
    with contextlib.suppress(RuntimeError):
        cluster.request("DELETE", "/api/v1/nodes/fresh")
    cluster.request("POST", "/api/v1/nodes", {"metadata": {"name": "fresh", "labels": {"a": "b"}}})
    assert cluster.taints("fresh") == [NOT_READY]
    run(names=["fresh"], state="exact", taints=[A])
    assert cluster.taints("fresh") == [NOT_READY, A]
    result = run(names=["fresh"], wait_gone=[{"key": NOT_READY["key"]}], wait_timeout=0)
    assert "its kubelet has not reported the condition Ready" in result["msg"]
