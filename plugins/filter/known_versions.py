# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read which versions of the components can be had."""

from __future__ import annotations

DOCUMENTATION = r"""
name: known_versions
short_description: Read which versions of the components can be had
version_added: 0.1.0
author: The kos.labs authors
description:
  - Reads the recipes in components.yaml, which tie Go modules to names of variables, and the modules' versions in each recipe's go.mod.
options:
  _input:
    description: The folder components.
    type: path
    required: true
"""

EXAMPLES = r"""
known: "{{ (kos_root ~ '/components') | kos.labs.known_versions }}"
"""

RETURN = r"""
_value:
  description: Lists of versions by name of the variable, such as C(kubernetes_version).
  type: dict
"""

import pathlib
import re
import typing as t

import yaml


def known_versions(folder: str) -> dict[str, list[str]]:
    """Return the versions that can be had, by name of the variable that asks for one."""
    root = pathlib.Path(folder)
    known: dict[str, list[str]] = {}
    for recipe, how in yaml.safe_load((root / "components.yaml").read_text(encoding="utf-8"))["recipes"].items():
        text = (root / "go" / recipe / "go.mod").read_text(encoding="utf-8")
        for module, name in how["pins"].items():
            found = re.findall(rf"^\s*(?:require\s+)?{re.escape(module)}\s+(v\S+)", text, re.MULTILINE)
            known.setdefault(name, []).extend(version for version in found if version not in known.get(name, []))
    return known


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Name the filter."""
        return {"known_versions": known_versions}
