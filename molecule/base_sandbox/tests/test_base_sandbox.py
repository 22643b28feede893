# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine is what its contract says, and reaches what it needs."""

from __future__ import annotations

import pytest

testinfra_hosts = ["ansible://openstack"]


@pytest.fixture
def contract(host):
    return host.ansible.get_variables()


def test_addresses_are_the_contracts(host, contract):
    assert contract["mgmt_ip"] in host.interface("mgmt0").addresses
    underlay = [address for name in ("under0", "br-phys") if host.interface(name).exists for address in host.interface(name).addresses]
    assert contract["underlay_ip"] in underlay


def test_every_machine_has_the_name_that_the_inventory_has(host, contract):
    assert host.check_output("hostname") == contract["inventory_hostname"]


def test_systemd_is_content(host):
    assert host.check_output("systemctl list-units --failed --no-legend --plain 'kos-*' 'systemd-*'") == ""


def test_packages_can_be_had(host):
    assert host.run("apt-get -q --print-uris install --reinstall base-files").rc == 0
    assert (
        host.run(
            "curl --silent --show-error --head --max-time 20 %s",
            host.check_output("sed -n 's/^URIs: //p' /etc/apt/sources.list.d/debian.sources | head -1"),
        ).rc
        == 0
    )


def test_the_clock_stays_the_hosts(host):
    assert host.run("date --set=@0").rc != 0


def test_loop_devices_are_nodes_of_the_machine(host):
    assert host.check_output("find /dev -maxdepth 1 -name 'loop[0-9]*' -type b | wc -l") == "128"


def test_nothing_can_start_machined(host):
    assert (
        host.run(
            "busctl --timeout=5 call org.freedesktop.machine1 /org/freedesktop/machine1 org.freedesktop.machine1.Manager ListMachines"
        ).rc
        != 0
    )
