# SPDX-License-Identifier: GPL-3.0-or-later
"""Load balancers when too many are wanted, when amphorae are lost, and when a worker is killed, as those notice it who use them."""

from __future__ import annotations

import contextlib
import functools
import json
import pathlib
import re
import shlex
import subprocess
import time

import balancers
import openstack
import pytest
import yaml
from balancers import ANNOTATION, get
from openstack import exceptions
from silence import Watch

NAMESPACE = "kos-e2e-faults"
# So many are wanted at once, and so many the quota lets through: each of the latter is a server.
WANTED, ROOM = 20, 4
# An amphora boots within a minute; machines may be busy with many.
PATIENCE = 600

service = functools.partial(balancers.service, NAMESPACE)


class Cloud:
    """Load balancers of this namespace, as their project has them and as the operator sees them."""

    def __init__(self, clouds: pathlib.Path) -> None:
        def connect(name):
            return openstack.config.OpenStackConfig(config_files=[str(clouds)]).get_one(name)

        self.tenant = openstack.connection.Connection(config=connect("kos-tenant"))
        self.operator = openstack.connection.Connection(config=connect("kos-admin"))
        self.project = self.tenant.current_project_id

    def balancers(self):
        found = self.tenant.load_balancer.load_balancers()
        return {each.name.rpartition("_")[2]: each for each in found if f"_{NAMESPACE}_" in each.name}

    def amphorae(self, balancer):
        return {each.id: each for each in self.operator.load_balancer.amphorae(loadbalancer_id=balancer)}

    def state(self, balancer):
        with contextlib.suppress(exceptions.NotFoundException):
            return self.tenant.load_balancer.get_load_balancer(balancer).provisioning_status
        return "gone"

    def remains(self):
        """Name what there is for Services of this namespace."""
        network = self.tenant.network
        return (
            {each.name for each in self.balancers().values()}
            | {each.floating_ip_address for each in network.ips() if NAMESPACE in (each.description or "")}
            | {each.name for each in network.ports() if each.name.startswith("octavia-lb-") and NAMESPACE in each.name}
        )

    def groups(self):
        """Return the security groups that let the load balancers of Services in, by the Service's name."""
        found = self.tenant.network.security_groups(project_id=self.project)
        return {
            each.name.partition(f"-{NAMESPACE}-")[2]: each for each in found if each.name.startswith("lb-sg-") and NAMESPACE in each.name
        }

    def remove_groups(self):
        """Take the groups from the ports that have them, and delete them."""
        groups = {each.id for each in self.groups().values()}
        for port in self.tenant.network.ports(project_id=self.project):
            if groups & set(port.security_group_ids):
                self.tenant.network.update_port(port, security_groups=sorted(set(port.security_group_ids) - groups))
        for group in groups:
            self.tenant.network.delete_security_group(group)

    def servers(self):
        """Amphorae's servers, also those that Octavia has forgotten, by id."""
        found = self.operator.compute.servers(all_projects=True, name="^amphora-")
        return {each.id for each in found if each.status != "DELETED"}

    def forgotten(self):
        """Servers of no amphora."""
        servers = self.servers()
        return servers - {each.compute_id for each in self.operator.load_balancer.amphorae()}


@pytest.fixture(scope="module")
def cloud(paths, contract):
    if "octavia" not in contract["offers"]:
        pytest.skip("the cloud of this lab has no load balancers")
    if "kos-admin" not in yaml.safe_load((paths.state / "clouds.yaml").read_text(encoding="utf-8"))["clouds"]:
        pytest.skip("nobody here operates this cloud")
    return Cloud(paths.state / "clouds.yaml")


@pytest.fixture(scope="module")
def on_workers(inventory):
    """Return how root runs a command on each machine with a worker of Octavia; at once, as what it is to hit does not last."""

    def run(command, seconds=60):
        for name in inventory["network"]["hosts"]:
            host = inventory["_meta"]["hostvars"][name]
            argv = ["ssh", *shlex.split(host["ansible_ssh_common_args"]), "-i", host["ansible_ssh_private_key_file"]]
            argv += [f"{host['ansible_user']}@{host['ansible_host']}", f"sudo {command}"]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds, check=False)
            assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

    return run


@pytest.fixture(scope="module")
def guarded(paths, cloud, playbook):
    """Let the cloud controller manager have security groups for nodes, too."""
    routes = "router-id" in (paths.state / "cloud.conf").read_text(encoding="utf-8")

    def apply(settings):
        variables = {"cloud_controller_manager_conf": settings, "cloud_controller_manager_routes": routes}
        done = playbook("playbooks/cloud_controller.yaml", variables)
        assert done.returncode == 0, done.stdout[-2000:]

    try:
        apply({"load_balancer": {"manage_security_groups": True}})
        yield
    finally:
        apply({})
        cloud.remove_groups()


@pytest.fixture(scope="module")
def place(kubectl, cloud, guarded, versions, wait_for):
    """Have a namespace with pods, and a load balancer of two amphorae; whatever was made goes in the end."""
    flavor = next(each.id for each in cloud.tenant.load_balancer.flavors() if each.name == "active-standby")
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        balancers.pods(NAMESPACE, versions),
        service("pair", 80, annotations={f"{ANNOTATION}flavor-id": flavor}),
    ]
    try:
        apply(kubectl, *objects)
        wait_for("the first load balancer", cloud.balancers, 120)
        yield
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=300s")


def apply(kubectl, *objects):
    kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def addresses(kubectl):
    """Return the address of each Service that has one."""
    found = kubectl.json("-n", NAMESPACE, "get", "services", "-o", "json")["items"]
    ingress = {each["metadata"]["name"]: each["status"]["loadBalancer"].get("ingress") for each in found}
    return {name: found[0]["ip"] for name, found in ingress.items() if found}


def told(kubectl):
    """Return the Services of which an event says that the quota is used up."""
    found = kubectl.json("-n", NAMESPACE, "get", "events", "-o", "json")["items"]
    return {each["involvedObject"]["name"] for each in found if "uota" in each["message"]}


@pytest.fixture(scope="module")
def flood(kubectl, cloud, place, wait_for):
    """Want many at once; return the address of each that was made, and which were refused."""
    others = len(list(cloud.tenant.load_balancer.load_balancers())) - len(cloud.balancers())
    wanted = {f"flood{number}" for number in range(WANTED)}
    cloud.operator.load_balancer.update_quota(cloud.project, load_balancers=others + 1 + ROOM)
    begun = time.monotonic()
    try:
        apply(kubectl, *(service(name, 80) for name in sorted(wanted)))

        def settled():
            made, refused = addresses(kubectl), told(kubectl)
            return (made, refused) if {*made, *refused} >= {*wanted, "pair"} else None

        made, refused = wait_for("an address or a word for each", settled, PATIENCE)
        wait_for("answers from all", lambda: all(get(address, seconds=2) for address in made.values()), PATIENCE)
        print(f"{WANTED} at once, {len(made) - 1} of which there was room for: {time.monotonic() - begun:.0f} s until all were settled")
        # Before there is room: they are tried again and again.
        kubectl("-n", NAMESPACE, "delete", "services", *(wanted - made.keys()), "--timeout=240s")
    finally:
        cloud.operator.load_balancer.delete_quota(cloud.project)
    return made, refused


def test_a_flood_ends_with_an_address_or_a_word_for_each(kubectl, cloud, flood, wait_for):
    made, refused = flood
    assert (len(made), len(refused)) == (ROOM + 1, WANTED - ROOM)
    assert set(cloud.balancers()) == set(made)
    wait_for("the end of what was refused", lambda: not any(name.endswith(tuple(refused)) for name in cloud.remains()), 30)
    assert not refused & cloud.groups().keys()


def test_nodes_let_load_balancers_in(kubectl, cloud, flood, nodes):
    """Each Service has a group of its own on the ports of all nodes that are members."""
    found = kubectl.json("-n", NAMESPACE, "get", "services", "-o", "json")["items"]
    wanted = {f"lb-sg-{each['metadata']['uid']}-{NAMESPACE}-{each['metadata']['name']}" for each in found}
    groups = {each.id: each.name for each in cloud.groups().values()}
    assert wanted <= set(groups.values())
    for name in ("worker1", "worker2"):
        if name in nodes:
            port = cloud.tenant.network.get_port(nodes[name]["port_id"])
            assert wanted <= {groups.get(group) for group in port.security_group_ids}


def test_a_second_service_on_a_load_balancer_comes_quickly(kubectl, cloud, flood, wait_for):
    made, _ = flood
    guest = service("guest", 8090, annotations={f"{ANNOTATION}load-balancer-id": cloud.balancers()["pair"].id})
    begun = time.monotonic()
    apply(kubectl, guest)
    wait_for("an answer", lambda: get(made["pair"], port=8090, seconds=2), 120)
    print(f"a second Service on a load balancer that is there: {time.monotonic() - begun:.1f} s until the first answer")
    wait_for("its security group, which comes last", lambda: "guest" in cloud.groups(), 60)
    kubectl("-n", NAMESPACE, "delete", "service", "guest", "--timeout=120s")
    assert "guest" not in cloud.groups()


@pytest.fixture(scope="module")
def cast(flood):
    """Say which of the load balancers that were made plays which part."""
    made, _ = flood
    return dict(zip(("asked", "lost", "changed", "removed"), sorted(made.keys() - {"pair"}), strict=False))


@pytest.fixture(scope="module")
def losses(cloud, flood, cast, wait_for):
    """Have, at the same time, a failover asked for and the servers of two amphorae deleted; return what is watched and what was before."""
    made, _ = flood
    found = cloud.balancers()
    parts = {"asked": found[cast["asked"]].id, "lost": found[cast["lost"]].id, "pair": found["pair"].id}
    before = {part: cloud.amphorae(balancer) for part, balancer in parts.items()}
    asked = {part: made[cast.get(part, part)] for part in parts}
    watches = {part: Watch(functools.partial(get, address, seconds=2)) for part, address in asked.items()}
    try:
        for watch in watches.values():
            watch.start()
        begun = time.monotonic()
        master = next(each for each in before["pair"].values() if each.role == "MASTER")
        for amphora in (master, *before["lost"].values()):
            cloud.operator.compute.delete_server(amphora.compute_id)
        cloud.operator.load_balancer.failover_load_balancer(parts["asked"])
        yield parts, before, watches, begun
    finally:
        for watch in watches.values():
            watch.end()


def replaced(cloud, losses, part, number, wait_for):
    """Wait until a load balancer is well with other amphorae than those that were lost; return how long its address was silent."""
    parts, before, watches, begun = losses

    def well():
        found = cloud.amphorae(parts[part])
        new = found.keys() - before[part].keys()
        return cloud.state(parts[part]) == "ACTIVE" and len(new) == number and all(each.status == "ALLOCATED" for each in found.values())

    wait_for("new amphorae", well, PATIENCE)
    took = time.monotonic() - begun
    watch = watches[part]
    wait_for("an answer", watch.answers, 60)
    silence = watch.end()
    print(f"{part}: new amphorae after {took:.0f} s, the address was silent for {silence:.1f} s")
    return silence


def test_a_failover_that_is_asked_for_keeps_the_address(cloud, losses, wait_for):
    replaced(cloud, losses, "asked", 1, wait_for)


def test_amphorae_keep_the_authority_that_they_trust(playbook, losses):
    """Workers whose certificate is from another one could do nothing for load balancers that are there."""
    settings = {"kos_cloud_offers": ["octavia"], "os_octavia_one_authority": True}
    done = playbook("playbooks/openstack.yaml", settings, "--tags", "octavia")
    assert done.returncode != 0
    assert "delete all load balancers first" in " ".join(done.stdout.split())
    assert set(re.findall(r"changed=(\d+)", done.stdout)) == {"0"}


@pytest.fixture(scope="module")
def torn(kubectl, cloud, flood, cast, losses, on_workers, wait_for):
    """Kill the worker while it makes one load balancer, changes one and removes one; then run what repairs."""
    replaced_first = losses[0]["asked"]
    wait_for("the end of what the worker does", lambda: cloud.state(replaced_first) == "ACTIVE", PATIENCE)
    found = cloud.balancers()
    changed, removed = found[cast["changed"]].id, found[cast["removed"]].id
    apply(kubectl, service("torn", 80))
    made = wait_for("the load balancer", lambda: cloud.balancers().get("torn"), 60).id

    def boots():
        return any(each.status == "BOOTING" for each in cloud.amphorae(made).values())

    wait_for("its amphora", boots, 120)
    kubectl("-n", NAMESPACE, "delete", "service", cast["removed"], "--wait=false")
    apply(kubectl, service(cast["changed"], 80, 8081))
    end = time.monotonic() + 20
    while "PENDING" not in cloud.state(changed) and time.monotonic() < end:
        time.sleep(0.1)
    on_workers("systemctl kill --kill-whom=all --signal=KILL octavia-worker")
    left = {name: cloud.state(key) for name, key in (("made", made), ("changed", changed), ("removed", removed))}
    print(f"states right after the worker was killed: {left}")
    begun = time.monotonic()
    on_workers("systemctl start octavia-worker")
    on_workers("systemctl start os-octavia-repair", seconds=PATIENCE)
    print(f"the repair took {time.monotonic() - begun:.0f} s")
    return {"made": made, "changed": changed, "removed": removed}


def test_what_a_killed_worker_was_making_is_made(kubectl, cloud, torn, wait_for):
    assert cloud.state(torn["made"]) == "ACTIVE"
    address = wait_for("the address", lambda: addresses(kubectl).get("torn"), PATIENCE)
    wait_for("an answer", lambda: get(address, seconds=2), 60)


def test_what_a_killed_worker_was_changing_is_changed(cloud, flood, cast, torn, wait_for):
    made, _ = flood
    assert cloud.state(torn["changed"]) == "ACTIVE"
    for port in (80, 8081):
        wait_for("an answer", lambda port=port: get(made[cast["changed"]], port=port, seconds=2), PATIENCE)


def test_what_a_killed_worker_was_removing_goes(kubectl, cloud, cast, torn, wait_for):
    wait_for("its end", lambda: cloud.state(torn["removed"]) == "gone", 120)
    kubectl("-n", NAMESPACE, "wait", "--for=delete", f"service/{cast['removed']}", f"--timeout={PATIENCE}s")


def test_the_address_of_two_amphorae_outlives_one(cloud, losses, wait_for):
    """The other one takes it over by VRRP within seconds; the lost one is replaced later."""
    assert replaced(cloud, losses, "pair", 1, wait_for) < 30


def test_an_amphora_that_is_lost_is_replaced(cloud, losses, wait_for):
    """The only one: its address is silent until Octavia has noticed and made another one."""
    replaced(cloud, losses, "lost", 1, wait_for)


def test_the_group_of_a_service_goes_with_it(kubectl, cloud, cast, torn):
    """As long as its load balancer goes within the 39 s that the cloud controller manager waits for that."""
    kubectl("-n", NAMESPACE, "delete", "service", cast["asked"], "--timeout=120s")
    assert cast["asked"] not in cloud.groups()


def test_nothing_is_left_when_all_go(kubectl, cloud, torn, wait_for):
    """But groups of those whose load balancer took longer to go, or that somebody else deleted: upstream forgets them."""
    kubectl("-n", NAMESPACE, "delete", "services", "--all", "--timeout=300s")
    assert cloud.balancers() == {}
    wait_for("the end of all that they had", lambda: not cloud.remains(), 60)
    wait_for("the end of their servers", lambda: not cloud.forgotten(), 60)
