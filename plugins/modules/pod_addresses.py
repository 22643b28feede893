#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell a cloud's network which addresses of pods it is to carry."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pod_addresses
short_description: Tell a cloud's network which addresses of pods it is to carry
version_added: 0.1.0
author: The kos.labs authors (@kos-labs)
description:
  - Lets ports of nodes send from parts of the pods' addresses, exactly from those that are given.
  - Takes routes to pods out of a router that a cluster has no use for any more.
  - Neither routes nor address pairs outside O(range) are touched, so that those of others stay. Nor are pairs for the whole of it.
options:
  range:
    description: Addresses of pods.
    type: str
    required: true
  ports:
    description: For each port, by its id, the list of ranges within O(range) that its server may send from. Other ports are left alone.
    type: dict
    default: {}
  router:
    description: Id of the router that is to have no routes to pods over O(nexthops).
    type: str
  nexthops:
    description: Addresses of nodes. Routes to pods that lead elsewhere are somebody else's and stay.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    description: Predicts what it would do and changes nothing.
  diff_mode:
    support: full
    description: Shows routes and address pairs before and after.
notes:
  - Routes are removed one by one, by Neutron's extension C(extraroute-atomic), so that one which somebody adds at the same time is not lost.
extends_documentation_fragment:
  - openstack.cloud.openstack
"""

EXAMPLES = r"""
- name: Let two nodes send from their pods' addresses, and have no routes to pods
  kos.labs.pod_addresses:
    cloud: kos-tenant
    range: 10.1.0.0/16
    ports:
      7d9a0f4e-53a3-4ef5-8f0d-3d3bd4e2a1c0: [10.1.0.0/24]
      a4a2d6c4-9b61-4a0f-a0de-0a2b1a8f6f11: [10.1.1.0/24]
    router: 0f9f6a3c-0c3f-4f0e-8f63-b9e5b2b0ad7d
    nexthops: [172.18.0.11, 172.18.0.12]
"""

RETURN = r"""
removed_routes:
  description: The routes that were removed, or would be in check mode.
  returned: success
  type: list
  elements: dict
  sample: [{destination: 10.1.1.0/24, nexthop: 172.18.0.12}]
changed_ports:
  description: Ids of the ports that were changed, or would be in check mode.
  returned: success
  type: list
  elements: str
"""

import typing as t

from ansible_collections.kos.labs.plugins.module_utils.pod_addresses import PodAddressesError, plan_pairs, plan_routes
from ansible_collections.openstack.cloud.plugins.module_utils.openstack import OpenStackModule

_ATTEMPTS = 5


class PodAddresses(OpenStackModule):
    """The module."""

    argument_spec: t.ClassVar = {
        "range": {"type": "str", "required": True},
        "ports": {"type": "dict", "default": {}},
        "router": {"type": "str"},
        "nexthops": {"type": "list", "elements": "str", "default": []},
    }
    module_kwargs: t.ClassVar = {"supports_check_mode": True}

    def run(self) -> None:
        """Set the pairs before routes go, so that there is always a way."""
        before: dict[str, t.Any] = {}
        after: dict[str, t.Any] = {}
        try:
            changed_ports = [port for port in sorted(self.params["ports"]) if self._set_pairs(port, before, after)]
            removed = self._remove_routes(before, after) if self.params["router"] else []
        except PodAddressesError as exc:
            self.fail_json(msg=str(exc))
        except self.sdk.exceptions.NotFoundException as exc:
            self.fail_json(
                msg=f"{exc.details or exc}: give the ids that the cluster contract has, or run playbooks/nodes.yaml to write it again"
            )
        self.exit_json(
            changed=bool(changed_ports or removed),
            removed_routes=removed,
            changed_ports=changed_ports,
            diff={"before": before, "after": after},
        )

    def _set_pairs(self, name: str, before: dict[str, t.Any], after: dict[str, t.Any]) -> bool:
        for attempt in range(1, _ATTEMPTS + 1):
            port = self.conn.network.get_port(name)
            pairs = [dict(pair) for pair in port.allowed_address_pairs or []]
            wanted = plan_pairs(pairs, pods=self.params["range"], wanted=self.params["ports"][name])
            if wanted is None:
                return False
            before[f"pairs of {name}"] = [pair["ip_address"] for pair in pairs]
            after[f"pairs of {name}"] = [pair["ip_address"] for pair in wanted]
            if self.check_mode:
                return True
            try:
                # Not if somebody else has changed the port since it was read.
                self.conn.network.update_port(port, if_revision=port.revision_number, allowed_address_pairs=wanted)
            except self.sdk.exceptions.PreconditionFailedException:
                if attempt == _ATTEMPTS:
                    raise PodAddressesError(f"port {name} is changed by others all the time: see who writes its address pairs") from None
            else:
                return True
        return True

    def _remove_routes(self, before: dict[str, t.Any], after: dict[str, t.Any]) -> list[dict[str, str]]:
        router = self.conn.network.get_router(self.params["router"])
        doomed = plan_routes(router.routes or [], pods=self.params["range"], nexthops=self.params["nexthops"])
        if doomed:
            before["routes"] = [dict(route) for route in router.routes]
            after["routes"] = [dict(route) for route in router.routes if dict(route) not in doomed]
            if not self.check_mode:
                self.conn.network.remove_extra_routes_from_router(router, body={"router": {"routes": doomed}})
        return doomed


def main() -> None:
    """Entry point."""
    PodAddresses()()


if __name__ == "__main__":
    main()
