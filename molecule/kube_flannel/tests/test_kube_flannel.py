# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

testinfra_hosts = ["ansible://nodes"]


def test_node_has_its_subnet(host):
    assert "FLANNEL_SUBNET=" in host.check_output("cat /run/flannel/subnet.env")


def test_runtime_has_a_network(host):
    assert host.file("/etc/cni/net.d/10-flannel.conflist").exists
    assert host.file("/opt/cni/bin/flannel").mode & 0o111


def test_packets_of_pods_fit(host):
    underlay = host.ansible.get_variables()["cluster_network_mtu"]
    assert int(host.check_output("cat /sys/class/net/flannel.1/mtu")) <= underlay - 50
