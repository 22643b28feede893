# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pathlib
import stat
import subprocess

import pytest

PKI = pathlib.Path(os.environ["KOS_STATE"]) / "pki"
AUTHORITY = {"apiserver-etcd-client": "etcd", "etcd-server": "etcd", "etcd-peer": "etcd", "front-proxy-client": "front-proxy"}
PURPOSE = {"apiserver": ["sslserver"], "etcd-server": ["sslserver", "sslclient"], "etcd-peer": ["sslserver", "sslclient"]}


def certificates():
    """Those of the cluster; the cloud's own have authorities of their own."""
    return sorted(path for path in PKI.glob("**/*.crt") if path.parent.name not in ("ca", "octavia"))


def verify(certificate, authority, purpose):
    command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", str(PKI / "ca" / f"{authority}.crt"), str(certificate)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_keys_are_readable_by_their_owner_alone():
    keys = list(PKI.glob("**/*.key"))
    assert len(keys) > 10
    assert [key.name for key in keys if stat.S_IMODE(key.stat().st_mode) != 0o600] == []
    assert stat.S_IMODE(PKI.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["cluster", "etcd", "front-proxy", "kubelet-signing"])
def test_authorities_are_separate(name):
    others = {"cluster", "etcd", "front-proxy", "kubelet-signing"} - {name}
    assert verify(PKI / "ca" / f"{name}.crt", name, "any").returncode == 0
    assert all(verify(PKI / "ca" / f"{name}.crt", other, "any").returncode != 0 for other in others)


@pytest.mark.parametrize("certificate", certificates(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_certificates_pass_a_strict_check(certificate):
    authority = AUTHORITY.get(certificate.stem, "cluster")
    for purpose in PURPOSE.get(certificate.stem, ["sslclient"]):
        result = verify(certificate, authority, purpose)
        assert result.returncode == 0, result.stderr


def test_nobody_has_what_cannot_be_revoked():
    for certificate in certificates():
        text = subprocess.run(
            ["openssl", "x509", "-in", str(certificate), "-noout", "-subject"], capture_output=True, text=True, check=True
        )
        assert "system:masters" not in text.stdout
