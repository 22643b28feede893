# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers of nodes that stop, and come back."""

from __future__ import annotations

import pytest

SHUTDOWN = "node.cloudprovider.kubernetes.io/shutdown"


@pytest.fixture(scope="module", autouse=True)
def _manager(kubectl):
    if kubectl.run("-n", "kube-system", "get", "daemonset", "openstack-cloud-controller-manager").returncode:
        pytest.skip("no cloud controller manager runs in this lab")


def taints(kubectl, name: str) -> set[str]:
    return {taint["key"] for taint in kubectl.json("get", "node", name, "-o", "json")["spec"].get("taints", [])}


def test_a_node_whose_server_is_only_stopped_stays(kubectl, tenant, inventory, wait_for):
    name = sorted(inventory["workers"]["hosts"])[-1]
    before = kubectl.json("get", "node", name, "-o", "json")["metadata"]["uid"]
    tenant("server", "stop", name)
    try:
        wait_for("the taint of a stopped server", lambda: SHUTDOWN in taints(kubectl, name), 180)
        assert kubectl.json("get", "node", name, "-o", "json")["metadata"]["uid"] == before
    finally:
        wait_for("the stop", lambda: tenant.json("server", "show", name, "-f", "json")["status"] == "SHUTOFF", 120)
        tenant("server", "start", name)
    kubectl("wait", "node", name, "--for=condition=Ready", "--timeout=240s")
    wait_for("the end of the taint", lambda: SHUTDOWN not in taints(kubectl, name), 60)
    for workload in kubectl("-n", "kube-system", "get", "daemonsets,deployments", "-o", "name").split():
        kubectl("-n", "kube-system", "rollout", "status", workload, "--timeout=180s")
