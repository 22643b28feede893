# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

testinfra_hosts = ["ansible://compute"]


def test_it_runs(runs):
    runs("neutron-openvswitch-agent")


def test_bridges_are_there(host):
    assert {"br-int", "br-tun"} <= set(host.check_output("ovs-vsctl list-br").split())


def test_the_datapath_is_the_one_of_the_contract(host):
    wanted = host.ansible.get_variables().get("os_neutron_openvswitch_agent_datapath_type", "system")
    assert host.check_output("ovs-vsctl get bridge br-int datapath_type").strip('"') in (wanted, "" if wanted == "system" else wanted)
