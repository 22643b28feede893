# SPDX-License-Identifier: GPL-3.0-or-later
"""The transaction that brings a switch to what is wanted."""

from __future__ import annotations

from ansible_collections.kos.labs.plugins.modules.open_vswitch import Switch, join, parse_switch, plan

SHOWN = (
    '{"data":[[["map",[["userspace-tso-enable","true"]]]]],"headings":["other_config"]}\n'
    '{"data":[["br-ex","netdev"],["br-int",""]],"headings":["name","datapath_type"]}\n'
    '{"data":[["br-ex"],["eth1"]],"headings":["name"]}\n'
)


def test_parse() -> None:
    assert parse_switch(SHOWN) == Switch(
        {"userspace-tso-enable": "true"}, {"br-ex": "netdev", "br-int": "system"}, frozenset({"br-ex", "eth1"})
    )


def test_nothing_to_do() -> None:
    wanted = {"other_config": {"userspace-tso-enable": "true"}, "datapath": "netdev", "bridges": ["br-ex"], "ports": {"br-ex": ["eth1"]}}
    assert plan(parse_switch(SHOWN), **wanted) == []


def test_from_nothing_settings_come_first() -> None:
    commands = plan(Switch({}, {}, frozenset()), other_config={"k": "v"}, datapath="netdev", bridges=["b"], ports={"b": ["p"]})
    assert commands == [
        ["set", "Open_vSwitch", ".", 'other_config:k="v"'],
        ["--may-exist", "add-br", "b"],
        ["set", "Bridge", "b", "datapath_type=netdev"],
        ["--may-exist", "add-port", "b", "p"],
    ]


def test_join() -> None:
    assert join([["a", "b"], ["c"]]) == ["a", "b", "--", "c"]
