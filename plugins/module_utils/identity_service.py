# SPDX-License-Identifier: GPL-3.0-or-later
"""What Keystone must know of a service, as a plan: compares what is there with what is wanted, without I/O."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.kos.labs.plugins.module_utils.identity_account import Step, plan_account

__all__ = ["Endpoint", "Found", "IdentityServiceError", "Wanted", "make_plan"]


class IdentityServiceError(Exception):
    """The service cannot be registered; the text says what to do."""


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """An endpoint that exists."""

    id: str
    url: str


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A service's user with its roles in a project, the service and its endpoints."""

    user: str
    project: str
    roles: t.Sequence[str]
    service: str
    type: str
    description: str
    region: str
    urls: t.Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Found:
    """What Keystone has. The names stand for what was asked for; what is not there is None or missing."""

    project_id: str | None = None
    role_ids: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    user_id: str | None = None
    user_can_log_in: bool = False
    assigned_roles: frozenset[str] = frozenset()
    region_exists: bool = False
    service_id: str | None = None
    service_name: str = ""
    service_description: str = ""
    endpoints: t.Mapping[str, Endpoint] = dataclasses.field(default_factory=dict)


def make_plan(found: Found, wanted: Wanted) -> list[Step]:
    """Return the steps that lead from what is there to what is wanted, in an order in which they can be taken."""
    steps = plan_account(found, wanted)
    if not found.region_exists:
        steps.append(Step("create_region", wanted.region))
    service = f"{wanted.service}: {wanted.description}"
    if found.service_id is None:
        steps.append(Step("create_service", wanted.type, after=service))
    elif (found.service_name, found.service_description) != (wanted.service, wanted.description):
        before = f"{found.service_name}: {found.service_description}"
        steps.append(Step("update_service", wanted.type, before=before, after=service))
    for interface, url in wanted.urls.items():
        endpoint = found.endpoints.get(interface)
        if endpoint is None:
            steps.append(Step("create_endpoint", interface, after=url))
        elif endpoint.url != url:
            steps.append(Step("update_endpoint", interface, before=endpoint.url, after=url))
    return steps
