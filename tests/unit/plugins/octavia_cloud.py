# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated Octavia (and a little of Neutron) that minds what the real one minds.

It locks a load balancer while it is PENDING, refuses what is immutable, taken, in use, unknown or beyond a quota, forgets what the
real one forgets, and counts requests.
"""

from __future__ import annotations

import json
import re
import typing as t
import urllib.parse
import uuid

L4 = {"UDP": "UDP", "SCTP": "SCTP"}
POOLS_OF_LISTENER = {
    "TCP": {"HTTP", "HTTPS", "PROXY", "PROXYV2", "TCP"},
    "HTTP": {"HTTP", "PROXY", "PROXYV2"},
    "HTTPS": {"HTTPS", "PROXY", "PROXYV2", "TCP"},
    "TERMINATED_HTTPS": {"HTTP", "PROXY", "PROXYV2"},
    "UDP": {"UDP"},
    "SCTP": {"SCTP"},
    "PROMETHEUS": set(),
}
COMMON = {"name": "", "description": "", "admin_state_up": True, "tags": []}
TIMEOUTS = {"timeout_client_data": 50000, "timeout_member_connect": 5000, "timeout_member_data": 50000, "timeout_tcp_inspect": 0}
TLS = {"tls_ciphers": None, "tls_versions": None, "alpn_protocols": None}
# Attribute -> default; what may be given when it is made, and what may be changed.
NEW: dict[str, dict[str, t.Any]] = {
    "loadbalancer": {
        **COMMON,
        "vip_subnet_id": None,
        "vip_network_id": None,
        "vip_port_id": None,
        "vip_address": None,
        "vip_qos_policy_id": None,
        "vip_sg_ids": [],
        "additional_vips": [],
        "provider": "amphora",
        "flavor_id": None,
        "availability_zone": None,
    },
    "listener": {
        **COMMON,
        **TIMEOUTS,
        **TLS,
        "protocol": None,
        "protocol_port": None,
        "default_pool_id": None,
        "connection_limit": -1,
        "allowed_cidrs": None,
        "insert_headers": {},
        "default_tls_container_ref": None,
        "sni_container_refs": [],
        "client_ca_tls_container_ref": None,
        "client_crl_container_ref": None,
        "client_authentication": "NONE",
        "hsts_max_age": None,
        "hsts_include_subdomains": False,
        "hsts_preload": False,
    },
    "pool": {
        **COMMON,
        **TLS,
        "protocol": None,
        "lb_algorithm": None,
        "session_persistence": None,
        "tls_enabled": False,
        "tls_container_ref": None,
        "ca_tls_container_ref": None,
        "crl_container_ref": None,
    },
    "member": {
        "name": "",
        "admin_state_up": True,
        "address": None,
        "protocol_port": None,
        "weight": 1,
        "backup": False,
        "subnet_id": None,
        "monitor_address": None,
        "monitor_port": None,
        "tags": [],
    },
    "healthmonitor": {
        "name": "",
        "type": None,
        "delay": None,
        "timeout": None,
        "max_retries": None,
        "max_retries_down": 3,
        "http_method": None,
        "http_version": None,
        "url_path": None,
        "expected_codes": None,
        "domain_name": None,
        "admin_state_up": True,
        "tags": [],
    },
    "l7policy": {
        **COMMON,
        "action": None,
        "redirect_pool_id": None,
        "redirect_url": None,
        "redirect_prefix": None,
        "redirect_http_code": None,
        "position": 2**31 - 1,
    },
    "rule": {"type": None, "compare_type": None, "key": None, "value": None, "invert": False, "admin_state_up": True, "tags": []},
}
FIXED = {
    "loadbalancer": {
        "vip_subnet_id",
        "vip_network_id",
        "vip_port_id",
        "vip_address",
        "additional_vips",
        "provider",
        "flavor_id",
        "availability_zone",
    },
    "listener": {"protocol", "protocol_port"},
    "pool": {"protocol"},
    "member": {"address", "protocol_port", "subnet_id"},
    "healthmonitor": {"type"},
}
PLURALS = {
    "loadbalancers": "loadbalancer",
    "listeners": "listener",
    "pools": "pool",
    "members": "member",
    "healthmonitors": "healthmonitor",
    "l7policies": "l7policy",
    "rules": "rule",
}
PARENTS = {"listener": "loadbalancer_id", "pool": "loadbalancer_id", "healthmonitor": "pool_id", "l7policy": "listener_id"}
TARGETS = {"REDIRECT_TO_POOL": "redirect_pool_id", "REDIRECT_TO_URL": "redirect_url", "REDIRECT_PREFIX": "redirect_prefix", "REJECT": None}
Item = dict[str, t.Any]


class RefusalError(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class Response:
    def __init__(self, status: int, body: t.Any = None) -> None:
        self.status_code = status
        self.body = body
        self.text = "" if body is None else json.dumps(body)

    def json(self) -> t.Any:
        # A copy, as over the wire.
        return json.loads(self.text)


def refuse_if(condition: t.Any, status: int, text: str) -> None:
    if condition:
        raise RefusalError(status, text)


class Octavia:
    """The service. `slow` is the number of looks for which a change stays PENDING; `page` the longest page."""

    def __init__(self, *, slow: int = 1, page: int = 1000, quotas: t.Mapping[str, int] | None = None) -> None:
        self.items: dict[str, dict[str, Item]] = {kind: {} for kind in NEW}
        self.order: dict[str, list[str]] = {}
        self.busy: dict[str, int] = {}
        self.slow, self.page, self.quotas = slow, page, dict(quotas or {})
        self.requests: list[str] = []
        self.bodies: list[t.Any] = []
        self.flavors: list[Item] = []
        # How the next change ends, if not well.
        self.break_next = False
        self.count = 0

    # --- Transport ---

    def request(self, url: str, method: str, **options: t.Any) -> Response:
        self.requests.append(f"{method} {url}")
        if method != "GET":
            self.bodies.append(options.get("json"))
        before = json.dumps([self.items, self.order, self.busy]) if method != "GET" else ""
        try:
            status, body = self.route(method, url.split("/")[2:], options.get("params") or {}, json.loads(json.dumps(options.get("json"))))
        except RefusalError as refusal:
            if before:
                # A refused request leaves nothing behind.
                self.items, self.order, self.busy = json.loads(before)
            return Response(refusal.status, {"faultcode": "Client", "faultstring": refusal.text, "debuginfo": None})
        return Response(status, body)

    @property
    def writes(self) -> list[str]:
        return [request for request in self.requests if not request.startswith("GET")]

    def route(self, method: str, words: list[str], params: Item, body: t.Any) -> tuple[int, t.Any]:
        if words[0] == "flavors":
            return 200, {"flavors": [flavor for flavor in self.flavors if flavor["name"] == params["name"]]}
        kind = PLURALS[words[0]]
        if len(words) == 1:
            if method == "GET":
                return 200, self.list(kind, words[0], params)
            return 201, {kind: self.create(kind, body[kind], "")}
        item = self.find(kind, words[1])
        if len(words) > 2 and words[2] in ("members", "rules"):
            return self.below(method, kind, item, words[2:], params, body)
        if words[2:] == ["status"]:
            return 200, {"statuses": {"loadbalancer": self.statuses(item)}}
        if words[2:] == ["failover"]:
            item["provisioning_status"] = "PENDING_UPDATE"
            self.busy[item["id"]] = self.slow
            return 202, None
        if method == "GET":
            if kind == "loadbalancer":
                self.tick(item)
                item = self.find(kind, words[1])
            return 200, {kind: self.shown(kind, item)}
        if method == "PUT":
            self.update(kind, item, body[kind])
            return 200, {kind: self.shown(kind, item)}
        if kind == "loadbalancer":
            refuse_if(item["provisioning_status"] not in ("ACTIVE", "ERROR"), 409, f"Invalid state of loadbalancer resource {item['id']}")
            children = [one for what in ("listener", "pool") for one in self.of(what, "loadbalancer_id", item["id"])]
            refuse_if(children and str(params.get("cascade")).lower() != "true", 409, "Load Balancer has children")
            item["provisioning_status"] = "PENDING_DELETE"
            self.busy[item["id"]] = self.slow
            return 204, None
        self.lock(self.balancer_of(kind, item))
        self.delete(kind, item)
        return 204, None

    def below(self, method: str, above: str, parent: Item, words: list[str], params: Item, body: t.Any) -> tuple[int, t.Any]:
        kind = PLURALS[words[0]]
        above_id = "pool_id" if kind == "member" else "l7policy_id"
        if len(words) == 2:
            item = self.find(kind, words[1])
            self.lock(self.balancer_of(kind, item))
            if method == "DELETE":
                self.delete(kind, item)
                return 204, None
            self.change(kind, item, body[kind])
            return 200, {kind: self.shown(kind, item)}
        if method == "GET":
            return 200, self.list(kind, words[0], {**params, above_id: parent["id"]})
        if method == "POST":
            return 201, {kind: self.create(kind, body[kind], parent["id"])}
        self.lock(self.balancer_of(above, parent))
        self.batch(parent, body["members"], additive=str(params.get("additive_only")).lower() == "true")
        return 202, None

    # --- Reading ---

    def find(self, kind: str, number: str) -> Item:
        refuse_if(number not in self.items[kind], 404, f"{kind} {number} not found.")
        return self.items[kind][number]

    def of(self, kind: str, key: str, number: str) -> list[Item]:
        return [item for item in self.items[kind].values() if item.get(key) == number]

    def list(self, kind: str, plural: str, params: Item) -> Item:
        wanted = {key: value for key, value in params.items() if key not in ("limit", "marker")}
        found = [item for item in self.items[kind].values() if all(item.get(key) == value for key, value in wanted.items())]
        limit = min(int(params.get("limit", self.page)), self.page)
        if "marker" in params:
            start = [item["id"] for item in found].index(params["marker"]) + 1
            found = found[start:]
        page = found[:limit]
        body: Item = {plural: [self.shown(kind, item) for item in page]}
        if len(page) >= limit:
            query = urllib.parse.urlencode({**wanted, "limit": limit, "marker": page[-1]["id"]})
            body[f"{plural}_links"] = [{"rel": "next", "href": f"http://octavia/v2/lbaas/{plural}?{query}"}]
        return body

    def shown(self, kind: str, item: Item) -> Item:
        shown = {key: value for key, value in item.items() if not key.startswith("_")}
        ids = lambda what, key: [{"id": one["id"]} for one in self.of(what, key, item["id"])]  # noqa: E731
        if kind == "loadbalancer":
            shown.update(listeners=ids("listener", "loadbalancer_id"), pools=ids("pool", "loadbalancer_id"))
        if kind == "listener":
            shown["l7policies"] = [{"id": number} for number in self.order.get(item["id"], [])]
        if kind == "l7policy":
            shown["rules"] = ids("rule", "l7policy_id")
            shown["position"] = self.order[item["listener_id"]].index(item["id"]) + 1
        if kind == "pool":
            shown["members"] = ids("member", "pool_id")
            monitors = self.of("healthmonitor", "pool_id", item["id"])
            shown["healthmonitor_id"] = monitors[0]["id"] if monitors else None
        return shown

    def full(self, balancer: Item) -> Item:
        tree = self.shown("loadbalancer", balancer)
        tree["listeners"] = []
        for listener in self.of("listener", "loadbalancer_id", balancer["id"]):
            policies = [self.shown("l7policy", self.items["l7policy"][number]) for number in self.order.get(listener["id"], [])]
            for policy in policies:
                policy["rules"] = [self.shown("rule", rule) for rule in self.of("rule", "l7policy_id", policy["id"])]
            tree["listeners"].append({**self.shown("listener", listener), "l7policies": policies})
        tree["pools"] = []
        for pool in self.of("pool", "loadbalancer_id", balancer["id"]):
            shown = self.shown("pool", pool)
            shown["members"] = [self.shown("member", member) for member in self.of("member", "pool_id", pool["id"])]
            shown["healthmonitor"] = next(
                (self.shown("healthmonitor", one) for one in self.of("healthmonitor", "pool_id", pool["id"])), None
            )
            tree["pools"].append(shown)
        return tree

    def statuses(self, balancer: Item) -> Item:
        def line(item: Item) -> Item:
            keys = ("id", "name", "address", "protocol_port", "provisioning_status", "operating_status")
            return {key: item[key] for key in keys if key in item}

        tree = line(balancer)
        tree["listeners"] = []
        for listener in self.of("listener", "loadbalancer_id", balancer["id"]):
            pools = []
            for pool in self.of("pool", "id", listener["default_pool_id"] or ""):
                pools.append({**line(pool), "members": [line(member) for member in self.of("member", "pool_id", pool["id"])]})
                for monitor in self.of("healthmonitor", "pool_id", pool["id"]):
                    pools[-1]["health_monitor"] = line(monitor)
            tree["listeners"].append({**line(listener), "pools": pools})
        return tree

    # --- States ---

    def tick(self, balancer: Item) -> None:
        if not balancer["provisioning_status"].startswith("PENDING"):
            return
        self.busy[balancer["id"]] -= 1
        if self.busy[balancer["id"]] > 0:
            return
        if self.break_next:
            self.break_next = False
            balancer["provisioning_status"] = "ERROR"
        elif balancer["provisioning_status"] == "PENDING_DELETE":
            self.delete("loadbalancer", balancer)
        else:
            balancer.update(provisioning_status="ACTIVE", operating_status="ONLINE")

    def balancer_of(self, kind: str, item: Item) -> Item:
        if kind == "loadbalancer":
            return item
        if kind in ("listener", "pool"):
            return self.items["loadbalancer"][item["loadbalancer_id"]]
        above = {"member": ("pool", "pool_id"), "healthmonitor": ("pool", "pool_id"), "l7policy": ("listener", "listener_id")}
        if kind == "rule":
            return self.balancer_of("l7policy", self.items["l7policy"][item["l7policy_id"]])
        parent, key = above[kind]
        return self.balancer_of(parent, self.items[parent][item[key]])

    def lock(self, balancer: Item) -> None:
        refuse_if(balancer["provisioning_status"] != "ACTIVE", 409, f"Load Balancer {balancer['id']} is immutable and cannot be updated.")
        balancer["provisioning_status"] = "PENDING_UPDATE"
        self.busy[balancer["id"]] = self.slow

    # --- Writing ---

    def create(self, kind: str, body: Item, above: str) -> Item:
        if kind == "loadbalancer":
            return self.create_balancer(body)
        body = dict(body)
        if kind in PARENTS:
            above = body.pop(PARENTS[kind], "")
            refuse_if(not above, 400, f"{PARENTS[kind]} is mandatory")
        item = self.add(kind, body, above)
        self.lock(self.balancer_of(kind, item))
        return self.shown(kind, item)

    def create_balancer(self, body: Item) -> Item:
        body = dict(body)
        listeners, pools = body.pop("listeners", []), body.pop("pools", [])
        refuse_if(not any(body.get(key) for key in ("vip_subnet_id", "vip_network_id", "vip_port_id")), 400, "VIP is missing")
        balancer = self.add("loadbalancer", body, "")
        balancer["vip_subnet_id"] = balancer["vip_subnet_id"] or "subnet-of-network"
        balancer["vip_network_id"] = balancer["vip_network_id"] or "network-of-subnet"
        balancer["vip_port_id"] = balancer["vip_port_id"] or str(uuid.uuid4())
        balancer["vip_address"] = balancer["vip_address"] or f"10.9.0.{len(self.requests) % 250 + 1}"
        balancer["additional_vips"] = [{"ip_address": "10.8.0.9", **vip} for vip in balancer["additional_vips"]]
        names = [pool.get("name") for pool in pools]
        refuse_if(None in names or len(set(names)) < len(names), 400, "Pool names must be unique")
        ids = {}
        for pool in pools:
            members, monitor = pool.pop("members", []), pool.pop("healthmonitor", None)
            ids[pool["name"]] = self.add("pool", pool, balancer["id"])["id"]
            for member in members:
                self.add("member", member, ids[pool["name"]])
            if monitor:
                self.add("healthmonitor", monitor, ids[pool["name"]])
        for listener in listeners:
            policies, pool = listener.pop("l7policies", []), listener.pop("default_pool", None)
            if pool:
                refuse_if(set(pool) != {"name"} or pool["name"] not in ids, 400, f"Pool {pool} was referenced but not defined")
                listener["default_pool_id"] = ids[pool["name"]]
            made = self.add("listener", listener, balancer["id"])
            for policy in policies:
                rules, pool = policy.pop("rules", []), policy.pop("redirect_pool", None)
                if pool:
                    refuse_if(set(pool) != {"name"} or pool["name"] not in ids, 400, f"Pool {pool} was referenced but not defined")
                    policy["redirect_pool_id"] = ids[pool["name"]]
                number = self.add("l7policy", policy, made["id"])["id"]
                for rule in rules:
                    self.add("rule", rule, number)
        balancer["provisioning_status"] = "PENDING_CREATE"
        self.busy[balancer["id"]] = self.slow
        return self.full(balancer)

    def check_quota(self, kind: str, more: int = 1) -> None:
        limit = self.quotas.get(kind)
        refuse_if(limit is not None and len(self.items[kind]) + more > limit, 403, f"Quota has been met for resources: {kind}")

    def add(self, kind: str, body: Item, above: str, *, count: bool = True) -> Item:
        unknown = set(body) - set(NEW[kind])
        refuse_if(unknown, 400, f"Unknown attribute {sorted(unknown)}")
        if count:
            self.check_quota(kind)
        parent = {**PARENTS, "member": "pool_id", "rule": "l7policy_id"}.get(kind)
        self.count += 1
        item = {
            "id": str(uuid.UUID(int=self.count)),
            "project_id": "p",
            "provisioning_status": "ACTIVE",
            "operating_status": "ONLINE",
            **json.loads(json.dumps(NEW[kind])),
            **({parent: above} if parent else {}),
        }
        self.items[kind][item["id"]] = item
        self.change(kind, item, body, new=True)
        return item

    def update(self, kind: str, item: Item, body: Item) -> None:
        self.lock(self.balancer_of(kind, item))
        self.change(kind, item, body)

    def change(self, kind: str, item: Item, body: Item, *, new: bool = False) -> None:
        if not new:
            unknown = set(body) & FIXED.get(kind, set()) | set(body) - set(NEW[kind])
            refuse_if(unknown, 400, f"Unknown attribute {sorted(unknown)}")
        position = body.pop("position", None if not new else 2**31 - 1) if kind == "l7policy" else None
        for key, value in body.items():
            # Null goes back to the default.
            item[key] = json.loads(json.dumps(NEW[kind][key])) if value is None else value
        getattr(self, f"mind_{kind}")(item, body, new)
        if position is not None:
            order = self.order.setdefault(item["listener_id"], [])
            if item["id"] in order:
                order.remove(item["id"])
            order.insert(position - 1, item["id"])

    def mind_loadbalancer(self, item: Item, body: Item, new: bool) -> None:
        refuse_if(body.get("tags", ()) is None, 400, "tags")

    def mind_listener(self, item: Item, body: Item, new: bool) -> None:
        for other in self.of("listener", "loadbalancer_id", item["loadbalancer_id"]):
            if other is not item and other["protocol_port"] == item["protocol_port"]:
                same = L4.get(other["protocol"], "TCP") == L4.get(item["protocol"], "TCP")
                refuse_if(same, 409, f"Another Listener on this Load Balancer is already using protocol_port {item['protocol_port']}")
        if item["default_pool_id"]:
            self.mind_pair(item, item["default_pool_id"])
        references = [key for key in item if key.endswith("container_ref") and item[key]] + list(item["sni_container_refs"])
        offload = item["protocol"] in ("TERMINATED_HTTPS", "PROMETHEUS")
        refuse_if(references and not offload, 400, "Certificate container references are not allowed")
        refuse_if(item["protocol"] == "TERMINATED_HTTPS" and not references, 400, "An SNI or default certificate must be provided")
        refuse_if(item["insert_headers"] and item["protocol"] not in ("HTTP", "TERMINATED_HTTPS"), 400, "insert-headers")
        refuse_if(item["tls_versions"] == [] or item["alpn_protocols"] == [], 400, "Empty list")
        refuse_if(item["hsts_max_age"] is not None and item["protocol"] != "TERMINATED_HTTPS", 400, "HSTS")

    def mind_pair(self, listener: Item, pool_id: str) -> None:
        pool = self.find("pool", pool_id)
        refuse_if(pool["loadbalancer_id"] != listener["loadbalancer_id"], 404, "Pool not found")
        refuse_if(pool["protocol"] not in POOLS_OF_LISTENER[listener["protocol"]], 400, "Listener and pool protocol do not match")

    def mind_pool(self, item: Item, body: Item, new: bool) -> None:
        refuse_if(not item["protocol"] or not item["lb_algorithm"], 400, "Pool definition is missing a required attribute")
        persistence = item["session_persistence"] or {}
        refuse_if((persistence.get("type") == "APP_COOKIE") != bool(persistence.get("cookie_name")), 400, "cookie_name")
        refuse_if(persistence.get("persistence_timeout") and item["protocol"] not in L4, 400, "persistence_timeout")

    def mind_member(self, item: Item, body: Item, new: bool) -> None:
        for other in self.of("member", "pool_id", item["pool_id"]):
            same = (other["address"], other["protocol_port"]) == (item["address"], item["protocol_port"])
            refuse_if(other is not item and same, 409, "Duplicate member")

    def mind_healthmonitor(self, item: Item, body: Item, new: bool) -> None:
        refuse_if(len(self.of("healthmonitor", "pool_id", item["pool_id"])) > 1, 409, "This pool already has a health monitor")
        http = item["type"] in ("HTTP", "HTTPS")
        refuse_if(not http and {"http_method", "url_path", "expected_codes"} & set(body), 400, "not an option of health monitors of type")
        if http:
            defaults = {"http_method": "GET", "url_path": "/", "expected_codes": "200"}
            item.update({key: value for key, value in defaults.items() if not item[key]})

    def mind_l7policy(self, item: Item, body: Item, new: bool) -> None:
        target = TARGETS[item["action"]]
        changed = {"action", *filter(None, TARGETS.values())} & set(body)
        refuse_if(changed and not new and "action" not in body, 400, "action is missing")
        refuse_if(target and not item[target], 400, f"{target} is missing")
        for other in filter(None, TARGETS.values()):
            if other != target:
                item[other] = None
        if target in ("redirect_url", "redirect_prefix"):
            if changed and "redirect_http_code" not in body:
                item["redirect_http_code"] = None
            item["redirect_http_code"] = item["redirect_http_code"] or 302
        else:
            item["redirect_http_code"] = None
        if item["redirect_pool_id"]:
            self.mind_pair(self.items["listener"][item["listener_id"]], item["redirect_pool_id"])

    def mind_rule(self, item: Item, body: Item, new: bool) -> None:
        refuse_if(item["type"] in ("HEADER", "COOKIE") and not item["key"], 400, "key is missing")
        refuse_if(item["value"] is None, 400, "value is missing")

    def batch(self, pool: Item, members: list[Item], *, additive: bool) -> None:
        there = {(member["address"], member["protocol_port"]): member for member in self.of("member", "pool_id", pool["id"])}
        given = [(member["address"], member["protocol_port"]) for member in members]
        refuse_if(len(set(given)) < len(given), 400, "Member must be updated only once")
        gone = [] if additive else [member for key, member in there.items() if key not in given]
        self.check_quota("member", sum(key not in there for key in given) - len(gone))
        for key, member in zip(given, members):
            if key in there:
                refuse_if(member.get("subnet_id", there[key]["subnet_id"]) != there[key]["subnet_id"], 500, "the subnet was touched")
                body = {name: value for name, value in NEW["member"].items() if name not in ("name", "tags")}
                body.update(member)
                self.change("member", there[key], {name: value for name, value in body.items() if name not in FIXED["member"]})
            else:
                self.add("member", member, pool["id"], count=False)
        for member in gone:
            self.delete("member", member)

    def delete(self, kind: str, item: Item) -> None:
        number = item["id"]
        if kind == "pool":
            refuse_if(self.of("l7policy", "redirect_pool_id", number), 409, f"Pool {number} is in use by L7 policy")
            for listener in self.of("listener", "default_pool_id", number):
                listener["default_pool_id"] = None
        below = {
            "loadbalancer": (("listener", "loadbalancer_id"), ("pool", "loadbalancer_id")),
            "listener": (("l7policy", "listener_id"),),
            "l7policy": (("rule", "l7policy_id"),),
            "pool": (("member", "pool_id"), ("healthmonitor", "pool_id")),
        }
        for child, key in below.get(kind, ()):
            for one in self.of(child, key, number):
                self.delete(child, one)
        if kind == "l7policy":
            self.order[item["listener_id"]].remove(number)
        del self.items[kind][number]


class Neutron:
    """Floating IPs, and things with names."""

    def __init__(self) -> None:
        self.ips: dict[str, Item] = {}
        self.named: dict[str, list[Item]] = {}
        self.requests: list[str] = []

    def request(self, url: str, method: str, **options: t.Any) -> Response:
        self.requests.append(f"{method} {url}")
        number = re.sub(r"^/floatingips/?", "", url)
        if not url.startswith("/floatingips"):
            name = (options.get("params") or {}).get("name")
            plural = url.strip("/").replace("-", "_").replace("qos/", "")
            return Response(200, {plural: [one for one in self.named.get(plural, []) if one["name"] == name]})
        if method == "GET":
            params = {key: value for key, value in options["params"].items() if key != "limit"}
            found = [ip for ip in self.ips.values() if all(ip[key] == value for key, value in params.items())]
            return Response(200, {"floatingips": found})
        if method == "POST":
            body = options["json"]["floatingip"]
            number = f"fip-{len(self.requests)}"
            self.ips[number] = {"id": number, "floating_ip_address": f"203.0.113.{len(self.requests)}", **body}
            return Response(201, {"floatingip": self.ips[number]})
        if number not in self.ips:
            return Response(404, {"NeutronError": {"message": f"Floating IP {number} could not be found"}})
        if method == "DELETE":
            del self.ips[number]
            return Response(204)
        self.ips[number].update(options["json"]["floatingip"])
        return Response(200, {"floatingip": self.ips[number]})
