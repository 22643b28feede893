# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find the volumes that claims of a cluster have made."""

from __future__ import annotations

DOCUMENTATION = r"""
name: cluster_volumes
short_description: Tell which volumes and snapshots of a project claims of a cluster have made
version_added: 0.1.0
author: The kos.labs authors (@kos-labs)
description:
  - The Cinder CSI driver notes in the metadata of each volume and snapshot which cluster it is from, and for which claim.
options:
  _input:
    description: What M(kos.labs.cloud_resources_info) found, with the keys C(volumes), C(snapshots) and C(servers).
    type: dict
    required: true
  cluster:
    description: Name of the cluster.
    type: str
    required: true
"""

EXAMPLES = r"""
have: "{{ found.resources | kos.labs.cluster_volumes('kos') }}"
"""

RETURN = r"""
_value:
  description:
    - The keys C(volumes) and C(snapshots), each a list of what can go, with C(id), C(name) and C(says), a description in words.
    - C(held) describes those of the cluster that Cinder does not delete, each with the reason - a snapshot of it that stays, a server that has it,
      or an attempt that failed, after which the cloud's operator alone can help.
  type: dict
"""

import typing as t

from ansible_collections.kos.labs.plugins.filter.cluster_servers import describe

Object = t.Mapping[str, t.Any]

MARK_KEY = "cinder.csi.openstack.org/cluster"
_CLAIM = "csi.storage.k8s.io/pvc"
_SNAPSHOT = "csi.storage.k8s.io/volumesnapshot"
# Cinder has tried, and refuses to try again.
_STUCK = "error_deleting"


def cluster_volumes(found: t.Mapping[str, t.Sequence[Object]], cluster: str) -> dict[str, t.Any]:
    """Tell which volumes and snapshots of a project are a cluster's."""

    def ours(kind: str) -> list[Object]:
        return [each for each in found.get(kind, ()) if (each.get("metadata") or {}).get(MARK_KEY) == describe(cluster)]

    volumes, snapshots = ours("volumes"), ours("snapshots")
    deletable = {each["id"] for each in snapshots if each.get("status") != _STUCK}
    servers = {each["id"] for each in found.get("servers", ())}
    holds = {each["volume_id"]: f"snapshot {each['id']}" for each in found.get("snapshots", ()) if each["id"] not in deletable}
    for each in (*volumes, *snapshots):
        users = [one["server_id"] for one in each.get("attachments") or () if one.get("server_id") in servers]
        if users:
            holds[each["id"]] = f"server {', '.join(users)}"
        if each.get("status") == _STUCK:
            holds[each["id"]] = "which only the cloud's operator can end"
    rows = {"volumes": [_row(each, _CLAIM) for each in volumes], "snapshots": [_row(each, _SNAPSHOT) for each in snapshots]}
    return {
        **{kind: [row for row in those if row["id"] not in holds] for kind, those in rows.items()},
        "held": [f"{row['says']} ({holds[row['id']]})" for those in rows.values() for row in those if row["id"] in holds],
    }


def _row(each: Object, prefix: str) -> dict[str, str]:
    metadata = each.get("metadata") or {}
    of = "/".join(filter(None, (metadata.get(f"{prefix}/namespace"), metadata.get(f"{prefix}/name"))))
    says = f"{each['id']}, {each.get('size', '?')} GB, {each.get('status', 'unknown')}" + (f", of {of}" if of else "")
    return {"id": each["id"], "name": each.get("name") or "", "says": says}


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Name the filter."""
        return {"cluster_volumes": cluster_volumes}
