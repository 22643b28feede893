# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/ssh_to_node and tools/refresh: what a person does with the cluster's servers."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import typing as t

from kos import KosError, lab
from kos.cli import Paths, alone, call, say

__all__ = ["hosts", "main", "refresh", "ssh_command"]

Host = t.Mapping[str, t.Any]


def main(argv: t.Sequence[str]) -> int:
    """Open a shell on a node, or run a command there; never return when SSH starts."""
    parser = argparse.ArgumentParser(
        prog="tools/ssh_to_node", description="Open a shell on a node of the cluster, or on a machine of the cloud, or run a command there."
    )
    parser.add_argument("name", metavar="NAME", help="name of the node, such as master1")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="what to run instead of a shell")
    options = parser.parse_args(argv)
    known = hosts(Paths.of())
    if options.name not in known:
        raise KosError(f"there is no node {options.name}; there are {', '.join(sorted(known)) or 'none yet: tools/lab 1 makes them'}.")
    command = [*ssh_command(known[options.name]), *options.command]
    os.execvp(command[0], command)


def refresh(argv: t.Sequence[str]) -> int:
    """Remove the cluster's servers and networks, and make them again unless told not to."""
    own, ansible = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    parser = argparse.ArgumentParser(
        prog="tools/refresh",
        description="Remove the servers, floating IPs, ports, router, network and groups of this cluster, and nothing else, and make them again. "
        "tools/lab then installs Kubernetes in them.",
        epilog="What follows -- goes to ansible-playbook. KOS_STATE names the state folder, and so the cluster.",
    )
    parser.add_argument("--only-delete", action="store_true", help="do not make them again")
    parser.add_argument(
        "--volumes",
        action="store_true",
        help="delete the volumes and snapshots that claims of a cluster of this name have made, too, also those that were to stay (cinder-retain); "
        "without it they are listed",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    options = parser.parse_args(own)
    paths = Paths.of()
    program = paths.venv / "bin/ansible-playbook"
    if not program.exists():
        raise KosError(f"there is no {program}; tools/lab makes it, and a cluster to refresh.")
    nodes = [name for name, host in sorted(hosts(paths).items()) if "server_id" in host]
    if not options.yes and not _agrees(nodes, paths, volumes=options.volumes):
        say("Nothing was removed.")
        return 1
    with alone(paths.state):
        lab.prepare(paths)
        for playbook in ("refresh",) if options.only_delete else ("refresh", "nodes"):
            said = ["-e", '{"node_servers_remove_volumes": true}'] if options.volumes and playbook == "refresh" else []
            code = call(
                [str(program), str(paths.root / f"playbooks/{playbook}.yaml"), *said, *ansible], cwd=paths.root, env=lab.environment(paths)
            )
            if code:
                say(f"tools/refresh stopped in playbooks/{playbook}.yaml; the same command goes on from here.")
                return code
    return 0


def hosts(paths: Paths, group: str | None = None) -> dict[str, Host]:
    """Return the variables of every host of the inventory, or of a group, that can be reached by SSH, by name."""
    program = paths.venv / "bin/ansible-inventory"
    if not program.exists() or not (paths.state / "inventory").is_dir():
        return {}
    done = subprocess.run([program, "--list"], cwd=paths.root, env=paths.environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise KosError(f"the inventory in {paths.state / 'inventory'} cannot be read: {done.stderr.strip()}")
    inventory = json.loads(done.stdout)
    found = inventory["_meta"]["hostvars"]
    names = found if group is None else inventory.get(group, {}).get("hosts", ())
    return {name: found[name] for name in names if "ansible_host" in found[name]}


def ssh_command(host: Host) -> list[str]:
    """Return the command that Ansible itself would reach the host with."""
    return [
        "ssh",
        "-i",
        str(host["ansible_ssh_private_key_file"]),
        *shlex.split(host.get("ansible_ssh_common_args", "")),
        f"{host['ansible_user']}@{host['ansible_host']}",
    ]


def _agrees(nodes: t.Sequence[str], paths: Paths, *, volumes: bool) -> bool:
    if not sys.stdin.isatty():
        raise KosError("this removes servers and asks first; add --yes where nobody can answer.")
    what = ", ".join(nodes) or "no nodes, but perhaps networks"
    more = ""
    if volumes:
        # Their mark is the cluster's name, and they may outlive claims and clusters.
        more = (
            ", and with all data each volume and snapshot of its project that claims of a cluster of this name have made, "
            "also of the class cinder-retain, and of clusters before this one"
        )
    answer = input(f"Remove the cluster of {paths.state} ({what}) and all that runs in it{more}? [y/N] ")
    return answer.strip().lower() in ("y", "yes")
