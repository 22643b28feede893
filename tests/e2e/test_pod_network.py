# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets of pods: that they arrive, whole, by the way that the lab is for, and that the cloud's router keeps what others wrote there."""

from __future__ import annotations

import concurrent.futures
import ipaddress
import json
import subprocess
import typing as t
import uuid

import pytest

NAMESPACE = "kos-e2e-network"
PORT = 8080
OVERLAY = 50
# For documentation only, so that nobody misses what is there.
FOREIGN = "198.51.100.0/24"


@pytest.fixture(scope="module")
def flannel(kubectl) -> dict[str, t.Any]:
    """What Flannel is told."""
    done = kubectl.run("-n", "kube-flannel", "get", "configmap", "kube-flannel", "-o", r"jsonpath={.data.net-conf\.json}")
    if done.returncode:
        pytest.skip("no Flannel runs in this lab")
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def backend(flannel) -> str:
    """How Flannel gets packets from node to node."""
    return flannel["Backend"]["Type"]


@pytest.fixture
def by_cloud(backend):
    if backend != "alloc":
        pytest.skip("the cloud does not route to pods in this lab")


@pytest.fixture(scope="module")
def pods(backend, kubectl, nodes, versions) -> dict[str, tuple[str, str]]:
    """A web server on each node, masters too: name and address of the pod by node."""
    labels = {"app": "peer"}
    container = {
        "name": "peer",
        "image": f"registry.k8s.io/e2e-test-images/agnhost:{versions['agnhost_version']}",
        "args": ["netexec", f"--http-port={PORT}"],
        "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1},
        "securityContext": {"runAsUser": 0, "capabilities": {"add": ["NET_RAW"]}},
    }
    spec = {"terminationGracePeriodSeconds": 1, "tolerations": [{"operator": "Exists"}], "containers": [container]}
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": "peer", "namespace": NAMESPACE},
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}},
        },
    ]
    try:
        kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        kubectl("-n", NAMESPACE, "rollout", "status", "daemonset/peer", "--timeout=180s")
        items = kubectl.json("-n", NAMESPACE, "get", "pods", "-o", "json")["items"]
        found = {pod["spec"]["nodeName"]: (pod["metadata"]["name"], pod["status"]["podIP"]) for pod in items}
        assert set(found) == set(nodes)
        yield found
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")


@pytest.fixture(scope="module")
def ranges(kubectl) -> dict[str, str]:
    """The range of pods of each node."""
    items = kubectl.json("get", "nodes", "-o", "json")["items"]
    return {node["metadata"]["name"]: node["spec"]["podCIDR"] for node in items}


@pytest.fixture
def router(tenant, nodes):
    """Read the cluster's router."""
    name = next(iter(nodes.values()))["cluster_router_id"]

    def read():
        return tenant.json("router", "show", name, "-f", "json")

    return read


def routes(router) -> set[tuple[str, str]]:
    return {(each["destination"], each["nexthop"]) for each in router()["routes"]}


def inside(kubectl, pod: str, *argv: str):
    return kubectl.run("-n", NAMESPACE, "exec", pod, "--", *argv)


def on_node(paths, name: str, *argv: str) -> str:
    done = subprocess.run(
        [str(paths.root / "tools/ssh_to_node"), name, *argv],
        env=paths.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_pod_reaches_every_other_with_packets_that_just_fit(pods, kubectl, paths, nodes, backend):
    """Not to be taken apart on the way, which is what a large answer of a web server would suffer from."""
    least = next(iter(nodes.values()))["cluster_network_mtu"] - OVERLAY
    # Where pods still run that are older than the lab's way, a node's bridge is as narrow as they are.
    bridges = {name: int(on_node(paths, name, "cat", "/sys/class/net/cni0/mtu")) for name in pods}
    assert min(bridges.values()) >= least, bridges

    def ping(pair: tuple[str, str]) -> str:
        (pod, _), (_, address) = pods[pair[0]], pods[pair[1]]
        size = min(least if backend == "vxlan" else least + OVERLAY, bridges[pair[1]])
        done = inside(kubectl, pod, "ping", "-c", "2", "-W", "5", "-M", "do", "-s", str(size - 28), address)
        if "nrecognized option" in done.stderr or "nvalid option" in done.stderr:
            pytest.skip("the image's ping cannot forbid that packets are taken apart")
        return "" if done.returncode == 0 else f"{pair[0]} to {pair[1]}, {size} bytes: {done.stdout}{done.stderr}"

    pairs = [(one, other) for one in pods for other in pods if one != other]
    with concurrent.futures.ThreadPoolExecutor(max_workers=4) as pool:
        assert list(filter(None, pool.map(ping, pairs))) == []


def test_pods_see_each_other_as_they_are(pods, kubectl):
    """Nobody writes over the sender's address."""
    for one, (pod, address) in pods.items():
        for other, (_, target) in pods.items():
            if one != other:
                seen = inside(kubectl, pod, "curl", "-sS", "-m", "10", f"http://{target}:{PORT}/clientip").stdout
                assert seen.rpartition(":")[0] == address, f"{one} to {other}"


def test_pods_have_the_largest_packets_that_the_way_carries(pods, kubectl, nodes, backend):
    carries = next(iter(nodes.values()))["cluster_network_mtu"]
    for pod, _ in pods.values():
        assert int(inside(kubectl, pod, "cat", "/sys/class/net/eth0/mtu").stdout) == carries - (OVERLAY if backend == "vxlan" else 0)


def test_nodes_reach_pods_of_other_nodes(pods, paths):
    """As the API server does for a webhook, and kube-proxy for a node port."""
    for name in pods:
        for other, (_, address) in pods.items():
            assert on_node(paths, name, "curl", "-sS", "-m", "10", f"http://{address}:{PORT}/hostname") == pods[other][0], (
                f"{name} to {other}"
            )


def test_an_overlay_is_there_only_where_one_is_meant(nodes, paths, backend):
    for name in nodes:
        links = on_node(paths, name, "ip", "-brief", "link", "show", "type", "vxlan")
        assert ("flannel" in links) == (backend == "vxlan"), name


def test_every_node_says_that_its_pods_can_be_reached(kubectl, backend):
    reason = "RouteCreated" if backend == "alloc" else "FlannelIsUp"
    for node in kubectl.json("get", "nodes", "-o", "json")["items"]:
        condition = next(each for each in node["status"]["conditions"] if each["type"] == "NetworkUnavailable")
        assert (condition["status"], condition["reason"]) == ("False", reason), node["metadata"]["name"]


def test_the_router_has_routes_to_pods_only_where_it_is_to_route(router, ranges, nodes, backend):
    wanted = {(ranges[name], nodes[name]["node_ip"]) for name in nodes} if backend == "alloc" else set()
    assert {each for each in routes(router) if each[0] in ranges.values()} == wanted


def test_ports_let_through_what_the_way_needs_and_no_more(tenant, nodes, ranges, flannel, backend):
    for name, node in nodes.items():
        pairs = [each["ip_address"] for each in tenant.json("port", "show", node["port_id"], "-f", "json")["allowed_address_pairs"]]
        of_pods = [each for each in pairs if ipaddress.ip_network(each).subnet_of(ipaddress.ip_network(flannel["Network"]))]
        assert of_pods == ([] if backend == "vxlan" else [ranges[name]]), name


@pytest.mark.usefixtures("by_cloud")
def test_a_route_of_others_stays_and_one_of_ours_comes_back(router, tenant, nodes, ranges, wait_for):
    name = sorted(nodes)[-1]
    foreign, ours = (FOREIGN, nodes[name]["node_ip"]), (ranges[name], nodes[name]["node_ip"])
    change = "destination={},gateway={}"
    tenant("router", "add", "route", router()["id"], "--route", change.format(*foreign))
    try:
        tenant("router", "remove", "route", router()["id"], "--route", change.format(*ours))
        wait_for("our route again", lambda: ours in routes(router), 60)
        assert foreign in routes(router)
    finally:
        tenant("router", "remove", "route", router()["id"], "--route", change.format(*foreign))


@pytest.mark.usefixtures("by_cloud")
def test_another_server_behind_the_router_reaches_pods(pods, tenant, nodes, inventory, contract, tmp_path, wait_for):
    """It is in the security group of the nodes, and in no cluster; what it sees it prints on its console."""
    name, mark = f"kos-e2e-{uuid.uuid4().hex[:8]}", f"seen-{uuid.uuid4().hex[:8]}"
    worker = nodes[inventory["workers"]["hosts"][0]]
    urls = " ".join(f"http://{address}:{PORT}/clientip" for _, address in pods.values())
    script = tmp_path / "user-data"
    script.write_text(
        f"#!/bin/sh\nfor url in {urls}; do echo {mark} $(curl -sS -m 10 --retry 5 --retry-all-errors $url) >/dev/console; done\n"
    )
    server = tenant.json(
        "server", "create", name, "--image", contract["image"], "--flavor", contract["flavors"]["worker"], "--user-data", str(script),
        "--network", worker["cluster_network_id"], "--security-group", worker["cluster_security_group_id"], "--wait", "-f", "json",
    )  # fmt: skip
    try:
        address = next(iter(tenant.json("server", "show", server["id"], "-f", "json")["addresses"].values()))[0]

        def said() -> list[str]:
            lines = tenant("console", "log", "show", server["id"]).splitlines()
            found = [line.split(mark, 1)[1].strip() for line in lines if mark in line]
            return found if len(found) == len(pods) else []

        assert {each.rpartition(":")[0] for each in wait_for("what the server saw", said, 180)} == {address}
    finally:
        tenant("server", "delete", server["id"], "--wait")


@pytest.mark.usefixtures("by_cloud")
def test_a_pod_answers_to_its_own_address_from_outside(pods, router, ranges, inventory, paths):
    """Through the router's address on the external network, for those whom the security group lets in: a ping may come from anywhere."""
    machine, name = inventory["network"]["hosts"][0], sorted(inventory["workers"]["hosts"])[0]
    gateway = router()["external_gateway_info"]["external_fixed_ips"][0]["ip_address"]
    way = f"{ranges[name]} via {gateway}"
    command = f"ip route add {way} && {{ ping -c 2 -W 5 {pods[name][1]}; code=$?; ip route delete {way}; exit $code; }}"
    done = subprocess.run(
        [str(paths.root / "tools/sandbox"), "ssh", machine, command], env=paths.environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
