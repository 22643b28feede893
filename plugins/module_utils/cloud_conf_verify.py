# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs in to the cloud as the readers of a cloud.conf will, and looks for what it names."""

from __future__ import annotations

import os
import traceback
import typing as t

from ansible_collections.kos.labs.plugins.module_utils.cloud_conf_gcfg import CloudConfError

try:
    import openstack
    import openstack.config
    import openstack.exceptions
    from keystoneauth1 import exceptions as login_exceptions

    SDK_ERROR = None
except ImportError:
    openstack = None
    SDK_ERROR = traceback.format_exc()

if t.TYPE_CHECKING:
    from ansible_collections.kos.labs.plugins.module_utils.cloud_conf import Login, Plan, Reference

__all__ = ["SDK_ERROR", "connection_options", "verify"]

_USER = ("user_id", "username", "user_domain_id", "user_domain_name")
_PROJECT = ("project_id", "project_name", "project_domain_id", "project_domain_name")


def connection_options(login: Login, files: t.Mapping[str, str]) -> dict[str, t.Any]:
    """Return what the SDK needs to log in just so. The files of cloud.conf may lie elsewhere on this machine."""
    given = dict(login.options)
    options: dict[str, t.Any] = {
        "region_name": given.get("region"),
        "interface": given.get("os_endpoint_type", "public"),
        "cacert": _local(given, "ca_file", files),
        "cert": _local(given, "cert_file", files),
        "key": _local(given, "key_file", files),
        # clouds.yaml cannot turn this off for the readers either.
        "verify": not given.get("tls_insecure", False),
    }
    if login.way != "clouds":
        options.update(_auth(login.way, given))
    return {name: value for name, value in options.items() if value is not None}


def _local(given: dict[str, t.Any], name: str, files: t.Mapping[str, str]) -> str | None:
    path = given.get(name)
    if path is None:
        return None
    path = os.path.expanduser(files.get(path, path))
    if not os.path.isfile(path):
        raise CloudConfError(f"{name}: {path} is not on this machine, so nothing can be verified: say where it lies in verify_files.")
    return path


def _auth(way: str, given: dict[str, t.Any]) -> dict[str, t.Any]:
    for whose in ("user", "project"):
        for form in ("id", "name"):
            # gophercloud's rule: the general domain stands in for each of the others.
            if f"domain_{form}" in given:
                given.setdefault(f"{whose}_domain_{form}", given[f"domain_{form}"])
    if way == "trust" and "trustee_id" in given:
        given.update(user_id=given["trustee_id"], password=given["trustee_password"])
    kind, names = {
        "application_credential": (
            "v3applicationcredential",
            ("application_credential_id", "application_credential_name", "application_credential_secret", *_USER),
        ),
        "password": ("v3password", ("password", *_USER, *_PROJECT)),
        "trust": ("v3password", ("password", "trust_id", *_USER)),
        "token": ("v3token", ("token", *_PROJECT)),
    }[way]
    return {"auth_type": kind, "auth": {name: given[name] for name in ("auth_url", *names) if name in given}}


def _connect(login: Login, files: t.Mapping[str, str]) -> t.Any:
    options = connection_options(login, files)
    if login.way != "clouds":
        config = openstack.config.OpenStackConfig(load_yaml_config=False, load_envvars=False)
        return openstack.connection.Connection(config=config.get_one(**options))
    path = _local(dict(login.options), "clouds_file", files)
    config = openstack.config.OpenStackConfig(config_files=[path] if path else None, load_envvars=False)
    names = [name for name in config.get_cloud_names() if name != "envvars"]
    cloud = login.options.get("cloud") or (names[0] if len(names) == 1 else None)
    if cloud not in names:
        raise CloudConfError(f"{login.where}.cloud is {cloud!r}: {path or 'clouds.yaml'} has {', '.join(sorted(names)) or 'none'}.")
    return openstack.connection.Connection(config=config.get_one(cloud=cloud, **options))


def _log_in(login: Login, files: t.Mapping[str, str]) -> t.Any:
    try:
        connection = _connect(login, files)
        connection.authorize()
    except (openstack.exceptions.SDKException, login_exceptions.ClientException) as error:
        raise CloudConfError(f"{login.where}: Keystone does not let this login in: {error}") from error
    return connection


def _find(connection: t.Any, reference: Reference) -> t.Any:
    service, what = {
        "network": ("network", "network"),
        "external_network": ("network", "network"),
        "subnet": ("network", "subnet"),
        "router": ("network", "router"),
        "flavor": ("load_balancer", "flavor"),
        "secret": ("key_manager", "secret"),
    }[reference.kind]
    return getattr(getattr(connection, service), f"get_{what}")(reference.value)


def _problem(connection: t.Any, reference: Reference) -> str:
    try:
        found = _find(connection, reference)
    except openstack.exceptions.NotFoundException:
        return f"{reference.where}: the login of this file sees no {reference.kind.replace('_', ' ')} {reference.value}."
    except login_exceptions.CatalogException:
        return f"{reference.where}: the cloud has no service in which {reference.value} could be."
    if reference.kind == "external_network" and not found.is_router_external:
        return f"{reference.where}: {reference.value} ({found.name}) is no external network, so it has no floating IPs."
    if reference.inside and found.network_id != reference.inside:
        return f"{reference.where}: {reference.value} is a subnet of {found.network_id}, not of floating_network_id."
    return ""


def _has_octavia(connection: t.Any) -> bool:
    config = connection.config
    try:
        return bool(
            connection.session.get_endpoint(
                service_type="load-balancer", interface=config.get_interface("load-balancer"), region_name=config.region_name
            )
        )
    except login_exceptions.CatalogException:
        return False


def verify(plan: Plan, files: t.Mapping[str, str]) -> list[str]:
    """Log in each way that the file has, look for each id with the first; return what was looked at or raise a CloudConfError."""
    checked = []
    connections = []
    for login in plan.logins:
        connections.append(_log_in(login, files))
        checked.append(login.where)
    connection = connections[0]
    problems = []
    try:
        if plan.octavia and not _has_octavia(connection):
            problems.append("the cloud has no Octavia, without which occm ends: set load_balancer.enabled to false.")
        for reference in plan.references:
            problems.append(_problem(connection, reference))
            checked.append(reference.where)
    except (openstack.exceptions.SDKException, login_exceptions.ClientException) as error:
        raise CloudConfError(f"the cloud cannot be asked for what the file names: {error}") from error
    if any(problems):
        raise CloudConfError(" ".join(filter(None, problems)))
    return checked
