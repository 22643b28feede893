# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases and the account that owns them, as a plan: compares what is there with what is wanted, without I/O."""

from __future__ import annotations

import dataclasses
import re
import typing as t

__all__ = ["Found", "Statement", "escape_pattern", "granted_databases", "make_plan", "quote_name"]

_GRANT_ALL = re.compile(r"GRANT ALL PRIVILEGES ON `((?:[^`]|``)*)`\.\* TO ", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Found:
    """What the server has of what was asked for."""

    databases: frozenset[str] = frozenset()
    account_exists: bool = False
    password_works: bool = False
    granted: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Statement:
    """A statement with its parameters, and what it does in words that hold no secret."""

    sql: str
    parameters: tuple[str, ...]
    says: str


def quote_name(name: str) -> str:
    """Return the name as an identifier."""
    return "`{}`".format(name.replace("`", "``"))


def escape_pattern(name: str) -> str:
    """Return the name of a database as a GRANT needs it, which reads ``_`` and ``%`` as wildcards."""
    return re.sub(r"([_%\\])", r"\\\1", name)


def granted_databases(grants: t.Iterable[str]) -> frozenset[str]:
    """Return the databases in which these lines of SHOW GRANTS give all rights."""
    names = (match.group(1).replace("``", "`") for match in map(_GRANT_ALL.match, grants) if match)
    return frozenset(re.sub(r"\\(.)", r"\1", name) for name in names)


def make_plan(*, found: Found, databases: t.Sequence[str], account: tuple[str, str], password: str) -> list[Statement]:
    """Return the statements that lead from what is there to what is wanted."""
    # The driver fills in parameters where it finds a percent sign, so that one in a name is doubled.
    statements = [
        Statement(f"CREATE DATABASE {quote_name(name)}".replace("%", "%%"), (), f"create database {name}")
        for name in databases
        if name not in found.databases
    ]
    title = "{}@{}".format(*account)
    if not found.account_exists:
        statements.append(Statement("CREATE USER %s@%s IDENTIFIED BY %s", (*account, password), f"create user {title}"))
    elif not found.password_works:
        statements.append(Statement("ALTER USER %s@%s IDENTIFIED BY %s", (*account, password), f"set the password of {title}"))
    for name in databases:
        if name not in found.granted:
            pattern = quote_name(escape_pattern(name)).replace("%", "%%")
            statements.append(Statement(f"GRANT ALL PRIVILEGES ON {pattern}.* TO %s@%s", account, f"give {title} all rights in {name}"))
    return statements
