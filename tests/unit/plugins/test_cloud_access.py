# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan that leads to a key pair and an application credential."""

from __future__ import annotations

import dataclasses

import pytest
from ansible_collections.kos.labs.plugins.module_utils.cloud_access import Found, Wanted, make_plan, roles_to_pass_on

WANTED = Wanted(keypair="k", public_key="ssh-ed25519 AAAA kos", credential="c", project_id="p", roles=frozenset({"member"}))
COMPLETE = Found(
    public_key="ssh-ed25519 AAAA",
    credential_id="i",
    credential_project="p",
    credential_roles=frozenset({"member", "reader"}),
    credential_works=True,
)


@pytest.mark.parametrize(
    ("found", "wanted", "actions"),
    [
        (Found(), WANTED, ["create_keypair", "create_credential"]),
        (COMPLETE, WANTED, []),
        (dataclasses.replace(COMPLETE, public_key="ssh-ed25519 BBBB"), WANTED, ["replace_keypair"]),
        (dataclasses.replace(COMPLETE, credential_works=False), WANTED, ["replace_credential"]),
        (dataclasses.replace(COMPLETE, credential_project="other"), WANTED, ["replace_credential"]),
        (dataclasses.replace(COMPLETE, credential_roles=frozenset({"reader"})), WANTED, ["replace_credential"]),
        # Somebody who logs in as a program already.
        (Found(), dataclasses.replace(WANTED, credential=""), ["create_keypair"]),
    ],
)
def test_plan(found, wanted, actions):
    assert [step.action for step in make_plan(found, wanted)] == actions


@pytest.mark.parametrize(("found", "actions"), [(COMPLETE, ["delete_credential", "delete_keypair"]), (Found(), [])])
def test_plan_to_leave(found, actions):
    assert [step.action for step in make_plan(found, WANTED, absent=True)] == actions


@pytest.mark.parametrize(
    ("own", "wanted", "passed"),
    [
        (["member", "reader", "admin"], [], {"member", "reader"}),
        (["admin"], [], {"admin"}),
        (["member", "load-balancer_member"], ["member"], {"member"}),
    ],
)
def test_a_cluster_gets_no_right_to_rule_the_cloud(own, wanted, passed):
    assert roles_to_pass_on(own, wanted) == passed
