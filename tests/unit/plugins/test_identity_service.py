# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import types

import pytest
from ansible_collections.kos.labs.plugins.module_utils.identity_service import (
    Endpoint,
    Found,
    IdentityServiceError,
    Wanted,
    make_plan,
)
from ansible_collections.kos.labs.plugins.modules.identity_service import Adapter
from keystoneauth1 import exceptions
from keystoneauth1.identity import v3

WANTED = Wanted(
    user="glance",
    project="service",
    roles=["service", "admin"],
    service="glance",
    type="image",
    description="OpenStack Image",
    region="RegionOne",
    urls={"public": "http://192.0.2.1:9292", "internal": "http://10.0.0.2:9292"},
)
ALL = Found(
    project_id="p",
    role_ids={"service": "r1", "admin": "r2"},
    user_id="u",
    user_can_log_in=True,
    assigned_roles=frozenset({"service", "admin", ""}),
    region_exists=True,
    service_id="s",
    service_name="glance",
    service_description="OpenStack Image",
    endpoints={
        "public": Endpoint("e1", "http://192.0.2.1:9292"),
        "internal": Endpoint("e2", "http://10.0.0.2:9292"),
        "admin": Endpoint("e3", "http://elsewhere"),
    },
)


def actions(found):
    return [(step.action, step.name) for step in make_plan(found, WANTED)]


def test_nothing_to_do():
    assert actions(ALL) == []


def test_from_nothing():
    assert actions(Found()) == [
        ("create_project", "service"),
        ("create_role", "service"),
        ("create_role", "admin"),
        ("create_user", "glance"),
        ("assign_role", "service"),
        ("assign_role", "admin"),
        ("create_region", "RegionOne"),
        ("create_service", "image"),
        ("create_endpoint", "public"),
        ("create_endpoint", "internal"),
    ]


@pytest.mark.parametrize(
    ("change", "steps"),
    [
        ({"user_can_log_in": False}, [("repair_user", "glance")]),
        ({"assigned_roles": frozenset({"admin"})}, [("assign_role", "service")]),
        ({"service_name": "images"}, [("update_service", "image")]),
        ({"endpoints": {"internal": ALL.endpoints["internal"]}}, [("create_endpoint", "public")]),
        (
            {"endpoints": {**ALL.endpoints, "public": Endpoint("e1", "http://192.0.2.9:9292")}},
            [("update_endpoint", "public")],
        ),
    ],
)
def test_only_what_is_missing(change, steps):
    assert actions(dataclasses.replace(ALL, **change)) == steps


class Identity:
    """Stands for the SDK's proxy: objects with an id, kept in lists."""

    def __init__(self):
        self.known = {"project": [], "role": [], "user": [], "service": [], "endpoint": [], "region": []}
        self.assignments = []
        for kind in self.known:
            setattr(self, f"{kind}s", lambda kind=kind, **query: iter(self._find(kind, query)))
            setattr(self, f"create_{kind}", lambda kind=kind, **values: self._create(kind, values))
            setattr(self, f"update_{kind}", lambda id, kind=kind, **values: self._update(kind, id, values))

    def _find(self, kind, query):
        return [item for item in self.known[kind] if all(getattr(item, key, None) == value for key, value in query.items())]

    def _create(self, kind, values):
        item = types.SimpleNamespace(**{"id": f"{kind}{len(self.known[kind])}", "is_enabled": True, "description": None, **values})
        self.known[kind].append(item)
        return item

    def _update(self, kind, id, values):
        vars(next(item for item in self.known[kind] if item.id == id)).update(values)

    def role_assignments(self, *, user_id, scope_project_id):
        return [
            types.SimpleNamespace(role={"id": role})
            for project, user, role in self.assignments
            if (project, user) == (scope_project_id, user_id)
        ]

    def assign_project_role_to_user(self, project, user, role):
        assert None not in (project, user, role)
        self.assignments.append((project, user, role))


def run(identity, password="right", wanted=WANTED):
    adapter = Adapter(connection=types.SimpleNamespace(identity=identity), wanted=wanted, domain_id="default", password=password)
    adapter.accepts = lambda login, *, password, **_: identity.known["user"][0].password == password
    steps = make_plan(adapter.read(), wanted)
    for step in steps:
        adapter.take(step)
    return steps


def test_second_run_has_nothing_to_do():
    identity = Identity()
    assert len(run(identity)) == 10
    assert run(identity) == []


def test_new_password_and_address_are_repaired():
    identity = Identity()
    run(identity)
    moved = dataclasses.replace(WANTED, urls={**WANTED.urls, "public": "https://cloud"}, description="Images")
    assert [step.action for step in run(identity, "new", moved)] == ["repair_user", "update_service", "update_endpoint"]
    assert run(identity, "new", moved) == []


def test_a_disabled_user_is_let_in_again():
    identity = Identity()
    run(identity)
    identity.known["user"][0].is_enabled = False
    assert [step.action for step in run(identity)] == ["repair_user"]
    assert run(identity) == []


def test_two_services_of_a_type_are_not_guessed_at():
    identity = Identity()
    for name in ("glance", "images"):
        identity.create_service(name=name, type="image")
    with pytest.raises(IdentityServiceError, match="remove all but one"):
        run(identity)


@pytest.mark.parametrize("may_be_gone", [False, True])
def test_what_keystone_does_not_find(monkeypatch, may_be_gone):
    class Login:
        def __init__(self, **_):
            pass

        def get_token(self, _session):
            raise exceptions.NotFound("no such thing")

    monkeypatch.setattr(v3, "Password", Login)
    config = types.SimpleNamespace(get_auth_args=lambda: {"auth_url": "http://192.0.2.1:5000/wrong"})
    connection = types.SimpleNamespace(identity=Identity(), config=config, session=None)
    adapter = Adapter(connection=connection, wanted=WANTED, domain_id="default", password="x")
    if may_be_gone:
        assert not adapter.accepts("Password", may_be_gone=True)
    else:
        with pytest.raises(exceptions.NotFound):
            adapter.accepts("Password")
