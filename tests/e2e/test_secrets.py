# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets stay where they belong."""

from __future__ import annotations

import pathlib
import stat
import subprocess

import pytest

from kos.cli import Paths


@pytest.fixture(scope="module")
def secrets(paths: Paths) -> dict[str, bytes]:
    """Each generated secret, by the name of its file."""
    found = {path.name: path.read_bytes().strip() for path in (paths.state / "secrets").rglob("*") if path.is_file()}
    assert found
    return {name: value for name, value in found.items() if len(value) >= 12 and b"\n" not in value}


def test_files_with_secrets_are_private(paths):
    folders = ("secrets", "pki", "kubeconfig", "openrc", "ssh")
    files = [paths.state / "clouds.yaml", *(path for name in folders for path in (paths.state / name).rglob("*") if path.is_file())]
    public = [
        path
        for path in files
        if stat.S_IMODE(path.stat().st_mode) & 0o077
        and path.suffix not in (".crt", ".pem", ".pub", ".csr")
        and not path.name.startswith("known_hosts")
    ]
    assert [str(path) for path in public] == []


def test_no_secret_stands_in_a_log(paths, secrets):
    text = b"".join(path.read_bytes() for path in (paths.state / "log").glob("*"))
    assert [name for name, value in secrets.items() if value in text] == []


def test_no_secret_stands_in_a_command_line(secrets):
    """The machines' processes are processes of this host, too."""
    lines = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            lines.append((folder / "cmdline").read_bytes())
        except OSError:
            continue
    text = b"\n".join(lines)
    assert [name for name, value in secrets.items() if value in text] == []


def test_no_key_of_a_ca_is_on_a_machine(paths, nodes):
    """Keys of certificate authorities stay with this controller."""
    keys = [
        path for path in (paths.state / "pki/ca").glob("*.key") if path.stem != "kubelet-signing"
    ]  # the controller manager signs with that one
    known = {path.read_text(encoding="ascii").splitlines()[-2] for path in keys}
    assert known
    for name in nodes:
        script = "grep -rlF -- '-----BEGIN' /etc/kubernetes /etc/etcd /var/lib/kubelet 2>/dev/null | xargs -r cat"
        argv = ["ansible", name, "-m", "ansible.builtin.shell", "-a", script]
        done = subprocess.run(argv, cwd=paths.root, env=paths.environment(), capture_output=True, text=True, check=False)
        assert [line for line in known if line in done.stdout] == [], name
