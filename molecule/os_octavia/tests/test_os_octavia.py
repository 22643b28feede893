# SPDX-License-Identifier: GPL-3.0-or-later
"""Octavia, and a load balancer with all that is real about it. Its member and its client live in the namespace of the network's DHCP server."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess

import openstack
import pytest

testinfra_hosts = ["ansible://network"]

STATE = pathlib.Path(os.environ["KOS_STATE"])
NAME = "octavia-test"
PATIENCE = 300


@pytest.fixture(scope="module")
def cloud():
    os.environ["OS_CLIENT_CONFIG_FILE"] = str(STATE / "clouds.yaml")
    return openstack.connect(cloud="kos-admin")


@pytest.fixture(scope="module")
def subnet(cloud):
    network = cloud.network.create_network(name=NAME)
    try:
        yield cloud.network.create_subnet(name=NAME, network_id=network.id, ip_version=4, cidr="172.30.9.0/24")
    finally:
        cloud.network.delete_network(network)


@pytest.fixture
def inside(host, cloud, subnet, eventually):
    """Return how a command is run beside the DHCP server, and the server's address."""

    def address():
        ports = cloud.network.ports(network_id=subnet.network_id, device_owner="network:dhcp", status="ACTIVE")
        return next((port.fixed_ips[0]["ip_address"] for port in ports), None)

    return f"ip netns exec qdhcp-{subnet.network_id}", eventually("the DHCP server's port", address)


@pytest.fixture
def member(host, inside):
    """Serve a page, and return where."""
    command, address = inside
    host.check_output("mkdir -p /run/%s && echo here I am > /run/%s/index.html", NAME, NAME)
    host.check_output(f"systemd-run --collect --unit {NAME} {command} python3 -m http.server 8080 --bind {address} --directory /run/{NAME}")
    try:
        yield address
    finally:
        host.run("systemctl stop %s", NAME)


@pytest.fixture
def balancer(cloud, subnet, member):
    """Make a load balancer in one request, and remove it whatever happens."""
    pool = {
        "name": NAME,
        "protocol": "HTTP",
        "lb_algorithm": "ROUND_ROBIN",
        "members": [{"address": member, "protocol_port": 8080, "subnet_id": subnet.id}],
    }
    made = cloud.load_balancer.create_load_balancer(
        name=NAME, vip_subnet_id=subnet.id, listeners=[{"protocol": "HTTP", "protocol_port": 80, "default_pool": pool}]
    )
    try:
        yield cloud.load_balancer.wait_for_load_balancer(made.id, interval=2, wait=PATIENCE)
    finally:
        with contextlib.suppress(openstack.exceptions.NotFoundException, openstack.exceptions.ConflictException):
            cloud.load_balancer.delete_load_balancer(made, cascade=True)
        cloud.load_balancer.wait_for_delete(made, interval=2, wait=PATIENCE)


@pytest.mark.parametrize("unit", ["octavia-worker", "octavia-health-manager", "octavia-housekeeping", "os-octavia-port"])
def test_it_runs(runs, unit):
    runs(unit)


def test_a_service_that_ends_leaves_the_others_their_folder(host):
    """Debian's units share it, and one that starts while it goes would fail."""
    host.check_output("systemctl stop octavia-housekeeping")
    try:
        assert host.file("/run/octavia").is_directory
    finally:
        host.check_output("systemctl start octavia-housekeeping")


def test_the_api_runs(cloud):
    assert {"single", "active-standby"} <= {flavor.name for flavor in cloud.load_balancer.flavors()}


def test_secrets_are_private(host, private):
    private("/etc/octavia/octavia.conf", "octavia")
    private("/etc/octavia/certs/client.pem", "octavia")
    private("/etc/octavia/certs/server-ca.key", "octavia")


def test_the_key_that_vouches_for_workers_stays_at_home(host):
    assert (STATE / "pki/octavia/client-ca.key").stat().st_mode & 0o077 == 0
    assert host.run("grep -rl -F -f - /etc/octavia <<'EOF'\n%s\nEOF", key_line()).stdout == ""


def key_line() -> str:
    """Return a line of the key, for a search."""
    return (STATE / "pki/octavia/client-ca.key").read_text(encoding="ascii").splitlines()[1]


def test_a_load_balancer_serves_and_goes(host, cloud, subnet, inside, balancer, eventually):
    command, _ = inside
    url = f"http://{balancer.vip_address}/"
    eventually("the member's page", lambda: host.run(f"{command} curl --silent --fail --max-time 3 {url}").stdout.strip() == "here I am")
    amphora = next(cloud.load_balancer.amphorae(loadbalancer_id=balancer.id))
    cloud.load_balancer.delete_load_balancer(balancer, cascade=True)
    cloud.load_balancer.wait_for_delete(balancer, interval=2, wait=PATIENCE)
    assert list(cloud.network.ports(network_id=subnet.network_id, device_owner="Octavia")) == []
    eventually("the end of its amphora", lambda: cloud.compute.find_server(amphora.compute_id, all_projects=True) is None)


def test_what_workers_show_to_amphorae_passes_a_strict_check():
    pki = STATE / "pki/octavia"
    argv = ["openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", str(pki / "client-ca.crt"), str(pki / "client.crt")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
