# SPDX-License-Identifier: GPL-3.0-or-later
"""What the programs of cloud-provider-openstack read from a cloud.conf, as data.

A test compares it with the Go structs of the version that is pinned, key by key and in both directions.
"""

from __future__ import annotations

import dataclasses
import typing as t

__all__ = ["MISPLACED", "NEWEST", "OLDEST", "READERS", "RETIRED", "SECTIONS", "Key", "Section", "argument_spec"]

# The releases whose keys are known here.
OLDEST = (1, 26)
NEWEST = (1, 36)

READERS = ("occm", "cinder_csi", "barbican_kms")


@dataclasses.dataclass(frozen=True)
class Key:
    """A key of a section, as the reader knows it."""

    name: str
    # str, bool, text_bool (a string to the reader, of which only "true" counts), int, uint, duration,
    # list (the key once per item) or joined (items with commas in one value)
    kind: str = "str"
    # What the reader takes when the key is left out, as it would stand in the file.
    default: str = ""
    # The minor release of version 1 that brought it; 16 stands for all that is older, too.
    since: int = 16
    secret: bool = False
    choices: tuple[str, ...] = ()
    # What the value is the id of.
    refers: str = ""
    # Those of the section's readers that use it, if not all do.
    readers: tuple[str, ...] = ()
    # Why there is no option for it.
    instead: str = ""

    @property
    def option(self) -> str:
        """Name of the module's option: OpenStack's word of today for a tenant, and Ansible's way to write names."""
        return self.name.replace("tenant", "project").replace("-", "_")

    @property
    def offered(self) -> bool:
        """Whether the module has an option for it."""
        return not self.instead


@dataclasses.dataclass(frozen=True)
class Section:
    """A section of the file."""

    name: str
    option: str
    readers: tuple[str, ...]
    keys: tuple[Key, ...]
    # Whether it is written [Section "name"], any number of times.
    named: bool = False
    since: int = 16

    def key(self, name: str) -> Key | None:
        """Return the key of this name, which may be written in any case."""
        return next((key for key in self.keys if key.name == name.lower()), None)


_LOGIN = (
    Key("auth-url"),
    Key("user-id"),
    Key("username"),
    Key("password", secret=True),
    Key("tenant-id"),
    Key("tenant-name"),
    Key("domain-id"),
    Key("domain-name"),
    Key("tenant-domain-id"),
    Key("tenant-domain-name"),
    Key("user-domain-id"),
    Key("user-domain-name"),
    Key("application-credential-id"),
    Key("application-credential-name"),
    Key("application-credential-secret", secret=True),
    Key("trust-id"),
    Key("trustee-id", since=20),
    Key("trustee-password", secret=True, since=20),
    Key("token", secret=True, since=35),
    Key("use-clouds", "bool", "false"),
    Key("clouds-file"),
    Key("cloud"),
    Key("region"),
    Key("os-endpoint-type", since=21, choices=("public", "internal", "admin")),
    Key("ca-file"),
    Key("cert-file", since=19),
    Key("key-file", since=19),
    Key("tls-insecure", "text_bool", since=20),
    Key("cafilecontents", instead="put the certificates into a file and name it in ca_file"),
)

_ADDRESSES = (
    Key("floating-network-id", refers="external_network"),
    Key("floating-subnet-id", refers="subnet"),
    Key("floating-subnet", since=21),
    Key("floating-subnet-tags", since=21),
    Key("network-id", since=17, refers="network"),
    Key("subnet-id", refers="subnet"),
    Key("member-subnet-id", since=25, refers="subnet"),
)

_METHODS = ("ROUND_ROBIN", "LEAST_CONNECTIONS", "SOURCE_IP", "SOURCE_IP_PORT")

SECTIONS = (
    Section("Global", "global", READERS, _LOGIN),
    Section("Global", "clouds", ("cinder_csi",), _LOGIN, named=True, since=31),
    Section(
        "LoadBalancer",
        "load_balancer",
        ("occm",),
        (
            Key("enabled", "bool", "true", since=24),
            *_ADDRESSES,
            Key("lb-provider", default="amphora"),
            Key("lb-method", default="ROUND_ROBIN", choices=_METHODS),
            Key("flavor-id", since=19, refers="flavor"),
            Key("availability-zone", since=20),
            Key("create-monitor", "bool", "false"),
            Key("monitor-delay", "duration", "5s"),
            Key("monitor-timeout", "duration", "3s"),
            Key("monitor-max-retries", "uint", "1"),
            Key("monitor-max-retries-down", "uint", "3", since=29),
            Key("manage-security-groups", "bool", "false"),
            Key("internal-lb", "bool", "false"),
            Key("node-selector", since=31),
            Key("cascade-delete", "bool", "true", since=19),
            Key("max-shared-lb", "int", "2", since=23),
            Key("enable-ingress-hostname", "bool", "false", since=21),
            Key("ingress-hostname-suffix", default="nip.io", since=23),
            Key("default-tls-container-ref", since=21),
            Key("container-store", default="barbican", since=25, choices=("barbican", "external")),
            Key("provider-requires-serial-api-calls", "bool", "false", since=28),
            Key("lb-version", instead="leave it out: the load balancers are always those of Octavia (LBaaS v2)"),
        ),
    ),
    Section("LoadBalancerClass", "load_balancer_classes", ("occm",), _ADDRESSES, named=True),
    Section(
        "Networking",
        "networking",
        ("occm",),
        (
            Key("public-network-name", "list"),
            Key("internal-network-name", "list"),
            Key("ipv6-support-disabled", "bool", "false"),
            Key("address-sort-order", "joined", since=26),
        ),
    ),
    Section("Route", "route", ("occm",), (Key("router-id", refers="router"),)),
    Section(
        "Metadata",
        "metadata",
        ("occm", "cinder_csi"),
        (
            Key("search-order", "joined", "configDrive,metadataService", choices=("configDrive", "metadataService")),
            Key("request-timeout", "duration", "0s", readers=("occm",)),
        ),
    ),
    Section(
        "BlockStorage",
        "block_storage",
        ("cinder_csi",),
        (
            Key("node-volume-attach-limit", "int", "0"),
            Key("rescan-on-resize", "bool", "false", since=18),
            Key("ignore-volume-az", "bool", "false", since=20),
            Key("ignore-volume-microversion", "bool", "false", since=25),
        ),
    ),
    Section("KeyManager", "key_manager", ("barbican_kms",), (Key("key-id", refers="secret"),)),
)

# What the provider inside Kubernetes and earlier releases knew, by the option that it would be here, and what to do about it.
RETIRED: dict[str, str] = {
    **{f"tenant_{what}": f"it is called project_{what} here and written as tenant-{what.replace('_', '-')}" for what in ("id", "name", "domain_id", "domain_name")},
    "tenant": "it is called project_name here and written as tenant-name",
    "lb_version": "leave it out: the load balancers are always those of Octavia (LBaaS v2)",
    "use_octavia": "leave it out: the load balancers are always those of Octavia",
    "nodesecuritygroupids": "leave it out: manage_security_groups finds the groups of the nodes by itself",
    "node_security_group": "leave it out: manage_security_groups finds the groups of the nodes by itself",
    "bs_version": "leave it out: volumes are the Cinder CSI driver's, which speaks version 3",
    "trust_device_path": "leave it out: volumes are the Cinder CSI driver's, which looks devices up by itself",
    "secret_name": "leave it out: the login stands in this file, which can itself be the Secret",
    "secret_namespace": "leave it out: the login stands in this file, which can itself be the Secret",
    "kubeconfig_path": "leave it out: the login stands in this file, which can itself be the Secret",
    "cafilecontents": "put the certificates into a file and name it in ca_file",
}  # fmt: skip

# Options that are looked for in a section where they are not, and the one where they are.
MISPLACED = {key.option: section.option for section in reversed(SECTIONS) if not section.named for key in section.keys if key.offered}

_TYPES = {"bool": "bool", "text_bool": "bool", "int": "int", "uint": "int", "list": "list", "joined": "list"}


def _option(key: Key) -> dict[str, t.Any]:
    spec: dict[str, t.Any] = {"type": _TYPES.get(key.kind, "str"), "no_log": key.secret}
    if spec["type"] == "list":
        spec["elements"] = "str"
    if key.choices:
        spec["choices"] = list(key.choices)
    return spec


def argument_spec() -> dict[str, t.Any]:
    """Return the module's options for the sections."""
    spec: dict[str, t.Any] = {}
    for section in SECTIONS:
        options = {key.option: _option(key) for key in section.keys if key.offered}
        if section.named:
            options["name"] = {"type": "str", "required": True}
            spec[section.option] = {"type": "list", "elements": "dict", "options": options, "no_log": False}
        else:
            spec[section.option] = {"type": "dict", "options": options, "no_log": False}
    return spec
