# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of roles share; each module says on which group of the inventory it runs."""

from __future__ import annotations

import typing as t

import pytest


@pytest.fixture
def runs(host: t.Any) -> t.Callable[[str], None]:
    """Return a check: a unit is active, starts at boot, and did not have to be started again and again."""

    def check(unit: str) -> None:
        text = host.check_output("systemctl show --property ActiveState,UnitFileState,NRestarts %s", unit)
        found = dict(line.split("=", 1) for line in text.splitlines())
        if found != {"ActiveState": "active", "UnitFileState": "enabled", "NRestarts": "0"}:
            pytest.fail(f"{unit}: {found}\n{host.run('journalctl --no-pager --lines 40 --unit %s', unit).stdout}")

    return check


@pytest.fixture
def listens(host: t.Any) -> t.Callable[[int], set[str]]:
    """Return a question: the addresses on which something listens to a TCP port."""

    def addresses(port: int) -> set[str]:
        local = [line.split()[3] for line in host.check_output("ss --no-header --listening --numeric --tcp").splitlines()]
        return {place.rpartition(":")[0] for place in local if place.endswith(f":{port}")}

    return addresses


@pytest.fixture
def private(host: t.Any) -> t.Callable[..., None]:
    """Return a check: nobody but root and the service reads a file."""

    def check(path: str, group: str) -> None:
        file = host.file(path)
        assert (file.exists, file.group, file.mode & 0o027) == (True, group, 0), f"{path} {file.group} {file.mode:o}"

    return check
