# SPDX-License-Identifier: GPL-3.0-or-later
"""The tree of Alembic's revisions, and what of it a schema has."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.kos.labs.plugins.module_utils.alembic_tree import (
    Revision,
    TreeError,
    is_newest,
    parse_revision,
    read_tree,
)

TREE = {
    "base": Revision("base", frozenset(), frozenset()),
    "expand": Revision("expand", frozenset({"base"}), frozenset()),
    "contract": Revision("contract", frozenset({"base"}), frozenset({"expand"})),
}


@pytest.mark.parametrize(
    ("current", "newest"),
    [([], False), (["base"], False), (["expand"], False), (["contract"], True), (["expand", "contract"], True), (["later"], False)],
)
def test_is_newest(current: list[str], newest: bool) -> None:
    assert is_newest(TREE, current) is newest


def test_parse_revision() -> None:
    text = "revision = 'c'  # the 'last'\ndown_revision: str = ('a',\n  'b')\ndepends_on = None\n\ndef upgrade():\n    pass\n"
    assert parse_revision(text) == Revision("c", frozenset({"a", "b"}), frozenset())


@pytest.mark.parametrize("text", ["", "x = 1\n", "revision = None\n"])
def test_other_files_hold_no_revision(text: str) -> None:
    assert parse_revision(text) is None


def test_read_tree_looks_into_folders(tmp_path: Path) -> None:
    (tmp_path / "2025").mkdir()
    (tmp_path / "2025" / "a.py").write_text("revision = 'a'\ndown_revision = None\n")
    (tmp_path / "README").write_text("revision = 'no'\n")
    assert set(read_tree(str(tmp_path))) == {"a"}


def test_read_tree_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TreeError, match="versions folder"):
        read_tree(str(tmp_path))
