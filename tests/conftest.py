# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests share: the clone, and imports of ansible_collections.kos.labs."""

from __future__ import annotations

import os
import pathlib
import sys

import pytest
from ansible.plugins.loader import init_plugin_loader
from hypothesis import settings

# What tests import stands in folders that are copied to machines, and that name the images that are made of them.
sys.dont_write_bytecode = True

ROOT = pathlib.Path(__file__).resolve().parents[1]
os.environ.setdefault("ANSIBLE_LOCAL_TEMP", "/tmp/.ansible-kos-tests")
init_plugin_loader([str(ROOT / ".venv")])

# The same examples for everybody: a change fails for what it does, not for its luck. pytest --hypothesis-profile=explore tries others.
settings.register_profile("everybody", derandomize=True, database=None, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile("everybody")


@pytest.fixture(scope="session")
def root() -> pathlib.Path:
    return ROOT
