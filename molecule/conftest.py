# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of roles share; each module says on which group of the inventory it runs."""

from __future__ import annotations

import time
import typing as t

import pytest

_PATIENCE = 60.0


@pytest.fixture
def eventually() -> t.Callable[[str, t.Callable[[], t.Any]], t.Any]:
    """Return a wait: what a function returns, as soon as that is something; for what a daemon does after it has started."""

    def wait(what: str, look: t.Callable[[], t.Any]) -> t.Any:
        end = time.monotonic() + _PATIENCE
        while not (found := look()):
            if time.monotonic() > end:
                pytest.fail(f"{what} did not come within {_PATIENCE:.0f} s")
            time.sleep(0.5)
        return found

    return wait


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
