# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of load balancers share: Services, the pods behind them, and how an address is asked."""

from __future__ import annotations

import contextlib
import http.client
import urllib.request

ANNOTATION = "loadbalancer.openstack.org/"


def service(namespace, name, *ports, annotations=None, **spec):
    """A Service of the pods called web; its ports lead to theirs."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations or {}},
        "spec": {
            "type": "LoadBalancer",
            "selector": {"app": "web"},
            "ports": [{"name": f"port-{port}", "port": port, "targetPort": 8080} for port in ports],
            **spec,
        },
    }


def pods(namespace, versions):
    """Two pods that tell their names."""
    image = f"registry.k8s.io/e2e-test-images/agnhost:{versions['agnhost_version']}"
    container = {"name": "web", "image": image, "args": ["netexec"], "readinessProbe": {"httpGet": {"path": "/", "port": 8080}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}},
        },
    }


def get(address, path="/hostname", *, port=80, seconds=5):
    """Return a page, or nothing."""
    with (
        contextlib.suppress(OSError, http.client.HTTPException),
        # Without the proxy of the environment.
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://{address}:{port}{path}", timeout=seconds) as answer,
    ):
        return answer.read().decode()
    return None
