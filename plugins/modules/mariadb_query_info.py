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
  - Logs in through the socket of the server as the user that the module runs as, which the server of Debian lets in if that is root.
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
  socket:
    description: The socket of the server.
    type: path
    default: /run/mysqld/mysqld.sock
attributes:
  check_mode:
    support: full
    description: The module reads only.
requirements:
  - PyMySQL
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

import traceback
import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    import pymysql
except ImportError:
    PYMYSQL_ERROR: str | None = traceback.format_exc()
else:
    PYMYSQL_ERROR = None


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
            "socket": {"type": "path", "default": "/run/mysqld/mysqld.sock"},
        },
        supports_check_mode=True,
    )
    if PYMYSQL_ERROR is not None:
        module.fail_json(msg=missing_required_lib("PyMySQL"), exception=PYMYSQL_ERROR)
    params = module.params
    try:
        connection = pymysql.connect(unix_socket=params["socket"], charset="utf8mb4")
        with connection, connection.cursor(pymysql.cursors.DictCursor) as cursor:
            cursor.execute("START TRANSACTION READ ONLY")
            cursor.execute(params["query"], params["parameters"] or None)
            rows = [{name: plain(value) for name, value in row.items()} for row in cursor.fetchall()]
    except pymysql.MySQLError as error:
        module.fail_json(msg=f"cannot read through {params['socket']}: {error}")
    module.exit_json(changed=False, rows=rows)


if __name__ == "__main__":
    main()
