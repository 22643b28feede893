# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re

import pytest

testinfra_hosts = ["ansible://masters"]

CURL = "curl --silent --max-time 10 --cacert /etc/kubernetes/apiserver/ca.crt --output /dev/null --write-out '%{http_code}' https://127.0.0.1:6443"


def test_service_runs_now_and_at_boot(runs):
    runs("kube-apiserver")


@pytest.mark.parametrize(
    ("path", "code"), [("/readyz", "200"), ("/livez", "200"), ("/version", "401"), ("/api", "401"), ("/metrics", "401")]
)
def test_nobody_reads_more_than_health_without_credentials(host, path, code):
    assert host.check_output(CURL + path) == code


def test_process_is_not_root_and_cannot_become_it(host):
    status = host.check_output("cat /proc/$(systemctl show --property=MainPID --value kube-apiserver)/status")
    assert re.search(r"^Uid:\s+(\d+)", status, re.MULTILINE).group(1) != "0"
    assert re.search(r"^CapBnd:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)


def test_keys_are_for_root_alone(host):
    with host.sudo():
        found = host.check_output("find /etc/kubernetes /etc/etcd -perm /077 -type f").split()
    assert [path for path in found if re.search(r"(\.key|/kubeconfig|/encryption.yaml)$", path)] == []


def test_no_authority_of_ours_can_be_abused_from_here(host):
    with host.sudo():
        keys = host.check_output("find /etc/kubernetes /etc/etcd -name '*.key'").split()
    names = {key.rsplit("/", 1)[1] for key in keys}
    assert not names & {"cluster.key", "etcd.key", "front-proxy.key", "ca.key"}


def test_what_happens_is_logged_and_what_says_nothing_is_not(host):
    with host.sudo():
        assert host.file("/var/log/kube-apiserver/audit.log").size > 0
        assert host.run('grep --quiet \'"requestURI":"/readyz\' /var/log/kube-apiserver/audit.log').rc == 1
