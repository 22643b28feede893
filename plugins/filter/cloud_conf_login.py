# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From an entry of clouds.yaml to the login of a cloud.conf."""

from __future__ import annotations

DOCUMENTATION = r"""
name: cloud_conf_login
short_description: Turn an entry of clouds.yaml into the login of a cloud.conf
version_added: 0.1.0
author: The kos.labs authors (@kos-labs)
description:
  - Returns what the option O(kos.labs.cloud_conf#module:global) of M(kos.labs.cloud_conf) takes, for a reader that has the CA certificate of the entry beside it.
positional: region, ca_file
options:
  _input:
    description: The entry of clouds.yaml.
    type: dict
    required: true
  region:
    description: The region, where the entry names none.
    type: str
    required: true
  ca_file:
    description: Where the reader finds the certificates that the cloud's are checked with, if the entry has any.
    type: path
    required: true
"""

EXAMPLES = r"""
- kos.labs.cloud_conf:
    global: "{{ (lookup('ansible.builtin.file', 'clouds.yaml') | from_yaml).clouds.mine | kos.labs.cloud_conf_login('RegionOne', '/etc/openstack/ca.crt') }}"
"""

RETURN = r"""
_value:
  description: The login.
  type: dict
"""

import typing as t


def cloud_conf_login(entry: t.Mapping[str, t.Any], region: str, ca_file: str) -> dict[str, t.Any]:
    """Return the login that an entry of clouds.yaml has, in the words of the module cloud_conf."""
    login = {**entry["auth"], "region": entry.get("region_name") or region}
    if "interface" in entry:
        login["os_endpoint_type"] = entry["interface"]
    if not entry.get("verify", True):
        login["tls_insecure"] = True
    elif entry.get("cacert"):
        login["ca_file"] = ca_file
    return login


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Name the filter."""
        return {"cloud_conf_login": cloud_conf_login}
