#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Have systemd units run with what their files say now."""

from __future__ import annotations

DOCUMENTATION = r"""
module: units
short_description: Have systemd units run with what their files say now
version_added: 0.1.0
author: The kos.labs authors (@kos-labs)
description:
  - Enables and starts any number of units with one call of each systemctl command, so units that do not depend on each other start side by side.
  - Restarts a unit that was started before one of its files changed. This needs no handler, and holds after a run that was interrupted
    between writing a file and restarting the service.
  - A unit's own file and its drop-ins are always among its files. systemd is reloaded when it has to be.
options:
  names:
    description: The units. C(.service) may be left out.
    type: list
    elements: str
    required: true
  files:
    description: Files that the units read when they start. A file that does not exist is none of them.
    type: list
    elements: path
    default: []
  enabled:
    description: Whether the units start with the machine.
    type: bool
    default: true
  wait:
    description:
      - Whether to wait until units that are started say that they are up. Without it they start while other things are done.
      - A restart is always waited for.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    description: Predicts and changes nothing.
  diff_mode:
    support: none
    description: The state of a unit is in the result.
"""

EXAMPLES = r"""
- name: Run the conductor and the scheduler with their configuration
  kos.labs.units:
    names: [nova-conductor, nova-scheduler]
    files: [/etc/nova/nova.conf]
"""

RETURN = r"""
enabled:
  description: Units that were enabled.
  returned: always
  type: list
  elements: str
  sample: []
started:
  description: Units that were started.
  returned: always
  type: list
  elements: str
  sample: []
restarted:
  description: Units that were restarted since a file had changed.
  returned: always
  type: list
  elements: str
  sample: [nova-conductor.service]
"""

import os
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "UnitFileState",
    "NeedDaemonReload",
    "FragmentPath",
    "DropInPaths",
    "InactiveExitTimestampMonotonic",
    "ExecMainStartTimestampMonotonic",
)


class Unit(t.NamedTuple):
    """What systemd knows of a unit, in seconds since the epoch where it is a time."""

    name: str
    loaded: bool
    active: bool
    enabled: bool
    stale: bool
    files: tuple[str, ...]
    since: float


class Plan(t.NamedTuple):
    """What is to be done, by the names of units."""

    enable: list[str]
    start: list[str]
    restart: list[str]
    reload: bool


def full_name(name: str) -> str:
    """Return the name with its suffix."""
    return name if "." in name else name + ".service"


def parse_units(text: str, names: t.Sequence[str], boot: float) -> list[Unit]:
    """Return the units that `systemctl show` printed; `boot` is the time at which its monotonic clock was zero."""
    units = []
    for name, block in zip(names, text.strip().split("\n\n")):
        shown = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        ticks = max(int(shown.get(key) or 0) for key in PROPERTIES if key.endswith("Monotonic"))
        units.append(
            Unit(
                name=name,
                loaded=shown.get("LoadState") == "loaded",
                active=shown.get("ActiveState") in ("active", "activating", "reloading"),
                enabled=shown.get("UnitFileState") not in ("disabled", "enabled-runtime", ""),
                stale=shown.get("NeedDaemonReload") == "yes",
                files=tuple(filter(None, [shown.get("FragmentPath", ""), *shown.get("DropInPaths", "").split(" ")])),
                since=boot + ticks / 1e6,
            )
        )
    return units


def make_plan(units: t.Sequence[Unit], *, files: t.Sequence[str], enabled: bool, changed: t.Callable[[str], float]) -> Plan:
    """Return what makes the units run with their files; `changed` tells when a file was changed last."""
    started_before = {unit.name: max([0.0, *map(changed, [*unit.files, *files])]) > unit.since for unit in units}
    return Plan(
        enable=[unit.name for unit in units if enabled and not unit.enabled],
        start=[unit.name for unit in units if not unit.active],
        restart=[unit.name for unit in units if unit.active and started_before[unit.name]],
        reload=any(unit.stale for unit in units),
    )


def change_time(path: str) -> float:
    """Return when a file was changed last, 0 if there is none. A file that was moved into place counts from the move."""
    try:
        return os.stat(path).st_ctime
    except OSError:
        return 0.0


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "files": {"type": "list", "elements": "path", "default": []},
            "enabled": {"type": "bool", "default": True},
            "wait": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    systemctl = module.get_bin_path("systemctl", required=True)
    names = [full_name(name) for name in module.params["names"]]

    def run(*arguments: str) -> str:
        code, out, err = module.run_command([systemctl, *arguments])
        if code != 0:
            _code, journal, _err = module.run_command(
                ["journalctl", "--no-pager", "--quiet", "--lines=20", "--output=cat", *("--unit=" + name for name in names)]
            )
            module.fail_json(msg=f"systemctl {' '.join(arguments)} failed, see journalctl: {err.strip()}", journal=journal.splitlines())
        return out

    shown = run("show", "--property=" + ",".join(PROPERTIES), "--", *names)
    units = parse_units(shown, names, time.time() - time.clock_gettime(time.CLOCK_MONOTONIC))
    missing = [unit.name for unit in units if not unit.loaded and not unit.stale and not module.check_mode]
    if missing:
        # A unit file that was written a moment ago is unknown until systemd reads its files again.
        run("daemon-reload")
        shown = run("show", "--property=" + ",".join(PROPERTIES), "--", *names)
        units = parse_units(shown, names, time.time() - time.clock_gettime(time.CLOCK_MONOTONIC))
        missing = [unit.name for unit in units if not unit.loaded]
        if missing:
            module.fail_json(msg=f"{', '.join(missing)} cannot be loaded: install the package that brings it, or unmask it")
    plan = make_plan(units, files=module.params["files"], enabled=module.params["enabled"], changed=change_time)
    if not module.check_mode:
        if plan.reload:
            run("daemon-reload")
        if plan.enable:
            run("enable", "--quiet", "--", *plan.enable)
        if plan.restart:
            run("restart", "--", *plan.restart)
        if plan.start:
            run("start", *([] if module.params["wait"] else ["--no-block"]), "--", *plan.start)
    module.exit_json(
        changed=bool(plan.enable or plan.start or plan.restart),
        enabled=plan.enable,
        started=plan.start,
        restarted=plan.restart,
    )


if __name__ == "__main__":
    main()
