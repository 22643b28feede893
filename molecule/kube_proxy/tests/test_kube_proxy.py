# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

testinfra_hosts = ["ansible://nodes"]


def test_it_is_healthy(host):
    assert host.run("curl --silent --fail http://127.0.0.1:10256/healthz").rc == 0


def test_it_knows_how_it_works(host):
    mode = host.check_output("curl --silent --fail http://127.0.0.1:10249/proxyMode")
    assert mode in ("iptables", "nftables")
