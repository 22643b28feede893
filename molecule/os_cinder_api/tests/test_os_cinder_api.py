# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pathlib

import openstack
import pytest

testinfra_hosts = ["ansible://controller"]

STATE = pathlib.Path(os.environ["KOS_STATE"])


@pytest.mark.parametrize("unit", ["cinder-api", "cinder-scheduler"])
def test_it_runs(runs, unit):
    runs(unit)


def test_passwords_are_private(private):
    private("/etc/cinder/cinder.conf", "cinder")


def test_clients_find_it_under_both_names(host):
    os.environ["OS_CLIENT_CONFIG_FILE"] = str(STATE / "clouds.yaml")
    session = openstack.connect(cloud="kos-admin").session
    address = host.ansible.get_variables()["mgmt_ip"]
    for name in ("volumev3", "block-storage"):
        assert session.get_endpoint(service_type=name, interface="public") == f"http://{address}:8776/v3", name


def test_there_is_a_type_for_those_who_ask_for_none():
    os.environ["OS_CLIENT_CONFIG_FILE"] = str(STATE / "clouds.yaml")
    cloud = openstack.connect(cloud="kos-admin")
    answer = cloud.block_storage.get("/types/default", microversion="3.0")
    assert answer.json()["volume_type"]["name"] == "standard"
