#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Create or delete resources of several OpenStack services in one session."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cloud_resources
short_description: Create or delete resources of several OpenStack services in one session
version_added: 0.1.0
author: The kos.labs authors (@kos-labs)
description:
  - Creates what is missing or deletes what is there, any number of resources with one login, where modules for one resource log in once
    each. What does not depend on each other is made side by side.
  - A resource that exists is left as it is; M(openstack.cloud.resource) changes one.
  - M(kos.labs.cloud_resources_info) is its reading counterpart.
options:
  resources:
    description:
      - The resources. Each has C(service) and C(type) as the SDK names them (C(network) and C(port)), and with O(state=present)
        C(attributes), of which those named in C(match) tell whether it exists (by default C(name)), with O(state=absent) an C(id).
    type: list
    elements: dict
    required: true
    suboptions:
      service:
        description: The SDK's name of the service.
        type: str
        required: true
      type:
        description: The SDK's name of the resource.
        type: str
        required: true
      attributes:
        description: What the resource is created with.
        type: dict
        default: {}
      match:
        description: Which of the attributes tell that it exists.
        type: list
        elements: str
        default: [name]
      id:
        description: The resource to delete.
        type: str
  state:
    description: Whether the resources must exist. None is waited for.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    support: full
    description: Says what would be created or deleted.
extends_documentation_fragment:
  - openstack.cloud.openstack
"""

EXAMPLES = r"""
- name: Create two ports
  kos.labs.cloud_resources:
    cloud: kos-tenant
    resources:
      - {service: network, type: port, attributes: {name: one, network_id: "{{ network.id }}"}}
      - {service: network, type: port, attributes: {name: two, network_id: "{{ network.id }}"}}

- name: Delete a floating IP
  kos.labs.cloud_resources:
    cloud: kos-tenant
    state: absent
    resources:
      - {service: network, type: ip, id: "{{ address.id }}"}
"""

RETURN = r"""
resources:
  description: With O(state=present) the resources, in the order in which they were asked for. One that check mode would create has its attributes only.
  returned: success
  type: list
  elements: dict
"""

import concurrent.futures
import typing as t

from ansible_collections.openstack.cloud.plugins.module_utils.openstack import OpenStackModule

_WORKERS = 4


class ResourceError(Exception):
    """A resource that cannot be asked for; the message says what to change."""


def method(connection: t.Any, wanted: t.Mapping[str, t.Any], verb: str) -> t.Callable[..., t.Any]:
    """Return the SDK's method: create_port, delete_port, or ports for a list."""
    name = f"{wanted['type']}s" if verb == "list" else f"{verb}_{wanted['type']}"
    found = getattr(getattr(connection, wanted["service"], None), name, None)
    if found is None:
        raise ResourceError(f"this SDK has no {wanted['service']}.{name}, correct service and type")
    return found


def make(connection: t.Any, wanted: t.Mapping[str, t.Any], *, check: bool) -> tuple[bool, dict[str, t.Any]]:
    """Create a resource unless it exists; return whether it was created, and the resource."""
    attributes = wanted["attributes"]
    absent = [key for key in wanted["match"] if key not in attributes]
    if absent or not wanted["match"]:
        raise ResourceError(f"{wanted['type']}: match names {', '.join(absent) or 'nothing'}, name attributes that tell one from another")
    query = {key: attributes[key] for key in wanted["match"]}
    # Some lists ignore what they do not know, and some compare names as patterns.
    existing = [each for each in method(connection, wanted, "list")(**query) if all(each[key] == value for key, value in query.items())]
    if len(existing) > 1:
        raise ResourceError(f"there are {len(existing)} resources {wanted['type']} with {query}, remove all but one")
    if existing:
        return False, existing[0].to_dict(computed=False)
    create = method(connection, wanted, "create")
    return True, dict(attributes) if check else create(**attributes).to_dict(computed=False)


def remove(connection: t.Any, unwanted: t.Mapping[str, t.Any], *, check: bool) -> bool:
    """Delete a resource if it is there; return whether it was."""
    if not unwanted.get("id"):
        raise ResourceError(f"{unwanted['type']}: give the id of what to delete")
    delete = method(connection, unwanted, "delete")
    if check:
        return True
    try:
        delete(unwanted["id"], ignore_missing=False)
    except Exception as error:
        # Somebody was faster, which is what was wanted.
        if getattr(error, "status_code", None) != 404:
            raise
        return False
    return True


class CloudResources(OpenStackModule):
    """The adapter between Ansible and the SDK."""

    argument_spec: t.ClassVar[dict[str, t.Any]] = {
        "resources": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "service": {"type": "str", "required": True},
                "type": {"type": "str", "required": True},
                "attributes": {"type": "dict", "default": {}},
                "match": {"type": "list", "elements": "str", "default": ["name"]},
                "id": {"type": "str"},
            },
        },
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }
    module_kwargs: t.ClassVar[dict[str, t.Any]] = {"supports_check_mode": True}

    def run(self) -> None:
        """Make or remove, several at a time; the first error counts, after all have ended."""
        resources, check = self.params["resources"], self.ansible.check_mode
        with concurrent.futures.ThreadPoolExecutor(max_workers=_WORKERS) as pool:
            if self.params["state"] == "absent":
                gone = [pool.submit(remove, self.conn, each, check=check) for each in resources]
                concurrent.futures.wait(gone)
                done: list[tuple[bool, dict[str, t.Any]]] = [(self._result(each), {}) for each in gone]
            else:
                made = [pool.submit(make, self.conn, each, check=check) for each in resources]
                concurrent.futures.wait(made)
                done = [self._result(each) for each in made]
        self.exit_json(changed=any(changed for changed, _resource in done), resources=[resource for _changed, resource in done if resource])

    def _result(self, future: t.Any) -> t.Any:
        try:
            return future.result()
        except (ResourceError, self.sdk.exceptions.SDKException) as error:
            return self.fail_json(msg=str(error))


def main() -> None:
    """Run the module."""
    CloudResources()()


if __name__ == "__main__":
    main()
