#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Register a service of an OpenStack cloud in Keystone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: identity_service
short_description: Register a service of an OpenStack cloud in Keystone
version_added: 0.1.0
author: The kos.labs authors (@kos-labs)
description:
  - Makes sure of the user of a service, its roles in the project of the services, the service itself and its endpoints.
  - Does in one session what M(openstack.cloud.identity_user), M(openstack.cloud.role_assignment), M(openstack.cloud.catalog_service)
    and M(openstack.cloud.endpoint) do in seven. It removes nothing.
options:
  user:
    description: Name of the user that the service logs in with.
    type: str
    required: true
  password:
    description: Its password. It is tried, and set if it does not work.
    type: str
    required: true
  domain:
    description: Id of the domain of user and project.
    type: str
    default: default
  project:
    description: Name of the project in which the user gets its roles.
    type: str
    default: service
  roles:
    description: The roles of the user. They are created where they are missing.
    type: list
    elements: str
    default: [service, admin]
  name:
    description: Name of the service.
    type: str
    required: true
  type:
    description: Type of the service. It identifies the service; there is one of a type.
    type: str
    required: true
  description:
    description: Description of the service.
    type: str
    default: ""
  region:
    description: Region of the endpoints.
    type: str
    required: true
  urls:
    description: URL per interface.
    type: dict
    required: true
    suboptions:
      public:
        description: For everybody.
        type: str
        required: true
      internal:
        description: For the services of the cloud.
        type: str
        required: true
      admin:
        description: For the cloud's operator. Nothing but old clients asks for it.
        type: str
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
- name: Register Glance
  kos.labs.identity_service:
    cloud: kos-admin
    user: glance
    password: "{{ glance_password }}"
    name: glance
    type: image
    description: OpenStack Image
    region: RegionOne
    urls:
      public: https://cloud.example.org:9292
      internal: http://10.0.0.2:9292
      admin: http://10.0.0.2:9292
"""

RETURN = r"""
steps:
  description: What was done, or would be done in check mode, as actions with the name of what they concern.
  returned: always
  type: list
  elements: str
  sample: [create_user glance, assign_role service]
"""

import typing as t

from ansible_collections.kos.labs.plugins.module_utils.identity_account import Account, Step, tell
from ansible_collections.kos.labs.plugins.module_utils.identity_service import Endpoint, Found, IdentityServiceError, Wanted, make_plan
from ansible_collections.openstack.cloud.plugins.module_utils.openstack import OpenStackModule


class Adapter(Account[Wanted]):
    """Reads Keystone and takes the steps of a plan."""

    def __init__(self, **account: t.Any) -> None:
        super().__init__(**account)
        self.service_id: str | None = None
        self.endpoints: dict[str, Endpoint] = {}

    def read(self) -> Found:
        """Return what Keystone knows of the service."""
        wanted = self.wanted
        services = list(self.identity.services(type=wanted.type))
        if len(services) > 1:
            raise IdentityServiceError(f"the cloud has {len(services)} services of type {wanted.type}: remove all but one of them")
        service = services[0] if services else None
        self.service_id = service.id if service else None
        if service:
            for endpoint in self.identity.endpoints(service_id=service.id, region_id=wanted.region):
                self.endpoints[endpoint.interface] = Endpoint(endpoint.id, endpoint.url)
        account = self.read_account()
        knows_password = bool(self.user_id) and self.accepts("Password", user_id=self.user_id, password=self.password, unscoped=True)
        return Found(
            **account,
            user_can_log_in=self.user_enabled and knows_password,
            region_exists=any(region.id == wanted.region for region in self.identity.regions()),
            service_id=self.service_id,
            service_name=service.name or "" if service else "",
            service_description=service.description or "" if service else "",
            endpoints=self.endpoints,
        )

    def create_region(self, step: Step) -> None:
        """Create the region."""
        self.identity.create_region(id=step.name)

    def create_service(self, step: Step) -> None:
        """Create the service."""
        wanted = self.wanted
        service = self.identity.create_service(name=wanted.service, type=wanted.type, description=wanted.description)
        self.service_id = service.id

    def update_service(self, step: Step) -> None:
        """Name and describe the service as wanted."""
        wanted = self.wanted
        self.identity.update_service(self.service_id, name=wanted.service, description=wanted.description)

    def create_endpoint(self, step: Step) -> None:
        """Create an endpoint."""
        self.identity.create_endpoint(service_id=self.service_id, interface=step.name, region_id=self.wanted.region, url=step.after)

    def update_endpoint(self, step: Step) -> None:
        """Let an endpoint lead to the wanted URL."""
        self.identity.update_endpoint(self.endpoints[step.name].id, url=step.after)


class IdentityServiceModule(OpenStackModule):
    """The module."""

    argument_spec: t.ClassVar[dict[str, t.Any]] = {
        "user": {"required": True},
        "password": {"required": True, "no_log": True},
        "domain": {"default": "default"},
        "project": {"default": "service"},
        "roles": {"type": "list", "elements": "str", "default": ["service", "admin"]},
        "name": {"required": True},
        "type": {"required": True},
        "description": {"default": ""},
        "region": {"required": True},
        "urls": {
            "type": "dict",
            "required": True,
            "options": {"public": {"required": True}, "internal": {"required": True}, "admin": {}},
        },
    }
    module_kwargs: t.ClassVar[dict[str, t.Any]] = {"supports_check_mode": True}

    def run(self) -> None:
        """Plan, and take the steps unless in check mode."""
        params = self.params
        wanted = Wanted(
            user=params["user"],
            project=params["project"],
            roles=params["roles"],
            service=params["name"],
            type=params["type"],
            description=params["description"],
            region=params["region"],
            urls={interface: url for interface, url in params["urls"].items() if url},
        )
        adapter = Adapter(connection=self.conn, wanted=wanted, domain_id=params["domain"], password=params["password"])
        steps = make_plan(adapter.read(), wanted)
        if not self.check_mode:
            for step in steps:
                adapter.take(step)
        self.exit_json(**tell(steps))


def main() -> None:
    """Run the module."""
    module = IdentityServiceModule()
    try:
        module()
    except IdentityServiceError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
