# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import datetime
import decimal
import json

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.kos.labs.plugins.module_utils import mariadb
from ansible_collections.kos.labs.plugins.modules import mariadb_query_info


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (1, 1),
        ("text", "text"),
        (b"\xff\x61", "\ufffda"),
        (decimal.Decimal("1.5"), "1.5"),
        (datetime.datetime(2026, 1, 2, 3, 4, 5), "2026-01-02 03:04:05"),
    ],
)
def test_values_can_be_written_as_json(value, expected):
    assert mariadb_query_info.plain(value) == expected


def test_no_server(monkeypatch, capsys):
    def refuse(**_options):
        raise mariadb.pymysql.OperationalError(2003, "no server")

    monkeypatch.setattr(mariadb.pymysql, "connect", refuse)
    with patch_module_args({"query": "SELECT 1"}), pytest.raises(SystemExit):
        mariadb_query_info.main()
    assert "cannot log in through /run/mysqld/mysqld.sock" in json.loads(capsys.readouterr().out)["msg"]


def test_no_pymysql(monkeypatch, capsys):
    monkeypatch.setattr(mariadb, "PYMYSQL_ERROR", "ImportError")
    monkeypatch.setattr(mariadb_query_info, "pymysql", None)
    with patch_module_args({"query": "SELECT 1"}), pytest.raises(SystemExit):
        mariadb_query_info.main()
    assert "PyMySQL" in json.loads(capsys.readouterr().out)["msg"]
