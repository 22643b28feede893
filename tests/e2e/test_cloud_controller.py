# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster knows its cloud: what the cloud controller manager does, seen by kubectl and the OpenStack client."""

from __future__ import annotations

import base64
import json
import subprocess
import uuid

import pytest

NAME = "openstack-cloud-controller-manager"
SCRAPER = "kos-e2e-scraper"


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


@pytest.fixture
def scraper(kubectl):
    """Return the token of an account that may read metrics and nothing else."""
    rule = {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": SCRAPER}
    account = {"kind": "ServiceAccount", "name": SCRAPER, "namespace": "kube-system"}
    rbac = "rbac.authorization.k8s.io/v1"
    objects = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": SCRAPER, "namespace": "kube-system"}},
        {"apiVersion": rbac, "kind": "ClusterRole", "metadata": {"name": SCRAPER}, "rules": [rule]},
        {"apiVersion": rbac, "kind": "ClusterRoleBinding", "metadata": {"name": SCRAPER}, "roleRef": role, "subjects": [account]},
    ]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    try:
        kubectl("apply", "-f", "-", input=text)
        yield kubectl("-n", "kube-system", "create", "token", SCRAPER, "--duration=10m")
    finally:
        kubectl("delete", "-f", "-", "--ignore-not-found", input=text)


def test_metrics_are_for_those_who_may(paths, nodes, inventory, scraper):
    """They are read on the master itself, as the port is closed to the outside; the token goes in by standard input."""
    master = inventory["masters"]["hosts"][0]
    url = f"https://{nodes[master]['node_ip']}:10258/metrics"

    def ask(token: str) -> str:
        argv = [str(paths.root / "tools/ssh_to_node"), master, "curl", "--silent", "--insecure", "--header", "@-", url]
        text = f"Authorization: Bearer {token}\n"
        return subprocess.run(argv, env=paths.environment(), input=text, capture_output=True, text=True, check=True).stdout

    assert "openstack_api_requests_total" in ask(scraper)
    assert "openstack" not in ask("nobody")


def test_the_cluster_has_no_more_than_the_application_credential(kubectl, paths):
    data = kubectl.json("-n", "kube-system", "get", "secret", "cloud-config", "-o", "json")["data"]
    text = base64.b64decode(data["cloud.conf"]).decode()
    assert "application-credential-id" in text
    assert "password" not in text
    assert text == (paths.state / "cloud.conf").read_text(encoding="utf-8")
