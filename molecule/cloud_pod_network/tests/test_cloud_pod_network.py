# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import subprocess

testinfra_hosts = ["ansible://nodes"]


def ask(*arguments):
    environ = {**os.environ, "OS_CLIENT_CONFIG_FILE": f"{os.environ['KOS_STATE']}/clouds.yaml", "OS_CLOUD": "kos-tenant"}
    return json.loads(subprocess.run(["openstack", *arguments, "-f", "json"], env=environ, capture_output=True, check=True).stdout)


def test_a_node_may_send_from_its_own_pods_alone(host):
    pairs = ask("port", "show", host.ansible.get_variables()["port_id"])["allowed_address_pairs"]
    assert [pair["ip_address"].rpartition("/")[2] for pair in pairs] == ["24"]


def test_the_router_leads_to_no_pods(host):
    assert ask("router", "show", host.ansible.get_variables()["cluster_router_id"])["routes"] == []
