# SPDX-License-Identifier: GPL-3.0-or-later
"""The check against the cloud by the real SDK, over HTTP, beside what the readers themselves send."""

from __future__ import annotations

import http.server
import json
import threading

import pytest
from ansible_collections.kos.labs.plugins.module_utils import cloud_conf_verify
from ansible_collections.kos.labs.plugins.module_utils.cloud_conf import make_plan
from ansible_collections.kos.labs.plugins.module_utils.cloud_conf_gcfg import CloudConfError

# openstacksdk warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK50Warning")

NETWORK = "3dc94023-5e9c-4d36-9b3c-8c0dba2ab1c0"
SUBNET = "61bcb6ed-f8e2-4c4f-92a1-5a7d0e0a2f4d"
MISSING = "0f9f6a3c-0c3f-4f0e-8f63-b9e5b2b0ad7d"


class Keystone(http.server.BaseHTTPRequestHandler):
    """Lets everybody in but the one whose secret is wrong, and plays Neutron and Octavia, too."""

    def log_message(self, *_arguments):
        pass

    def answer(self, status, body, **headers):
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(request)
        if "wrong" in json.dumps(request):
            self.answer(401, {"error": {"code": 401, "message": "The request you have made requires authentication."}})
            return
        endpoint = {"interface": "public", "region": "r", "region_id": "r", "id": "e"}
        catalog = [
            {"type": kind, "name": kind, "id": kind, "endpoints": [{**endpoint, "url": f"{self.server.url}{path}"}]}
            for kind, path in self.server.services.items()
        ]
        token = {"methods": [], "expires_at": "2099-01-01T00:00:00.000000Z", "issued_at": "2026-01-01T00:00:00.000000Z", "catalog": catalog}
        user = {"id": "u", "name": "u", "domain": {"id": "d", "name": "d"}}
        self.answer(
            201, {"token": {**token, "user": user, "project": {"id": "p", "name": "p", "domain": user["domain"]}}}, X_Subject_Token="t"
        )

    def do_GET(self):
        path = self.path.partition("?")[0].rstrip("/")
        version = {"status": "CURRENT", "links": [{"rel": "self", "href": f"{self.server.url}{path}/"}]}
        things = {
            "/identity/v3": {"version": {**version, "id": "v3.14"}},
            "/network": {"versions": [{**version, "id": "v2.0", "links": [{"rel": "self", "href": f"{self.server.url}/network/v2.0"}]}]},
            f"/network/v2.0/networks/{NETWORK}": {"network": {"id": NETWORK, "name": "public", "router:external": True}},
            f"/network/v2.0/subnets/{SUBNET}": {"subnet": {"id": SUBNET, "name": "s", "network_id": NETWORK}},
        }
        if path in things:
            self.answer(200, things[path])
        else:
            self.answer(404, {"NeutronError": {"message": "could not be found", "type": "NotFound", "detail": ""}})


@pytest.fixture
def keystone():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keystone) as server:
        server.requests = []
        server.url = f"http://127.0.0.1:{server.server_port}"
        server.services = {"identity": "/identity", "network": "/network", "load-balancer": "/load-balancer"}
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


LOGINS = [
    {"application_credential_id": "i", "application_credential_secret": 's#"\\'},
    {"application_credential_name": "n", "application_credential_secret": "s", "user_id": "u"},
    {"application_credential_name": "n", "application_credential_secret": "s", "username": "u", "user_domain_name": "d"},
    {"application_credential_name": "n", "application_credential_secret": "s", "username": "u", "domain_id": "d"},
    {"username": "u", "password": "p", "project_name": "p", "domain_id": "d"},
    {"username": "u", "password": "p", "project_name": "p", "domain_name": "d"},
    {"username": "u", "password": "p", "project_name": "p", "user_domain_name": "d", "project_domain_id": "e"},
    {"username": "u", "password": "p", "project_name": "p", "domain_id": "d", "project_domain_id": "e"},
    {"username": "u", "password": "p", "project_id": "p", "domain_id": "d"},
    {"user_id": "u", "password": "p", "project_name": "p", "project_domain_name": "e"},
    {"user_id": "u", "password": "p", "project_id": "p"},
    {"trust_id": "t", "trustee_id": "u", "trustee_password": "p"},
    {"trust_id": "t", "user_id": "u", "password": "p"},
    {"trust_id": "t", "username": "u", "user_domain_id": "d", "password": "p"},
    {"token": "t", "project_id": "p"},
    {"token": "t", "project_name": "p", "domain_id": "d"},
]


def plan_of(keystone, login, **options):
    login = {"auth_url": f"{keystone.url}/identity/v3", "region": "r", **login}
    return make_plan({"global": login, **options}, readers=["occm"], reader_version="1.36")


@pytest.mark.parametrize("login", LOGINS, ids=lambda login: " ".join(login))
def test_it_logs_in_with_the_same_request_as_the_reader(reader, keystone, login):
    plan = plan_of(keystone, login)
    assert cloud_conf_verify.verify(plan, {}) == ["global"]
    (ours,) = keystone.requests
    theirs = reader.ask("login", "occm", plan.text)["request"][""]
    assert ours == theirs


def test_it_finds_what_is_there_and_says_what_is_not(keystone):
    good = {"floating_network_id": NETWORK, "floating_subnet_id": SUBNET}
    plan = plan_of(keystone, LOGINS[0], load_balancer=good)
    assert cloud_conf_verify.verify(plan, {}) == ["global", "load_balancer.floating_network_id", "load_balancer.floating_subnet_id"]
    keystone.services.pop("load-balancer")
    bad = {"floating_network_id": NETWORK, "subnet_id": MISSING}
    with pytest.raises(CloudConfError) as caught:
        cloud_conf_verify.verify(plan_of(keystone, LOGINS[0], load_balancer=bad, route={"router_id": MISSING}), {})
    assert str(caught.value) == (
        "the cloud has no Octavia, without which occm ends: set load_balancer.enabled to false. "
        f"load_balancer.subnet_id: the login of this file sees no subnet {MISSING}. "
        f"route.router_id: the login of this file sees no router {MISSING}."
    )


def test_it_says_that_a_login_is_refused_or_that_nobody_answers(keystone):
    with pytest.raises(CloudConfError, match=r"global: Keystone does not let this login in: .*requires authentication") as caught:
        cloud_conf_verify.verify(plan_of(keystone, {**LOGINS[0], "application_credential_secret": "wrong"}), {})
    assert "wrong" not in str(caught.value)
    login = {**LOGINS[0], "auth_url": "http://127.0.0.1:1/v3"}
    with pytest.raises(CloudConfError, match="global: Keystone does not let this login in: "):
        cloud_conf_verify.verify(plan_of(keystone, login), {})


def test_it_takes_the_login_from_clouds_yaml(keystone, tmp_path):
    auth = {"auth_url": f"{keystone.url}/identity/v3", "application_credential_id": "i", "application_credential_secret": "s"}
    clouds = {"clouds": {"one": {"auth_type": "v3applicationcredential", "auth": auth, "region_name": "r"}}}
    (tmp_path / "clouds.yaml").write_text(json.dumps(clouds), encoding="utf-8")
    login = {"use_clouds": True, "clouds_file": "/etc/config/clouds.yaml"}
    plan = make_plan({"global": login}, readers=["occm"], reader_version="1.36")
    assert cloud_conf_verify.verify(plan, {"/etc/config/clouds.yaml": str(tmp_path / "clouds.yaml")}) == ["global"]
    assert keystone.requests[0]["auth"]["identity"]["application_credential"] == {"id": "i", "secret": "s"}
