#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make databases and the account that owns them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mariadb_access
short_description: Make databases and the account that owns them
version_added: 0.1.0
author: The kos.labs authors (@kos-labs)
description:
  - Makes sure of databases, of an account and of all its rights in them, in one call.
  - It drops nothing and takes no right away.
options:
  databases:
    description: Names of the databases.
    type: list
    elements: str
    required: true
  user:
    description: Name of the account.
    type: str
    required: true
  host:
    description: Where the account may come from, with the wildcards of the server.
    type: str
    default: "%"
  password:
    description: Its password. It is compared, and set if it differs.
    type: str
    required: true
attributes:
  check_mode:
    support: full
    description: Predicts what it would do and changes nothing.
  diff_mode:
    support: full
    description: Says what each statement does. The password is not part of it.
extends_documentation_fragment:
  - kos.labs.mariadb
"""

EXAMPLES = r"""
- name: Make the databases of Nova
  kos.labs.mariadb_access:
    databases: [nova, nova_api, nova_cell0]
    user: nova
    password: "{{ nova_database_password }}"
"""

RETURN = r"""
done:
  description: What was done, or would be done in check mode.
  returned: always
  type: list
  elements: str
  sample: [create database nova]
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kos.labs.plugins.module_utils.mariadb import ARGUMENTS, connect, pymysql
from ansible_collections.kos.labs.plugins.module_utils.mariadb_access import (
    Found,
    granted_databases,
    make_plan,
)


def read(cursor: t.Any, *, user: str, host: str, password: str) -> Found:
    """Return what the server has."""
    cursor.execute("SHOW DATABASES")
    databases = frozenset(name for (name,) in cursor.fetchall())
    cursor.execute("SELECT authentication_string = PASSWORD(%s) FROM mysql.user WHERE User = %s AND Host = %s", (password, user, host))
    account = cursor.fetchone()
    if account is None:
        return Found(databases=databases)
    cursor.execute("SHOW GRANTS FOR %s@%s", (user, host))
    granted = granted_databases(line for (line,) in cursor.fetchall())
    return Found(databases=databases, account_exists=True, password_works=bool(account[0]), granted=granted)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "databases": {"type": "list", "elements": "str", "required": True},
            "user": {"type": "str", "required": True},
            "host": {"type": "str", "default": "%"},
            "password": {"type": "str", "required": True, "no_log": True},
            **ARGUMENTS,
        },
        supports_check_mode=True,
    )
    params = module.params
    with connect(module, autocommit=True) as connection, connection.cursor() as cursor:
        try:
            found = read(cursor, user=params["user"], host=params["host"], password=params["password"])
            statements = make_plan(
                found=found,
                databases=params["databases"],
                account=(params["user"], params["host"]),
                password=params["password"],
            )
            if not module.check_mode:
                for statement in statements:
                    cursor.execute(statement.sql, statement.parameters)
        except pymysql.MySQLError as error:
            module.fail_json(msg=f"MariaDB refuses a statement, see its log: {error}")
    done = [statement.says for statement in statements]
    diff = {"before": "", "after": "".join(f"{line}\n" for line in done)}
    module.exit_json(changed=bool(done), done=done, diff=diff)


if __name__ == "__main__":
    main()
