# SPDX-License-Identifier: GPL-3.0-or-later
"""What a tenant of a cloud is made of, as a plan: compares what is there with what is wanted, without I/O."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.kos.labs.plugins.module_utils.identity_account import Step, plan_account

__all__ = ["CloudTenantError", "Found", "Wanted", "make_plan", "quota_changes"]


class CloudTenantError(Exception):
    """The tenant cannot be made; the text says what to do."""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A project, a user with roles in it, what they may use, and what they log in with."""

    project: str
    user: str
    roles: t.Sequence[str]
    quotas: t.Mapping[str, t.Mapping[str, int]]
    keypair: str
    public_key: str
    credential: str


@dataclasses.dataclass(frozen=True)
class Found:
    """What the cloud has. What is not there is None or missing; quotas count per service."""

    project_id: str | None = None
    user_id: str | None = None
    user_can_log_in: bool = False
    role_ids: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    assigned_roles: frozenset[str] = frozenset()
    quotas: t.Mapping[str, t.Mapping[str, int]] = dataclasses.field(default_factory=dict)
    public_key: str | None = None
    credential_id: str | None = None
    credential_roles: frozenset[str] = frozenset()
    credential_works: bool = False


def key_of(public_key: str) -> list[str]:
    """Return type and key of a public key; what follows is a comment."""
    return public_key.split()[:2]


def quota_changes(found: t.Mapping[str, int], wanted: t.Mapping[str, int]) -> dict[str, int]:
    """Return the quotas that have another value."""
    return {name: value for name, value in wanted.items() if found.get(name) != value}


def _show(quotas: t.Mapping[str, t.Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(quotas.items()))


def make_plan(found: Found, wanted: Wanted) -> list[Step]:
    """Return the steps that lead from what is there to what is wanted, in an order in which they can be taken."""
    steps = plan_account(found, wanted)
    for service, quotas in sorted(wanted.quotas.items()):
        have = found.quotas.get(service, {})
        changes = quota_changes(have, quotas)
        if changes:
            steps.append(Step("set_quotas", service, _show({name: have.get(name) for name in changes}), _show(changes)))
    if found.public_key is None:
        steps.append(Step("create_keypair", wanted.keypair))
    elif key_of(found.public_key) != key_of(wanted.public_key):
        steps.append(Step("replace_keypair", wanted.keypair, before=found.public_key, after=wanted.public_key))
    # A credential keeps the roles and the secret it was made with. Roles may imply others, which it has too.
    if found.credential_id is None:
        steps.append(Step("create_credential", wanted.credential))
    elif not found.credential_works:
        steps.append(Step("replace_credential", wanted.credential, before="cannot log in", after="can log in"))
    elif not found.credential_roles >= frozenset(wanted.roles):
        before, after = (", ".join(sorted(names)) for names in (found.credential_roles, wanted.roles))
        steps.append(Step("replace_credential", wanted.credential, before=before, after=after))
    return steps
