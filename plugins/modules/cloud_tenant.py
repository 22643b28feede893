#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A project of an OpenStack cloud with its user and what the user logs in with."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cloud_tenant
short_description: A project of an OpenStack cloud with its user and what the user logs in with
version_added: 0.1.0
author: The kos.labs authors (@kos-labs)
description:
  - Makes sure of a project, its quotas, a user with roles in it, and of what belongs to that user, a key pair and an application credential.
  - Does in one session as the administrator and one as the user what takes seven modules otherwise.
  - A key pair with another key and an application credential that does not work, or that lacks roles, are replaced. Nothing else is removed.
options:
  project:
    description: Name of the project.
    type: str
    required: true
  user:
    description: Name of the user.
    type: str
    required: true
  password:
    description: Password of the user. It is tried, and set if it does not work.
    type: str
    required: true
  domain:
    description: Id of the domain of user and project.
    type: str
    default: default
  roles:
    description: Roles of the user in the project. They are created where they are missing.
    type: list
    elements: str
    default: [member]
  quotas:
    description: Quotas per service, C(compute), C(network) or C(block_storage), as the SDK names them. Those that are not named stay as they are.
    type: dict
    default: {}
  keypair:
    description: Name of the key pair.
    type: str
    required: true
  public_key:
    description: The public key in OpenSSH's form.
    type: str
    required: true
  credential:
    description: Name of the application credential.
    type: str
    required: true
  secret:
    description: Secret of the application credential.
    type: str
    required: true
attributes:
  check_mode:
    support: full
    description: Predicts what it would do and changes nothing.
  diff_mode:
    support: full
    description: Names each step. Passwords are not part of it.
extends_documentation_fragment:
  - openstack.cloud.openstack
"""

EXAMPLES = r"""
- name: Make the tenant
  kos.labs.cloud_tenant:
    cloud: kos-admin
    project: kos
    user: kos
    password: "{{ tenant_password }}"
    roles: [member]
    quotas:
      compute: {cores: 40, instances: 20}
      network: {floating_ips: 20}
    keypair: kos
    public_key: "{{ lookup('ansible.builtin.file', '~/.ssh/id_ed25519.pub') }}"
    credential: kos-cluster
    secret: "{{ credential_secret }}"
  register: tenant
"""

RETURN = r"""
credential_id:
  description: Id of the application credential; empty in check mode if there is none yet.
  returned: always
  type: str
project_id:
  description: Id of the project; empty in check mode if there is none yet.
  returned: always
  type: str
steps:
  description: What was done, or would be done in check mode, as actions with the name of what they concern.
  returned: always
  type: list
  elements: str
  sample: [create_user kos, assign_role member]
"""

import typing as t

from ansible_collections.kos.labs.plugins.module_utils.cloud_tenant import CloudTenantError, Found, Wanted, make_plan, quota_changes
from ansible_collections.kos.labs.plugins.module_utils.identity_account import Account, Step, tell
from ansible_collections.openstack.cloud.plugins.module_utils.openstack import OpenStackModule


class Adapter(Account[Wanted]):
    """Reads the cloud and takes the steps of a plan."""

    def __init__(self, *, secret: str, **account: t.Any) -> None:
        super().__init__(**account)
        self.secret = secret
        self.found = Found()
        self.credential_id = ""
        self._own: t.Any = None

    @property
    def own(self) -> t.Any:
        """The connection of the user."""
        if self._own is None:
            self._own = self.connection.connect_as(
                username=self.wanted.user,
                password=self.password,
                project_name=self.wanted.project,
                user_domain_id=self.domain_id,
                project_domain_id=self.domain_id,
            )
        return self._own

    def read(self) -> Found:
        """Return what the cloud has."""
        facts = self.read_account()
        if self.project_id:
            facts["quotas"] = self._read_quotas()
        if self.project_id and self.user_id:
            facts.update(self._read_own())
        self.found = Found(**facts)
        return self.found

    def _read_quotas(self) -> dict[str, dict[str, int]]:
        cloud = self.connection
        readers = {
            "compute": lambda: cloud.compute.get_quota_set,
            "network": lambda: cloud.network.get_quota,
            "block_storage": lambda: cloud.block_storage.get_quota_set,
        }
        found = {}
        for service in self.wanted.quotas:
            if service not in readers:
                raise CloudTenantError(f"quotas: {service} is not among the services known here, {', '.join(readers)}")
            found[service] = readers[service]()(self.project_id).to_dict(computed=False)
            unknown = sorted(set(self.wanted.quotas[service]) - set(found[service]))
            if unknown:
                raise CloudTenantError(f"quotas.{service}: the SDK knows no {', '.join(unknown)}, see what it calls them")
        return found

    def _read_own(self) -> dict[str, t.Any]:
        from keystoneauth1 import exceptions

        try:
            self.own.session.get_token()
        except exceptions.Unauthorized:
            self._own = None
            # A user without a role cannot log in either; then there is nothing of their own yet.
            return {"user_can_log_in": False}
        keypair = self.own.compute.find_keypair(self.wanted.keypair, ignore_missing=True)
        facts: dict[str, t.Any] = {"user_can_log_in": True, "public_key": keypair.public_key if keypair else None}
        credential = next(iter(self.own.identity.application_credentials(self.user_id, name=self.wanted.credential)), None)
        if credential:
            self.credential_id = credential.id
            facts["credential_id"] = credential.id
            facts["credential_roles"] = frozenset(role["name"] for role in credential.roles)
            login = {"application_credential_id": credential.id, "application_credential_secret": self.secret}
            facts["credential_works"] = self.accepts("ApplicationCredential", may_be_gone=True, **login)
        return facts

    def repair_user(self, step: Step) -> None:
        """Let the user in with the password that is known here."""
        super().repair_user(step)
        # What belongs to the user can only be seen now.
        for follow in make_plan(Found(**{**vars(self.found), **self._read_own()}), self.wanted):
            if follow.action.endswith(("_keypair", "_credential")):
                self.take(follow)

    def set_quotas(self, step: Step) -> None:
        """Set what differs from what is wanted."""
        changes = quota_changes(self.found.quotas.get(step.name, {}), self.wanted.quotas[step.name])
        if step.name == "compute":
            self.connection.set_compute_quotas(self.project_id, **changes)
        elif step.name == "block_storage":
            self.connection.set_volume_quotas(self.project_id, **changes)
        else:
            self.connection.network.update_quota(self.project_id, **changes)

    def create_keypair(self, step: Step) -> None:
        """Create the key pair."""
        self.own.compute.create_keypair(name=step.name, public_key=self.wanted.public_key)

    def replace_keypair(self, step: Step) -> None:
        """Replace the key pair by one with the key that is known here."""
        self.own.compute.delete_keypair(step.name)
        self.create_keypair(step)

    def create_credential(self, step: Step) -> None:
        """Create the application credential."""
        credential = self.own.identity.create_application_credential(
            self.user_id, step.name, secret=self.secret, roles=[{"name": role} for role in self.wanted.roles]
        )
        self.credential_id = credential.id

    def replace_credential(self, step: Step) -> None:
        """Replace the application credential by one that works."""
        self.own.identity.delete_application_credential(self.user_id, self.credential_id)
        self.create_credential(step)


class CloudTenant(OpenStackModule):
    """The module."""

    argument_spec: t.ClassVar = {
        "project": {"type": "str", "required": True},
        "user": {"type": "str", "required": True},
        "password": {"type": "str", "required": True, "no_log": True},
        "domain": {"type": "str", "default": "default"},
        "roles": {"type": "list", "elements": "str", "default": ["member"]},
        "quotas": {"type": "dict", "default": {}},
        "keypair": {"type": "str", "required": True, "no_log": False},
        "public_key": {"type": "str", "required": True, "no_log": False},
        "credential": {"type": "str", "required": True},
        "secret": {"type": "str", "required": True, "no_log": True},
    }
    module_kwargs: t.ClassVar = {"supports_check_mode": True}

    def run(self) -> None:
        """Read, plan, act."""
        fields = ("project", "user", "roles", "quotas", "keypair", "public_key", "credential")
        adapter = Adapter(
            connection=self.conn,
            wanted=Wanted(**{field: self.params[field] for field in fields}),
            domain_id=self.params["domain"],
            password=self.params["password"],
            secret=self.params["secret"],
        )
        try:
            steps = make_plan(adapter.read(), adapter.wanted)
            # What belongs to a user who cannot log in is unknown; the repair looks after it.
            if any(step.action == "repair_user" for step in steps):
                steps = [step for step in steps if not step.action.endswith(("_keypair", "_credential"))]
            if not self.check_mode:
                for step in steps:
                    adapter.take(step)
        except CloudTenantError as exc:
            self.fail_json(msg=str(exc))
        self.exit_json(**tell(steps), project_id=adapter.project_id or "", credential_id=adapter.credential_id)


def main() -> None:
    """Entry point."""
    CloudTenant()()


if __name__ == "__main__":
    main()
