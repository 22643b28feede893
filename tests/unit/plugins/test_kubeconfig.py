# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.kos.labs.plugins.filter.kubeconfig import kubeconfig


def decoded(value):
    return base64.b64decode(value).decode()


def test_certificate_is_embedded():
    document = yaml.safe_load(kubeconfig("me", server="https://api:6443", ca="CA", certificate="CERT\n", key="KEY"))
    assert document["clusters"][0]["cluster"]["server"] == "https://api:6443"
    assert decoded(document["clusters"][0]["cluster"]["certificate-authority-data"]) == "CA\n"
    user = document["users"][0]["user"]
    assert (decoded(user["client-certificate-data"]), decoded(user["client-key-data"])) == ("CERT\n", "KEY\n")
    context = document["contexts"][0]
    assert document["current-context"] == context["name"]
    assert (context["context"]["cluster"], context["context"]["user"]) == (document["clusters"][0]["name"], document["users"][0]["name"])


def test_token_takes_the_place_of_a_certificate():
    document = yaml.safe_load(kubeconfig("me", server="https://api:6443", ca="CA", token="abc.def"))
    assert document["users"][0]["user"] == {"token": "abc.def"}


@pytest.mark.parametrize("credentials", [{}, {"certificate": "CERT"}, {"key": "KEY"}])
def test_no_credentials_is_an_error(credentials):
    with pytest.raises(AnsibleFilterError, match="needs either a token or a certificate"):
        kubeconfig("me", server="https://api:6443", ca="CA", **credentials)
