#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read the SSH host keys that servers printed on their consoles."""

from __future__ import annotations

DOCUMENTATION = r"""
module: server_host_keys_info
short_description: Read the SSH host keys that servers printed on their consoles
version_added: 0.1.0
author: The kos.labs authors (@kos-labs)
description:
  - At its first start cloud-init prints the server's public host keys on the console. Nova hands the console's output to the
    owner of the server, so that the first SSH connection can already be checked.
options:
  servers:
    description: IDs of servers by name. The module waits up to O(timeout) seconds for the keys of all.
    type: dict
    required: true
extends_documentation_fragment:
  - openstack.cloud.openstack
attributes:
  check_mode:
    description: Only reads.
    support: full
"""

EXAMPLES = r"""
- name: Read the host keys of a server
  kos.labs.server_host_keys_info:
    cloud: kos-tenant
    servers: {master1: 3d8cbd3e-7f8c-4f6b-9e0e-26a2c3a5c1d4}
"""

RETURN = r"""
host_keys:
  description: Public keys, as C(type key), by name of the server.
  returned: success
  type: dict
"""

import re
import time
import typing as t

from ansible_collections.openstack.cloud.plugins.module_utils.openstack import OpenStackModule

_PERIOD = 2
_KEYS_BEGIN = "-----BEGIN SSH HOST KEY KEYS-----"
_KEYS_END = "-----END SSH HOST KEY KEYS-----"
_KEY = re.compile(r"(?:ssh|ecdsa)-[a-z0-9-]+ [A-Za-z0-9+/]+={0,2}")


def parse_host_keys(console: str) -> list[str]:
    """Return the public host keys, as `type key`, of the last complete block that cloud-init printed on a console."""
    end = console.rfind(_KEYS_END)
    begin = console.rfind(_KEYS_BEGIN, 0, max(end, 0))
    if begin < 0 or end < 0:
        return []
    found = _KEY.findall(console[begin + len(_KEYS_BEGIN) : end])
    return sorted(set(found))


class ServerHostKeysInfo(OpenStackModule):
    """The adapter between Ansible, the SDK and the parser."""

    argument_spec: t.ClassVar[dict[str, t.Any]] = {"servers": {"type": "dict", "required": True}}
    module_kwargs: t.ClassVar[dict[str, t.Any]] = {"supports_check_mode": True}

    def run(self) -> None:
        """Ask again until every server has printed its keys or the time is up."""
        servers: dict[str, str] = self.params["servers"]
        keys: dict[str, list[str]] = {}
        end = time.monotonic() + self.params["timeout"]
        while True:
            for name in sorted(set(servers) - set(keys)):
                console = self.conn.compute.get_server_console_output(servers[name])
                found = parse_host_keys(console.get("output") or "")
                if found:
                    keys[name] = found
            missing = sorted(set(servers) - set(keys))
            if not missing:
                break
            if time.monotonic() + _PERIOD > end:
                self.fail_json(
                    msg=f"no host keys on the console of {', '.join(missing)} after {self.params['timeout']} s: look at "
                    f"`openstack console log show {missing[0]}`, or set node_servers_host_keys to scan if the cloud has no consoles"
                )
            time.sleep(_PERIOD)
        self.exit_json(changed=False, host_keys=keys)


def main() -> None:
    """Run the module."""
    ServerHostKeysInfo()()


if __name__ == "__main__":
    main()
