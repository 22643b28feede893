# SPDX-License-Identifier: GPL-3.0-or-later
"""What to change on nodes so that they carry labels and taints."""

from __future__ import annotations

DOCUMENTATION = r"""
name: node_patches
short_description: What to change on nodes so that they carry labels and taints
version_added: 0.1.0
author: The kos.labs authors
description:
  - Takes Node objects and returns one patch for each that lacks a label or a taint, so an empty list when nothing is to do.
  - The taints of a node are one list that every patch replaces as a whole. So a patch has all taints that are there already,
    and the resource version, with which the API server refuses it if somebody else was faster.
options:
  _input:
    description: Node objects.
    type: list
    elements: dict
    required: true
  labels:
    description: Labels that they must have.
    type: dict
    default: {}
  taints:
    description: Taints that they must have; C(key), C(effect) and C(value) each.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
patches: "{{ nodes | kos.labs.node_patches(labels={'node-role.kubernetes.io/control-plane': ''}) }}"
"""

RETURN = r"""
_value:
  description: Patches, for M(kubernetes.core.k8s) with O(kubernetes.core.k8s#module:state=patched).
  type: list
  elements: dict
"""

import typing as t

Object = t.Mapping[str, t.Any]


def _identity(taint: Object) -> tuple[str, str]:
    return taint["key"], taint["effect"]


def merge_taints(have: t.Sequence[Object], want: t.Sequence[Object]) -> list[Object]:
    """Return what a node must carry: what it has, with those of the same key and effect replaced, and what it lacks."""
    wanted = {_identity(taint): taint for taint in want}
    return [taint for taint in have if _identity(taint) not in wanted] + list(wanted.values())


def _same(left: Object, right: Object) -> bool:
    return _identity(left) == _identity(right) and (left.get("value") or "") == (right.get("value") or "")


def node_patches(
    nodes: t.Iterable[Object], labels: Object | None = None, taints: t.Sequence[Object] | None = None
) -> list[dict[str, t.Any]]:
    """Return one patch for each node that lacks something."""
    patches = []
    for node in nodes:
        metadata, have = node["metadata"], node["spec"].get("taints") or []
        new_labels = {key: value for key, value in (labels or {}).items() if (metadata.get("labels") or {}).get(key) != value}
        lacking = [taint for taint in taints or [] if not any(_same(taint, other) for other in have)]
        if not new_labels and not lacking:
            continue
        patch: dict[str, t.Any] = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": metadata["name"]}}
        if new_labels:
            patch["metadata"]["labels"] = new_labels
        if lacking:
            patch["metadata"]["resourceVersion"] = metadata["resourceVersion"]
            patch["spec"] = {"taints": merge_taints(have, taints or [])}
        patches.append(patch)
    return patches


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return them by name."""
        return {"node_patches": node_patches}
