# SPDX-License-Identifier: GPL-3.0-or-later
"""The same tasks with kubernetes.core.k8s_taint. What both do is measured here and stands in the documentation as it was measured."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.kos.labs.plugins.module_utils.k8s_node_taint_api import Api
from ansible_collections.kos.labs.plugins.modules import k8s_node_taint
from ansible_collections.kubernetes.core.plugins.modules import k8s_taint

A = {"key": "example.com/a", "effect": "NoSchedule"}
B = {"key": "example.com/b", "value": "x", "effect": "NoExecute", "timeAdded": "2026-11-21T10:00:00Z"}
C = {"key": "example.com/c", "value": "y", "effect": "PreferNoSchedule"}


class Both:
    """The two modules: how each is run, and how to do something right after each has read the node."""

    def __init__(self, cluster: t.Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, theirs: bool) -> None:
        self.cluster, self.capsys, self.monkeypatch, self.theirs = cluster, capsys, monkeypatch, theirs
        self.module = k8s_taint if theirs else k8s_node_taint

    def run(self, check: bool = False, user: str = "admin", **arguments: t.Any) -> dict[str, t.Any]:
        given = {"_ansible_check_mode": check, "_ansible_diff": True, "kubeconfig": self.cluster.kubeconfig(user), **arguments}
        if "label_selectors" not in arguments:
            given.setdefault("name", "w")
        try:
            with patch_module_args(given):
                self.module.main()
        except SystemExit:
            return json.loads(self.capsys.readouterr().out)
        except Exception as error:
            return {"failed": True, "msg": "", "traceback": repr(error)}
        raise AssertionError("the module has not said anything")

    def after_reading(self, action: t.Callable[[], None]) -> None:
        """Let somebody else act once between this module's read and its write."""
        owner, name = (k8s_taint.K8sTaintAnsible, "get_node") if self.theirs else (Api, "read")
        read, actions = getattr(owner, name), [action]

        def reading(*arguments: t.Any, **options: t.Any) -> t.Any:
            node = read(*arguments, **options)
            while actions:
                actions.pop()()
            return node

        self.monkeypatch.setattr(owner, name, reading)


def verdict(result: dict[str, t.Any]) -> str:
    if "traceback" in result:
        return "a traceback"
    return "refused" if result.get("failed") else "changed" if result["changed"] else "not changed"


def somebody_else(both: Both) -> str:
    both.cluster.node("w", [A])
    both.after_reading(lambda: both.cluster.set_taints("w", [A, B]))
    assert both.run(taints=[C])["changed"]
    return "kept" if B in both.cluster.taints("w") else "lost"


def time_stamp(both: Both) -> str:
    both.cluster.node("w", [B])
    assert both.run(taints=[A])["changed"]
    return "kept" if B in both.cluster.taints("w") else "lost"


def only_this(both: Both) -> str:
    both.cluster.node("w", [A, B])
    result = both.run(taints=[A], **({"replace": True} if both.theirs else {"state": "exact"}))
    return ("stays" if B in both.cluster.taints("w") else "is removed") + ", " + verdict(result)


def in_check_mode(taint: dict[str, t.Any], user: str = "admin") -> t.Callable[[Both], str]:
    def case(both: Both) -> str:
        both.cluster.node("w", [C])
        real = verdict(both.run(taints=[taint], user=user))
        both.cluster.node("w", [C])
        return f"{verdict(both.run(check=True, taints=[taint], user=user))}; for real {real}"

    return case


def headers(both: Both) -> str:
    both.cluster.node("w", [])
    return "yes" if "Audit-Id" in both.run(taints=[A], user="reader")["msg"] else "no"


def differences(both: Both) -> str:
    both.cluster.node("w", [])
    return "before and after" if both.run(check=True, taints=[A]).get("diff") else "none"


def requests(both: Both) -> str:
    names = [both.cluster.node(f"n{number}", [A] if number % 2 else [], labels={"example.com/set": "beside"}) for number in range(6)]
    both.run(taints=[A], name=both.cluster.node("w", []))
    before = both.cluster.calls()
    if both.theirs:
        results = [both.run(taints=[A], name=name) for name in names]
    else:
        results = [both.run(taints=[A], label_selectors=["example.com/set=beside"])]
    after = both.cluster.calls()
    assert {name: both.cluster.taints(name) for name in names} == {name: [A] for name in names}, results
    counts = {verb: after[verb, "nodes"] - before.get((verb, "nodes"), 0) for verb in ("LIST", "GET", "PATCH")}
    return ", ".join([f"{len(results)} task{'s' * (len(results) > 1)}", *(f"{count} {verb}" for verb, count in counts.items() if count)])


CASES: dict[str, t.Callable[[Both], str]] = {
    "a taint that somebody else adds between the module's read and its write": somebody_else,
    "the `timeAdded` of another taint of the node": time_stamp,
    "the node has two taints, one is declared as the only one (`state: exact`, `replace: true`): the other": only_this,
    "an effect that does not exist, check mode": in_check_mode({**A, "effect": "NoExec"}),
    "a key that does not exist in Kubernetes (`a b`), check mode": in_check_mode({**A, "key": "a b"}),
    "a taint without an effect, check mode": in_check_mode({"key": "example.com/a"}),
    "a taint without a key, check mode": in_check_mode({"effect": "NoExecute"}),
    "a misspelt option of a taint (`valeu`), check mode": in_check_mode({**A, "valeu": "x"}),
    "a user who may read but not write, check mode": in_check_mode(A, "reader"),
    "the answer's HTTP headers in the error message": headers,
    "`--diff`": differences,
    "six nodes with a label, three of which lack the taint": requests,
}


@pytest.mark.parametrize("case", list(CASES))
def test_the_documentation_says_what_was_measured(cluster, capsys, monkeypatch, root, case):
    ours, theirs = (CASES[case](Both(cluster, capsys, monkeypatch, theirs)) for theirs in (False, True))
    row = f"| {case} | {ours} | {theirs} |"
    print(row)
    assert row in (root / "docs/modules/k8s_node_taint.md").read_text(encoding="utf-8")
