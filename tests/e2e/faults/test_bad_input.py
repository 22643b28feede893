# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings with which the cloud controller manager could not work: one sentence says so, and what runs stays as it is."""

from __future__ import annotations

import concurrent.futures
import re
import uuid

import pytest
import yaml

# Addresses that nobody has.
PODS, OTHERS = "10.77.0.0/16", "10.77.1.0/24"
NOBODY = str(uuid.UUID(int=1))


@pytest.fixture(scope="module")
def balancing(contract):
    if "octavia" not in contract["offers"]:
        pytest.skip("the cloud of this lab has no load balancers")


@pytest.fixture(scope="module")
def foreign(operator, tenant, nodes):
    """Give the cluster's router a route of somebody else."""
    node = next(iter(nodes.values()))
    route = ("--route", f"destination={OTHERS},gateway={node['node_ip'].rpartition('.')[0]}.250")
    router = node["cluster_router_id"]
    tenant("router", "add", "route", *route, router)
    try:
        yield
    finally:
        tenant("router", "remove", "route", *route, router)


@pytest.fixture(scope="module")
def settings(paths, tmp_path_factory, contract, operator, tenant):
    """Return the settings that are wrong, by what is wrong with them."""
    home = tmp_path_factory.mktemp("bad-input")
    clouds = yaml.safe_load((paths.state / "clouds.yaml").read_text(encoding="utf-8"))
    auth = clouds["clouds"][contract["credential"]]["auth"]
    auth.update({name: "wrong" for name in auth if name in ("password", "application_credential_secret")})
    (home / "clouds.yaml").write_text(yaml.safe_dump(clouds), encoding="utf-8")
    (home / "clouds.yaml").chmod(0o600)
    project = tenant.json("token", "issue", "-f", "json")["project_id"]
    theirs = [each["ID"] for each in operator.json("subnet", "list", "--long", "-f", "json") if each["Project"] != project]
    return {
        "secret": {"cloud_controller_manager_clouds_file": str(home / "clouds.yaml")},
        "floating network": {"cloud_controller_manager_conf": {"load_balancer": {"floating_network_id": NOBODY}}},
        "subnet": {"cloud_controller_manager_conf": {"load_balancer": {"subnet_id": theirs[0]}}},
        "route": {
            "cloud_controller_manager_routes": True,
            "cluster_pod_cidr": PODS,
            # As for a cluster whose routes nobody has set yet.
            "cloud_controller_manager_conf_file": str(home / "cloud.conf"),
        },
    }


SENTENCES = {
    "secret": "Keystone does not let",
    "floating network": f"sees no external network {NOBODY}",
    "subnet": "sees no subnet",
    "route": f"among the addresses of pods, {PODS}",
}


@pytest.fixture(scope="module")
def answers(paths, kubectl, playbook, balancing, foreign, settings):
    """Run the playbook with each of them; return what each says, and what the cluster and the state folder had before and after."""

    def run(wrong):
        return playbook("playbooks/cloud_controller.yaml", wrong, seconds=300)

    def there():
        found = [
            kubectl.json("-n", "kube-system", "get", *what.split(), "-o", "json")
            for what in ("secret cloud-config", "daemonset openstack-cloud-controller-manager")
        ]
        return [(each["metadata"]["uid"], each.get("data"), each.get("spec")) for each in found], (paths.state / "cloud.conf").read_bytes()

    before = there()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        done = dict(zip(settings, pool.map(run, settings.values()), strict=True))
    return done, before, there()


@pytest.mark.parametrize("wrong", SENTENCES)
def test_what_cannot_work_is_told(answers, wrong):
    done = answers[0][wrong]
    text = " ".join(done.stdout.split())
    assert done.returncode != 0
    failed = re.findall(r"\[ERROR\]: .*|fatal: .*", done.stdout)
    assert SENTENCES[wrong] in text, failed
    assert "Traceback" not in text
    assert "changed=0" in text


def test_what_runs_stays_as_it_is(answers):
    _, before, after = answers
    assert before == after
