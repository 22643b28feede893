# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cloud of somebody else leaves in the state folder."""

from __future__ import annotations

import os
import pathlib

import pytest
import yaml

testinfra_hosts = ["local://"]
STATE = pathlib.Path(os.environ["KOS_STATE"])


@pytest.fixture
def clouds():
    return yaml.safe_load((STATE / "elsewhere/clouds.yaml").read_text(encoding="utf-8"))["clouds"]


def test_the_cluster_gets_a_login_without_a_password(clouds):
    assert set(clouds) == {"kos-tenant", "kos-cluster"}
    assert {entry["auth_type"] for entry in clouds.values()} == {"v3applicationcredential"}
    password = yaml.safe_load((STATE / "clouds.yaml").read_text(encoding="utf-8"))["clouds"]["kos-tenant"]["auth"]["password"]
    assert [path for path in (STATE / "elsewhere").rglob("*") if path.is_file() and password.encode() in path.read_bytes()] == []


def test_the_contract_names_what_the_user_named():
    cloud = yaml.safe_load((STATE / "elsewhere/cloud.yaml").read_text(encoding="utf-8"))["cloud"]
    assert (cloud["image"], cloud["flavors"]) == ("debian-13", {"master": "kos.master", "worker": "kos.worker"})
    # The only one there is.
    assert cloud["external_network"] == "public"


def test_logins_work(host):
    for name in ("kos-tenant", "kos-cluster"):
        done = host.run(f"OS_CLIENT_CONFIG_FILE={STATE}/elsewhere/clouds.yaml OS_CLOUD={name} openstack server list -f json")
        assert done.rc == 0, done.stderr


def test_secrets_are_for_their_owner():
    files = [STATE / "elsewhere/clouds.yaml", STATE / "elsewhere/openrc/tenant", STATE / "elsewhere/ssh/id_ed25519"]
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o600"}
