# SPDX-License-Identifier: GPL-3.0-or-later
"""What names an image: everything that it is made of, and nothing else."""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess

import pytest

from kos import sandbox_host, sandbox_image, sandbox_root

FILES = pathlib.Path(__file__).parents[2] / "roles/base_sandbox_image/files"
# As `ip link` shows two cards of a container, of which the second is one end of a pair.
LINKS = """1: lo: <LOOPBACK> mtu 65536
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
2: eth0@if23: <UP> mtu 1450
    link/ether fa:16:3e:00:00:01 brd ff:ff:ff:ff:ff:ff link-netnsid 0
3: ens4: <UP> mtu 1450
    link/ether fa:16:3e:00:00:02 brd ff:ff:ff:ff:ff:ff
"""


@pytest.mark.parametrize("kind", sandbox_image.RECIPES)
def test_an_image_is_named_by_what_it_is_made_of(kind, tmp_path):
    recipe = sandbox_image.RECIPES[kind]
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/file").write_text("one", encoding="utf-8")
    first = sandbox_image.key([tmp_path], recipe)
    assert sandbox_image.key([tmp_path], recipe) == first
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/program.pyc").write_bytes(b"of whoever ran it here")
    assert sandbox_image.key([tmp_path], recipe) == first
    assert sandbox_image.key([tmp_path], dataclasses.replace(recipe, packages=(*recipe.packages, "nano"))) != first
    (tmp_path / "etc/file").write_text("two", encoding="utf-8")
    assert sandbox_image.key([tmp_path], recipe) != first


@pytest.mark.parametrize("kind", sandbox_image.RECIPES)
def test_a_kind_has_its_files(kind):
    assert any((FILES / kind).rglob("*"))


def test_a_restarted_amphora_finds_its_cards(tmp_path):
    """The hook mends upstream's script, which takes eth0@if23 for a name."""
    upstream = (
        """awk '{getline n; print $0,n}' | awk '{sub(":","",$2)} { for(i=1;i<=NF;i++) if ($i == "link/ether") {print $(i+1) " " $2} }'"""
    )
    template = tmp_path / "usr/lib/python3/dist-packages/octavia/amphorae/backends/agent/api_server/templates/amphora-netns.systemd.j2"
    template.parent.mkdir(parents=True)
    template.write_text(upstream, encoding="utf-8")
    hook = next(hook for hook in sandbox_image.RECIPES["amphora"].hooks if "amphora-netns" in hook)
    subprocess.run(["sh", "-c", hook, "sh", str(tmp_path)], check=True)
    done = subprocess.run(["sh", "-c", template.read_text(encoding="utf-8")], input=LINKS, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["fa:16:3e:00:00:01 eth0", "fa:16:3e:00:00:02 ens4"]


def test_an_attempt_that_was_killed_is_no_obstacle(tmp_path, monkeypatch):
    """It could not unmount what it had mounted below its folder, and nothing in there may be removed before."""
    image, other = tmp_path / "node-1.raw", tmp_path / "node-2.raw"
    for left in (f"{image.name}.new.7/proc", f"{other.name}.new.8"):
        (tmp_path / left).mkdir(parents=True)
    (tmp_path / f"{image.name}.new.7.log").touch()
    unmounted = []
    monkeypatch.setattr(sandbox_host, "unmount", lambda place: unmounted.append((place, pathlib.Path(place).exists())))
    assert not sandbox_root.workplace(image).exists()
    assert (str(tmp_path / f"{image.name}.new.7"), True) in unmounted
    assert [path.name for path in tmp_path.iterdir()] == [f"{other.name}.new.8"]
