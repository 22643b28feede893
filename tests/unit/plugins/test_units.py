# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be done so that units run with what their files say."""

from __future__ import annotations

import pytest
from ansible_collections.kos.labs.plugins.modules.units import Plan, Unit, full_name, make_plan, parse_units

RUNNING = Unit("a.service", loaded=True, active=True, enabled=True, stale=False, files=("/unit",), since=100.0)


def test_full_name() -> None:
    assert [full_name("a"), full_name("a.socket")] == ["a.service", "a.socket"]


def test_parse_units() -> None:
    text = (
        "Id=a.service\nLoadState=loaded\nActiveState=active\nUnitFileState=static\nNeedDaemonReload=no\nFragmentPath=/a\n"
        "DropInPaths=/b /c\nInactiveExitTimestampMonotonic=1000000\nExecMainStartTimestampMonotonic=3000000\n\n"
        "Id=b.service\nLoadState=not-found\nActiveState=inactive\nUnitFileState=\nNeedDaemonReload=no\nFragmentPath=\nDropInPaths=\n"
    )
    first, second = parse_units(text, ["a.service", "b.service"], 10.0)
    assert first == Unit("a.service", True, True, True, False, ("/a", "/b", "/c"), 13.0)
    assert (second.loaded, second.active, second.enabled, second.files) == (False, False, False, ())


@pytest.mark.parametrize(
    ("unit", "times", "plan"),
    [
        (RUNNING, {}, Plan([], [], [], False)),
        (RUNNING, {"/conf": 99.0}, Plan([], [], [], False)),
        (RUNNING, {"/conf": 101.0}, Plan([], [], ["a.service"], False)),
        (RUNNING, {"/unit": 101.0}, Plan([], [], ["a.service"], False)),
        (RUNNING._replace(stale=True), {}, Plan([], [], [], True)),
        (RUNNING._replace(active=False), {"/conf": 101.0}, Plan([], ["a.service"], [], False)),
        (RUNNING._replace(enabled=False), {}, Plan(["a.service"], [], [], False)),
    ],
)
def test_plan(unit: Unit, times: dict[str, float], plan: Plan) -> None:
    assert make_plan([unit], files=["/conf"], enabled=True, changed=lambda path: times.get(path, 0.0)) == plan
