# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan that leads to a tenant."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from ansible_collections.kos.labs.plugins.module_utils.cloud_tenant import Found, Wanted, make_plan, quota_changes

WANTED = Wanted(
    project="kos",
    user="kos",
    roles=["member"],
    quotas={"compute": {"cores": 8}},
    keypair="kos",
    public_key="ssh-ed25519 AAAA somebody",
    credential="kos-cluster",
)
COMPLETE = Found(
    project_id="p",
    user_id="u",
    user_can_log_in=True,
    role_ids={"member": "m"},
    assigned_roles=frozenset({"member"}),
    quotas={"compute": {"cores": 8, "ram": 1}},
    public_key="ssh-ed25519 AAAA",
    credential_id="c",
    credential_roles=frozenset({"member", "reader"}),
    credential_works=True,
)


def actions(found: Found) -> list[str]:
    return [step.action for step in make_plan(found, WANTED)]


def test_from_nothing_in_order() -> None:
    assert actions(Found()) == [
        "create_project",
        "create_role",
        "create_user",
        "assign_role",
        "set_quotas",
        "create_keypair",
        "create_credential",
    ]


def test_complete_needs_nothing() -> None:
    assert actions(COMPLETE) == []


@pytest.mark.parametrize(
    ("change", "action"),
    [
        ({"user_can_log_in": False}, "repair_user"),
        ({"quotas": {"compute": {"cores": 4}}}, "set_quotas"),
        ({"public_key": "ssh-ed25519 BBBB"}, "replace_keypair"),
        ({"public_key": None}, "create_keypair"),
        ({"credential_works": False}, "replace_credential"),
        ({"credential_roles": frozenset()}, "replace_credential"),
        ({"credential_id": None}, "create_credential"),
        ({"assigned_roles": frozenset()}, "assign_role"),
    ],
)
def test_one_difference_is_one_step(change: dict[str, t.Any], action: str) -> None:
    assert actions(dataclasses.replace(COMPLETE, **change)) == [action]


def test_quota_changes() -> None:
    assert quota_changes({"cores": 1, "ram": 2}, {"cores": 1, "ram": 3}) == {"ram": 3}
