# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of a kubeconfig file with everything in it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: kubeconfig
short_description: The text of a kubeconfig file with everything in it
version_added: 0.1.0
author: The kos.labs authors
description:
  - Makes a kubeconfig with one cluster, one user and one context out of PEM texts. Nothing in it refers to another file.
options:
  _input:
    description: What the user is called in the file. It is no credential.
    type: str
    required: true
  server:
    description: URL of the API server.
    type: str
    required: true
  ca:
    description: Certificates that the API server's certificate is checked with, as PEM.
    type: str
    required: true
  certificate:
    description: The user's certificate, as PEM. Needs O(key).
    type: str
  key:
    description: The private key of O(certificate), as PEM.
    type: str
  token:
    description: A token instead of O(certificate).
    type: str
  cluster:
    description: What the cluster is called in the file.
    type: str
    default: kubernetes
"""

EXAMPLES = r"""
scheduler_kubeconfig: "{{ 'system:kube-scheduler' | kos.labs.kubeconfig(server=url, ca=ca, certificate=certificate, key=key) }}"
"""

RETURN = r"""
_value:
  description: The file's text, YAML.
  type: str
"""

import base64
from typing import Any, Callable

import yaml
from ansible.errors import AnsibleFilterError


def _encoded(text: str) -> str:
    return base64.b64encode((text.rstrip("\n") + "\n").encode()).decode()


def kubeconfig(
    user: str,
    server: str,
    ca: str,
    certificate: str | None = None,
    key: str | None = None,
    token: str | None = None,
    cluster: str = "kubernetes",
) -> str:
    """Make a kubeconfig for one user of one cluster."""
    if token is None and (certificate is None or key is None):
        raise AnsibleFilterError(f"a kubeconfig for {user} needs either a token or a certificate with its key")
    credentials = {"client-certificate-data": _encoded(str(certificate)), "client-key-data": _encoded(str(key))}
    if token is not None:
        credentials = {"token": str(token)}
    # str() and a fresh dict: the dumper knows no tagged strings.
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": str(cluster), "cluster": {"server": str(server), "certificate-authority-data": _encoded(str(ca))}}],
        "users": [{"name": str(user), "user": credentials}],
        "contexts": [{"name": f"{user}@{cluster}", "context": {"cluster": str(cluster), "user": str(user)}}],
        "current-context": f"{user}@{cluster}",
    }
    return yaml.safe_dump(document, sort_keys=False, width=10**6)


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filter."""
        return {"kubeconfig": kubeconfig}
