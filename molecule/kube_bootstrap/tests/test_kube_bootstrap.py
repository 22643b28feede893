# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pathlib
import re
import stat

import pytest
from kubernetes import client, config

STATE = pathlib.Path(os.environ["KOS_STATE"])


@pytest.fixture(scope="module")
def admin():
    return config.new_client_from_config(str(STATE / "kubeconfig" / "admin"))


def test_admin_is_bound_and_not_born(admin):
    me = client.AuthenticationV1Api(admin).create_self_subject_review(client.V1SelfSubjectReview()).status.user_info
    assert "system:masters" not in me.groups
    assert client.CoreV1Api(admin).list_namespace().items


@pytest.mark.parametrize(
    "name", ["kos:apiserver-to-kubelets", "kos:kubelets-ask", "kos:kubelets-join", "kos:kubelets-renew", "kos:csr-approver"]
)
def test_bindings_are_there(admin, name):
    assert client.RbacAuthorizationV1Api(admin).read_cluster_role_binding(name).subjects


def test_token_lets_a_kubelet_ask_and_nothing_else(admin):
    file = STATE / "secrets" / "kube_bootstrap_token"
    token = file.read_text()
    assert re.fullmatch(r"[a-z0-9]{6}\.[a-z0-9]{16}", token)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    secrets = {secret.metadata.name for secret in client.CoreV1Api(admin).list_namespaced_secret("kube-system").items}
    if f"bootstrap-token-{token[:6]}" not in secrets:
        pytest.skip("the token has ended and no node is missing")
    kubelet = client.Configuration()
    kubelet.host, kubelet.ssl_ca_cert = admin.configuration.host, admin.configuration.ssl_ca_cert
    kubelet.api_key["authorization"] = f"Bearer {token}"
    api = client.ApiClient(kubelet)
    with pytest.raises(client.ApiException) as refused:
        client.CoreV1Api(api).list_namespaced_secret("kube-system")
    assert refused.value.status == 403


def test_glass_is_whole(admin):
    assert sorted(file.name for file in (STATE / "kubeconfig").glob("*break-glass*")) == []
