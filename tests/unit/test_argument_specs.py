# SPDX-License-Identifier: GPL-3.0-or-later
"""A role's argument_specs say what its defaults are; both must say the same."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
import yaml

ROLES = sorted(path for path in (pathlib.Path(__file__).resolve().parents[2] / "roles").iterdir() if path.is_dir())
PUBLIC = [role for role in ROLES if not role.name.startswith("_")]


def load(path: pathlib.Path) -> t.Any:
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None


def options_of(role: pathlib.Path) -> dict[str, t.Any]:
    specs = (load(role / "meta/argument_specs.yml") or {}).get("argument_specs") or {}
    return {name: option for entry in specs.values() for name, option in (entry.get("options") or {}).items()}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_role_has_what_a_reader_looks_for(role):
    wanted = ["README.md", "meta/main.yml", "meta/argument_specs.yml", "tasks/main.yml"]
    assert [name for name in wanted if not (role / name).is_file()] == []


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_defaults_and_argument_specs_have_the_same_keys(role):
    options = options_of(role)
    defaults = load(role / "defaults/main.yml") or {}
    assert sorted(defaults) == sorted(name for name, option in options.items() if "default" in option)


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_defaults_and_argument_specs_have_the_same_values(role):
    options = options_of(role)
    defaults = load(role / "defaults/main.yml") or {}
    different = {
        name: (value, options[name]["default"])
        for name, value in defaults.items()
        if "default" in options.get(name, {}) and options[name]["default"] != value
    }
    assert different == {}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_options_are_described(role):
    options = options_of(role)
    assert [name for name, option in options.items() if not option.get("description") or not option.get("type")] == []


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_options_carry_the_name_of_the_role(role):
    prefix = role.name.lstrip("_") + "_"
    assert [name for name in options_of(role) if not name.lstrip("_").startswith(prefix)] == []


@pytest.mark.parametrize("role", PUBLIC, ids=lambda role: role.name)
def test_role_has_a_scenario(role, root):
    scenario = root / "molecule" / role.name
    assert [name for name in ("molecule.yml", "converge.yml") if not (scenario / name).is_file()] == []


def test_scenarios_belong_to_roles(root):
    scenarios = {path.parent.name for path in (root / "molecule").glob("*/molecule.yml")} - {"default"}
    assert scenarios - {role.name for role in ROLES} == set()
