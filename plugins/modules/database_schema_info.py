#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell whether databases have the newest schema of the installed services."""

from __future__ import annotations

DOCUMENTATION = r"""
module: database_schema_info
short_description: Tell whether databases have the newest schema of the installed services
version_added: 0.1.0
author: The kos.labs authors (@kos-labs)
description:
  - Compares the revisions that Alembic noted in MariaDB or MySQL databases with the revision files that a service brings.
  - A service's own command to bring its schema up to date takes seconds even if there is nothing to do; this takes a fraction of one.
options:
  databases:
    description: The databases to look at, with the folder of the service's revision files.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the database.
        type: str
        required: true
      versions:
        description: Folder with the revision files; folders below it count.
        type: path
        required: true
attributes:
  check_mode:
    support: full
    description: The module reads only.
extends_documentation_fragment:
  - kos.labs.mariadb
"""

EXAMPLES = r"""
- name: Look at Nova's databases
  kos.labs.database_schema_info:
    databases:
      - {name: nova_api, versions: /usr/lib/python3/dist-packages/nova/db/api/migrations/versions}
      - {name: nova, versions: /usr/lib/python3/dist-packages/nova/db/main/migrations/versions}
  register: schema

- name: Bring the schema up to date
  ansible.builtin.command:
    argv: [nova-manage, db, sync]
  when: "'nova' in schema.outdated"
  changed_when: true
"""

RETURN = r"""
outdated:
  description: Names of the databases that lack revisions, or that do not exist.
  returned: always
  type: list
  elements: str
  sample: [nova]
revisions:
  description: The revisions that each database carries.
  returned: always
  type: dict
  sample: {nova_api: [b30f573d3377], nova: []}
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kos.labs.plugins.module_utils.alembic_tree import TreeError, is_newest, read_tree
from ansible_collections.kos.labs.plugins.module_utils.mariadb import ARGUMENTS, connect, pymysql

UNKNOWN_DATABASE = 1049
NO_SUCH_TABLE = 1146


def read_revisions(cursor: t.Any, database: str) -> list[str]:
    """Return what Alembic noted in a database; nothing if the database or the note does not exist."""
    try:
        cursor.execute(f"SELECT version_num FROM `{database.replace('`', '``')}`.alembic_version")
    except pymysql.err.MySQLError as exc:
        if exc.args and exc.args[0] in (UNKNOWN_DATABASE, NO_SUCH_TABLE):
            return []
        raise
    return sorted(row[0] for row in cursor.fetchall())


def main() -> None:
    """Entry point."""
    database = {"name": {"type": "str", "required": True}, "versions": {"type": "path", "required": True}}
    module = AnsibleModule(
        argument_spec={
            "databases": {"type": "list", "elements": "dict", "required": True, "options": database},
            **ARGUMENTS,
        },
        supports_check_mode=True,
    )
    wanted = module.params["databases"]
    try:
        trees = {path: read_tree(path) for path in sorted({entry["versions"] for entry in wanted})}
    except TreeError as exc:
        module.fail_json(msg=str(exc))
    with connect(module) as connection, connection.cursor() as cursor:
        try:
            revisions = {entry["name"]: read_revisions(cursor, entry["name"]) for entry in wanted}
        except pymysql.MySQLError as exc:
            module.fail_json(msg=f"MariaDB refuses to show a database, see its log: {exc}")
    outdated = [entry["name"] for entry in wanted if not is_newest(trees[entry["versions"]], revisions[entry["name"]])]
    module.exit_json(changed=False, outdated=outdated, revisions=revisions)


if __name__ == "__main__":
    main()
