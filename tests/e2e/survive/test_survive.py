# SPDX-License-Identifier: GPL-3.0-or-later
"""Data in a volume while the machines are stopped and started. The two halves are run one by one, before and after: pytest -k before, pytest -k after."""

from __future__ import annotations

import json

import pytest

NAMESPACE = "kos-e2e-survive"
SAYS = "written before the stop"


@pytest.fixture
def us(paths, contract, kubectl):
    if "cinder" not in contract["offers"] or not (paths.state / "cinder_csi.conf").exists():
        pytest.skip("the cluster of this lab has no volumes")

    def run(*arguments, **options):
        return kubectl("-n", NAMESPACE, *arguments, timeout=330, **options)

    return run


def test_before_the_stop_a_pod_writes(us, kubectl, versions):
    labels = {"app": "diary"}
    image = f"registry.k8s.io/e2e-test-images/agnhost:{versions['agnhost_version']}"
    container = {
        "name": "main",
        "image": image,
        "command": ["sh", "-c", "exec sleep infinity"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    diary = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "diary"},
        "spec": {
            "serviceName": "diary",
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": spec}],
        },
    }
    kubectl("create", "namespace", NAMESPACE)
    us("apply", "-f", "-", input=json.dumps(diary))
    us("wait", "statefulset/diary", "--for=jsonpath={.status.readyReplicas}=1", "--timeout=300s")
    us("exec", "diary-0", "--", "sh", "-ec", f"echo {SAYS} > /data/page; sync /data/page")


def test_after_the_start_it_finds_that_again(us, kubectl):
    us("rollout", "status", "statefulset/diary", "--timeout=300s")
    us("wait", "pod/diary-0", "--for=condition=Ready", "--timeout=300s")
    read = us("exec", "diary-0", "--", "cat", "/data/page")
    # As before: its volume is not only readable.
    us("exec", "diary-0", "--", "sh", "-ec", "touch /data/another; sync /data/another")
    kubectl("delete", "namespace", NAMESPACE, "--timeout=300s", timeout=330)
    assert read == SAYS
