# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

testinfra_hosts = ["ansible://openstack"]


def test_it_runs(runs):
    runs("chrony")


def test_it_has_a_source(host):
    # A source of time, or this machine's own clock as the reference.
    assert "^" in host.check_output("chronyc -n sources") or "7F7F" in host.check_output("chronyc -n tracking")
