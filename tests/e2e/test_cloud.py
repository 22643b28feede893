# SPDX-License-Identifier: GPL-3.0-or-later
"""The cloud, by its own command line."""

from __future__ import annotations

import subprocess

import yaml


def test_compute_services_are_up(operator):
    services = operator.json("compute", "service", "list", "-f", "json")
    assert {service["Binary"] for service in services} >= {"nova-compute", "nova-conductor", "nova-scheduler"}
    assert [service for service in services if service["State"] != "up" or service["Status"] != "enabled"] == []


def test_network_agents_are_alive(operator):
    agents = operator.json("network", "agent", "list", "-f", "json")
    assert {agent["Agent Type"] for agent in agents} >= {"DHCP agent", "L3 agent", "Metadata agent", "Open vSwitch agent"}
    assert [agent for agent in agents if not agent["Alive"]] == []


def test_servers_are_the_nodes(tenant, nodes):
    servers = {server["Name"]: server for server in tenant.json("server", "list", "-f", "json")}
    assert set(nodes) <= set(servers)
    assert {servers[name]["Status"] for name in nodes} == {"ACTIVE"}


def test_nodes_have_the_addresses_of_the_contract(tenant, nodes):
    addresses = {port["ID"]: str(port["Fixed IP Addresses"]) for port in tenant.json("port", "list", "-f", "json")}
    assert [name for name, node in nodes.items() if node["node_ip"] not in addresses.get(node["port_id"], "")] == []


def test_tenant_is_no_operator(tenant):
    assert tenant.run("service", "list").returncode != 0
    assert tenant.run("server", "list", "--all-projects").returncode != 0


def test_openrc_files_work_in_a_shell(paths):
    for name in ("tenant", "admin"):
        script = f". {paths.state}/openrc/{name} && openstack token issue -f value -c project_id"
        done = subprocess.run(["sh", "-c", script], env=paths.environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.strip()) == 32


def test_an_application_credential_is_what_the_cluster_gets(paths):
    entry = yaml.safe_load((paths.state / "clouds.yaml").read_text(encoding="utf-8"))["clouds"]["kos-cluster"]
    assert entry["auth_type"] == "v3applicationcredential"
    assert "password" not in entry["auth"]
