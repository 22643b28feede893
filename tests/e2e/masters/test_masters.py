# SPDX-License-Identifier: GPL-3.0-or-later
"""Three masters: any of them may be lost, and the API goes on."""

from __future__ import annotations

import json
import subprocess

import pytest
from silence import Watch

NAMESPACE = "kos-e2e-masters"
LEASES = ("kube-controller-manager", "kube-scheduler", "cloud-controller-manager")


@pytest.fixture(scope="module", autouse=True)
def masters(inventory):
    found = sorted(inventory["masters"]["hosts"])
    if len(found) < 3:
        pytest.skip("this lab has one master")
    return found


def leader(kubectl, lease):
    done = kubectl.run("-n", "kube-system", "get", "lease", lease, "-o", "json")
    return json.loads(done.stdout)["spec"].get("holderIdentity", "").partition("_")[0] if done.returncode == 0 else ""


def healthy_members(paths, node):
    """Ask etcd on a master for the endpoints that are well."""
    keys = "sudo env ETCDCTL_CACERT=/etc/etcd/ca.crt ETCDCTL_CERT=/etc/etcd/server.crt ETCDCTL_KEY=/etc/etcd/server.key"
    argv = [str(paths.root / "tools/ssh_to_node"), node, f"{keys} etcdctl endpoint health --cluster --write-out=json"]
    done = subprocess.run(argv, env=paths.environment(), capture_output=True, text=True, check=False)
    return [each for each in json.loads(done.stdout or "[]") if each["health"]]


def answers(kubectl):
    """Ask the API as a client with a kubeconfig does."""
    return kubectl.run("--request-timeout=5s", "get", "--raw", "/api/v1/namespaces/default").returncode == 0


def test_clients_talk_to_the_load_balancer(kubectl, tenant, inventory):
    found = {each["name"]: each for each in tenant.json("loadbalancer", "list", "-f", "json")}
    variables = inventory["_meta"]["hostvars"][inventory["masters"]["hosts"][0]]
    assert found["kos-api"]["vip_address"] == variables["cluster_api_address"]
    server = kubectl.json("config", "view", "-o", "json")["clusters"][0]["cluster"]["server"]
    assert server == f"https://{variables['cluster_api_floating_ip']}:6443"


def test_the_loss_of_a_master_is_survived(paths, kubectl, tenant, masters, wait_for):
    """The one that has most to lose: it leads the controller manager."""
    lost = leader(kubectl, "kube-controller-manager")
    assert lost in masters
    left = [name for name in masters if name != lost]
    watch = Watch(lambda: answers(kubectl))
    kubectl("create", "namespace", NAMESPACE)
    try:
        watch.start()
        tenant("server", "stop", lost)
        wait_for("the stop", lambda: tenant.json("server", "show", lost, "-f", "json")["status"] == "SHUTOFF", 180)
        for lease in LEASES:
            wait_for(f"another leader of {lease}", lambda lease=lease: leader(kubectl, lease) in left, 120)
        assert len(healthy_members(paths, left[0])) == 2
        image = kubectl.json("-n", "kube-system", "get", "deployment", "coredns", "-o", "json")["spec"]["template"]["spec"]["containers"][
            0
        ]["image"]
        kubectl("-n", NAMESPACE, "create", "deployment", "late", f"--image={image}", "--", "/coredns", "-dns.port=5353")
        kubectl("-n", NAMESPACE, "rollout", "status", "deployment/late", "--timeout=180s")
    finally:
        silence = watch.end()
        wait_for("the stop", lambda: tenant.json("server", "show", lost, "-f", "json")["status"] in ("SHUTOFF", "ACTIVE"), 180)
        tenant.run("server", "start", lost)
        kubectl("delete", "namespace", NAMESPACE, "--timeout=120s")
    print(f"{watch.asked} requests, the API was silent for at most {silence:.1f} s")
    assert silence < 60
    wait_for("the lost member of etcd", lambda: len(healthy_members(paths, left[0])) == 3, 240)
    kubectl("wait", "node", lost, "--for=condition=Ready", "--timeout=240s")
    for workload in kubectl("-n", "kube-system", "get", "daemonsets", "-o", "name").split():
        kubectl("-n", "kube-system", "rollout", "status", workload, "--timeout=240s")
