# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

testinfra_hosts = ["ansible://network"]


def test_it_runs(runs):
    runs("neutron-dhcp-agent")


def test_its_settings_are_private(private):
    private("/etc/neutron/dhcp_agent.ini", "neutron")
