# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

testinfra_hosts = ["ansible://compute"]


def test_it_runs(runs):
    runs("neutron-openvswitch-agent")


def test_the_agent_makes_its_bridges(host, eventually):
    eventually("br-int and br-tun", lambda: {"br-int", "br-tun"} <= set(host.check_output("ovs-vsctl list-br").split()))


def test_bridges_share_one_datapath(host):
    kinds = {
        host.check_output("ovs-vsctl get bridge %s datapath_type", bridge) for bridge in host.check_output("ovs-vsctl list-br").split()
    }
    assert len(kinds) == 1
