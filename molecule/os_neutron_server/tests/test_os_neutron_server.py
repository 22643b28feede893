# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

testinfra_hosts = ["ansible://controller"]


@pytest.mark.parametrize("unit", ["neutron-api", "neutron-rpc-server"])
def test_it_runs(runs, unit):
    runs(unit)


def test_it_answers(host):
    address = host.ansible.get_variables()["mgmt_ip"]
    assert host.check_output("curl --silent --output /dev/null --write-out '%%{http_code}' http://%s:9696/", address) in ("200", "300")


def test_passwords_are_private(private):
    private("/etc/neutron/neutron.conf", "neutron")
