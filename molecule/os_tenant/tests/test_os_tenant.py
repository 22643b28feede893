# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pathlib
import stat

import openstack
import pytest
import yaml

STATE = pathlib.Path(os.environ["KOS_STATE"])


@pytest.fixture(scope="module")
def contract():
    return yaml.safe_load((STATE / "cloud.yaml").read_text(encoding="utf-8"))["cloud"]


@pytest.fixture(scope="module")
def tenant(contract):
    os.environ["OS_CLIENT_CONFIG_FILE"] = str(STATE / "clouds.yaml")
    return openstack.connect(cloud=contract["name"])


def test_the_tenant_finds_what_the_contract_names(contract, tenant):
    assert tenant.network.find_network(contract["external_network"], ignore_missing=False).is_router_external
    assert tenant.image.find_image(contract["image"], ignore_missing=False).status == "active"
    for name in contract["flavors"].values():
        tenant.compute.find_flavor(name, ignore_missing=False)
    tenant.compute.find_keypair(contract["keypair"], ignore_missing=False)


def test_the_credential_of_the_cluster_works(contract, tenant):
    assert openstack.connect(cloud=contract["credential"]).current_project_id == tenant.current_project_id


def test_passwords_are_private():
    for path in (STATE / "clouds.yaml", STATE / "openrc/tenant", STATE / "openrc/admin"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
