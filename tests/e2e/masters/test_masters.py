# SPDX-License-Identifier: GPL-3.0-or-later
"""Three masters: their API has one address, which is a load balancer's."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def masters(inventory):
    found = sorted(inventory["masters"]["hosts"])
    if len(found) < 3:
        pytest.skip("this lab has one master")
    return found


def test_clients_talk_to_the_load_balancer(kubectl, tenant, inventory):
    found = {each["name"]: each for each in tenant.json("loadbalancer", "list", "-f", "json")}
    variables = inventory["_meta"]["hostvars"][inventory["masters"]["hosts"][0]]
    assert found["kos-api"]["vip_address"] == variables["cluster_api_address"]
    server = kubectl.json("config", "view", "-o", "json")["clusters"][0]["cluster"]["server"]
    assert server == f"https://{variables['cluster_api_floating_ip']}:6443"
