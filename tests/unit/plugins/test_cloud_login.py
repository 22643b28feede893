# SPDX-License-Identifier: GPL-3.0-or-later
"""A login of somebody's clouds.yaml: found as the SDK finds it, and told in a sentence when it does not work."""

from __future__ import annotations

import http.server
import json
import threading
import typing as t

import pytest
import yaml
from ansible_collections.kos.labs.plugins.module_utils.cloud_login import entry_of, is_application_credential
from ansible_collections.kos.labs.plugins.modules.cloud_login_info import look

AUTH = {"username": "anna", "password": "pw", "project_name": "p", "user_domain_name": "Default", "project_domain_name": "Default"}


class Keystone(http.server.BaseHTTPRequestHandler):
    """Answers as Keystone does, with the status and the token that a test chooses."""

    status = 201
    token: t.ClassVar[dict] = {}

    def do_GET(self):
        port = self.server.server_port
        links = [{"rel": "self", "href": f"http://127.0.0.1:{port}/v3/"}]
        self.answer(200, {"version": {"id": "v3.14", "status": "stable", "links": links}})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = {"token": self.token} if self.status == 201 else {"error": {"code": self.status, "title": "x", "message": "no"}}
        self.answer(self.status, body)

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Subject-Token", "t")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def token(**changes):
    endpoint = {"interface": "public", "region": "One", "region_id": "One", "url": "http://x", "id": "1"}
    return {
        "methods": ["password"],
        "user": {"id": "u", "name": "anna", "domain": {"id": "default", "name": "Default"}},
        "project": {"id": "p1", "name": "p", "domain": {"id": "default", "name": "Default"}},
        "roles": [{"id": "r1", "name": "member"}, {"id": "r2", "name": "reader"}],
        "expires_at": "2999-01-01T00:00:00.000000Z",
        "issued_at": "2026-01-01T00:00:00.000000Z",
        "catalog": [{"type": "compute", "id": "c", "name": "nova", "endpoints": [endpoint]}],
        **changes,
    }


@pytest.fixture
def keystone(monkeypatch):
    monkeypatch.setattr(Keystone, "status", 201)
    monkeypatch.setattr(Keystone, "token", token())
    server = http.server.HTTPServer(("127.0.0.1", 0), Keystone)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v3"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def clouds(tmp_path, monkeypatch):
    for name in ("OS_CLIENT_CONFIG_FILE", "OS_CLIENT_SECURE_FILE", "OS_CLOUD"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "clouds.yaml"

    def write(url, **entry):
        path.write_text(yaml.safe_dump({"clouds": {"mine": {"auth": {"auth_url": url, **AUTH}, **entry}}}), encoding="utf-8")
        return str(path)

    return write


def test_a_login_that_works_is_described(keystone, clouds):
    found = look("mine", clouds(keystone, cacert="/etc/ssl/mine.pem"), None)
    assert found["problem"] == ""
    assert found["login"]["auth"]["password"] == "pw"
    # The only region that there is.
    assert (found["login"]["region_name"], found["login"]["cacert"]) == ("One", "/etc/ssl/mine.pem")
    assert not found["application_credential"]
    assert found["session"] == {
        "project_id": "p1",
        "project_name": "p",
        "user_id": "u",
        "user_name": "anna",
        "roles": ["member", "reader"],
        "services": ["compute"],
    }


def test_a_password_in_secure_yaml_is_found(keystone, clouds, tmp_path, monkeypatch):
    path = clouds(keystone)
    without = {key: value for key, value in AUTH.items() if key != "password"}
    (tmp_path / "clouds.yaml").write_text(
        yaml.safe_dump({"clouds": {"mine": {"auth": {"auth_url": keystone, **without}}}}), encoding="utf-8"
    )
    (tmp_path / "secure.yaml").write_text(yaml.safe_dump({"clouds": {"mine": {"auth": {"password": "hidden"}}}}), encoding="utf-8")
    monkeypatch.setenv("OS_CLIENT_SECURE_FILE", str(tmp_path / "secure.yaml"))
    assert look("mine", path, None)["login"]["auth"]["password"] == "hidden"


def test_a_wrong_password_is_one_sentence(keystone, clouds, monkeypatch):
    monkeypatch.setattr(Keystone, "status", 401)
    path = clouds(keystone)
    problem = look("mine", path, None)["problem"]
    assert problem == (
        f"Keystone at {keystone} does not let the entry mine of {path} in: correct its user, password, domains and project, or its application credential."
    )


def test_nobody_at_the_address_is_one_sentence(clouds):
    problem = look("mine", clouds("http://127.0.0.1:1/v3"), None)["problem"]
    assert problem.startswith("No Keystone answers at http://127.0.0.1:1/v3: correct auth_url in the entry mine")


def test_an_unknown_entry_is_told_which_there_are(clouds):
    path = clouds("http://127.0.0.1:1/v3")
    assert look("other", path, None)["problem"] == f"There is no entry other in {path}: it has mine."


def test_a_file_that_is_not_there_is_named(tmp_path):
    assert look("mine", f"{tmp_path}/none.yaml", None)["problem"].startswith(f"There is no file {tmp_path}/none.yaml")


def test_a_login_without_a_project_is_refused(keystone, clouds, monkeypatch):
    unscoped = token()
    del unscoped["project"]
    monkeypatch.setattr(Keystone, "token", unscoped)
    assert "names no project: add project_name" in look("mine", clouds(keystone), None)["problem"]


def test_regions_are_named(keystone, clouds, monkeypatch):
    assert "no region Two" in look("mine", clouds(keystone, region_name="Two"), None)["problem"]
    catalog = token()["catalog"]
    other = {**catalog[0]["endpoints"][0], "region": "Two", "region_id": "Two"}
    monkeypatch.setattr(Keystone, "token", token(catalog=[{**catalog[0], "endpoints": [*catalog[0]["endpoints"], other]}]))
    assert "names no region and the cloud has One, Two" in look("mine", clouds(keystone), None)["problem"]
    assert look("mine", clouds(keystone), "Two")["login"]["region_name"] == "Two"


@pytest.mark.parametrize("auth_type", ["v3applicationcredential", "password", None])
def test_the_login_of_a_program_is_known_by_its_secret(auth_type):
    auth = {"application_credential_id": "i", "application_credential_secret": "s", "auth_url": "u", "username": "", "project_name": "p"}
    assert is_application_credential(auth_type, auth)
    entry = entry_of({"auth": auth, "auth_type": auth_type, "verify": False})
    assert entry["auth_type"] == "v3applicationcredential"
    assert set(entry["auth"]) == {"application_credential_id", "application_credential_secret", "auth_url"}
    assert entry["verify"] is False
