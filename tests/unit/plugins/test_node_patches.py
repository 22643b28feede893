# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy

import pytest
from ansible_collections.kos.labs.plugins.filter.node_patches import FilterModule, merge_taints, node_patches

ROLE = "node-role.kubernetes.io/control-plane"
TAINT = {"key": ROLE, "effect": "NoSchedule"}
OTHER = {"key": "node.cloudprovider.kubernetes.io/uninitialized", "value": "true", "effect": "NoSchedule"}


def node(labels=None, taints=None):
    return {"metadata": {"name": "master1", "resourceVersion": "7", "labels": labels or {}}, "spec": {"taints": taints} if taints else {}}


def apply(obj, patch):
    changed = copy.deepcopy(obj)
    changed["metadata"]["labels"].update(patch["metadata"].get("labels", {}))
    changed["spec"].update(patch.get("spec", {}))
    return changed


@pytest.mark.parametrize(
    ("have", "labels", "taints"),
    [
        (node(), {ROLE: ""}, [TAINT]),
        (node(taints=[OTHER]), {ROLE: ""}, [TAINT]),
        (node(labels={ROLE: ""}), {ROLE: ""}, [TAINT]),
        (node(labels={ROLE: "old"}, taints=[TAINT]), {ROLE: ""}, [TAINT]),
        (node(taints=[{**TAINT, "value": "old"}, OTHER]), {}, [TAINT]),
    ],
)
def test_a_patch_brings_what_is_wanted_and_keeps_the_rest(have, labels, taints):
    (patch,) = node_patches([have], labels=labels, taints=taints)
    after = apply(have, patch)
    assert node_patches([after], labels=labels, taints=taints) == []
    assert all(taint in after["spec"]["taints"] for taint in taints)
    assert (OTHER in have["spec"].get("taints", [])) == (OTHER in after["spec"]["taints"])


def test_taints_are_changed_only_as_they_were_read():
    (patch,) = node_patches([node()], taints=[TAINT])
    assert patch["metadata"]["resourceVersion"] == "7"


def test_a_label_needs_no_version_and_no_taints():
    (patch,) = node_patches([node(taints=[OTHER])], labels={ROLE: ""})
    assert patch == {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "master1", "labels": {ROLE: ""}}}


def test_an_empty_value_is_no_value():
    assert node_patches([node(taints=[{**TAINT, "value": ""}])], taints=[TAINT]) == []


def test_a_taint_is_known_by_key_and_effect():
    assert merge_taints([{**TAINT, "effect": "NoExecute"}], [TAINT]) == [{**TAINT, "effect": "NoExecute"}, TAINT]


def test_nothing_wanted_is_nothing_to_do():
    assert FilterModule().filters()["node_patches"]([node()]) == []
