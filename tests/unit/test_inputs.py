# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input ends a lab before anything is made, with a sentence that says what to set."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
import yaml
from ansible_collections.kos.labs.plugins.filter.known_versions import known_versions
from ansible_collections.kos.labs.plugins.filter.lab_problems import lab_problems

GOOD = {
    "choices": {"kos_base": ("sandbox", ["existing", "sandbox"]), "kos_cloud_offers": (["octavia"], ["octavia", "cinder"])},
    "cluster_name": "kos",
    "masters": 1,
    "workers": 2,
    "cidrs": {
        "cluster_node_cidr": "172.18.0.0/24",
        "cluster_pod_cidr": "10.1.0.0/16",
        "cluster_service_cidr": "10.2.0.0/24",
        "external_cidr": "172.24.4.0/24",
        "management_cidr": "",
    },
    "pod_network": "cluster_pod_cidr",
    "service_network": "cluster_service_cidr",
    "dns_address": "10.2.0.10",
    "versions": {"kubernetes_version": "v1.36.2", "pause_version": "3"},
    "known_versions": {"kubernetes_version": ["v1.36.2"]},
    "mtus": [{"name": "kube_flannel_mtu", "inner": 1400, "outer": 1450, "overhead": 50, "carrier": "the nodes' network"}],
}


def changed(**changes):
    """Return the good settings with some changed; a key with a double underscore goes one deep."""
    settings = json.loads(json.dumps(GOOD))
    for key, value in changes.items():
        name, _, inner = key.partition("__")
        if inner:
            settings[name][inner] = value
        else:
            settings[name] = value
    return settings


@pytest.mark.parametrize(
    "settings",
    [
        GOOD,
        {},
        changed(masters=3),
        changed(node_prefix="blue-"),
        changed(masters="3", workers="0"),
        changed(cidrs__underlay_cidr="192.168.7.0/24"),
        changed(cidrs__cluster_pod_cidr="fd00:1::/56"),
        changed(mtus=[{"name": "kube_flannel_mtu", "inner": "", "outer": 1450, "overhead": 50, "carrier": "x"}]),
    ],
)
def test_good_settings_have_no_problem(settings):
    assert lab_problems(settings) == []


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (changed(choices={"kos_base": ("aws", ["existing", "sandbox"])}), "kos_base is aws: set it to existing or sandbox."),
        (
            changed(choices={"kos_cloud_offers": (["manila"], ["octavia", "cinder"])}),
            "kos_cloud_offers is manila: set it to octavia or cinder.",
        ),
        (changed(cluster_name="My_Cluster"), "cluster_name is 'My_Cluster': use at most 40 small letters"),
        (changed(cluster_name="x" * 41), "use at most 40"),
        (changed(cluster_name="kos-"), "no hyphen last"),
        (
            changed(node_prefix="blue"),
            "cluster_node_prefix is 'blue': use at most 20 small letters, digits and hyphens, a letter first and a hyphen last.",
        ),
        (changed(node_prefix="Blue-"), "cluster_node_prefix is 'Blue-'"),
        (changed(masters=2), "cluster_masters is 2: set it to 1 or 3, since etcd"),
        (changed(masters=0), "cluster_masters is 0: set it to 1, 3, 5 or 7"),
        (changed(masters=9), "cluster_masters is 9: set it to 1, 3, 5 or 7"),
        (changed(masters="two"), "set them to whole numbers"),
        (changed(workers=-1), "set them to whole numbers"),
        (changed(cidrs__cluster_pod_cidr="10.1.0.0/33"), "cluster_pod_cidr is 10.1.0.0/33: set it to an address range"),
        (changed(cidrs__cluster_pod_cidr="10.1.0.5/16"), "has host bits set"),
        (changed(cidrs__cluster_node_cidr="10.1.7.0/24"), "cluster_node_cidr 10.1.7.0/24 and cluster_pod_cidr 10.1.0.0/16 overlap"),
        (changed(cidrs__cluster_pod_cidr="10.2.0.0/16"), "cluster_pod_cidr 10.2.0.0/16 and cluster_service_cidr 10.2.0.0/24 overlap"),
        (changed(cidrs__external_cidr="172.18.0.128/25"), "cluster_node_cidr 172.18.0.0/24 and external_cidr 172.18.0.128/25 overlap"),
        (changed(cidrs__management_cidr="10.1.4.0/22"), "cluster_pod_cidr 10.1.0.0/16 and management_cidr 10.1.4.0/22 overlap"),
        (changed(dns_address="10.3.0.10"), "cluster_dns_address is 10.3.0.10: set it to an address in 10.2.0.0/24"),
        (changed(dns_address="10.2.0.1"), "cluster_dns_address is 10.2.0.1"),
        (changed(dns_address="dns"), "cluster_dns_address is dns"),
        (changed(cidrs__cluster_pod_cidr="10.1.0.0/23"), "has /24 ranges for 2 nodes"),
        (
            changed(versions__kubernetes_version="v1.35.0"),
            "kubernetes_version is v1.35.0, and only of v1.36.2 digests and sources are known",
        ),
        (
            changed(mtus=[{"name": "kube_flannel_mtu", "inner": 1450, "outer": 1450, "overhead": 50, "carrier": "the nodes' network"}]),
            "kube_flannel_mtu is 1450, and the nodes' network carries 1450 of which the overlay takes 50: set it to at most 1400.",
        ),
    ],
)
def test_what_cannot_work_is_one_sentence(settings, sentence):
    problems = lab_problems(settings)
    assert len(problems) == 1
    assert sentence in problems[0]


def test_every_problem_is_told_at_once():
    assert len(lab_problems(changed(masters=2, cluster_name="A", dns_address="1.1.1.1", versions__kubernetes_version="v9"))) == 4


def test_versions_that_are_pinned_are_known(root):
    pinned = yaml.safe_load((root / "group_vars/all/versions.yaml").read_text(encoding="utf-8"))
    known = known_versions(str(root / "components"))
    assert {name: pinned[name] for name in known} == {name: versions[0] for name, versions in known.items()}
    assert {"kubernetes_version", "etcd_version", "containerd_version", "coredns_version", "flannel_version"} <= set(known)


class Run:
    """ansible-playbook of this clone with a state folder of its own."""

    def __init__(self, root, state):
        self.root, self.state = root, state
        (state / "inventory").mkdir(parents=True)
        self.write("inventory/none.yaml", {"all": {}})

    def write(self, name, content):
        (self.state / name).write_text(yaml.safe_dump(content), encoding="utf-8")

    def __call__(self, playbook, *sentences, **variables):
        """Run a playbook; all sentences must be in what it says, without any it must succeed."""
        environment = {
            **os.environ,
            "KOS_ROOT": str(self.root),
            "KOS_STATE": str(self.state),
            "ANSIBLE_CONFIG": str(self.root / "ansible.cfg"),
            "ANSIBLE_INVENTORY": f"{self.root / 'hosts.yaml'},{self.state / 'inventory'}",
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        }
        argv = [str(self.root / ".venv/bin/ansible-playbook"), str(self.root / f"playbooks/{playbook}.yaml"), "-e", json.dumps(variables)]
        done = subprocess.run(argv, cwd=self.root, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        said = " ".join((done.stdout + done.stderr).split())
        assert (done.returncode == 0) == (not sentences), said
        assert [sentence for sentence in sentences if sentence not in said] == [], said
        assert "changed=0" in said
        return said


@pytest.fixture
def run(root, tmp_path):
    return Run(root, tmp_path / "state")


HOSTS = {"hosts_contract": {"version": 1, "base": "sandbox", "layout": "compact", "name": "x"}}
MACHINE = {"controller": {"hosts": {"controller1": {"ansible_host": "192.0.2.1"}}}}
NODES = {
    "nodes": {"vars": {"cluster_contract": {"version": 1, "cluster_name": "kos"}}, "children": {"masters": {"hosts": {"master1": {}}}}}
}


def test_preflight_accepts_the_defaults(run):
    run("preflight")


def test_preflight_tells_what_is_wrong_with_the_settings(run):
    run(
        "preflight",
        "kos_base is aws: set it to",
        "kos_layout is tiny: set it to compact or full.",
        "kos_mirror is ftp: set it to auto, download, build or none.",
        "cluster_masters is 4: set it to 3 or 5",
        "cluster_node_cidr 172.18.0.0/24 and cluster_pod_cidr 172.18.0.0/16 overlap",
        "cluster_service_cidr is everything: set it to an address range",
        "kubernetes_version is v1.99.0, and only of",
        "os_neutron_server_tenant_mtu is 1500, and the underlay carries 1500",
        kos_base="aws",
        kos_layout="tiny",
        kos_mirror="ftp",
        cluster_masters=4,
        cluster_pod_cidr="172.18.0.0/16",
        cluster_service_cidr="everything",
        kubernetes_version="v1.99.0",
        underlay_mtu=1500,
        os_neutron_server_tenant_mtu=1500,
    )


def test_preflight_goes_on_with_the_layout_that_stands(run):
    full = {"hosts_contract": {**HOSTS["hosts_contract"], "layout": "full"}}
    run.write("inventory/hosts.yaml", {"all": {"vars": full}, **MACHINE})
    run("preflight")


def test_preflight_refuses_a_state_folder_of_something_else(run):
    run.write("inventory/hosts.yaml", {"all": {"vars": {**HOSTS, "external_cidr": "10.1.4.0/24"}}, **MACHINE})
    run.write("inventory/cluster.yaml", NODES)
    run(
        "preflight",
        "hosts.yaml was made with layout compact and you ask for full",
        "cluster.yaml was made with cluster_name kos and you ask for mine: set it back, or choose another state folder with KOS_STATE",
        "cluster_pod_cidr 10.1.0.0/16 and external_cidr 10.1.4.0/24 overlap",
        kos_layout="full",
        cluster_name="mine",
    )


def test_an_existing_cloud_needs_a_name_at_once(run, monkeypatch):
    monkeypatch.delenv("OS_CLOUD", raising=False)
    run("preflight", "There is no cloud named: add --cloud NAME, an entry of your clouds.yaml", kos_base="existing")
    run("preflight", kos_base="existing", base_existing_cloud="mine")
    monkeypatch.setenv("OS_CLOUD", "mine")
    run("preflight", kos_base="existing")


def test_a_state_folder_of_an_existing_cloud_is_no_sandbox(run):
    (run.state / "inventory/group_vars/all").mkdir(parents=True)
    run.write("inventory/group_vars/all/existing.yaml", {"kos_base": "existing", "base_existing_cloud": "mine"})
    run("preflight")
    run("preflight", "existing.yaml was made with base existing and you ask for sandbox", kos_base="sandbox")


def test_a_login_that_fails_makes_nothing(run, monkeypatch):
    """Not even a key: the first thing that is asked is whether the cloud lets us in."""
    auth = {"auth_url": "http://127.0.0.1:1/v3", "username": "u", "password": "not-to-be-seen", "project_name": "p"}
    run.write("theirs.yaml", {"clouds": {"mine": {"auth": auth}}})
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(run.state / "theirs.yaml"))
    before = sorted(run.state.rglob("*"))
    said = run("base_existing", "No Keystone answers at http://127.0.0.1:1/v3", kos_base="existing", base_existing_cloud="mine")
    assert "not-to-be-seen" not in said
    run("base_existing", "There is no entry other in", "theirs.yaml: it has mine.", kos_base="existing", base_existing_cloud="other")
    assert sorted(run.state.rglob("*")) == before


def test_a_playbook_names_the_stages_that_have_not_run(run):
    run(
        "verify",
        "cloud.yaml: playbooks/openstack.yaml",
        "cluster.yaml: playbooks/nodes.yaml writes it, run that first.",
        "kubeconfig/admin: playbooks/control_plane.yaml writes it, run that first.",
    )


def test_a_playbook_refuses_the_nodes_of_another_cluster(run):
    run.write("inventory/cluster.yaml", NODES)
    run("verify", "cluster.yaml was made with cluster_name kos and you ask for mine", cluster_name="mine")
