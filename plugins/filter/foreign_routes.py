# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find the routes of others that a route controller for pods would delete."""

from __future__ import annotations

DOCUMENTATION = r"""
name: foreign_routes
short_description: Name the routes of others that a route controller for pods would delete
version_added: 0.1.0
author: The kos.labs authors
description:
  - A route controller takes every route of a router for its own that begins or ends among the addresses of pods, and deletes those that
    lead to no node. Wider routes around them are safe.
options:
  _input:
    description: Routes of a router, each with C(destination) and C(nexthop).
    type: list
    elements: dict
    required: true
  pods:
    description: Addresses of pods, as a range.
    type: str
    required: true
  nexthops:
    description: Addresses of nodes. Routes over them are the cluster's.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
in_the_way: "{{ router.routes | kos.labs.foreign_routes('10.1.0.0/16', ['172.18.0.11']) }}"
"""

RETURN = r"""
_value:
  description: The routes in words, such as C(10.1.7.0/24 via 172.18.0.99).
  type: list
  elements: str
"""

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.kos.labs.plugins.module_utils.pod_addresses import PodAddressesError
from ansible_collections.kos.labs.plugins.module_utils.pod_addresses import foreign_routes as find


def foreign_routes(routes: t.Sequence[t.Mapping[str, t.Any]], pods: str, nexthops: t.Collection[str]) -> list[str]:
    """Name the routes of others that a route controller for pods would delete."""
    try:
        return find(routes, pods, nexthops)
    except PodAddressesError as error:
        raise AnsibleFilterError(f"foreign_routes: {error}") from error


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Name the filter."""
        return {"foreign_routes": foreign_routes}
