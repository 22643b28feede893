# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

testinfra_hosts = ["ansible://network"]


def test_it_runs(runs):
    runs("neutron-metadata-agent")


def test_its_secret_is_private(private):
    private("/etc/neutron/metadata_agent.ini", "neutron")


def test_it_waits_for_the_proxies(host):
    assert host.file("/var/lib/neutron/metadata_proxy").is_socket
