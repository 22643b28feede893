# SPDX-License-Identifier: GPL-3.0-or-later
"""What the commands in tools/ share. It runs before .venv exists, so it needs the standard library only."""

from __future__ import annotations

__all__ = ["KosError"]


class KosError(Exception):
    """Something the user can mend; the message is one sentence that says how."""
