# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses

import pytest
from ansible_collections.kos.labs.plugins.module_utils.mariadb_access import (
    Found,
    escape_pattern,
    granted_databases,
    make_plan,
    quote_name,
)
from hypothesis import given
from hypothesis import strategies as st

ALL = Found(
    databases=frozenset({"mysql", "nova", "nova_api"}),
    account_exists=True,
    password_works=True,
    granted=frozenset({"nova", "nova_api"}),
)


def plan(found):
    return make_plan(found=found, databases=["nova", "nova_api"], account=("nova", "%"), password="hidden")


def test_nothing_to_do():
    assert plan(ALL) == []


def test_from_nothing():
    statements = plan(Found(databases=frozenset({"mysql"})))
    assert [(statement.sql, statement.parameters) for statement in statements] == [
        ("CREATE DATABASE `nova`", ()),
        ("CREATE DATABASE `nova_api`", ()),
        ("CREATE USER %s@%s IDENTIFIED BY %s", ("nova", "%", "hidden")),
        ("GRANT ALL PRIVILEGES ON `nova`.* TO %s@%s", ("nova", "%")),
        ("GRANT ALL PRIVILEGES ON `nova\\_api`.* TO %s@%s", ("nova", "%")),
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"databases": frozenset({"nova"})}, ["create database nova_api"]),
        ({"password_works": False}, ["set the password of nova@%"]),
        ({"granted": frozenset({"nova"})}, ["give nova@% all rights in nova_api"]),
    ],
)
def test_only_what_is_missing(change, says):
    assert [statement.says for statement in plan(dataclasses.replace(ALL, **change))] == says


def test_no_secret_in_words():
    assert not any("hidden" in statement.says + statement.sql for statement in plan(Found()))


def test_grants():
    lines = [
        "GRANT USAGE ON *.* TO `nova`@`%` IDENTIFIED BY PASSWORD '*0'",
        "GRANT ALL PRIVILEGES ON `nova\\_api`.* TO `nova`@`%`",
        "GRANT ALL PRIVILEGES ON `nova`.* TO `nova`@`%` WITH GRANT OPTION",
        "GRANT SELECT ON `glance`.* TO `nova`@`%`",
    ]
    assert granted_databases(lines) == {"nova", "nova_api"}


@given(st.text(alphabet="ab_%`\\.", min_size=1, max_size=12))
def test_any_name_survives_a_grant(name):
    line = f"GRANT ALL PRIVILEGES ON {quote_name(escape_pattern(name))}.* TO `x`@`%`"
    assert granted_databases([line]) == {name}
