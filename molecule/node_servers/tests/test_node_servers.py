# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

testinfra_hosts = ["ansible://nodes"]


def test_a_node_is_called_as_its_server(host):
    assert host.check_output("hostname") == host.backend.get_hostname()


def test_a_node_has_the_address_of_the_contract(host):
    assert f" {host.ansible.get_variables()['node_ip']}/" in host.check_output("ip -oneline -4 address show")
