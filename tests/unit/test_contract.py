# SPDX-License-Identifier: GPL-3.0-or-later
"""What one stage hands to the next is checked where it is read."""

from __future__ import annotations

import pytest
import yaml
from ansible_collections.kos.labs.plugins.filter.contract_problems import WRITERS, contract_problems

CLOUD = {
    "version": 1,
    "name": "kos-tenant",
    "credential": "kos-cluster",
    "region": "RegionOne",
    "external_network": "public",
    "image": "debian-13",
    "image_user": "debian",
    "flavors": {"master": "kos.master", "worker": "kos.worker"},
    "keypair": "kos",
    "private_key": "/x/id_ed25519",
    "network_mtu": 1450,
    "dns_servers": [],
    "offers": [],
}
HOSTS = {"version": 1, "base": "sandbox", "layout": "compact", "name": "kos-1"}
KUBECONFIG = {"clusters": [], "users": [], "contexts": [], "current-context": "kos"}


def cloud(**changes):
    return yaml.safe_dump({"cloud": {**CLOUD, **changes}})


@pytest.mark.parametrize(
    ("kind", "contract"),
    [
        ("hosts", HOSTS),
        ("cloud", cloud()),
        ("clouds", "clouds: {kos-tenant: {}}"),
        ("cluster", {"version": 1, "cluster_name": "kos"}),
        ("kubeconfig", yaml.safe_dump(KUBECONFIG)),
    ],
)
def test_a_good_contract_has_no_problem(kind, contract):
    assert contract_problems(contract, kind, where="x") == []


@pytest.mark.parametrize(
    ("kind", "writer"),
    [
        ("hosts", "playbooks/base.yaml"),
        ("cloud", "playbooks/openstack.yaml"),
        ("clouds", "playbooks/openstack.yaml"),
        ("cluster", "playbooks/nodes.yaml"),
        ("kubeconfig", "playbooks/control_plane.yaml"),
    ],
)
@pytest.mark.parametrize("missing", [None, ""])
def test_a_missing_contract_names_who_writes_it(kind, writer, missing):
    (sentence,) = contract_problems(missing, kind, where="/s/x.yaml")
    assert sentence.startswith("There is no /s/x.yaml: ")
    assert writer in sentence


@pytest.mark.parametrize(
    ("kind", "contract", "sentence"),
    [
        ("cloud", "cloud: [", "x is not YAML"),
        ("cloud", "just text", "x holds no cloud contract"),
        ("cloud", "clouds: {}", "x holds no cloud contract"),
        ("hosts", {}, "x has version None and this release reads 1"),
        ("cloud", cloud(version=2), "x has version 2 and this release reads 1"),
        ("cloud", cloud(image=None), "x: image must be a text"),
        ("cloud", cloud(network_mtu="1450"), "x: network_mtu must be a number"),
        ("cloud", cloud(network_mtu=True), "x: network_mtu must be a number"),
        ("cloud", cloud(dns_servers="192.0.2.1"), "x: dns_servers must be a list"),
        ("cloud", cloud(flavors="m1.tiny"), "x: flavors must be a mapping"),
        ("cloud", cloud(flavors={"master": "a"}), "x: flavors.worker is missing"),
        ("kubeconfig", "clusters: []\nusers: []\ncontexts: []\n", "x: current-context is missing"),
    ],
)
def test_a_broken_contract_is_one_sentence(kind, contract, sentence):
    problems = contract_problems(contract, kind, where="x")
    assert len(problems) == 1
    assert problems[0].startswith(sentence)
    assert "playbooks/" in problems[0]


def test_a_foreign_contract_is_refused():
    problems = contract_problems(HOSTS, "hosts", where="x", expect={"base": "gce", "layout": "compact"})
    assert problems == ["x was made with base sandbox and you ask for gce: set it back, or choose another state folder with KOS_STATE."]


def test_playbooks_that_write_contracts_exist(root):
    assert [name for name in WRITERS.values() if not (root / name.split()[0]).is_file()] == []
