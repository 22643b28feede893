# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

testinfra_hosts = ["ansible://controller"]


def test_it_runs(runs):
    runs("rabbitmq-server")


def test_it_listens_on_one_inner_address(host, listens):
    assert {address.strip("[]").removeprefix("::ffff:") for address in listens(5672)} == {host.ansible.get_variables()["mgmt_ip"]}


def test_users_are_the_services_only(host):
    names = [line.split()[0] for line in host.check_output("rabbitmqctl --quiet --no-table-headers list_users").splitlines()]
    assert names == ["openstack"]


def test_no_alarm_is_set(host):
    assert host.run("rabbitmq-diagnostics --quiet check_local_alarms").rc == 0


def test_definitions_are_private(private):
    private("/etc/rabbitmq/definitions.json", "rabbitmq")
