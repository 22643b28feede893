# SPDX-License-Identifier: GPL-3.0-or-later
"""The registrar and the livenessprobe of CSI drivers that the mirror builds have tests of their own, in Go."""

from __future__ import annotations

import os
import subprocess

import pytest

from kos import mirror_build
from kos.cli import Paths


@pytest.fixture(scope="module")
def go(root):
    """Return a call of the Go that the mirror has installed, or skip where it has never built anything, unless it must have."""
    cache = Paths.of().cache
    lacking = pytest.fail if os.environ.get("KOS_MIRROR_IS_FILLED") else pytest.skip
    program = next(mirror_build.installed_go(cache), None)
    if program is None:
        lacking("there is no Go: tools/mirror installs it into the cache")
    environment = {**mirror_build.go_environment(cache), "GOFLAGS": "-mod=readonly -trimpath", "CGO_ENABLED": "0"}

    def call(*arguments):
        return subprocess.run(
            [str(program), *arguments], cwd=root / "components/go/csi", env=environment, capture_output=True, text=True, check=False
        )

    if call("list", "-deps", "./...").returncode:
        lacking("their modules are not in the cache: tools/mirror fetches them")
    return call


@pytest.mark.parametrize("how", [("vet", "./..."), ("test", "./...")], ids=lambda how: how[0])
def test_they_pass(go, how):
    done = go(*how)
    assert done.returncode == 0, done.stdout + done.stderr
