# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cloud's network is told of pods' addresses."""

from __future__ import annotations

import json
import types
import typing as t
import unittest.mock

import pytest
from ansible.errors import AnsibleFilterError
from ansible.module_utils.testing import patch_module_args
from ansible_collections.kos.labs.plugins.filter.foreign_routes import foreign_routes
from ansible_collections.kos.labs.plugins.module_utils.pod_addresses import PodAddressesError, plan_pairs, plan_routes
from ansible_collections.kos.labs.plugins.modules import pod_addresses
from hypothesis import given
from hypothesis import strategies as st

PODS = "10.1.0.0/16"
NODES = ["172.18.0.11", "172.18.0.12"]
OURS = {"destination": "10.1.0.0/24", "nexthop": "172.18.0.11"}
FOREIGN = {"destination": "198.51.100.0/24", "nexthop": "172.18.0.12"}
INTRUDER = {"destination": "10.1.9.0/24", "nexthop": "172.18.0.99"}


def pair(address: str, **more: str) -> dict[str, str]:
    return {"ip_address": address, "mac_address": "fa:16:3e:00:00:01", **more}


def test_only_routes_to_pods_over_nodes_go() -> None:
    assert plan_routes([OURS, FOREIGN, INTRUDER], pods=PODS, nexthops=NODES) == [OURS]


@pytest.mark.parametrize(
    ("destination", "harmed"),
    [
        ("10.1.9.0/24", True),
        ("10.1.0.0/16", True),
        # It ends where the pods' addresses end, and that is enough for the route controller.
        ("10.0.0.0/15", True),
        ("10.0.0.0/8", False),
        ("0.0.0.0/0", False),
        ("10.2.0.0/24", False),
        ("2001:db8::/64", False),
    ],
)
def test_routes_that_a_route_controller_would_delete(destination: str, harmed: bool) -> None:
    named = foreign_routes([{"destination": destination, "nexthop": "172.18.0.99"}], PODS, NODES)
    assert named == ([f"{destination} via 172.18.0.99"] if harmed else [])


def test_routes_over_nodes_are_not_foreign() -> None:
    assert foreign_routes([OURS], PODS, NODES) == []


def test_a_range_that_is_none_is_said_to_be_none() -> None:
    with pytest.raises(AnsibleFilterError, match=r"10\.1 is no address range"):
        foreign_routes([OURS], "10.1", NODES)


@pytest.mark.parametrize(
    ("before", "wanted", "after"),
    [
        ([], [], None),
        ([], ["10.1.0.0/24"], ["10.1.0.0/24"]),
        (["10.1.0.0/24"], ["10.1.0.0/24"], None),
        (["10.1.0.0/24"], ["10.1.1.0/24"], ["10.1.1.0/24"]),
        (["10.1.0.0/24"], [], []),
        (["10.1.0.7"], [], []),
        # A pair for all pods is somebody's decision, and to take it away would harm those within.
        (["10.1.0.0/16"], [], None),
        (["10.1.0.0/16"], ["10.1.0.0/24"], ["10.1.0.0/16", "10.1.0.0/24"]),
        # Those of others, such as a virtual address.
        (["172.18.0.100", "10.1.0.0/24"], [], ["172.18.0.100"]),
        (["172.18.0.100"], [], None),
        (["0.0.0.0/0"], [], None),
        (["2001:db8::1"], ["10.1.0.0/24"], ["2001:db8::1", "10.1.0.0/24"]),
    ],
)
def test_pairs(before: list[str], wanted: list[str], after: list[str] | None) -> None:
    planned = plan_pairs([pair(each) for each in before], pods=PODS, wanted=wanted)
    assert (planned if planned is None else [each["ip_address"] for each in planned]) == after


def test_a_pair_of_others_keeps_its_mac_address() -> None:
    theirs = pair("172.18.0.100", mac_address="fa:16:3e:00:00:99")
    planned = plan_pairs([theirs], pods=PODS, wanted=["10.1.0.0/24"])
    assert planned is not None
    assert planned[0] == theirs


def test_addresses_that_are_not_of_pods_are_refused() -> None:
    with pytest.raises(PodAddressesError, match="not within"):
        plan_pairs([], pods=PODS, wanted=["10.2.0.0/24"])


RANGES = st.integers(0, 255).map(lambda number: f"10.1.{number}.0/24")
ANYTHING = st.one_of(RANGES, st.integers(1, 254).map(lambda number: f"172.18.0.{number}"), st.just(PODS))


@given(before=st.lists(ANYTHING, unique=True), wanted=st.lists(RANGES, unique=True))
def test_what_was_planned_needs_no_other_plan(before: list[str], wanted: list[str]) -> None:
    pairs = [pair(each) for each in before]
    planned = plan_pairs(pairs, pods=PODS, wanted=wanted)
    result = pairs if planned is None else planned
    assert plan_pairs(result, pods=PODS, wanted=wanted) is None
    seen = [each["ip_address"] for each in result]
    assert {each for each in seen if each.startswith("10.1.")} == {*wanted, *({PODS} & set(before))}
    assert [each for each in seen if each.startswith("172.")] == [each for each in before if each.startswith("172.")]


class PreconditionFailedError(Exception):
    pass


class NotFoundError(Exception):
    details = "No Router found"


class Network:
    """Neutron, as the module sees it."""

    def __init__(self, *, busy: int = 0) -> None:
        self.router = types.SimpleNamespace(id="r", routes=[OURS, FOREIGN])
        self.ports = {"p": types.SimpleNamespace(id="p", revision_number=1, allowed_address_pairs=[pair("10.1.9.0/24")])}
        self.busy = busy
        self.calls: list[str] = []

    def get_port(self, name: str) -> t.Any:
        if name not in self.ports:
            raise NotFoundError
        return self.ports[name]

    def get_router(self, name: str) -> t.Any:
        return self.router

    def update_port(self, port: t.Any, *, if_revision: int, allowed_address_pairs: list[dict[str, str]]) -> None:
        self.calls.append("update_port")
        if self.busy:
            self.busy -= 1
            port.revision_number += 1
            raise PreconditionFailedError
        assert if_revision == port.revision_number
        port.allowed_address_pairs = allowed_address_pairs

    def remove_extra_routes_from_router(self, router: t.Any, body: dict[str, t.Any]) -> None:
        self.calls.append("remove_extra_routes_from_router")
        router.routes = [route for route in router.routes if route not in body["router"]["routes"]]


def run(network: Network, capsys: pytest.CaptureFixture[str], *, check: bool = False, **given_: t.Any) -> dict[str, t.Any]:
    arguments = {"range": PODS, "ports": {"p": ["10.1.0.0/24"]}, "router": "r", "nexthops": NODES, "_ansible_check_mode": check, **given_}
    exceptions = types.SimpleNamespace(PreconditionFailedException=PreconditionFailedError, NotFoundException=NotFoundError)
    login = types.SimpleNamespace(exceptions=exceptions), types.SimpleNamespace(network=network)
    with (
        patch_module_args(arguments),
        unittest.mock.patch.object(pod_addresses.PodAddresses, "openstack_cloud_from_module", return_value=login),
        pytest.raises(SystemExit),
    ):
        pod_addresses.PodAddresses().run()
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("check", [True, False])
def test_the_module_tells_what_it_does(check: bool, capsys: pytest.CaptureFixture[str]) -> None:
    network = Network()
    result = run(network, capsys, check=check)
    assert (result["changed"], result["removed_routes"], result["changed_ports"]) == (True, [OURS], ["p"])
    assert result["diff"]["after"] == {"pairs of p": ["10.1.0.0/24"], "routes": [FOREIGN]}
    assert network.calls == ([] if check else ["update_port", "remove_extra_routes_from_router"])


def test_a_second_run_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    network = Network()
    run(network, capsys)
    assert run(network, capsys)["changed"] is False


def test_routes_stay_without_a_router(capsys: pytest.CaptureFixture[str]) -> None:
    network = Network()
    run(network, capsys, router=None)
    assert network.router.routes == [OURS, FOREIGN]


def test_a_port_that_changes_meanwhile_is_read_again(capsys: pytest.CaptureFixture[str]) -> None:
    network = Network(busy=2)
    assert run(network, capsys)["changed_ports"] == ["p"]


def test_a_port_that_never_rests_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert "port p is changed by others all the time" in run(Network(busy=99), capsys)["msg"]


def test_a_port_that_is_gone_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert "run playbooks/nodes.yaml" in run(Network(), capsys, ports={"gone": []})["msg"]
