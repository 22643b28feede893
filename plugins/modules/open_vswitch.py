#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Set up an Open vSwitch: its settings, bridges and their ports."""

from __future__ import annotations

DOCUMENTATION = r"""
module: open_vswitch
short_description: Set up an Open vSwitch
version_added: 0.1.0
author: The kos.labs authors (@kos-labs)
description:
  - Makes sure of settings, bridges and ports in one transaction. It removes nothing.
  - Needs the database (C(ovsdb-server)) only. What is set before C(ovs-vswitchd) runs for the first time counts from its first start.
options:
  other_config:
    description: Entries of C(other_config) of the switch. Values are text.
    type: dict
    default: {}
  bridges:
    description: Names of bridges that must exist.
    type: list
    elements: str
    default: []
  datapath_type:
    description: Datapath of those bridges.
    type: str
    choices: [system, netdev]
    default: system
  ports:
    description: Lists of ports by the bridge that they belong to.
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
    description: Predicts and changes nothing.
  diff_mode:
    support: full
    description: Shows the commands of the transaction.
"""

EXAMPLES = r"""
- name: A bridge of the userspace datapath with a network card
  kos.labs.open_vswitch:
    other_config: {userspace-tso-enable: "true"}
    datapath_type: netdev
    bridges: [br-ex]
    ports: {br-ex: [eth1]}
  register: switch

- name: Restart the switch
  ansible.builtin.systemd_service: {name: ovs-vswitchd, state: restarted}
  when: switch.restart_needed
"""

RETURN = r"""
commands:
  description: The commands of the transaction.
  returned: always
  type: list
  elements: list
  sample: [[--may-exist, add-br, br-ex]]
restart_needed:
  description: Whether O(other_config) was changed while the switch ran.
  returned: always
  type: bool
"""

import json
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

PIDFILE = "/run/openvswitch/ovs-vswitchd.pid"
Command = list[str]


class Switch(t.NamedTuple):
    """What the database says."""

    other_config: dict[str, str]
    datapaths: dict[str, str]
    ports: frozenset[str]


def parse_switch(text: str) -> Switch:
    """Return what `ovs-vsctl --format=json` printed for the tables Open_vSwitch, Bridge and Port, a line each."""
    config, bridges, ports = (json.loads(line)["data"] for line in text.strip().splitlines())
    return Switch(dict(config[0][0][1]), {name: datapath or "system" for name, datapath in bridges}, frozenset(row[0] for row in ports))


def plan(switch: Switch, *, other_config: dict[str, str], datapath: str, bridges: list[str], ports: dict[str, list[str]]) -> list[Command]:
    """Return the commands that bring the switch to what is wanted; the settings come first."""
    commands: list[Command] = []
    for key, value in sorted(other_config.items()):
        if switch.other_config.get(key) != value:
            commands.append(["set", "Open_vSwitch", ".", f"other_config:{key}={json.dumps(value)}"])
    for bridge in bridges:
        if bridge not in switch.datapaths:
            commands.append(["--may-exist", "add-br", bridge])
        if switch.datapaths.get(bridge) != datapath:
            commands.append(["set", "Bridge", bridge, f"datapath_type={datapath}"])
    for bridge, names in sorted(ports.items()):
        commands.extend(["--may-exist", "add-port", bridge, name] for name in names if name not in switch.ports)
    return commands


def is_running(pidfile: str) -> bool:
    """Tell whether ovs-vswitchd runs."""
    try:
        with open(pidfile, encoding="ascii") as file:
            os.kill(int(file.read()), 0)
    except (OSError, ValueError):
        return False
    return True


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "other_config": {"type": "dict", "default": {}},
            "bridges": {"type": "list", "elements": "str", "default": []},
            "datapath_type": {"type": "str", "choices": ["system", "netdev"], "default": "system"},
            "ports": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    vsctl = module.get_bin_path("ovs-vsctl", required=not module.check_mode)
    if vsctl is None:
        # A check before the package is there.
        module.exit_json(changed=True, commands=[], restart_needed=False)

    def run(arguments: t.Sequence[str]) -> str:
        code, out, err = module.run_command([vsctl, "--timeout=30", *arguments])
        if code != 0:
            module.fail_json(msg=f"ovs-vsctl failed, see that ovsdb-server runs: {err.strip()}", arguments=list(arguments))
        return out

    tables = (
        ["--columns=other_config", "list", "Open_vSwitch"],
        ["--columns=name,datapath_type", "list", "Bridge"],
        ["--columns=name", "list", "Port"],
    )
    switch = parse_switch(run(["--format=json", *join(tables)]))
    commands = plan(
        switch,
        other_config={str(key): str(value) for key, value in module.params["other_config"].items()},
        datapath=module.params["datapath_type"],
        bridges=module.params["bridges"],
        ports=module.params["ports"],
    )
    running = is_running(PIDFILE)
    if commands and not module.check_mode:
        run([*([] if running else ["--no-wait"]), *join(commands)])
    text = "".join(" ".join(command) + "\n" for command in commands)
    module.exit_json(
        changed=bool(commands),
        commands=commands,
        restart_needed=running and any(command[:2] == ["set", "Open_vSwitch"] for command in commands),
        diff={"before": "", "after": text},
    )


def join(commands: t.Iterable[Command]) -> list[str]:
    """Return the commands as ovs-vsctl wants them, with `--` between them."""
    joined: list[str] = []
    for command in commands:
        joined.extend([*(["--"] if joined else []), *command])
    return joined


if __name__ == "__main__":
    main()
