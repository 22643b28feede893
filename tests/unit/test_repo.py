# SPDX-License-Identifier: GPL-3.0-or-later
"""What the project promises: documents match the code, playbooks match the roles, the collection can be built."""

from __future__ import annotations

import os
import re
import subprocess
import tarfile

import pytest
import yaml

from kos import lab


def labs_in(text: str) -> list[str]:
    return re.findall(r"^\| *(\d+) *\|", text, re.MULTILINE)


def test_readme_lists_the_labs_that_exist(root):
    existing = lab.numbered(root)
    assert labs_in((root / "README.md").read_text(encoding="utf-8")) == existing


def test_every_lab_has_a_guide(root):
    assert [name for name in lab.numbered(root) if not (root / f"docs/lab{name}.md").is_file()] == []


def test_links_in_documents_lead_somewhere(root):
    broken = []
    for document in [root / "README.md", *(root / "docs").glob("*.md"), *root.glob("roles/*/README.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
            if "://" not in target and not target.startswith("mailto:") and not (document.parent / target).exists():
                broken.append(f"{document.relative_to(root)}: {target}")
    assert broken == []


def playbooks(root):
    return [path for folder in ("labs", "playbooks", "molecule") for path in sorted((root / folder).rglob("*.y*ml"))]


def test_playbooks_name_roles_that_exist(root):
    existing = {path.name for path in (root / "roles").iterdir()}
    text = {path: path.read_text(encoding="utf-8") for path in [*playbooks(root), *root.glob("roles/*/*/*.yml")]}
    named = {(name, path) for path, content in text.items() for name in re.findall(r"(?:role|name):\s*kos\.labs\.(\w+)", content)}
    assert sorted(f"{path.relative_to(root)}: {name}" for name, path in named if name not in existing) == []


def test_roles_have_full_names_in_playbooks(root):
    short = []
    for path in playbooks(root):
        for play in yaml.safe_load(path.read_text(encoding="utf-8")) or []:
            for role in play.get("roles", []) if isinstance(play, dict) else []:
                name = role if isinstance(role, str) else role.get("role", role.get("name", ""))
                if not str(name).startswith("kos.labs."):
                    short.append(f"{path.relative_to(root)}: {name}")
    assert short == []


def test_labs_only_import(root):
    """A lab is a table of contents: no logic of its own."""
    for path in lab.labs(root).values():
        for play in yaml.safe_load(path.read_text(encoding="utf-8")):
            assert set(play) <= {"name", "ansible.builtin.import_playbook", "vars"}, path.name


def test_action_groups_name_modules_that_exist(root):
    groups = yaml.safe_load((root / "meta/runtime.yml").read_text(encoding="utf-8")).get("action_groups") or {}
    named = {item for items in groups.values() for item in items if isinstance(item, str) and "." not in item}
    assert named <= {path.stem for path in (root / "plugins/modules").glob("*.py")}


@pytest.fixture(scope="module")
def built(root, tmp_path_factory) -> list[str]:
    """The names in a collection built from a tree in which a lab has run."""
    folder = tmp_path_factory.mktemp("built")
    argv = [str(root / ".venv/bin/ansible-galaxy"), "collection", "build", "--output-path", str(folder)]
    done = subprocess.run(
        argv, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env={**os.environ, "HOME": str(folder)}
    )
    assert done.returncode == 0, done.stderr
    with tarfile.open(next(folder.glob("kos-labs-*.tar.gz"))) as archive:
        return archive.getnames()


def test_collection_holds_what_a_user_needs(built):
    assert {"MANIFEST.json", "LICENSE", "README.md", "meta/runtime.yml", "plugins", "roles", "playbooks"} <= set(built)


def test_collection_holds_no_state(built):
    private = re.compile(
        r"(^|/)(\.state|\.venv|\.cache|\.git|\.ansible|\.ci|__pycache__|\.\w+_cache|\.hypothesis)(/|$)|\.tar\.gz$|\.pem$|\.key$|id_ed25519"
    )
    assert [name for name in built if private.search(name)] == []
