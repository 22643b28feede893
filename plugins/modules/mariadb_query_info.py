#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read rows of a MariaDB database."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mariadb_query_info
short_description: Read rows of a MariaDB database
version_added: 0.1.0
author: The kos.labs authors (@kos-labs)
description:
  - Runs one query in a transaction that can read only, and returns its rows.
options:
  query:
    description: The query, with V(%s) for each of O(parameters).
    type: str
    required: true
  parameters:
    description: What the query compares with.
    type: list
    elements: raw
    default: []
attributes:
  check_mode:
    support: full
    description: The module reads only.
extends_documentation_fragment:
  - kos.labs.mariadb
"""

EXAMPLES = r"""
- name: Look at the computes
  kos.labs.mariadb_query_info:
    query: SELECT host, mapped FROM nova.compute_nodes WHERE deleted = 0
  register: computes
"""

RETURN = r"""
rows:
  description: The rows, each a dictionary by the names of the columns. Times are texts.
  returned: always
  type: list
  elements: dict
  sample: [{host: compute1, mapped: 1}]
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kos.labs.plugins.module_utils.mariadb import ARGUMENTS, connect, pymysql


def plain(value: t.Any) -> t.Any:
    """Return the value as something that JSON has a form for."""
    if isinstance(value, (bytes, bytearray)):
        return value.decode("utf-8", "replace")
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "query": {"type": "str", "required": True},
            "parameters": {"type": "list", "elements": "raw", "default": []},
            **ARGUMENTS,
        },
        supports_check_mode=True,
    )
    params = module.params
    with connect(module) as connection, connection.cursor(pymysql.cursors.DictCursor) as cursor:
        try:
            cursor.execute("START TRANSACTION READ ONLY")
            cursor.execute(params["query"], params["parameters"] or None)
            rows = [{name: plain(value) for name, value in row.items()} for row in cursor.fetchall()]
        except pymysql.MySQLError as error:
            module.fail_json(msg=f"MariaDB refuses the query: {error}")
    module.exit_json(changed=False, rows=rows)


if __name__ == "__main__":
    main()
