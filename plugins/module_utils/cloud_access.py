# SPDX-License-Identifier: GPL-3.0-or-later
"""A user's own key pair and application credential, as a plan: compares what is there with what is wanted, without I/O."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.kos.labs.plugins.module_utils.identity_account import Step

__all__ = ["Found", "Wanted", "make_plan", "roles_to_pass_on"]


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Names of the key pair and of the application credential; the latter is empty where none is wanted."""

    keypair: str
    public_key: str
    credential: str
    project_id: str
    roles: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Found:
    """What the user has under these names; what is not there is None."""

    public_key: str | None = None
    credential_id: str | None = None
    credential_project: str | None = None
    credential_roles: frozenset[str] = frozenset()
    credential_works: bool = False


def roles_to_pass_on(own: t.Iterable[str], wanted: t.Collection[str]) -> frozenset[str]:
    """Return the roles that a program gets of a user: those that are wanted, or all but the right to rule the cloud."""
    roles = frozenset(own)
    return frozenset(wanted) or roles - {"admin", "manager"} or roles


def make_plan(found: Found, wanted: Wanted, *, absent: bool = False) -> list[Step]:
    """Return the steps from what is there to what is wanted."""
    steps: list[Step] = []
    if absent:
        if found.credential_id:
            steps.append(Step("delete_credential", wanted.credential, before="present", after="absent"))
        if found.public_key is not None:
            steps.append(Step("delete_keypair", wanted.keypair, before="present", after="absent"))
        return steps
    if found.public_key is None:
        steps.append(Step("create_keypair", wanted.keypair))
    elif found.public_key.split()[:2] != wanted.public_key.split()[:2]:
        steps.append(Step("replace_keypair", wanted.keypair, before=found.public_key, after=wanted.public_key))
    if not wanted.credential:
        return steps
    if found.credential_id is None:
        steps.append(Step("create_credential", wanted.credential))
    elif found.credential_project != wanted.project_id:
        steps.append(
            Step(
                "replace_credential", wanted.credential, before=f"project {found.credential_project}", after=f"project {wanted.project_id}"
            )
        )
    elif not found.credential_works:
        steps.append(Step("replace_credential", wanted.credential, before="cannot log in", after="can log in"))
    elif not found.credential_roles >= wanted.roles:
        before, after = (", ".join(sorted(names)) for names in (found.credential_roles, wanted.roles))
        steps.append(Step("replace_credential", wanted.credential, before=before, after=after))
    return steps
