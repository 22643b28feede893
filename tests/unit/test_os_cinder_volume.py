# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role makes of the machines of the backend lvm, which no test machine can be."""

from __future__ import annotations

import typing as t

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

DISK = {"stat": {"exists": True, "isblk": True}}


@pytest.fixture
def judge(root):
    """Return whether the preflight agrees, and whether a volume group is made."""
    tasks = root / "roles/os_cinder_volume/tasks"
    block = yaml.safe_load((tasks / "preflight.yml").read_text(encoding="utf-8"))[-1]["block"]
    (made,) = yaml.safe_load((tasks / "disk.yml").read_text(encoding="utf-8"))

    def judged(groups: str, code: int, *places: dict[str, t.Any], check: bool = False) -> tuple[bool, bool]:
        known = {
            "os_cinder_volume_group": "cinder-volumes",
            "__os_cinder_volume_groups": {"stdout": groups, "rc": code},
            "__os_cinder_volume_places": {"results": [{"stat": {"exists": True}}, *places]},
            "ansible_check_mode": check,
        }
        templar = Templar(DataLoader(), variables=known)
        fine, make = block[-1]["ansible.builtin.assert"]["that"], made["when"]
        return templar.evaluate_conditional(trust_as_template(fine)), all(
            templar.evaluate_conditional(trust_as_template(each)) for each in make
        )

    return judged


def test_a_group_that_exists_is_left_as_it_is(judge):
    assert judge("  system\n  cinder-volumes\n", 0) == (True, False)


def test_a_group_is_made_of_the_disk(judge):
    assert judge("  system\n", 0, DISK) == (True, True)
    assert judge("", 0, {"stat": {"exists": False}})[0] is False
    assert judge("  system\n", 0)[0] is False


def test_a_check_before_the_packages_makes_nothing(judge):
    assert judge("", 2, DISK, check=True) == (True, False)
    assert judge("", 2, DISK) == (True, True)


def test_disks_stay_in_the_group(root):
    (made,) = yaml.safe_load((root / "roles/os_cinder_volume/tasks/disk.yml").read_text(encoding="utf-8"))
    assert made["community.general.lvg"]["remove_extra_pvs"] is False
