# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pathlib


def test_the_verdicts_are_written_down():
    assert "| ok " in (pathlib.Path(os.environ["KOS_STATE"]) / "verify.md").read_text(encoding="utf-8")
