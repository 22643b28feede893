# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

testinfra_hosts = ["ansible://masters"]


def test_service_runs_now_and_at_boot(runs):
    runs("kube-csr-approver")


def test_knows_the_addresses_of_each_node(host):
    nodes = json.loads(host.file("/etc/kubernetes/csr-approver/nodes.json").content_string)
    assert nodes
    assert all(node["addresses"] for node in nodes.values())
