# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/lab: everything around `ansible-playbook labs/labN.yaml`."""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import re
import time
import typing as t

from kos import KosError, host, venv
from kos.cli import Paths, alone, call, say
from kos.sandbox_plan import LAYOUTS

__all__ = ["COMMANDS", "labs", "main", "needs", "numbered", "prepare", "remembered"]

# Debian packages by a command that each brings: what the playbooks call on this machine before any role runs.
COMMANDS = {"ssh": "openssh-client"}
# In the state folder: what a user says to every playbook that runs on it, and what the base stage was told.
_SETTINGS = "inventory/group_vars/all/settings.yaml"
_TOLD = "inventory/group_vars/all/existing.yaml"


def main(argv: t.Sequence[str]) -> int:
    """Run the command; return ansible-playbook's code."""
    paths = Paths.of()
    options, ansible = _parse(argv, paths.root)
    started = time.monotonic()
    playbook = find_lab(paths.root, options.lab)
    options.base = options.base or ("existing" if options.cloud else None)
    settings = _settings(paths.root, options)
    told = (options.settings, paths.state / _SETTINGS)
    base = settings.get("kos_base") or _value(ansible, "kos_base") or remembered("kos_base", *told, paths.state / _TOLD) or "sandbox"
    if options.cloud and not remembered("base_existing_clouds_file", *told):
        # It is looked for anew: the file of an earlier run may be gone.
        settings["base_existing_clouds_file"] = ""
    if options.settings and not options.settings.is_file():
        raise KosError(f"there is no file {options.settings}; docs/existing.md shows what settings look like.")
    host.check(host.probe(paths.state, paths.cache), needs(base, again=(paths.state / "inventory/hosts.yaml").exists()))
    with alone(paths.state):
        host.install(COMMANDS)
        venv.ensure(paths.root, "requirements.txt")
        prepare(paths)
        keep(paths.state, options.settings)
        program = [str(paths.venv / "bin/ansible-playbook"), str(playbook)]
        for name, value in settings.items():
            program += ["-e", f"{name}={value}"]
        say(f"Lab {options.lab} on {base}; state in {paths.state}")
        code = call([*program, *ansible], cwd=paths.root, env=with_clouds(environment(paths), paths.state, pathlib.Path.cwd()))
    spent = f"{(time.monotonic() - started) / 60:.1f} minutes"
    if code:
        say(
            f"Lab {options.lab} stopped after {spent}. The same command goes on from here; docs/troubleshooting.md helps, the log is {paths.state / 'log/ansible.log'}."
        )
    elif not {"--list-tasks", "--list-hosts", "--list-tags", "--syntax-check"} & set(ansible):
        say(f"Lab {options.lab} is done after {spent}.")
        say(where_to_go_next(paths))
    return code


def labs(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Return the labs that exist, by the name that the command takes."""
    found = {path.stem: path for path in (root / "labs").glob("*.yaml")}
    order = sorted(found, key=lambda stem: (not stem.startswith("lab"), len(stem), stem))
    return {stem[3:] if stem.startswith("lab") else stem: found[stem] for stem in order}


def numbered(root: pathlib.Path) -> list[str]:
    """Return the labs that stand on one another, the newest last."""
    return [name for name in labs(root) if name.isdigit()]


def find_lab(root: pathlib.Path, name: str) -> pathlib.Path:
    """Return the playbook of a lab."""
    existing = labs(root)
    with contextlib.suppress(KeyError):
        return existing[name[3:] if name.startswith("lab") else name]
    raise KosError(f"there is no lab {name}; there are {', '.join(existing) or 'none'}.")


def bases(root: pathlib.Path) -> list[str]:
    """Return the bases that exist: each has a playbook."""
    return sorted(path.stem[5:] for path in (root / "playbooks").glob("base_*.yaml"))


def needs(base: str, *, again: bool, environ: t.Mapping[str, str] = os.environ) -> host.Needs:
    """Say what a base wants of this machine; `again` when it stands already."""
    return host.sandbox_needs(again=again, environ=environ) if base == "sandbox" else host.Needs()


def prepare(paths: Paths) -> None:
    """Make the state folder such that Ansible accepts it as an inventory before a stage has written one."""
    inventory = paths.state / "inventory"
    inventory.mkdir(mode=0o700, parents=True, exist_ok=True)
    seed = inventory / "none.yaml"
    if not seed.exists():
        seed.write_text("---\nall: {}\n", encoding="ascii")


def keep(state: pathlib.Path, settings: pathlib.Path | None) -> None:
    """Keep a file of variables in the state folder, where every playbook that runs on it finds them."""
    if settings is not None:
        kept = state / _SETTINGS
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept.write_bytes(settings.read_bytes())
        kept.chmod(0o600)


def remembered(name: str, *files: pathlib.Path | None) -> str | None:
    """Return a variable that one of these files sets, the first that does."""
    for path in filter(None, files):
        with contextlib.suppress(OSError):
            # Before .venv there is nothing that reads YAML.
            found = re.search(rf"^{name}: *[\"']?([^\s\"'#]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
            if found:
                return found[1]
    return None


def with_clouds(environ: t.Mapping[str, str], state: pathlib.Path, folder: pathlib.Path) -> dict[str, str]:
    """Let the SDK find the clouds.yaml of the folder in which the command was given: playbooks run in another one.

    What tools/credentials says, the logins of the state folder, is not what somebody brings.
    """
    own = str(state / "clouds.yaml")
    found = {name: value for name, value in environ.items() if (name, value) != ("OS_CLIENT_CONFIG_FILE", own)}
    if len(found) < len(environ):
        found.pop("OS_CLOUD", None)
    for name, path in (("OS_CLIENT_CONFIG_FILE", folder / "clouds.yaml"), ("OS_CLIENT_SECURE_FILE", folder / "secure.yaml")):
        if path.exists():
            found.setdefault(name, str(path))
    return found


def environment(paths: Paths) -> dict[str, str]:
    """Return the environment of ansible-playbook: stages are shown, a log is kept."""
    log = paths.state / "log"
    log.mkdir(mode=0o700, exist_ok=True)
    return {
        "ANSIBLE_LOG_PATH": str(log / "ansible.log"),
        "ANSIBLE_FORCE_COLOR": "1" if os.isatty(1) else "0",
        **paths.environment(),
        "ANSIBLE_CALLBACKS_ENABLED": "kos.labs.kos_stages",
        "KOS_TIMINGS": str(paths.state / "timings.json"),
    }


def where_to_go_next(paths: Paths) -> str:
    """Name the doors into what stands now, of those that are there."""
    doors = [
        (paths.state / "cloud.yaml", "A shell for both", ". tools/credentials"),
        (paths.state / "kubeconfig/admin", "Kubernetes", "kubectl --kubeconfig {} get nodes"),
        (paths.state / "openrc/tenant", "OpenStack, as a tenant", "source {}; .venv/bin/openstack server list"),
        (paths.state / "openrc/admin", "OpenStack, as its operator", "source {}; .venv/bin/openstack service list"),
        (paths.state / "verify.md", "What was checked", "{}"),
        (paths.root / "tools/ssh_to_node", "A node", "tools/ssh_to_node NAME"),
        (paths.state / "sandbox", "Put away, bring back, remove", "tools/sandbox stop | start | destroy"),
    ]
    rows = [(what, how.format(_short(path, paths.root))) for path, what, how in doors if path.exists()]
    if paths.state != paths.root / ".state":
        rows.insert(0, ("For all of these", f"export KOS_STATE={paths.state}"))
    width = max((len(what) for what, _ in rows), default=0)
    return "\n".join(f"  {what.ljust(width)}  {how}" for what, how in rows)


def _parse(argv: t.Sequence[str], root: pathlib.Path) -> tuple[argparse.Namespace, list[str]]:
    own, ansible = (list(argv[: argv.index("--")]), list(argv[argv.index("--") + 1 :])) if "--" in argv else (list(argv), [])
    parser = argparse.ArgumentParser(
        prog="tools/lab",
        description="Set up what a lab needs and run it. It can be interrupted and repeated; a second run changes nothing.",
        epilog="What follows -- goes to ansible-playbook: tools/lab 2 -- -e cluster_workers=3. KOS_STATE and KOS_CACHE move state and cache.",
    )
    parser.add_argument("lab", metavar="LAB", help=f"one of {', '.join(labs(root)) or '(none yet)'}")
    parser.add_argument("--base", help="what the cloud stands on (default: sandbox)")
    parser.add_argument("--cloud", metavar="NAME", help="entry of your clouds.yaml, for --base existing")
    parser.add_argument("--settings", metavar="FILE", type=pathlib.Path, help="file of variables, which the state folder keeps")
    parser.add_argument("--layout", help=f"machines of the sandbox: {' or '.join(LAYOUTS)}")
    return parser.parse_args(own), ansible


def _settings(root: pathlib.Path, options: argparse.Namespace) -> dict[str, str]:
    known = {"base": bases(root), "layout": list(LAYOUTS)}
    settings = {}
    for name, choices in known.items():
        value = getattr(options, name)
        if value is None:
            continue
        if value not in choices:
            raise KosError(f"there is no {name} {value}; there are {', '.join(choices) or 'none'}.")
        settings[f"kos_{name}"] = value
    if options.cloud is not None:
        settings["base_existing_cloud"] = options.cloud
    return settings


def _value(ansible: t.Sequence[str], name: str) -> str | None:
    """Find a variable that the user gave to ansible-playbook itself."""
    for argument in ansible:
        for word in argument.split():
            if word.startswith(f"{name}="):
                return word[len(name) + 1 :]
    return None


def _short(path: pathlib.Path, root: pathlib.Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
