# SPDX-License-Identifier: GPL-3.0-or-later
"""Services of type LoadBalancer, from outside as those have them who use them, and in the cloud by its own client."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import json
import socket
import subprocess
import threading

import balancers
import pytest
from balancers import ANNOTATION, get

NAMESPACE = "kos-e2e-balancers"
INTERNAL = "service.beta.kubernetes.io/openstack-internal-load-balancer"
MANAGER = "openstack-cloud-controller-manager"
# An address that nobody has.
ELSEWHERE = "198.51.100.0/24"

service = functools.partial(balancers.service, NAMESPACE)


@pytest.fixture(scope="module")
def us(nodes):
    """Return this machine's address as those see it who are behind floating addresses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((next(iter(nodes.values()))["floating_ip"], 9))
        return probe.getsockname()[0]


@pytest.fixture(scope="module")
def cloud(contract, tenant):
    if "octavia" not in contract["offers"]:
        pytest.skip("the cloud of this lab has no load balancers")
    return Cloud(tenant)


class Cloud:
    """What the project has, as its own client lists it."""

    def __init__(self, tenant):
        self.tenant = tenant

    def balancers(self):
        found = self.tenant.json("loadbalancer", "list", "-f", "json")
        return {each["name"].rpartition("_")[2]: each for each in found if f"_{NAMESPACE}_" in each["name"]}

    def listeners(self, name):
        found = self.tenant.json("loadbalancer", "listener", "list", "--loadbalancer", self.balancers()[name]["id"], "-f", "json")
        return {each["protocol_port"] for each in found}

    def floating_ips(self):
        found = self.tenant.json("floating", "ip", "list", "--long", "-f", "json")
        return {each["Floating IP Address"]: each for each in found if NAMESPACE in (each["Description"] or "")}


@pytest.fixture(scope="module")
def addresses(kubectl, cloud, versions, us, wait_for):
    """Have all Services made at the same time, in spite of a cloud controller manager that is killed while it waits."""
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        balancers.pods(NAMESPACE, versions),
        service("plain", 80, 8081),
        service("internal", 80, annotations={INTERNAL: "true"}, externalTrafficPolicy="Local"),
        service("forwarded", 80, annotations={f"{ANNOTATION}x-forwarded-for": "true", f"{ANNOTATION}keep-floatingip": "true"}),
        service(
            "guarded",
            80,
            annotations={f"{ANNOTATION}proxy-protocol": "true"},
            selector=None,
            loadBalancerSourceRanges=[f"{us}/32", ELSEWHERE],
        ),
    ]
    names = [each["metadata"]["name"] for each in objects if each["kind"] == "Service"]

    def made():
        found = kubectl.json("-n", NAMESPACE, "get", "services", "-o", "json")["items"]
        ingress = {each["metadata"]["name"]: each["status"]["loadBalancer"].get("ingress") for each in found}
        return (
            {name: ingress[name][0].get("ip") or ingress[name][0]["hostname"].removesuffix(".nip.io") for name in names}
            if all(ingress.values())
            else None
        )

    try:
        kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        wait_for("the first load balancer", cloud.balancers, 120)
        kubectl("-n", "kube-system", "delete", "pod", "-l", f"app={MANAGER}", "--grace-period=0", "--force", "--wait=false")
        found = wait_for("all addresses", made, 600)
        kubectl("-n", NAMESPACE, "rollout", "status", "deployment/web", "--timeout=60s")
        yield found
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=240s")
        for address in cloud.floating_ips():
            cloud.tenant("floating", "ip", "delete", address)


def test_a_manager_that_is_killed_meanwhile_makes_none_twice(addresses, cloud):
    found = [each["name"] for each in cloud.tenant.json("loadbalancer", "list", "-f", "json") if f"_{NAMESPACE}_" in each["name"]]
    assert sorted(name.rpartition("_")[2] for name in found) == sorted(addresses)


@pytest.mark.parametrize("port", [80, 8081])
def test_it_balances_over_the_pods_on_all_ports(kubectl, addresses, wait_for, port):
    names = set(kubectl("-n", NAMESPACE, "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}").split())
    wait_for("an answer", lambda: get(addresses["plain"], port=port), 60)
    assert {get(addresses["plain"], port=port) for _ in range(30)} == names


def test_an_internal_one_is_for_those_inside_alone(paths, addresses, cloud, nodes, wait_for):
    address = addresses["internal"]
    of_nodes = ipaddress.ip_network(next(iter(nodes.values()))["node_ip"] + "/24", strict=False)
    assert ipaddress.ip_address(address) in of_nodes
    assert not any(each["Fixed IP Address"] == address for each in cloud.floating_ips().values())
    argv = [str(paths.root / "tools/ssh_to_node"), next(iter(nodes)), "curl", "--silent", "--max-time", "5", f"http://{address}/hostname"]

    def inside():
        return subprocess.run(argv, env=paths.environment(), capture_output=True, text=True, check=False).stdout.startswith("web-")

    wait_for("an answer inside", inside, 60)
    assert get(address) is None


def test_with_local_traffic_only_nodes_that_have_pods_are_members(kubectl, addresses, cloud, wait_for):
    """The health monitor asks kube-proxy, which node has pods."""
    found = kubectl.json("-n", NAMESPACE, "get", "pods", "-l", "app=web", "-o", "json")["items"]
    with_pods = {pod["status"]["hostIP"] for pod in found}

    def online():
        pool = cloud.tenant.json("loadbalancer", "pool", "list", "--loadbalancer", cloud.balancers()["internal"]["id"], "-f", "json")
        members = cloud.tenant.json("loadbalancer", "member", "list", pool[0]["id"], "-f", "json")
        return {member["address"] for member in members if member["operating_status"] == "ONLINE"} == with_pods

    wait_for("the health monitor's verdict", online, 120)


def test_pods_learn_who_asks_from_a_header(addresses, us, wait_for):
    wait_for("an answer", lambda: get(addresses["forwarded"]), 60)
    assert us in get(addresses["forwarded"], "/header?key=X-Forwarded-For")


def test_pods_learn_who_asks_by_the_proxy_protocol(kubectl, addresses, us, wait_for):
    """What the pod would read stands on this machine, as no pod of ours speaks that protocol."""
    heard = []
    with socket.create_server((us, 0)) as server:

        def answer():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    # The test is over.
                    return
                # A health monitor connects and hangs up, which must not end this.
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(5)
                    heard.append(connection.recv(100).partition(b"\r\n")[0].decode(errors="replace"))
                    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nheard")

        threading.Thread(target=answer, daemon=True).start()
        piece = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "guarded", "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": "guarded"}},
            "addressType": "IPv4",
            "ports": [{"name": "port-80", "port": server.getsockname()[1]}],
            "endpoints": [{"addresses": [us], "conditions": {"ready": True}}],
        }
        kubectl("apply", "-f", "-", input=json.dumps(piece))
        wait_for("an answer", lambda: get(addresses["guarded"], "/"), 60)
        assert any(line.startswith(f"PROXY TCP4 {us} ") for line in heard), heard


def test_who_is_not_named_is_kept_out(kubectl, addresses, wait_for):
    def connects():
        with contextlib.suppress(OSError), socket.create_connection((addresses["guarded"], 80), timeout=3):
            return True
        return False

    assert connects()
    kubectl("-n", NAMESPACE, "patch", "service", "guarded", "-p", json.dumps({"spec": {"loadBalancerSourceRanges": [ELSEWHERE]}}))
    wait_for("the end of what was allowed", lambda: not connects(), 60)


def test_what_the_cloud_cannot_carry_is_refused_before_it_is_made(contract, kubectl, addresses):
    carried = contract["load_balancer_protocols"]
    dns = service("dns", ports=[{"port": 53, "protocol": "UDP"}])
    done = kubectl.run("create", "--dry-run=server", "-f", "-", input=json.dumps(dns))
    if "UDP" in carried:
        assert done.returncode == 0, done.stderr
    else:
        assert f"carry {', '.join(carried)} alone" in done.stderr


def test_a_port_can_change(kubectl, addresses, cloud, wait_for):
    change = {
        "spec": {"ports": [{"name": "port-80", "port": 80, "targetPort": 8080}, {"name": "port-8082", "port": 8082, "targetPort": 8080}]}
    }
    kubectl("-n", NAMESPACE, "patch", "service", "plain", "--type=merge", "-p", json.dumps(change))
    wait_for("the new port", lambda: get(addresses["plain"], port=8082), 60)
    wait_for("the end of the old one", lambda: cloud.listeners("plain") == {80, 8082}, 60)
    assert get(addresses["plain"], port=8081, seconds=2) is None


def test_services_share_a_load_balancer(kubectl, addresses, cloud, wait_for):
    balancer = cloud.balancers()["plain"]["id"]
    text = json.dumps(service("guest", 8090, annotations={f"{ANNOTATION}load-balancer-id": balancer}))
    kubectl("apply", "-f", "-", input=text)
    wait_for("an answer", lambda: get(addresses["plain"], port=8090), 60)
    assert set(cloud.balancers()) == set(addresses)
    kubectl("delete", "-f", "-", "--timeout=60s", input=text)
    assert cloud.listeners("plain") == {80, 8082}
    assert get(addresses["plain"])


def test_a_quota_is_told_by_an_event(kubectl, operator, addresses, cloud, wait_for):
    project = cloud.tenant.json("token", "issue", "-f", "json")["project_id"]
    there = len(cloud.tenant.json("loadbalancer", "list", "-f", "json"))
    operator("loadbalancer", "quota", "set", "--loadbalancer", str(there), project)
    text = json.dumps(service("toomany", 80))
    try:
        kubectl("apply", "-f", "-", input=text)

        def told():
            found = kubectl.json("-n", NAMESPACE, "get", "events", "--field-selector", "involvedObject.name=toomany", "-o", "json")["items"]
            return [each["message"] for each in found if "uota" in each["message"]]

        wait_for("an event about the quota", told, 60)
    finally:
        operator("loadbalancer", "quota", "unset", "--loadbalancer", project)
        kubectl("delete", "-f", "-", "--timeout=60s", input=text)


def test_a_kept_address_outlives_its_service(kubectl, addresses, cloud):
    kubectl("-n", NAMESPACE, "delete", "service", "forwarded", "--timeout=120s")
    assert "forwarded" not in cloud.balancers()
    assert addresses["forwarded"] in cloud.floating_ips()


def test_nothing_is_left_when_services_go(kubectl, addresses, cloud):
    kubectl("-n", NAMESPACE, "delete", "services", "--all", "--timeout=240s")
    assert cloud.balancers() == {}
    assert set(cloud.floating_ips()) <= {addresses["forwarded"]}
    groups = cloud.tenant.json("security", "group", "list", "-f", "json")
    assert [group["Name"] for group in groups if group["Name"].startswith("lb-sg-")] == []
    ports = cloud.tenant.json("port", "list", "--long", "-f", "json")
    assert [port["Name"] for port in ports if port["Name"].startswith("octavia-lb-") and NAMESPACE in port["Name"]] == []
