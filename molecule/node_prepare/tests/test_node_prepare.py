# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

testinfra_hosts = ["ansible://nodes"]


def test_packets_are_forwarded(host):
    assert host.sysctl("net.ipv4.ip_forward") == 1


def test_bridged_packets_pass_the_filter(host):
    assert host.sysctl("net.bridge.bridge-nf-call-iptables") == 1


def test_packages_are_there(host):
    assert host.package("iptables").is_installed


def test_nodes_know_each_other(host):
    nodes = host.ansible.get_variables()["groups"]["nodes"]
    assert all(host.addr(name).is_resolvable for name in nodes)
