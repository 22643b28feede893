# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pathlib
import subprocess


def test_the_image_is_a_file_system():
    links = [path for path in pathlib.Path(os.environ["KOS_CACHE"]).joinpath("images").iterdir() if path.is_symlink()]
    assert links
    for link in links:
        done = subprocess.run(["blkid", "--output", "value", "--match-tag", "TYPE", link], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "ext4"
