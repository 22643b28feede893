# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster, by kubectl and by plain HTTP from outside."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import urllib.request

import pytest

NAMESPACE = "kos-e2e"


@pytest.fixture(scope="module")
def web(kubectl, versions):
    """Two web servers behind a service with a node port, in a namespace that goes away again."""
    image = f"registry.k8s.io/e2e-test-images/agnhost:{versions['agnhost_version']}"
    labels = {"app": "web"}
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": NAMESPACE},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "terminationGracePeriodSeconds": 1,
                        "containers": [
                            {
                                "name": "web",
                                "image": image,
                                "args": ["netexec", "--http-port=8080"],
                                "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
                            }
                        ],
                    },
                },
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": NAMESPACE},
            "spec": {"type": "NodePort", "selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
        },
    ]
    try:
        kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        kubectl("-n", NAMESPACE, "rollout", "status", "deployment/web", "--timeout=180s")
        yield kubectl.json("-n", NAMESPACE, "get", "service", "web", "-o", "json")["spec"]
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")


def get(url: str) -> str:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()
    return ""


def test_nodes_are_ready_at_the_pinned_version(kubectl, nodes, versions):
    found = {node["metadata"]["name"]: node for node in kubectl.json("get", "nodes", "-o", "json")["items"]}
    assert set(found) == set(nodes)
    for name, node in found.items():
        conditions = {condition["type"]: condition["status"] for condition in node["status"]["conditions"]}
        assert (conditions["Ready"], node["status"]["nodeInfo"]["kubeletVersion"]) == ("True", versions["kubernetes_version"]), name


def test_every_pod_runs(kubectl):
    pods = kubectl.json("get", "pods", "--all-namespaces", "-o", "json")["items"]
    assert pods
    assert [pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] not in ("Running", "Succeeded")] == []


def test_node_port_answers_from_outside_on_every_worker(web, nodes, inventory, wait_for):
    port = web["ports"][0]["nodePort"]
    for name in inventory["workers"]["hosts"]:
        url = f"http://{nodes[name]['floating_ip']}:{port}/hostname"
        assert wait_for(f"an answer of {url}", lambda url=url: get(url), 30).startswith("web-")


def test_service_spreads_over_its_pods(web, nodes, inventory, wait_for):
    url = f"http://{nodes[inventory['workers']['hosts'][0]]['floating_ip']}:{web['ports'][0]['nodePort']}/hostname"
    wait_for("answers of both pods", lambda: len({get(url) for _ in range(10)} - {""}) == 2, 30)


def test_exec_and_service_name(web, kubectl):
    kubectl("-n", NAMESPACE, "exec", "deployment/web", "--", "/agnhost", "connect", "--timeout=5s", "web:80")


def test_logs(web, kubectl):
    assert "8080" in kubectl("-n", NAMESPACE, "logs", "deployment/web")


def test_port_forward(web, kubectl):
    argv = [*kubectl.argv, "-n", NAMESPACE, "port-forward", "service/web", ":80"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = process.stdout.readline().split(" -> ")[0].rpartition(":")[2]
            assert get(f"http://127.0.0.1:{port}/hostname").startswith("web-")
        finally:
            process.terminate()


def test_a_pod_that_is_deleted_comes_back(web, kubectl):
    old = set(kubectl("-n", NAMESPACE, "get", "pods", "-o", "name").split())
    kubectl("-n", NAMESPACE, "delete", sorted(old)[0], "--wait=true")
    kubectl("-n", NAMESPACE, "rollout", "status", "deployment/web", "--timeout=60s")
    assert set(kubectl("-n", NAMESPACE, "get", "pods", "-o", "name").split()) != old


@pytest.mark.parametrize("port", [2379, 2380, 10250, 10257, 10259])
def test_inner_ports_are_closed_to_the_outside(nodes, inventory, port):
    with socket.socket() as client:
        client.settimeout(3)
        assert client.connect_ex((nodes[inventory["masters"]["hosts"][0]]["floating_ip"], port)) != 0


def test_strangers_are_refused(kubectl, nodes, inventory):
    address = nodes[inventory["masters"]["hosts"][0]]["floating_ip"]
    nobody = ("--kubeconfig=/dev/null", "--insecure-skip-tls-verify", f"--server=https://{address}:6443", "--token=stranger")
    done = kubectl.run(*nobody, "get", "nodes")
    assert done.returncode != 0
    assert "Unauthorized" in done.stderr or "must be logged in" in done.stderr
