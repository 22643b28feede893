#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A whole load balancer of OpenStack in one task."""

from __future__ import annotations

DOCUMENTATION = r"""
module: octavia_lb
short_description: A whole load balancer of OpenStack in one task
version_added: 0.1.0
author: The kos.labs authors (@kos-labs)
description:
  - Declares a load balancer of Octavia with all that is in it and with its floating IP. The module reads what is there, and makes, changes
    and removes only what differs, in an order that Octavia accepts. A new load balancer is made by a single request.
  - An option that is left out is not managed and stays as it is. An empty value, V(""), V([]) or V({}), means that there is to be none.
  - What is in the load balancer is known by its name, members by address and port.
  - Each change locks the whole load balancer for a moment. The module waits between its steps and tries again when somebody else was faster.
    If it is interrupted, the next run goes on where it stopped.
options:
  name:
    description: Name of the load balancer, which must be the only one of that name in the project.
    type: str
    required: true
  state:
    description:
      - Whether the load balancer is to be there. V(absent) removes it with all that is in it, and the floating IP if this module made it.
    type: str
    choices: [present, absent]
    default: present
  description:
    description: A text for people.
    type: str
  admin_state_up:
    description: Whether it is to work; V(true) for a new one.
    type: bool
  tags:
    description: Its tags.
    type: list
    elements: str
  vip_subnet:
    description:
      - Name or id of the subnet of the virtual IP. A new load balancer needs this, O(vip_network) or O(vip_port).
      - Whatever belongs to the virtual IP, the provider, the flavor and the availability zone cannot be changed in place, see O(recreate).
    type: str
  vip_network:
    description: Name or id of the network of the virtual IP.
    type: str
  vip_port:
    description: Name or id of a port that has the virtual IP.
    type: str
  vip_address:
    description: The virtual IP. Octavia chooses one if it is left out.
    type: str
  additional_vips:
    description: Further virtual IPs, each in another subnet of the same network.
    type: list
    elements: dict
    suboptions:
      subnet:
        description: Name or id of the subnet.
        type: str
        required: true
      address:
        description: The address. Octavia chooses one if it is left out.
        type: str
  vip_qos_policy:
    description: Name or id of the QoS policy of the virtual IP.
    type: str
  vip_security_groups:
    description: Names or ids of security groups for the virtual IP, instead of those that Octavia manages. Needs Octavia 2025.1.
    type: list
    elements: str
  provider:
    description: Name of the provider driver, for instance V(amphora) or V(ovn).
    type: str
  flavor:
    description: Name or id of the flavor.
    type: str
  availability_zone:
    description: Name of the availability zone.
    type: str
  floating_ip:
    description:
      - The floating IP of the virtual IP. V({}) takes it away.
      - One that this module made is released when it is not wanted any more or the load balancer is removed. Others are let go, never released.
    type: dict
    suboptions:
      network:
        description: Name or id of the external network to make a floating IP in if there is none.
        type: str
      address:
        description: A certain floating IP. If it does not exist it is made, which many clouds allow to their operators only.
        type: str
  listeners:
    description: Where it listens.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the listener.
        type: str
        required: true
      protocol:
        description: Its protocol. It cannot be changed in place. V(PROMETHEUS) serves figures about the load balancer.
        type: str
        required: true
        choices: [HTTP, HTTPS, PROMETHEUS, SCTP, TCP, TERMINATED_HTTPS, UDP]
      protocol_port:
        description: Its port. It cannot be changed in place.
        type: int
        required: true
      description:
        description: A text for people.
        type: str
      admin_state_up:
        description: Whether it is to work; V(true) for a new one.
        type: bool
      tags:
        description: Its tags.
        type: list
        elements: str
      default_pool:
        description: Name of the pool that gets what no L7 policy sends elsewhere.
        type: str
      connection_limit:
        description: Greatest number of connections, V(-1) for no limit.
        type: int
      timeout_client_data:
        description: Milliseconds after which an idle client is dropped.
        type: int
      timeout_member_connect:
        description: Milliseconds to wait for the connection to a member.
        type: int
      timeout_member_data:
        description: Milliseconds after which an idle member is dropped.
        type: int
      timeout_tcp_inspect:
        description: Milliseconds to wait for more of a TCP connection in order to inspect it.
        type: int
      allowed_cidrs:
        description: Networks from which it can be reached; V([]) for all.
        type: list
        elements: str
      insert_headers:
        description: Headers to add to requests, such as C(X-Forwarded-For) with V(true).
        type: dict
      default_tls_container_ref:
        description: Reference to the certificate with its key in the key manager. V(TERMINATED_HTTPS) needs it or O(listeners[].sni_container_refs).
        type: str
      sni_container_refs:
        description: References to further certificates, from which one is chosen by the name that the client asks for.
        type: list
        elements: str
      client_authentication:
        description: Whether clients have to show a certificate.
        type: str
        choices: [NONE, OPTIONAL, MANDATORY]
      client_ca_tls_container_ref:
        description: Reference to the authority that clients' certificates come from.
        type: str
      client_crl_container_ref:
        description: Reference to the list of clients' certificates that are revoked.
        type: str
      tls_ciphers:
        description: Ciphers, in OpenSSL's form.
        type: str
      tls_versions:
        description: Versions of TLS.
        type: list
        elements: str
        choices: [SSLv3, TLSv1, TLSv1.1, TLSv1.2, TLSv1.3]
      alpn_protocols:
        description: Protocols to offer by ALPN, the best first.
        type: list
        elements: str
        choices: [h2, http/1.1, http/1.0]
      hsts_max_age:
        description: Seconds for which browsers are to keep to HTTPS.
        type: int
      hsts_include_subdomains:
        description: Whether they are to do so for subdomains, too.
        type: bool
      hsts_preload:
        description: Whether the name may go into the lists that come with browsers.
        type: bool
      l7policies:
        description: Policies that look at requests. The first one that fits decides, so their order here is their order there.
        type: list
        elements: dict
        suboptions:
          name:
            description: Name of the policy.
            type: str
            required: true
          description:
            description: A text for people.
            type: str
          admin_state_up:
            description: Whether it is to work; V(true) for a new one.
            type: bool
          tags:
            description: Its tags.
            type: list
            elements: str
          action:
            description: What happens to requests that fit all rules.
            type: str
            required: true
            choices: [REDIRECT_PREFIX, REDIRECT_TO_POOL, REDIRECT_TO_URL, REJECT]
          redirect_pool:
            description: Name of the pool that gets them.
            type: str
          redirect_url:
            description: URL that clients are sent to.
            type: str
          redirect_prefix:
            description: Beginning of a URL that clients are sent to, to which the path is added.
            type: str
          redirect_http_code:
            description: Status code of the redirect; Octavia takes 302 for a new one.
            type: int
            choices: [301, 302, 303, 307, 308]
          rules:
            description: All of them must fit. They are known by their content.
            type: list
            elements: dict
            suboptions:
              type:
                description: What is looked at.
                type: str
                required: true
                choices: [COOKIE, FILE_TYPE, HEADER, HOST_NAME, PATH, SSL_CONN_HAS_CERT, SSL_DN_FIELD, SSL_VERIFY_RESULT]
              compare_type:
                description: How it is compared.
                type: str
                required: true
                choices: [CONTAINS, ENDS_WITH, EQUAL_TO, REGEX, STARTS_WITH]
              key:
                description: Name of the cookie, the header or the field.
                type: str
              value:
                description: What it is compared with.
                type: str
                required: true
              invert:
                description: Whether the rule fits when the comparison does not.
                type: bool
                default: false
              admin_state_up:
                description: Whether it counts; V(true) for a new one.
                type: bool
              tags:
                description: Its tags.
                type: list
                elements: str
  pools:
    description: What requests are spread over.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the pool.
        type: str
        required: true
      protocol:
        description: Its protocol. It cannot be changed in place. V(PROXY) and V(PROXYV2) tell members the client's address.
        type: str
        required: true
        choices: [HTTP, HTTPS, PROXY, PROXYV2, SCTP, TCP, UDP]
      lb_algorithm:
        description: How members are chosen; V(ROUND_ROBIN) for a new one.
        type: str
        choices: [LEAST_CONNECTIONS, ROUND_ROBIN, SOURCE_IP, SOURCE_IP_PORT]
      description:
        description: A text for people.
        type: str
      admin_state_up:
        description: Whether it is to work; V(true) for a new one.
        type: bool
      tags:
        description: Its tags.
        type: list
        elements: str
      session_persistence:
        description: How a client comes back to the same member; V({}) for not at all.
        type: dict
        suboptions:
          type:
            description: What the client is known by.
            type: str
            choices: [APP_COOKIE, HTTP_COOKIE, SOURCE_IP]
          cookie_name:
            description: Name of the cookie of V(APP_COOKIE).
            type: str
          persistence_timeout:
            description: Seconds to remember a client, with UDP and SCTP.
            type: int
          persistence_granularity:
            description: Netmask of clients to take for one, with UDP and SCTP.
            type: str
      tls_enabled:
        description: Whether members are talked to by TLS.
        type: bool
      tls_container_ref:
        description: Reference to the certificate with its key that is shown to members.
        type: str
      ca_tls_container_ref:
        description: Reference to the authority that members' certificates come from.
        type: str
      crl_container_ref:
        description: Reference to the list of members' certificates that are revoked.
        type: str
      tls_ciphers:
        description: Ciphers, in OpenSSL's form.
        type: str
      tls_versions:
        description: Versions of TLS.
        type: list
        elements: str
        choices: [SSLv3, TLSv1, TLSv1.1, TLSv1.2, TLSv1.3]
      alpn_protocols:
        description: Protocols to offer by ALPN, the best first.
        type: list
        elements: str
        choices: [h2, http/1.1, http/1.0]
      members:
        description: Its members, known by address and port. All changes to the members of a pool are one request.
        type: list
        elements: dict
        suboptions:
          address:
            description: Address of the member.
            type: str
            required: true
          protocol_port:
            description: Port of the member.
            type: int
            required: true
          name:
            description: Name of the member, for people.
            type: str
          subnet:
            description: Name or id of the subnet over which it is reached. It cannot be changed in place.
            type: str
          weight:
            description: Its share of the requests, from V(0) for no new ones to V(256); V(1) for a new one.
            type: int
          backup:
            description: Whether it serves only when the others are down.
            type: bool
          monitor_address:
            description: Another address for the health monitor.
            type: str
          monitor_port:
            description: Another port for the health monitor.
            type: int
          admin_state_up:
            description: Whether it is to work; V(true) for a new one.
            type: bool
          tags:
            description: Its tags.
            type: list
            elements: str
      health_monitor:
        description:
          - How members are checked; V({}) for not at all.
          - Otherwise type, delay, timeout and max_retries are needed.
        type: dict
        suboptions:
          type:
            description: The kind of check. It cannot be changed in place.
            type: str
            choices: [HTTP, HTTPS, PING, SCTP, TCP, TLS-HELLO, UDP-CONNECT]
          delay:
            description: Seconds between two checks.
            type: int
          timeout:
            description: Seconds to wait for an answer.
            type: int
          max_retries:
            description: Good checks in a row after which a member is up.
            type: int
          max_retries_down:
            description: Bad checks in a row after which a member is down; V(3) for a new one.
            type: int
          name:
            description: Name of the monitor, for people.
            type: str
          http_method:
            description: Method of the request.
            type: str
            choices: [CONNECT, DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, TRACE]
          http_version:
            description: Version of HTTP.
            type: float
            choices: [1.0, 1.1]
          url_path:
            description: Path of the request.
            type: str
          expected_codes:
            description: Status codes of a good answer, such as V(200), V(200,202) or V(200-204).
            type: str
          domain_name:
            description: Host name of the request. Needs version 1.1 of HTTP.
            type: str
          admin_state_up:
            description: Whether it is to work; V(true) for a new one.
            type: bool
          tags:
            description: Its tags.
            type: list
            elements: str
  purge:
    description:
      - Levels at which what is not declared is removed. That happens only in lists that are given, and to a health monitor that is given as V({}).
    type: dict
    suboptions:
      listeners:
        description: Whether listeners are removed. One on the same port with the same protocol is renamed instead.
        type: bool
        default: true
      l7policies:
        description: Whether policies of declared listeners are removed. If not, they come after the declared ones.
        type: bool
        default: true
      rules:
        description: Whether rules of declared policies are removed.
        type: bool
        default: true
      pools:
        description: Whether pools are removed.
        type: bool
        default: true
      members:
        description: Whether members of declared pools are removed.
        type: bool
        default: true
  recreate:
    description:
      - What to do about what cannot be changed in place. V(never) refuses and says what it is. V(when_needed) makes it anew.
      - For a listener that means a moment without it. A pool is replaced before the old one goes. A load balancer is removed with all that is in
        it and made again, with the same address if that is not what changes, and what is not managed is taken along. A floating IP moves over.
    type: str
    choices: [never, when_needed]
    default: never
  on_error:
    description: What to do about a load balancer that is in ERROR, where Octavia takes no changes.
    type: str
    choices: [fail, failover, recreate]
    default: fail
  wait:
    description:
      - Whether to wait for the last step, too. Between steps the module always waits.
    type: bool
    default: true
  timeout:
    description: Seconds to wait for each step. When they are over, the message lists provisioning and operating status of each part.
    type: int
    default: 180
attributes:
  check_mode:
    support: full
    description: Says what it would do and changes nothing.
  diff_mode:
    support: full
    description: Shows each difference as a line.
  idempotent:
    support: full
    description: A second run changes nothing. It warns if the cloud keeps something else than it was given.
extends_documentation_fragment:
  - openstack.cloud.openstack
"""

EXAMPLES = r"""
- name: A web site with two members
  kos.labs.octavia_lb:
    cloud: kos-tenant
    name: shop
    vip_subnet: 3b9bca6f-5b1c-4a0e-8f0e-0d8f5d8f5a01
    listeners:
      - name: http
        protocol: HTTP
        protocol_port: 80
        default_pool: web
        insert_headers: {X-Forwarded-For: true}
    pools:
      - name: web
        protocol: HTTP
        members:
          - {address: 10.0.0.11, protocol_port: 8080}
          - {address: 10.0.0.12, protocol_port: 8080, weight: 2}
        health_monitor: {type: HTTP, delay: 5, timeout: 3, max_retries: 2, url_path: /healthz}
  register: shop

- name: Requests for the API go to another pool, and a third listener serves figures
  kos.labs.octavia_lb:
    cloud: kos-tenant
    name: shop
    listeners:
      - name: http
        protocol: HTTP
        protocol_port: 80
        default_pool: web
        l7policies:
          - name: api
            action: REDIRECT_TO_POOL
            redirect_pool: api
            rules:
              - {type: PATH, compare_type: STARTS_WITH, value: /api}
      - name: figures
        protocol: PROMETHEUS
        protocol_port: 9100
        allowed_cidrs: [10.0.0.0/8]
    pools:
      - name: web
        protocol: HTTP
      - name: api
        protocol: HTTP
        lb_algorithm: LEAST_CONNECTIONS
        session_persistence: {type: SOURCE_IP}
        members:
          - {address: 10.0.0.21, protocol_port: 9000}

- name: Add a member and leave everything else alone
  kos.labs.octavia_lb:
    cloud: kos-tenant
    name: shop
    pools:
      - name: web
        protocol: HTTP
        members:
          - {address: 10.0.0.13, protocol_port: 8080}
    purge: {pools: false, members: false}

- name: Remove it with all that is in it
  kos.labs.octavia_lb:
    cloud: kos-tenant
    name: shop
    state: absent
"""

RETURN = r"""
load_balancer:
  description:
    - The load balancer with all that is in it, by the names of the options, each part with its id. In check mode as it is now. Empty if there is none.
  returned: always
  type: dict
  contains:
    id:
      description: Its id.
      type: str
      returned: if it exists
    name:
      description: Its name.
      type: str
      returned: if it exists
    vip_address:
      description: The virtual IP.
      type: str
      returned: if it exists
    vip_port_id:
      description: Id of the port of the virtual IP.
      type: str
      returned: if it exists
    vip_subnet_id:
      description: Id of the subnet of the virtual IP.
      type: str
      returned: if it exists
    vip_network_id:
      description: Id of the network of the virtual IP.
      type: str
      returned: if it exists
    provisioning_status:
      description: Whether a change is under way.
      type: str
      returned: if it exists
    operating_status:
      description: Whether it works.
      type: str
      returned: if it exists
    listeners:
      description: The listeners with their policies and rules.
      type: list
      elements: dict
      returned: if it exists and O(state=present)
    pools:
      description: The pools with their members and health monitors.
      type: list
      elements: dict
      returned: if it exists and O(state=present)
floating_ip:
  description: The floating IP of the virtual IP if it is managed and there is one; else empty.
  returned: always
  type: str
steps:
  description: What was done, or would be done in check mode, in order.
  returned: always
  type: list
  elements: str
  sample: [create pool api, set members of pool api, update listener http]
api_calls:
  description: How many requests that took.
  returned: always
  type: int
parts:
  description: Provisioning and operating status of each part.
  returned: when a wait failed
  type: list
  elements: str
  sample: ["load balancer shop: PENDING_UPDATE, ONLINE", "listener http: ACTIVE, ONLINE"]
"""

import typing as t

from ansible_collections.kos.labs.plugins.module_utils.octavia_lb import OctaviaError
from ansible_collections.kos.labs.plugins.module_utils.octavia_lb_api import Service, reconcile
from ansible_collections.openstack.cloud.plugins.module_utils.openstack import OpenStackModule

TEXT = {"type": "str"}
NUMBER = {"type": "int"}
FLAG = {"type": "bool"}
TEXTS = {"type": "list", "elements": "str"}
NEEDED = {"type": "str", "required": True}
# What Octavia calls so is no secret, a reference at most.
OPEN = {"type": "str", "no_log": False}


def one_of(*choices: str, required: bool = False) -> dict[str, t.Any]:
    """Return an option with choices."""
    spec: dict[str, t.Any] = {"type": "str", "choices": list(choices)}
    return {**spec, "required": True} if required else spec


def several(options: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return an option that is a list of dictionaries."""
    return {"type": "list", "elements": "dict", "options": options}


def single(options: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return an option that is a dictionary."""
    return {"type": "dict", "options": options}


COMMON = {"name": NEEDED, "description": TEXT, "admin_state_up": FLAG, "tags": TEXTS}
TLS = {
    "tls_ciphers": TEXT,
    "tls_versions": {**TEXTS, "choices": ["SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"]},
    "alpn_protocols": {**TEXTS, "choices": ["h2", "http/1.1", "http/1.0"]},
}
RULE = {
    "type": one_of(
        "COOKIE", "FILE_TYPE", "HEADER", "HOST_NAME", "PATH", "SSL_CONN_HAS_CERT", "SSL_DN_FIELD", "SSL_VERIFY_RESULT", required=True
    ),
    "compare_type": one_of("CONTAINS", "ENDS_WITH", "EQUAL_TO", "REGEX", "STARTS_WITH", required=True),
    "key": OPEN,
    "value": NEEDED,
    "invert": {"type": "bool", "default": False},
    "admin_state_up": FLAG,
    "tags": TEXTS,
}
L7POLICY = {
    **COMMON,
    "action": one_of("REDIRECT_PREFIX", "REDIRECT_TO_POOL", "REDIRECT_TO_URL", "REJECT", required=True),
    "redirect_pool": TEXT,
    "redirect_url": TEXT,
    "redirect_prefix": TEXT,
    "redirect_http_code": {"type": "int", "choices": [301, 302, 303, 307, 308]},
    "rules": several(RULE),
}
LISTENER = {
    **COMMON,
    "protocol": one_of("HTTP", "HTTPS", "PROMETHEUS", "SCTP", "TCP", "TERMINATED_HTTPS", "UDP", required=True),
    "protocol_port": {"type": "int", "required": True},
    "default_pool": TEXT,
    "connection_limit": NUMBER,
    "timeout_client_data": NUMBER,
    "timeout_member_connect": NUMBER,
    "timeout_member_data": NUMBER,
    "timeout_tcp_inspect": NUMBER,
    "allowed_cidrs": TEXTS,
    "insert_headers": {"type": "dict"},
    "default_tls_container_ref": OPEN,
    "sni_container_refs": {**TEXTS, "no_log": False},
    "client_authentication": one_of("NONE", "OPTIONAL", "MANDATORY"),
    "client_ca_tls_container_ref": OPEN,
    "client_crl_container_ref": OPEN,
    **TLS,
    "hsts_max_age": NUMBER,
    "hsts_include_subdomains": FLAG,
    "hsts_preload": FLAG,
    "l7policies": several(L7POLICY),
}
MEMBER = {
    "address": NEEDED,
    "protocol_port": {"type": "int", "required": True},
    "name": TEXT,
    "subnet": TEXT,
    "weight": NUMBER,
    "backup": FLAG,
    "monitor_address": TEXT,
    "monitor_port": NUMBER,
    "admin_state_up": FLAG,
    "tags": TEXTS,
}
HEALTH_MONITOR = {
    "type": one_of("HTTP", "HTTPS", "PING", "SCTP", "TCP", "TLS-HELLO", "UDP-CONNECT"),
    "delay": NUMBER,
    "timeout": NUMBER,
    "max_retries": NUMBER,
    "max_retries_down": NUMBER,
    "name": TEXT,
    "http_method": one_of("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"),
    "http_version": {"type": "float", "choices": [1.0, 1.1]},
    "url_path": TEXT,
    "expected_codes": TEXT,
    "domain_name": TEXT,
    "admin_state_up": FLAG,
    "tags": TEXTS,
}
POOL = {
    **COMMON,
    "protocol": one_of("HTTP", "HTTPS", "PROXY", "PROXYV2", "SCTP", "TCP", "UDP", required=True),
    "lb_algorithm": one_of("LEAST_CONNECTIONS", "ROUND_ROBIN", "SOURCE_IP", "SOURCE_IP_PORT"),
    "session_persistence": single(
        {
            "type": one_of("APP_COOKIE", "HTTP_COOKIE", "SOURCE_IP"),
            "cookie_name": TEXT,
            "persistence_timeout": NUMBER,
            "persistence_granularity": TEXT,
        }
    ),
    "tls_enabled": FLAG,
    "tls_container_ref": OPEN,
    "ca_tls_container_ref": OPEN,
    "crl_container_ref": OPEN,
    **TLS,
    "members": several(MEMBER),
    "health_monitor": single(HEALTH_MONITOR),
}
LEVELS = ("listeners", "l7policies", "rules", "pools", "members")


class OctaviaLB(OpenStackModule):
    """The module."""

    argument_spec: t.ClassVar = {
        **COMMON,
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "vip_subnet": TEXT,
        "vip_network": TEXT,
        "vip_port": TEXT,
        "vip_address": TEXT,
        "additional_vips": several({"subnet": NEEDED, "address": TEXT}),
        "vip_qos_policy": TEXT,
        "vip_security_groups": TEXTS,
        "provider": TEXT,
        "flavor": TEXT,
        "availability_zone": TEXT,
        "floating_ip": single({"network": TEXT, "address": TEXT}),
        "listeners": several(LISTENER),
        "pools": several(POOL),
        "purge": single({level: {"type": "bool", "default": True} for level in LEVELS}),
        "recreate": {"type": "str", "choices": ["never", "when_needed"], "default": "never"},
        "on_error": {"type": "str", "choices": ["fail", "failover", "recreate"], "default": "fail"},
    }
    module_kwargs: t.ClassVar = {"supports_check_mode": True}

    def run(self) -> None:
        """Read, plan, act."""
        service = Service(
            load_balancer=self.conn.load_balancer,
            network=lambda: self.conn.network if self.conn.has_service("network") else None,
            project_id=self.conn.current_project_id or "",
            wait=self.params["wait"],
            timeout=self.params["timeout"],
        )
        try:
            result = reconcile(service, self.params, check_mode=self.check_mode)
        except OctaviaError as exc:
            self.fail_json(msg=f"load balancer {self.params['name']}: {exc}", api_calls=service.calls, **exc.details)
        if result.left:
            self.warn(
                f"the cloud keeps something else than it was given, so the next run would do again: {', '.join(map(str, result.left))}"
            )
        self.exit_json(
            changed=bool(result.plan.steps),
            load_balancer=result.load_balancer,
            floating_ip=result.floating_ip,
            steps=[str(step) for step in result.plan.steps],
            api_calls=service.calls,
            diff=result.plan.diff(),
        )


def main() -> None:
    """Entry point."""
    OctaviaLB()()


if __name__ == "__main__":
    main()
