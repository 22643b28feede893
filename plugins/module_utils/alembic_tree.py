# SPDX-License-Identifier: GPL-3.0-or-later
"""The tree of revisions in a folder of Alembic, read without Alembic and without running a revision."""

from __future__ import annotations

import os
import re
import typing as t

__all__ = ["Revision", "TreeError", "is_newest", "parse_revision", "read_tree"]

ASSIGNMENT = re.compile(r"^(revision|down_revision|depends_on)\s*(?::[^=]+)?=\s*(.+?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
QUOTED = re.compile(r"""['"]([^'"]+)['"]""")


class TreeError(Exception):
    """A folder that holds no revisions; its text tells the user what to change."""


class Revision(t.NamedTuple):
    """One step of a schema and the steps it stands on."""

    name: str
    parents: frozenset[str]
    needs: frozenset[str]


def parse_revision(text: str) -> Revision | None:
    """Return the revision that a Python file describes, None where it describes none."""
    found: dict[str, frozenset[str]] = {}
    for key, value in ASSIGNMENT.findall(text):
        found.setdefault(key, frozenset(QUOTED.findall(re.sub(r"#.*", "", value))))
    if not found.get("revision"):
        return None
    (name,) = found["revision"]
    return Revision(name, found.get("down_revision", frozenset()), found.get("depends_on", frozenset()))


def read_tree(path: str) -> dict[str, Revision]:
    """Return the revisions below a folder by their names."""
    tree: dict[str, Revision] = {}
    for folder, _folders, files in os.walk(path):
        for file in files:
            if not file.endswith(".py"):
                continue
            with open(os.path.join(folder, file), encoding="utf-8") as source:
                revision = parse_revision(source.read())
            if revision:
                tree[revision.name] = revision
    if not tree:
        raise TreeError(f"{path} holds no Alembic revisions: name the versions folder of an installed service")
    return tree


def is_newest(tree: t.Mapping[str, Revision], current: t.Iterable[str]) -> bool:
    """Tell whether a schema that carries the revisions `current` has everything that the tree has.

    A revision brings along what it stands on and what it needs, so Alembic does not note those down.
    """
    reached: set[str] = set()
    pending = [name for name in current if name in tree]
    while pending:
        name = pending.pop()
        if name in reached or name not in tree:
            continue
        reached.add(name)
        pending.extend(tree[name].parents | tree[name].needs)
    return reached == set(tree)
