# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

testinfra_hosts = ["ansible://nodes"]


def test_service_runs_now_and_at_boot(host):
    assert host.service("kubelet").is_running
    assert host.service("kubelet").is_enabled


def test_it_is_healthy(host):
    assert host.check_output("curl --silent --fail http://127.0.0.1:10248/healthz") == "ok"


def test_secrets_are_secret(host):
    with host.sudo():
        for name in ("/etc/kubernetes/kubelet/bootstrap.kubeconfig", "/var/lib/kubelet/pki/kubelet-client-current.pem"):
            assert host.file(name).mode & 0o077 == 0


def test_nobody_gets_in_without_a_certificate(host):
    answer = host.run("curl --silent --insecure --output /dev/null --write-out '%{http_code}' https://127.0.0.1:10250/pods")
    assert answer.stdout == "401"


def test_client_certificate_is_of_this_node(host):
    name = host.ansible.get_variables()["inventory_hostname"]
    with host.sudo():
        subject = host.check_output("openssl x509 -noout -subject -in /var/lib/kubelet/pki/kubelet-client-current.pem")
    assert f"system:node:{name}" in subject
