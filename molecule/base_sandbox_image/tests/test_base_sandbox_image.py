# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pathlib
import subprocess

IMAGE = pathlib.Path(os.environ["KOS_STATE"]) / "images/debian-13-node.raw"


def output(*argv: str | pathlib.Path) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def test_the_image_is_a_file_system():
    assert output("blkid", "--output", "value", "--match-tag", "TYPE", IMAGE.resolve()) == "ext4"


def test_nobody_hangs_up_the_console():
    """A login that starts on the console ends what cloud-init writes there, the host keys among it."""
    found = output("debugfs", "-R", "stat /etc/systemd/system/console-getty.service", IMAGE)
    assert 'Fast link dest: "/dev/null"' in found
