# SPDX-License-Identifier: GPL-3.0-or-later
"""Octavia and Neutron as the planner of load balancers needs them: reads trees, takes steps, waits, with as few calls as the API allows."""

from __future__ import annotations

import dataclasses
import re
import time
import typing as t
import urllib.parse

from ansible_collections.kos.labs.plugins.module_utils.octavia_lb import (
    KINDS,
    FloatingIP,
    FloatingIPWish,
    OctaviaError,
    Part,
    Plan,
    Policy,
    Purge,
    Ref,
    Step,
    endpoint,
    from_api,
    make_plan,
    parse,
    to_dict,
)

__all__ = ["Result", "Service", "reconcile"]

Json = dict[str, t.Any]

_COLLECTIONS = {
    "load_balancer": "/lbaas/loadbalancers",
    "listener": "/lbaas/listeners",
    "pool": "/lbaas/pools",
    "health_monitor": "/lbaas/healthmonitors",
    "l7policy": "/lbaas/l7policies",
}
_CHILDREN = {"member": ("/lbaas/pools", "members"), "rule": ("/lbaas/l7policies", "rules")}
# Without a limit Octavia always offers a next page, and it is always empty.
_PAGE = 1000
_BUSY = re.compile(r"immutable|invalid state", re.IGNORECASE)
_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)
_SHOWN_PARTS = 40


class Client(t.Protocol):
    """What is used of a proxy of openstacksdk."""

    def request(self, url: str, method: str, **kwargs: t.Any) -> t.Any:
        """Send a request and return the response, whatever its status."""


@dataclasses.dataclass
class Service:
    """The two services and how to wait for them; counts the calls."""

    load_balancer: Client
    # A client of the network service, or None where the cloud has none; made when it is needed.
    network: t.Callable[[], Client | None]
    project_id: str = ""
    wait: bool = True
    timeout: float = 180
    sleep: t.Callable[[float], None] = time.sleep
    clock: t.Callable[[], float] = time.monotonic
    calls: int = 0

    # --- Requests ---------------------------------------------------------------------------------------------------------------------

    def send(self, method: str, url: str, *, client: Client | None = None, **kwargs: t.Any) -> t.Any:
        """Send one request and count it."""
        from keystoneauth1.exceptions import ClientException

        self.calls += 1
        # A connection that breaks says nothing about what became of the request: only what may be done twice is tried again.
        retries = 0 if method == "POST" else 3
        try:
            return (client or self.load_balancer).request(url, method, raise_exc=False, connect_retries=retries, **kwargs)
        except ClientException as exc:
            raise OctaviaError(f"{method} {url} failed: {exc}") from exc

    def get(self, url: str, **kwargs: t.Any) -> Json:
        """Read something that is there."""
        return _answer("GET", url, self.send("GET", url, **kwargs))

    def list_all(self, url: str, key: str, params: t.Mapping[str, str] | None = None, *, client: Client | None = None) -> list[Json]:
        """Read all pages of a list."""
        found: list[Json] = []
        asked: Json = {**(params or {}), "limit": _PAGE}
        while True:
            page = self.get(url, client=client, params=asked)
            found += page.get(key) or []
            following = [link["href"] for link in page.get(f"{key}_links") or () if link.get("rel") == "next"]
            if not following or not page.get(key):
                return found
            asked = {**asked, **dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(following[0]).query))}

    def write(self, method: str, url: str, balancer_id: str, **kwargs: t.Any) -> Json:
        """Change something; as long as the load balancer is busy with what somebody else asked for, wait and try again."""
        end = self.clock() + self.timeout
        for pause in _pauses():
            response = self.send(method, url, **kwargs)
            if response.status_code != 409 or not _BUSY.search(_fault(response)) or self.clock() > end:
                break
            self.sleep(pause)
            self.until_active(balancer_id)
        if method == "DELETE" and response.status_code == 404:
            # Somebody else was faster, or the answer to the first try was lost.
            return {}
        return _answer(method, url, response)

    # --- Waiting ----------------------------------------------------------------------------------------------------------------------

    def _poll(self, balancer_id: str) -> Json | None:
        url = f"/lbaas/loadbalancers/{balancer_id}"
        response = self.send("GET", url)
        if response.status_code == 404:
            return None
        balancer: Json = _answer("GET", url, response)["loadbalancer"]
        return None if balancer["provisioning_status"] == "DELETED" else balancer

    def until(self, balancer_id: str, statuses: t.Collection[str | None], what: str) -> Json | None:
        """Wait until the load balancer has one of these provisioning statuses; None stands for gone."""
        end = self.clock() + self.timeout
        status: str | None = None
        for pause in _pauses():
            balancer = self._poll(balancer_id)
            status = balancer["provisioning_status"] if balancer else None
            if status in statuses:
                return balancer
            if status in ("ERROR", None) or self.clock() > end:
                break
            self.sleep(pause)
        if status is None:
            raise OctaviaError(f"load balancer {balancer_id} has gone while this waited for it to be {what}")
        lines = self.parts(balancer_id)
        why = "is in ERROR" if status == "ERROR" else f"is not {what} after {self.timeout:g} s"
        raise OctaviaError("the load balancer {}:\n{}".format(why, "\n".join(lines)), parts=lines)

    def until_active(self, balancer_id: str) -> Json:
        """Wait until changes are possible again."""
        return t.cast("Json", self.until(balancer_id, ("ACTIVE",), "ACTIVE"))

    def parts(self, balancer_id: str) -> list[str]:
        """Return a line for each part with its statuses; the more parts there are, the fewer of the sound ones are named."""
        response = self.send("GET", f"/lbaas/loadbalancers/{balancer_id}/status")
        if response.status_code >= 400:
            return [f"load balancer {balancer_id}: its status tree cannot be read"]
        lines = list(_status_lines("load balancer", response.json()["statuses"]["loadbalancer"]))
        if len(lines) > _SHOWN_PARTS:
            sound = [line for line in lines if line.endswith((": ACTIVE, ONLINE", ": ACTIVE, NO_MONITOR"))]
            lines = [line for line in lines if line not in sound]
            lines.append(f"{len(sound)} other parts: ACTIVE, ONLINE or NO_MONITOR")
        return lines

    # --- Reading ----------------------------------------------------------------------------------------------------------------------

    def find(self, name: str) -> Json | None:
        """Return the load balancer of this name, without what is in it."""
        mine = {"project_id": self.project_id} if self.project_id else {}
        found = self.list_all("/lbaas/loadbalancers", "loadbalancers", {"name": name, **mine})
        if len(found) > 1:
            raise OctaviaError(f"{len(found)} load balancers are called {name}: {', '.join(sorted(one['id'] for one in found))}")
        return found[0] if found else None

    def tree(self, balancer: Json, members: t.Mapping[str, list[Json]] | None = None) -> Json:
        """Return a load balancer with all that is in it, in the form of the API's answer to a new one.

        Members that are known already are given by the id of their pool.
        """
        where = {"loadbalancer_id": balancer["id"]}
        listeners = self.list_all("/lbaas/listeners", "listeners", where) if balancer.get("listeners") else []
        pools = self.list_all("/lbaas/pools", "pools", where) if balancer.get("pools") else []
        project = {"project_id": balancer["project_id"]} if balancer.get("project_id") else {}
        monitor_ids = [pool["healthmonitor_id"] for pool in pools if pool.get("healthmonitor_id")]
        monitors = {one["id"]: one for one in self._some("health_monitor", "healthmonitors", monitor_ids, project)}
        policy_ids = [policy["id"] for listener in listeners for policy in listener.get("l7policies") or ()]
        policies = {one["id"]: one for one in self._some("l7policy", "l7policies", policy_ids, project)}
        for pool in pools:
            if pool.get("members"):
                known = (members or {}).get(pool["id"])
                pool["members"] = self.list_all(f"/lbaas/pools/{pool['id']}/members", "members") if known is None else known
            pool["healthmonitor"] = monitors.get(pool.get("healthmonitor_id"))
        for policy in policies.values():
            if policy["id"] in policy_ids and policy.get("rules"):
                policy["rules"] = self.list_all(f"/lbaas/l7policies/{policy['id']}/rules", "rules")
        for listener in listeners:
            listener["l7policies"] = [policies[one["id"]] for one in listener.get("l7policies") or () if one["id"] in policies]
        return {**balancer, "listeners": listeners, "pools": pools}

    def _some(self, kind: str, plural: str, ids: t.Sequence[str], project: Json) -> list[Json]:
        """Return parts that cannot be asked for by load balancer: one by its id, several with all of the project."""
        if not ids:
            return []
        if len(ids) == 1:
            return [self.get(f"{_COLLECTIONS[kind]}/{ids[0]}")[KINDS[kind].body]]
        return self.list_all(_COLLECTIONS[kind], plural, project)

    # --- Names ------------------------------------------------------------------------------------------------------------------------

    def neutron(self) -> Client:
        """Return the client of the network service."""
        client = self.network()
        if client is None:
            raise OctaviaError("the cloud has no network service, so subnets, networks and the like must be given by id")
        return client

    def resolve(self, params: t.Mapping[str, t.Any]) -> Json:
        """Return the options with ids in place of names; what looks like an id is taken as one."""
        known: dict[tuple[str, str], str] = {}

        def look_up(what: str, name: str) -> str:
            if not name or _UUID.fullmatch(name):
                return name
            if (what, name) not in known:
                if what == "flavors":
                    found = self.list_all("/lbaas/flavors", what, {"name": name})
                else:
                    found = self.list_all(f"/{what}", what.replace("-", "_").replace("qos/", ""), {"name": name}, client=self.neutron())
                if len(found) != 1:
                    raise OctaviaError(f"{len(found) or 'no'} {what.split('/')[-1]} are called {name}; give an id")
                known[what, name] = found[0]["id"]
            return known[what, name]

        def each(options: t.Mapping[str, t.Any], **names: str) -> Json:
            changed = dict(options)
            for option, what in names.items():
                value = changed.get(option)
                if isinstance(value, list):
                    changed[option] = [look_up(what, one) for one in value]
                elif value is not None:
                    changed[option] = look_up(what, value)
            return changed

        done = each(
            params,
            vip_subnet="subnets",
            vip_network="networks",
            vip_port="ports",
            vip_qos_policy="qos/policies",
            vip_security_groups="security-groups",
            flavor="flavors",
        )
        if done.get("additional_vips"):
            done["additional_vips"] = [each(vip, subnet="subnets") for vip in done["additional_vips"]]
        if done.get("pools"):
            done["pools"] = [
                {**pool, "members": [each(member, subnet="subnets") for member in pool["members"]]} if pool.get("members") else pool
                for pool in done["pools"]
            ]
        if done.get("floating_ip"):
            done["floating_ip"] = each(done["floating_ip"], network="networks")
        return done

    # --- Floating IPs -----------------------------------------------------------------------------------------------------------------

    def floating_ips(self, name: str, port: str, wish: FloatingIPWish | None) -> list[FloatingIP]:
        """Return the floating IPs that matter: on the VIP's port, ours, and the one with the wanted address."""
        client = self.neutron()
        found: dict[str, FloatingIP] = {}

        def add(**params: str) -> None:
            for one in self.list_all("/floatingips", "floatingips", params, client=client):
                found[one["id"]] = FloatingIP(
                    id=one["id"],
                    address=one["floating_ip_address"],
                    network=one["floating_network_id"],
                    port=one.get("port_id") or "",
                    ours=one.get("description") == _mark(name),
                )

        if port and wish is not None:
            add(port_id=port)
        wanted = wish is not None and (wish.network or wish.address)
        fits = [ip for ip in found.values() if wish and wish.address in ("", ip.address) and wish.network in ("", ip.network)]
        if not (wanted and len(found) == len(fits) == 1):
            add(description=_mark(name))
            if wish is not None and wish.address:
                add(floating_ip_address=wish.address)
        return list(found.values())


def _mark(name: str) -> str:
    """How we know again what we made."""
    return f"Made by kos.labs.octavia_lb for load balancer {name}"


def _pauses() -> t.Iterator[float]:
    pause = 0.5
    while True:
        yield pause
        pause = min(pause * 1.5, 3.0)


def _fault(response: t.Any) -> str:
    try:
        body = response.json()
    except ValueError:
        return str(response.text or response.status_code)
    if isinstance(body, dict):
        for content in (body, *body.values()):
            if isinstance(content, dict):
                for key in ("faultstring", "message"):
                    if content.get(key):
                        return str(content[key])
    return str(body)


def _answer(method: str, url: str, response: t.Any) -> Json:
    if response.status_code >= 400:
        raise OctaviaError(f"{method} {url} was refused with {response.status_code}: {_fault(response)}", status=response.status_code)
    return t.cast("Json", response.json()) if response.status_code != 204 and response.text else {}


def _status_lines(title: str, part: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    place = endpoint(part["address"], part["protocol_port"]) if part.get("address") else part.get("id", "")
    name = part.get("name") or place
    yield f"{title} {name}: {part.get('provisioning_status')}, {part.get('operating_status')}"
    for key, word in (("listeners", "listener"), ("pools", "pool"), ("members", "member")):
        for child in part.get(key) or ():
            yield from _status_lines(word, child)
    if part.get("health_monitor"):
        yield from _status_lines("health monitor", part["health_monitor"])


# --- From options to the end ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Result:
    """What was done, or would be."""

    plan: Plan
    load_balancer: Json
    floating_ip: str
    # Steps that would still be needed, because the cloud keeps something else than it was given.
    left: tuple[Step, ...] = ()


def reconcile(service: Service, params: t.Mapping[str, t.Any], *, check_mode: bool) -> Result:
    """Read, plan, and unless this is check mode act."""
    return _Run(service, params, check_mode).result()


class _Run:
    def __init__(self, service: Service, params: t.Mapping[str, t.Any], check_mode: bool) -> None:
        self.service, self.check_mode = service, check_mode
        self.present = params["state"] == "present"
        self.params = service.resolve(params) if self.present else dict(params)
        self.want = parse(self.params) if self.present else None
        floating_ip = self.params.get("floating_ip") if self.present else None
        self.wish = (
            None
            if floating_ip is None
            else FloatingIPWish(network=floating_ip.get("network") or "", address=floating_ip.get("address") or "")
        )
        purge = {level: bool(value) for level, value in (params.get("purge") or {}).items() if value is not None}
        self.policy = Policy(recreate=params["recreate"] == "when_needed", on_error=params["on_error"], purge=Purge(**purge))
        self.balancer: Json | None = None
        self.tree: Json | None = None
        self.ids: dict[tuple[str, ...], str] = {}
        # Pools whose members have been touched.
        self.touched: set[str] = set()

    def result(self) -> Result:
        name = self.params["name"]
        self.balancer = self.service.find(name)
        if self.balancer and not self.check_mode and self.balancer["provisioning_status"].startswith("PENDING"):
            statuses = ("ACTIVE", "ERROR") if self.present else ("ACTIVE", "ERROR", None)
            self.balancer = self.service.until(self.balancer["id"], statuses, "ACTIVE")
        if self.balancer and self.present:
            self.tree = self.service.tree(self.balancer)
        have = self._have()
        ips = self._ips(name)
        plan = self._plan(have, ips)
        if self.balancer and self.wish is None and plan.rebuilds and self.service.network():
            # What hangs on the old port has to move to the new one.
            ips = self.service.floating_ips(name, self.balancer.get("vip_port_id") or "", FloatingIPWish())
            plan = self._plan(have, ips)
        address = next((ip.address for ip in ips if self.balancer and ip.port == self.balancer.get("vip_port_id")), "")
        left: tuple[Step, ...] = ()
        if plan.steps and not self.check_mode:
            self.ids = dict(plan.ids)
            of_balancer = [step for step in plan.steps if step.kind != "floating IP"]
            for step in plan.steps:
                address = self.take(step, address, last=bool(of_balancer) and step is of_balancer[-1])
            have = self._after(of_balancer)
            if self.want and have and self.service.wait:
                left = make_plan(want=self.want, have=have, policy=Policy(True, "failover", self.policy.purge)).steps
        return Result(plan, self._shown(have), address, left)

    def _plan(self, have: Part | None, ips: t.Sequence[FloatingIP]) -> Plan:
        return make_plan(want=self.want, have=have, policy=self.policy, wish=self.wish, ips=ips)

    def _have(self) -> Part | None:
        tree = self.tree or self.balancer
        if tree is None:
            return None
        # Only the load balancer itself matters when it is to go.
        return from_api(tree if self.tree else {**tree, "listeners": [], "pools": []})

    def _ips(self, name: str) -> list[FloatingIP]:
        if self.present and self.wish is None:
            return []
        if not self.present and self.service.network() is None:
            return []
        port = (self.balancer or {}).get("vip_port_id") or ""
        return self.service.floating_ips(name, port, self.wish)

    def _shown(self, have: Part | None) -> Json:
        if have is None or self.balancer is None:
            return {}
        status = {key: self.balancer.get(key) or "" for key in ("provisioning_status", "operating_status")}
        vip = {f"{what}_id": self.balancer.get(f"{what}_id") or "" for what in ("vip_port", "vip_subnet", "vip_network")}
        shown = {**to_dict(have), **status, **vip, "vip_address": self.balancer.get("vip_address") or ""}
        return shown if self.tree else {key: value for key, value in shown.items() if key not in ("listeners", "pools")}

    # --- Steps ------------------------------------------------------------------------------------------------------------------------

    def take(self, step: Step, address: str, *, last: bool) -> str:
        """Take one step and wait for it; return the address of the floating IP."""
        if step.kind == "floating IP":
            return self._take_ip(step, address)
        balancer_id = self.balancer["id"] if self.balancer else ""
        answer = self.service.write(*self._request(step), balancer_id, **self._content(step))
        made = answer.get(KINDS[step.kind].body) or {}
        if step.path and made:
            self.ids[step.path] = made["id"]
        if step.kind in ("member", "pool"):
            self.touched.add(self.ids.get(step.parent, "") or made.get("id", ""))
        if step.kind == "load_balancer" and step.verb == "create":
            self.tree = self.balancer = made
        if last and not self.service.wait:
            return address
        if step.kind == "load_balancer" and step.verb == "delete":
            self.balancer = self.service.until(balancer_id, (None,), "gone")
        else:
            # Creating may have told us the id only now.
            self.balancer = self.service.until_active(t.cast("Json", self.balancer)["id"])
        return address

    def _request(self, step: Step) -> tuple[str, str]:
        number = self._resolve(step.id)
        if step.kind in _CHILDREN:
            above, below = _CHILDREN[step.kind]
            url = f"{above}/{self.ids[step.parent]}/{below}"
        else:
            url = _COLLECTIONS[step.kind]
        if step.verb in ("update", "delete"):
            url += f"/{number}"
        if step.verb == "failover":
            url += f"/{number}/failover"
        return {"create": "POST", "delete": "DELETE"}.get(step.verb, "PUT"), url

    def _content(self, step: Step) -> Json:
        body = {key: self._resolve(value) for key, value in step.body.items()}
        if step.verb in ("create", "update"):
            return {"json": {KINDS[step.kind].body: body}}
        if step.verb == "members":
            return {"json": body, **({"params": {"additive_only": "True"}} if step.additive else {})}
        if step.verb == "delete" and step.kind == "load_balancer":
            return {"params": {"cascade": "true"}}
        return {}

    def _resolve(self, value: t.Any) -> t.Any:
        return self.ids[value.path] if isinstance(value, Ref) else value

    def _take_ip(self, step: Step, address: str) -> str:
        client = self.service.neutron()
        port = self.balancer.get("vip_port_id") if self.balancer else None
        url = f"/floatingips/{step.id}"
        if step.verb == "allocate":
            body = {**step.body, "port_id": port, "description": _mark(self.params["name"])}
            response = self.service.send("POST", "/floatingips", client=client, json={"floatingip": body})
            return str(_answer("POST", "/floatingips", response)["floatingip"]["floating_ip_address"])
        if step.verb == "release":
            response = self.service.send("DELETE", url, client=client)
            if response.status_code != 404:
                _answer("DELETE", url, response)
            return "" if step.label == address else address
        wanted = port if step.verb == "associate" else None
        _answer("PUT", url, self.service.send("PUT", url, client=client, json={"floatingip": {"port_id": wanted}}))
        if step.verb == "associate":
            return step.label
        return "" if step.label == address else address

    def _after(self, steps: t.Sequence[Step]) -> Part | None:
        """Return what is there now; what nobody touched is not read again."""
        if self.balancer is None or not self.present:
            return self._have() if self.balancer else None
        made = bool(steps) and steps[-1].verb == "create" and steps[-1].kind == "load_balancer"
        if made and self.tree:
            top = {key: value for key, value in self.balancer.items() if key not in ("listeners", "pools")}
            self.tree = {**self.tree, **top}
        elif steps and self.tree:
            untouched = {pool["id"]: pool.get("members") or [] for pool in self.tree["pools"] if pool["id"] not in self.touched}
            self.tree = self.service.tree(self.balancer, untouched)
        return self._have()
