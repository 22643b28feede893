# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/refresh takes away what the cluster has, also what Services left behind, and nothing of a neighbour in the same project."""

from __future__ import annotations

import json
import subprocess

import pytest

NAME = "neighbour"
# As the cloud controller manager of a cluster of that name calls them.
BALANCER = f"kube_service_{NAME}_default_left-behind"


def service(name):
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"type": "LoadBalancer", "selector": {"app": "nobody"}, "ports": [{"port": 80}]},
    }


@pytest.fixture(scope="module")
def has_balancers(paths, contract):
    return "octavia" in contract["offers"] and (paths.state / "cloud.conf").exists()


@pytest.fixture(scope="module")
def neighbour(tenant, contract, has_balancers):
    """Return what somebody else has in the project, by kind and id."""
    external = contract["external_network"]
    found = {}

    def create(kind, *argv):
        found[kind] = tenant.json(*kind.split(), "create", *argv, "-f", "json")["id"]

    try:
        create("network", NAME)
        create("subnet", NAME, "--network", NAME, "--subnet-range", "10.99.0.0/24")
        create("router", NAME, "--external-gateway", external)
        tenant("router", "add", "subnet", NAME, NAME)
        create("security group", NAME)
        create("floating ip", external, "--description", NAME)
        create("server", NAME, "--image", contract["image"], "--flavor", contract["flavors"]["worker"], "--network", NAME)
        if has_balancers:
            says = f"Kubernetes external service default/left-behind from cluster {NAME}"
            create("loadbalancer", "--name", BALANCER, "--description", says, "--vip-subnet-id", NAME)
        yield found
    finally:
        if "loadbalancer" in found:
            tenant("loadbalancer", "delete", "--cascade", "--wait", BALANCER)
        if "server" in found:
            tenant("server", "delete", "--wait", NAME)
        tenant.run("router", "remove", "subnet", NAME, NAME)
        for kind in ("floating ip", "router", "network", "security group"):
            if kind in found:
                tenant(*kind.split(), "delete", found[kind])


@pytest.fixture(scope="module")
def volumes(tenant, contract, nodes, wait_for):
    """Return volumes and a snapshot by whose they are, marked as the CSI driver marks what claims of a cluster have made."""
    if "cinder" not in contract["offers"]:
        yield {}
        return
    cluster = next(iter(nodes.values()))["cluster_contract"]["cluster_name"]
    mark = "cinder.csi.openstack.org/cluster"

    def volume(*options):
        return tenant.json("volume", "create", "--size", "1", *options, f"{NAME}-volume", "-f", "json")["id"]

    ours = f"{mark}=kos.labs cluster {cluster}"
    # A cluster of the same name may be somebody else's.
    found = {"ours": volume("--property", ours), "neighbour": volume("--property", f"{mark}={cluster}"), "somebody": volume()}
    try:
        wait_for("our volume", lambda: tenant.json("volume", "show", found["ours"], "-f", "json")["status"] == "available", 120)
        made = tenant.json("volume", "snapshot", "create", "--volume", found["ours"], "--property", ours, NAME, "-f", "json")
        yield {**found, "snapshot": made["id"]}
    finally:
        tenant.run("volume", "snapshot", "delete", NAME)
        tenant.run("volume", "delete", *found.values())


@pytest.fixture(scope="module")
def before(tenant, neighbour):
    """Return the ids of the servers that were there, by name."""
    return {each["Name"]: each["ID"] for each in tenant.json("server", "list", "-f", "json")}


@pytest.fixture(scope="module")
def refreshed(paths, kubectl, tenant, before, volumes, has_balancers, wait_for):
    """Refresh a project in which a Service has just asked for a load balancer, and another does while all goes."""
    if has_balancers:
        kubectl("apply", "-f", "-", input=json.dumps(service("left-behind")))

        def asked():
            names = {each["name"] for each in tenant.json("loadbalancer", "list", "-f", "json")}
            return any(name.endswith("_default_left-behind") for name in names - {BALANCER})

        wait_for("the load balancer of a Service", asked, 60)
    argv = [str(paths.root / "tools/refresh"), "--yes", "--volumes"]
    said = []
    with subprocess.Popen(
        argv, env=paths.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout:
            said.append(line)
            # The project has been read by then, and the API may be gone at any moment.
            if has_balancers and "nobody else uses what is to go" in line:
                kubectl.run("apply", "-f", "-", input=json.dumps(service("at-the-last-moment")))
    assert process.returncode == 0, "".join(said)[-5000:]


def test_the_cluster_has_new_servers_and_nothing_else(refreshed, tenant, before, nodes, neighbour):
    after = {each["Name"]: each["ID"] for each in tenant.json("server", "list", "-f", "json")}
    assert set(after) == {*nodes, NAME}
    assert {name for name in nodes if after[name] == before[name]} == set()
    addresses = tenant.json("floating", "ip", "list", "--long", "-f", "json")
    assert len(addresses) == len(nodes) + 1, addresses
    groups = {each["Name"] for each in tenant.json("security", "group", "list", "-f", "json")}
    assert not {name for name in groups if name.startswith("lb-sg-")}


def test_what_services_left_behind_is_gone(refreshed, tenant, neighbour, has_balancers):
    if not has_balancers:
        pytest.skip("the cloud of this lab has no load balancers")
    assert {each["id"] for each in tenant.json("loadbalancer", "list", "-f", "json")} == {neighbour["loadbalancer"]}


def test_the_neighbour_is_untouched(refreshed, tenant, neighbour, wait_for):
    status = {"server": "status", "loadbalancer": "provisioning_status"}
    for kind, number in neighbour.items():
        shown = tenant.json(*kind.split(), "show", number, "-f", "json")
        assert shown["id"] == number
        if kind in status:

            def active(kind=kind, number=number):
                return tenant.json(kind, "show", number, "-f", "json")[status[kind]] == "ACTIVE"

            wait_for(f"the neighbour's {kind}", active, 240)


def test_volumes_of_the_cluster_are_gone_and_no_others(refreshed, tenant, volumes):
    if not volumes:
        pytest.skip("the cloud of this lab has no volumes")
    there = {each["ID"] for kind in (("volume",), ("volume", "snapshot")) for each in tenant.json(*kind, "list", "-f", "json")}
    assert {name for name, number in volumes.items() if number in there} == {"neighbour", "somebody"}


# Prints the processes whose root lies on a disk that is deleted. Nova may forget to detach such a disk, but nobody may use it.
HAUNTED = (
    "for disk in $(losetup --list --noheadings --output NAME,BACK-FILE | awk '/deleted/ {print $1}'); do"
    ' grep -ls "$disk " /proc/[0-9]*/mountinfo; done; true'
)


def test_nothing_runs_on_for_servers_that_are_gone(refreshed, paths, inventory, wait_for):
    def quiet(machine):
        argv = [str(paths.root / "tools/sandbox"), "ssh", machine, HAUNTED]
        return subprocess.run(argv, env=paths.environment(), capture_output=True, text=True, check=True).stdout == ""

    for machine in inventory["compute"]["hosts"]:
        wait_for(f"the end of what ran on {machine}", lambda machine=machine: quiet(machine), 60)
