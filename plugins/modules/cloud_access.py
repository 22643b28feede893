#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A key pair and an application credential of the user who logs in."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cloud_access
short_description: A key pair and an application credential of the user who logs in
version_added: 0.1.0
author: The kos.labs authors (@kos-labs)
description:
  - Makes sure of a key pair and of an application credential of the user who logs in, in the project of the login. No rights beyond those of an ordinary member are needed.
  - A key pair with another key, and an application credential that does not work, lacks roles or is for another project, are replaced. Nothing else is removed.
  - A cloud that allows no application credentials, or a login that may not make any, is no failure; RV(refused) says why.
options:
  keypair:
    description: Name of the key pair. Names are the user's, not the project's.
    type: str
    required: true
  public_key:
    description: The public key in OpenSSH's form. Needed unless O(state=absent).
    type: str
  credential:
    description: Name of the application credential; with an empty one the module leaves them alone.
    type: str
    default: ""
  secret:
    description: Secret of the application credential. Needed with O(credential) unless O(state=absent).
    type: str
  roles:
    description: Roles of the application credential. By default those that the user has in the project, but for C(admin) and C(manager) if there are others.
    type: list
    elements: str
    default: []
  state:
    description: Whether they are to exist.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    support: full
    description: Predicts what it would do and changes nothing.
  diff_mode:
    support: full
    description: Names each step. Secrets are not part of it.
extends_documentation_fragment:
  - openstack.cloud.openstack
"""

EXAMPLES = r"""
- name: Let a cluster in, without the password of a person
  kos.labs.cloud_access:
    cloud: mine
    keypair: kos
    public_key: "{{ lookup('ansible.builtin.file', '~/.ssh/id_ed25519.pub') }}"
    credential: kos-cluster
    secret: "{{ credential_secret }}"
  register: access
"""

RETURN = r"""
credential_id:
  description: Id of the application credential; empty if there is none.
  returned: always
  type: str
refused:
  description: Why there is no application credential although one is wanted, in a sentence; empty if there is one.
  returned: always
  type: str
steps:
  description: What was done, or would be done in check mode, as actions with the name of what they concern.
  returned: always
  type: list
  elements: str
  sample: [create_keypair kos, create_credential kos-cluster]
"""

import typing as t

from ansible_collections.kos.labs.plugins.module_utils.cloud_access import Found, Wanted, make_plan, roles_to_pass_on
from ansible_collections.kos.labs.plugins.module_utils.identity_account import Step, accepts, tell
from ansible_collections.openstack.cloud.plugins.module_utils.openstack import OpenStackModule


class CloudAccess(OpenStackModule):
    """The module: reads as the user, plans, acts as the user."""

    argument_spec: t.ClassVar = {
        "keypair": {"type": "str", "required": True, "no_log": False},
        "public_key": {"type": "str", "no_log": False},
        "credential": {"type": "str", "default": ""},
        "secret": {"type": "str", "no_log": True},
        "roles": {"type": "list", "elements": "str", "default": []},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }
    module_kwargs: t.ClassVar = {"supports_check_mode": True}

    def run(self) -> None:
        """Read, plan, act."""
        absent = self.params["state"] == "absent"
        needed = [] if absent else ["public_key", *(["secret"] if self.params["credential"] else [])]
        missing = [name for name in needed if not self.params[name]]
        if missing:
            self.fail_json(msg=f"give {' and '.join(missing)} too")
        self.access = self.conn.session.auth.get_access(self.conn.session)
        self.refused = ""
        self.credential_id = ""
        self.wanted = Wanted(
            keypair=self.params["keypair"],
            public_key=self.params["public_key"] or "",
            credential=self.params["credential"],
            project_id=self.access.project_id or "",
            roles=roles_to_pass_on(self.access.role_names, self.params["roles"]),
        )
        steps = make_plan(self.read(), self.wanted, absent=absent)
        if self.refused:
            steps = [step for step in steps if not step.action.endswith("_credential")]
        if not self.check_mode:
            steps = [step for step in steps if self.take(step)]
        self.exit_json(**tell(steps), credential_id=self.credential_id, refused=self.refused)

    def read(self) -> Found:
        """Return what the user has."""
        keypair = self.conn.compute.find_keypair(self.wanted.keypair, ignore_missing=True)
        facts: dict[str, t.Any] = {"public_key": keypair.public_key if keypair else None}
        if not self.wanted.credential:
            return Found(**facts)
        try:
            mine = self.conn.identity.application_credentials(self.access.user_id, name=self.wanted.credential)
            credential = next(iter(mine), None)
        except (self.sdk.exceptions.ForbiddenException, self.sdk.exceptions.NotFoundException) as error:
            self.refuse(error)
            return Found(**facts)
        if credential:
            self.credential_id = credential.id
            facts["credential_id"] = credential.id
            facts["credential_project"] = credential.project_id
            facts["credential_roles"] = frozenset(role["name"] for role in credential.roles)
            login = {"application_credential_id": credential.id, "application_credential_secret": self.params["secret"] or "-"}
            facts["credential_works"] = accepts(self.conn, "ApplicationCredential", may_be_gone=True, **login)
        return Found(**facts)

    def refuse(self, error: Exception) -> None:
        """Keep why the cloud gives no application credential."""
        text = " ".join(str(error).split()).rstrip(".")[:200]
        self.refused = f"Keystone lets this login make no application credential ({text})."

    def take(self, step: Step) -> bool:
        """Take one step of the plan; tell whether the cloud let us."""
        try:
            getattr(self, step.action)(step)
        except self.sdk.exceptions.ForbiddenException as error:
            if not step.action.endswith("_credential"):
                raise
            self.refuse(error)
            return False
        return True

    def create_keypair(self, step: Step) -> None:
        """Create the key pair."""
        self.conn.compute.create_keypair(name=step.name, public_key=self.wanted.public_key)

    def replace_keypair(self, step: Step) -> None:
        """Replace the key pair by one with the key that is known here."""
        self.delete_keypair(step)
        self.create_keypair(step)

    def delete_keypair(self, step: Step) -> None:
        """Delete the key pair."""
        self.conn.compute.delete_keypair(step.name)

    def create_credential(self, step: Step) -> None:
        """Create the application credential."""
        roles = [{"name": role} for role in sorted(self.wanted.roles)]
        made = self.conn.identity.create_application_credential(self.access.user_id, step.name, secret=self.params["secret"], roles=roles)
        self.credential_id = made.id

    def replace_credential(self, step: Step) -> None:
        """Replace the application credential by one that works."""
        self.delete_credential(step)
        self.create_credential(step)

    def delete_credential(self, step: Step) -> None:
        """Delete the application credential."""
        self.conn.identity.delete_application_credential(self.access.user_id, self.credential_id)
        self.credential_id = ""


def main() -> None:
    """Entry point."""
    CloudAccess()()


if __name__ == "__main__":
    main()
