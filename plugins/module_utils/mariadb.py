# SPDX-License-Identifier: GPL-3.0-or-later
"""How modules reach the MariaDB server of their machine: through its socket, as the user they run as."""

from __future__ import annotations

import traceback
import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    import pymysql
except ImportError:
    pymysql = None
    PYMYSQL_ERROR: str | None = traceback.format_exc()
else:
    PYMYSQL_ERROR = None

__all__ = ["ARGUMENTS", "connect", "pymysql"]

# Documented in the fragment kos.labs.mariadb.
ARGUMENTS: dict[str, t.Any] = {"socket": {"type": "path", "default": "/run/mysqld/mysqld.sock"}}


def connect(module: AnsibleModule, **options: t.Any) -> t.Any:
    """Return a connection, or fail with what the user can do about it; options are those of pymysql.connect."""
    if PYMYSQL_ERROR is not None:
        module.fail_json(msg=missing_required_lib("PyMySQL"), exception=PYMYSQL_ERROR)
    socket = module.params["socket"]
    try:
        return pymysql.connect(unix_socket=socket, charset="utf8mb4", **options)
    except pymysql.MySQLError as error:
        module.fail_json(msg=f"cannot log in through {socket}: start MariaDB and run this as root ({error})")
