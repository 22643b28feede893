# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to a cloud."""

from __future__ import annotations

import types
import typing as t

import keystoneauth1.exceptions
import openstack
import pytest
from ansible_collections.kos.labs.plugins.modules.cloud_resources_info import (
    CloudResourcesInfo,
    QuestionError,
    check_question,
    fill,
    method_name,
)


@pytest.mark.parametrize(
    ("question", "method"),
    [
        ({"type": "network"}, "networks"),
        ({"type": "policy"}, "policies"),
        ({"type": "amphora"}, "amphorae"),
        ({"type": "quota_set", "id": "x"}, "get_quota_set"),
    ],
)
def test_method_name(question: dict[str, t.Any], method: str) -> None:
    assert method_name(question) == method


@pytest.mark.parametrize(
    "question",
    [
        "networks",
        {"service": "network"},
        {"service": "a b", "type": "c"},
        {"service": "a", "type": "b", "delete": 1},
        {"service": "a", "type": "b", "optional": "no"},
    ],
)
def test_bad_questions(question: t.Any) -> None:
    with pytest.raises(QuestionError, match=r"resources\.x"):
        check_question("x", question)


def test_fill() -> None:
    assert fill({"a": ["{project_id}", 1], "b": "x{user_id}"}, {"project_id": "p", "user_id": "u"}) == {"a": ["p", 1], "b": "xu"}


class Absent:
    """A service that the catalog does not have, as the SDK shows it."""

    def __getattr__(self, name: str) -> t.NoReturn:
        raise openstack.exceptions.ServiceDisabledException("not in the catalog")


class Broken:
    """A service that does not work at the moment."""

    def load_balancers(self) -> t.NoReturn:
        raise openstack.exceptions.HttpException("500")


class Locked:
    """A cloud that does not let anybody in; whoever connects loses the name of the entry."""

    def __init__(self, params: dict[str, t.Any]) -> None:
        self.params = params

    def load_balancers(self) -> t.NoReturn:
        del self.params["cloud"]
        raise keystoneauth1.exceptions.Unauthorized("The request you have made requires authentication.")


def answer(service: t.Any, *, optional: bool) -> dict[str, t.Any]:
    module = object.__new__(CloudResourcesInfo)
    said: dict[str, t.Any] = {}
    module.sdk, module.conn = openstack, types.SimpleNamespace(load_balancer=service)
    module.params = {"resources": {"x": {"service": "load_balancer", "type": "load_balancer", "optional": optional}}}
    module.exit_json = lambda **result: said.update(result)
    module.run()
    return said


def test_a_service_that_the_cloud_does_not_have_may_be_optional() -> None:
    said = answer(Absent(), optional=True)
    assert (said["resources"], said["refused"]) == ({"x": []}, {"x": "not in the catalog"})


@pytest.mark.parametrize(("service", "optional"), [(Absent, False), (Broken, True)])
def test_other_silence_is_an_error(service: type, optional: bool) -> None:
    with pytest.raises(openstack.exceptions.SDKException):
        answer(service(), optional=optional)


def test_a_wrong_secret_is_told() -> None:
    module = object.__new__(CloudResourcesInfo)
    module.params = {"cloud": "mine", "resources": {"x": {"service": "load_balancer", "type": "load_balancer"}}}
    module.sdk, module.conn = openstack, types.SimpleNamespace(load_balancer=Locked(module.params))
    module.fail_json = fail
    with pytest.raises(SystemExit, match="does not let the login mine in: correct its secret"):
        module.run()


def fail(msg: str) -> t.NoReturn:
    raise SystemExit(msg)
