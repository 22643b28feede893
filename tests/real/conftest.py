# SPDX-License-Identifier: GPL-3.0-or-later
"""What real software several modules and roles are tried against."""

from __future__ import annotations

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from api_server import cluster, kubeconfig

__all__ = ["cluster", "kubeconfig"]
