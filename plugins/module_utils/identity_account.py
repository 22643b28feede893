# SPDX-License-Identifier: GPL-3.0-or-later
"""A user with roles in a project of Keystone: the part that a service's account and a tenant have in common."""

from __future__ import annotations

import dataclasses
import typing as t

__all__ = ["Account", "Step", "accepts", "plan_account", "tell"]


@dataclasses.dataclass(frozen=True)
class Step:
    """One call that changes something. The action names a method of the adapter, before and after are for the reader."""

    action: str
    name: str
    before: str = ""
    after: str = "present"


class WantedAccount(t.Protocol):
    """Names of what there should be."""

    @property
    def project(self) -> str: ...
    @property
    def user(self) -> str: ...
    @property
    def roles(self) -> t.Sequence[str]: ...


class FoundAccount(t.Protocol):
    """What Keystone has; what is not there is None or missing."""

    @property
    def project_id(self) -> str | None: ...
    @property
    def user_id(self) -> str | None: ...
    @property
    def user_can_log_in(self) -> bool: ...
    @property
    def role_ids(self) -> t.Mapping[str, str]: ...
    @property
    def assigned_roles(self) -> frozenset[str]: ...


def plan_account(found: FoundAccount, wanted: WantedAccount) -> list[Step]:
    """Return the steps to a user who can log in to the project with these roles, in an order in which they can be taken."""
    steps: list[Step] = []
    if found.project_id is None:
        steps.append(Step("create_project", wanted.project))
    steps.extend(Step("create_role", role) for role in wanted.roles if role not in found.role_ids)
    if found.user_id is None:
        steps.append(Step("create_user", wanted.user))
    steps.extend(Step("assign_role", role, after="assigned") for role in wanted.roles if role not in found.assigned_roles)
    if found.user_id is not None and not found.user_can_log_in:
        steps.append(Step("repair_user", wanted.user, before="cannot log in", after="can log in"))
    return steps


def tell(steps: t.Iterable[Step]) -> dict[str, t.Any]:
    """Return what a module returns of its steps: whether there were any, their names, and the two sides of the diff."""
    steps = list(steps)
    return {
        "changed": bool(steps),
        "steps": [f"{step.action} {step.name}" for step in steps],
        "diff": {
            side: "".join(f"{step.action} {step.name}: {getattr(step, side) or 'absent'}\n" for step in steps)
            for side in ("before", "after")
        },
    }


def accepts(connection: t.Any, login: str, *, may_be_gone: bool = False, **credentials: t.Any) -> bool:
    """Tell whether Keystone lets somebody in; login names a plugin of keystoneauth1.identity.v3.

    What Keystone does not find is refused too if it may be gone; otherwise that is an error, such as a wrong address.
    """
    from keystoneauth1 import exceptions
    from keystoneauth1.identity import v3

    plugin = getattr(v3, login)(auth_url=connection.config.get_auth_args()["auth_url"], **credentials)
    try:
        plugin.get_token(connection.session)
    except exceptions.Unauthorized:
        return False
    except exceptions.NotFound:
        if not may_be_gone:
            raise
        return False
    return True


W = t.TypeVar("W", bound=WantedAccount)


class Account(t.Generic[W]):
    """Reads the account and takes the steps of its plan. Ids of what it creates are there for the steps that follow."""

    def __init__(self, *, connection: t.Any, wanted: W, domain_id: str, password: str) -> None:
        self.connection = connection
        self.identity = connection.identity
        self.wanted = wanted
        self.domain_id = domain_id
        self.password = password
        self.project_id: str | None = None
        self.user_id: str | None = None
        self.user_enabled = True
        self.role_ids: dict[str, str] = {}

    def read_account(self) -> dict[str, t.Any]:
        """Return what Keystone has of the account, but for whether the password works."""
        wanted = self.wanted
        project = next(iter(self.identity.projects(name=wanted.project, domain_id=self.domain_id)), None)
        user = next(iter(self.identity.users(name=wanted.user, domain_id=self.domain_id)), None)
        self.role_ids = {role.name: role.id for role in self.identity.roles() if role.name in wanted.roles}
        self.project_id = project.id if project else None
        self.user_id = user.id if user else None
        self.user_enabled = user.is_enabled if user else True
        assigned: frozenset[str] = frozenset()
        if project and user:
            names = {role_id: name for name, role_id in self.role_ids.items()}
            assignments = self.identity.role_assignments(user_id=user.id, scope_project_id=project.id)
            assigned = frozenset(names.get(assignment.role["id"], "") for assignment in assignments)
        return {"project_id": self.project_id, "user_id": self.user_id, "role_ids": dict(self.role_ids), "assigned_roles": assigned}

    def accepts(self, login: str, *, may_be_gone: bool = False, **credentials: t.Any) -> bool:
        """Tell whether Keystone lets somebody in, see `accepts`."""
        return accepts(self.connection, login, may_be_gone=may_be_gone, **credentials)

    def take(self, step: Step) -> None:
        """Take one step of the plan."""
        getattr(self, step.action)(step)

    def create_project(self, step: Step) -> None:
        """Create the project."""
        self.project_id = self.identity.create_project(name=step.name, domain_id=self.domain_id).id

    def create_role(self, step: Step) -> None:
        """Create a role."""
        self.role_ids[step.name] = self.identity.create_role(name=step.name).id

    def create_user(self, step: Step) -> None:
        """Create the user."""
        user = self.identity.create_user(
            name=step.name, password=self.password, domain_id=self.domain_id, default_project_id=self.project_id
        )
        self.user_id = user.id

    def repair_user(self, step: Step) -> None:
        """Let the user in with the password that is known here."""
        self.identity.update_user(self.user_id, password=self.password, is_enabled=True)

    def assign_role(self, step: Step) -> None:
        """Give the user a role in the project."""
        self.identity.assign_project_role_to_user(self.project_id, self.user_id, self.role_ids[step.name])
