# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

testinfra_hosts = ["ansible://masters"]

CURL = "curl --silent --max-time 10 --cacert /etc/kubernetes/scheduler/ca.crt https://127.0.0.1:10259"


def test_service_runs_now_and_at_boot(runs):
    runs("kube-scheduler")


def test_is_healthy_by_a_certificate_of_the_cluster(host):
    assert host.check_output(CURL + "/healthz") == "ok"


def test_metrics_are_not_for_everybody(host):
    assert host.check_output(CURL + "/metrics --output /dev/null --write-out '%{http_code}'") in ("401", "403")
