# SPDX-License-Identifier: GPL-3.0-or-later
"""The house rules that no linter knows."""

from __future__ import annotations

import pathlib
import re
import typing as t

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
TEXT = {".cfg", ".conf", ".j2", ".md", ".py", ".service", ".sh", ".tf", ".toml", ".txt", ".yaml", ".yml", ""}
KEYWORDS = {"block", "rescue", "always"}
SECRET = re.compile(r"\{\{[^}]*(?:password|secret|passphrase|private_key|token)[^}]*\}\}", re.IGNORECASE)


class Tolerant(yaml.SafeLoader):
    """Reads !vault and !unsafe as plain values."""


Tolerant.add_multi_constructor("!", lambda loader, _suffix, node: loader.construct_scalar(node))


def files(*folders: str) -> list[pathlib.Path]:
    """List the project's text files: below some folders, or all."""
    skipped = {".venv", ".state", ".cache", ".git", ".ansible", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}
    found: list[pathlib.Path] = []
    for start in [ROOT / folder for folder in folders] or [ROOT]:
        for folder, names, file_names in start.walk() if start.exists() else ():
            names[:] = [name for name in names if name not in skipped]
            found += [folder / name for name in file_names if pathlib.Path(name).suffix in TEXT]
    return sorted(found)


def tasks_in(data: t.Any) -> t.Iterator[dict[str, t.Any]]:
    """Yield every task of a playbook or task file."""
    for item in data if isinstance(data, list) else []:
        if not isinstance(item, dict):
            continue
        if "hosts" in item:
            for section in ("pre_tasks", "tasks", "post_tasks", "handlers"):
                yield from tasks_in(item.get(section))
            continue
        yield item
        for keyword in KEYWORDS & set(item):
            yield from tasks_in(item[keyword])


def task_files() -> list[pathlib.Path]:
    return [
        path
        for path in files("roles", "playbooks", "labs", "molecule")
        if path.suffix in (".yml", ".yaml") and not {"defaults", "vars", "meta", "templates", "files"} & set(path.relative_to(ROOT).parts)
    ]


def all_tasks() -> t.Iterator[tuple[str, dict[str, t.Any]]]:
    for path in task_files():
        for task in tasks_in(yaml.load(path.read_text(encoding="utf-8"), Loader=Tolerant)):
            yield f"{path.relative_to(ROOT)}: {task.get('name', '?')}", task


def arguments(task: dict[str, t.Any], *modules: str) -> dict[str, t.Any] | None:
    for module in modules:
        for name in (module, f"ansible.builtin.{module}", f"ansible.legacy.{module}"):
            if isinstance(task.get(name), dict):
                return task[name]
    return None


def test_no_shell():
    names = {f"{prefix}{module}" for prefix in ("", "ansible.builtin.", "ansible.legacy.") for module in ("shell", "raw", "script")}
    assert [where for where, task in all_tasks() if names & set(task)] == []


def test_no_ignored_errors():
    assert [where for where, task in all_tasks() if {"ignore_errors", "ignore_unreachable"} & set(task)] == []


def test_no_latest_packages():
    found = [where for where, task in all_tasks() for value in task.values() if isinstance(value, dict) and value.get("state") == "latest"]
    assert found == []


def test_no_sleeping():
    names = {"ansible.builtin.pause", "pause"}
    found = [where for where, task in all_tasks() if names & set(task)]
    found += [where for where, task in all_tasks() if "sleep" in str((arguments(task, "command") or {}).get("argv", [""])[:1])]
    assert found == []


def test_restarts_are_handlers():
    found = [
        where
        for where, task in all_tasks()
        if "/handlers/" not in where
        and (arguments(task, "systemd_service", "systemd", "service") or {}).get("state") in ("restarted", "reloaded")
        and "when" not in task
    ]
    assert found == []


def test_commands_are_lists():
    found = [where for where, task in all_tasks() if isinstance(task.get("ansible.builtin.command"), str)]
    found += [where for where, task in all_tasks() if "cmd" in (arguments(task, "command") or {})]
    assert found == []


def names_in(role: pathlib.Path) -> t.Iterator[tuple[str, str]]:
    """Yield the variables that a role sets, with the file that sets each."""
    for path in [*role.glob("defaults/*.yml"), *role.glob("vars/*.yml")]:
        for name in yaml.load(path.read_text(encoding="utf-8"), Loader=Tolerant) or {}:
            yield path.name, name
    for path in [*role.glob("tasks/*.yml"), *role.glob("handlers/*.yml")]:
        for task in tasks_in(yaml.load(path.read_text(encoding="utf-8"), Loader=Tolerant)):
            loop = task.get("loop_control", {})
            for name in (task.get("register"), loop.get("loop_var"), loop.get("index_var")):
                if isinstance(name, str):
                    yield path.name, name


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_variables_of_a_role_carry_its_name(role):
    prefix = role.name.lstrip("_") + "_"
    assert [f"{where}: {name}" for where, name in names_in(role) if not f"{name}_".lstrip("_").startswith(prefix)] == []


@pytest.mark.parametrize(
    "role", [role for role in ROLES if role.name.split("_")[0] in ("os", "node", "kube", "cloud")], ids=lambda role: role.name
)
def test_role_does_not_know_its_base(role):
    # containerd has an option of that name.
    texts = {path: re.sub(r"^sandbox = ", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE) for path in files(f"roles/{role.name}")}
    assert [str(path.relative_to(ROOT)) for path, text in texts.items() if "sandbox" in text.lower()] == []


def test_no_path_of_a_developer():
    home = pathlib.Path.home()
    own = [str(path) for path in (ROOT, home) if len(path.parts) > 2]
    found = [f"{path.relative_to(ROOT)}: {place}" for path in files() for place in own if place in path.read_text(encoding="utf-8")]
    assert found == []


def test_versions_stand_in_one_place():
    versions = yaml.safe_load((ROOT / "group_vars/all/versions.yaml").read_text(encoding="utf-8"))
    pinned = {name: str(value) for name, value in versions.items() if re.search(r"\d+\.\d+\.\d+", str(value))}
    found = [
        f"{path.relative_to(ROOT)} has {name} {value}"
        for path in files("roles", "playbooks", "labs", "group_vars", "plugins", "tools", "molecule")
        # What a module's documentation shows is an example.
        if path.parent != ROOT / "plugins/modules" and path != ROOT / "group_vars/all/versions.yaml" and path.suffix != ".md"
        for name, value in pinned.items()
        if re.search(rf"(?<![\w.]){re.escape(value)}(?![\w.])", path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_secrets_do_not_show_in_diffs():
    """A template that fills in a secret is written without a diff, as is content that holds one."""
    found = []
    for path in task_files():
        for task in tasks_in(yaml.load(path.read_text(encoding="utf-8"), Loader=Tolerant)):
            if task.get("diff") is False or task.get("no_log") is True:
                continue
            template = arguments(task, "template")
            content = arguments(task, "copy", "lineinfile", "blockinfile") or {}
            text = str(content.get("content", "")) + str(content.get("line", "")) + str(content.get("block", ""))
            if template and "{{" not in str(template.get("src")):
                source = path.parent.parent / "templates" / str(template["src"])
                text += source.read_text(encoding="utf-8") if source.exists() else ""
            if SECRET.search(text):
                found.append(f"{path.relative_to(ROOT)}: {task.get('name')}")
    assert found == []


@pytest.mark.parametrize("path", [path for path in files("plugins", "tools", "tests", "molecule") if path.suffix == ".py"], ids=str)
def test_python_names_its_licence(path):
    assert "SPDX-License-Identifier: GPL-3.0-or-later" in path.read_text(encoding="utf-8")[:300]
