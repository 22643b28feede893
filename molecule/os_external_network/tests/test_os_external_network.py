# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

testinfra_hosts = ["ansible://network"]


def test_it_runs(runs):
    runs("os-external-network")


def test_the_gateway_is_here(host):
    variables = host.ansible.get_variables()
    assert f" {variables['external_gateway']}/" in host.check_output("ip -oneline -4 address show")
