# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster knows its cloud: what the cloud controller manager does, seen by kubectl and the OpenStack client."""

from __future__ import annotations

import base64
import json
import uuid

import pytest

NAME = "openstack-cloud-controller-manager"
SHUTDOWN = "node.cloudprovider.kubernetes.io/shutdown"


@pytest.fixture(scope="module", autouse=True)
def manager(kubectl):
    """Return the DaemonSet; without one the lab that stands is too early for these tests."""
    done = kubectl.run("-n", "kube-system", "get", "daemonset", NAME, "-o", "json")
    if done.returncode:
        pytest.skip("no cloud controller manager runs in this lab")
    return json.loads(done.stdout)


@pytest.fixture
def invented(kubectl):
    """Return a way to make nodes without a kubelet; all of them go away again."""
    made = []

    def make(provider: str) -> str:
        name = f"kos-e2e-{len(made)}"
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name},
            "spec": {"providerID": provider, "taints": [{"key": "kos.labs/e2e", "effect": "NoSchedule"}]},
        }
        made.append(name)
        kubectl("create", "-f", "-", input=json.dumps(node))
        return name

    yield make
    kubectl("delete", "node", *made, "--ignore-not-found")


def exists(kubectl, name: str) -> bool:
    return bool(kubectl("get", "node", name, "--ignore-not-found", "-o", "name"))


def taints(kubectl, name: str) -> set[str]:
    return {taint["key"] for taint in kubectl.json("get", "node", name, "-o", "json")["spec"].get("taints", [])}


def test_nodes_are_the_servers_of_the_project(kubectl, tenant, nodes):
    servers = {server["Name"]: server for server in tenant.json("server", "list", "--long", "-f", "json")}
    for node in kubectl.json("get", "nodes", "-o", "json")["items"]:
        name, labels = node["metadata"]["name"], node["metadata"]["labels"]
        assert node["spec"]["providerID"].rpartition("/")[2] == servers[name]["ID"]
        addresses = {(each["type"], each["address"]) for each in node["status"]["addresses"]}
        assert addresses >= {("InternalIP", nodes[name]["node_ip"]), ("ExternalIP", nodes[name]["floating_ip"])}
        of_server = {address for network in servers[name]["Networks"].values() for address in network}
        assert {address for kind, address in addresses if kind != "Hostname"} == of_server
        assert labels["node.kubernetes.io/instance-type"] == tenant.json("server", "show", name, "-f", "json")["flavor"]["original_name"]
        assert labels["topology.kubernetes.io/zone"] == servers[name]["Availability Zone"]


def test_serving_certificates_name_the_floating_addresses(kubectl, nodes):
    """Kubelets ask for new ones when the cloud has given them addresses."""
    for name in nodes:
        kubectl("get", "--raw", f"/api/v1/nodes/{name}/proxy/healthz")


def test_a_node_whose_server_is_gone_disappears(kubectl, invented, wait_for):
    name = invented(f"openstack:///{uuid.uuid4()}")
    wait_for("the end of a node without a server", lambda: not exists(kubectl, name), 60)


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
    wait_for(
        "pods on the node",
        lambda: not kubectl("get", "pods", "-A", f"--field-selector=spec.nodeName={name},status.phase!=Running", "-o", "name"),
        120,
    )


def test_one_leads_and_another_takes_over(kubectl, manager, wait_for):
    lease = ("-n", "kube-system", "get", "lease", "cloud-controller-manager", "-o", "jsonpath={.spec.holderIdentity}")
    before = kubectl(*lease)
    kubectl("-n", "kube-system", "delete", "pod", "-l", f"app={NAME}", "--wait=true")
    kubectl("-n", "kube-system", "rollout", "status", f"daemonset/{NAME}", "--timeout=120s")
    wait_for("another leader", lambda: kubectl(*lease) not in ("", before), 60)


def test_it_may_do_what_it_must_and_no_more(kubectl):
    account = "--as=system:serviceaccount:kube-system:cloud-controller-manager"

    def may(*words: str) -> bool:
        return kubectl.run("auth", "can-i", account, *words).stdout.strip() == "yes"

    assert may("delete", "nodes")
    assert may("update", "lease/cloud-controller-manager", "-n", "kube-system")
    for words in (("get", "secrets"), ("update", "lease/kube-scheduler"), ("create", "pods"), ("create", "serviceaccounts/token")):
        assert not may(*words, "-n", "kube-system"), words


def test_metrics_are_for_those_who_may(kubectl, paths):
    """The API server's proxy is the way in from outside; who asks directly is refused in the tests of the role."""
    pods = kubectl.json("-n", "kube-system", "get", "pods", "-l", f"app={NAME}", "-o", "json")["items"]
    path = f"/api/v1/namespaces/kube-system/pods/https:{pods[0]['metadata']['name']}:10258/proxy"
    assert kubectl("get", "--raw", f"{path}/healthz") == "ok"


def test_the_cluster_has_no_more_than_the_application_credential(kubectl, paths):
    data = kubectl.json("-n", "kube-system", "get", "secret", "cloud-config", "-o", "json")["data"]
    text = base64.b64decode(data["cloud.conf"]).decode()
    assert "application-credential-id" in text
    assert "password" not in text
    assert text == (paths.state / "cloud.conf").read_text(encoding="utf-8")
