# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims, and pods that write into what they become."""

from __future__ import annotations

import contextlib
import typing as t

import pytest

from kos.cli import Paths

# It says a number only when the disk has it.
WRITER = (
    "n=0; while :; do n=$((n + 1)); echo $n > /data/new; sync /data/new; mv /data/new /data/number; sync -f /data; echo $n; sleep 0.1; done"
)


@contextlib.contextmanager
def namespace(paths: Paths, contract: t.Mapping[str, t.Any], kubectl: t.Any, name: str) -> t.Iterator[t.Callable[..., str]]:
    """Yield kubectl in a namespace of our own; skip where there are no volumes."""
    if "cinder" not in contract["offers"] or not (paths.state / "cinder_csi.conf").exists():
        pytest.skip("the cluster of this lab has no volumes")
    kubectl("create", "namespace", name)

    def run(*arguments: str, **options: t.Any) -> str:
        return str(kubectl("-n", name, *arguments, **{"timeout": 400, **options}))

    try:
        yield run
    finally:
        kubectl("delete", "namespace", name, "--ignore-not-found", "--timeout=300s", timeout=330)


def neighbours(kubectl: t.Any, nodes: t.Iterable[str]) -> tuple[str, str]:
    """Return two nodes between which a volume can move, workers if there are two; twice the same where there is no other. It does not leave its zone."""
    zones = {
        each["metadata"]["name"]: each["metadata"]["labels"].get("topology.cinder.csi.openstack.org/zone")
        for each in kubectl.json("get", "nodes", "-o", "json")["items"]
    }
    *others, here = sorted(nodes)
    return here, next((name for name in reversed(others) if zones[name] == zones[here]), here)


def claim(name: str, storage_class: str) -> dict[str, t.Any]:
    """Return a claim of 1 GiB."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "labels": {"part": "many"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": storage_class, "resources": {"requests": {"storage": "1Gi"}}},
    }


def writer(name: str, versions: t.Mapping[str, str], here: str) -> dict[str, t.Any]:
    """Return a claim and a pod that counts in it; its successor says where the count ended. It prefers one node, and takes others."""
    container = {
        "name": "main",
        "image": f"registry.k8s.io/e2e-test-images/agnhost:{versions['agnhost_version']}",
        "command": ["sh", "-ec", f"[ ! -e /data/number ] || {{ echo found $(cat /data/number); exec sleep infinity; }}; {WRITER}"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    wish = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [here]}]}
    spec = {
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": name}}],
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": wish}]}},
    }
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": spec}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": 1, "strategy": {"type": "Recreate"}, "selector": {"matchLabels": labels}, "template": template},
    }
    return {"apiVersion": "v1", "kind": "List", "items": [claim(name, "cinder"), deployment]}
