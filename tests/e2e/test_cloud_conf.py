# SPDX-License-Identifier: GPL-3.0-or-later
"""kos.labs.cloud_conf with a real cloud behind it: the login and the ids of a file are tried before it is written."""

from __future__ import annotations

import json
import stat
import subprocess
import typing as t
import uuid

import pytest
import yaml


@pytest.fixture
def write(paths, tmp_path):
    """Return a run of the module: what it returns, for options over those of the cluster's own credential."""
    auth = yaml.safe_load((paths.state / "clouds.yaml").read_text(encoding="utf-8"))["clouds"]["kos-cluster"]["auth"]
    login = {name: auth[name] for name in ("auth_url", "application_credential_id", "application_credential_secret")}

    def run(*, secret: str | None = None, **sections: t.Any) -> dict[str, t.Any]:
        login_here = {**login, **({"application_credential_secret": secret} if secret else {})}
        # Not every lab's cloud has load balancers.
        options = {
            "path": str(tmp_path / "cloud.conf"),
            "verify": True,
            "global": login_here,
            "load_balancer": {"enabled": False},
            **sections,
        }
        # The options hold a secret: they go into a file, not onto a command line.
        play = [{"hosts": "localhost", "gather_facts": False, "tasks": [{"name": "Write", "kos.labs.cloud_conf": options}]}]
        (tmp_path / "play.yaml").write_text(yaml.safe_dump(play), encoding="utf-8")
        done = subprocess.run(
            ["ansible-playbook", str(tmp_path / "play.yaml")],
            cwd=paths.root,
            env={**paths.environment(), "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json", "ANSIBLE_LOG_PATH": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        assert login_here["application_credential_secret"] not in done.stdout + done.stderr
        return json.loads(done.stdout)["plays"][0]["tasks"][0]["hosts"]["localhost"]

    run.file = tmp_path / "cloud.conf"
    return run


@pytest.fixture(scope="module")
def router(tenant):
    return tenant("router", "list", "-f", "value", "-c", "ID")


def test_what_the_cloud_knows_is_written_once(write, router):
    result = write(route={"router_id": router})
    assert (result["changed"], result.get("msg")) == (True, None)
    assert stat.S_IMODE(write.file.stat().st_mode) == 0o600
    assert f"router-id={router}" in write.file.read_text(encoding="utf-8").replace(" ", "").replace('"', "")
    assert not write(route={"router_id": router})["changed"]


def test_a_router_that_is_not_there_is_refused(write):
    unknown = str(uuid.uuid4())
    result = write(route={"router_id": unknown})
    assert result["failed"]
    assert unknown in result["msg"]
    assert not write.file.exists()


def test_a_wrong_secret_is_refused(write, router):
    result = write(secret="not the secret", route={"router_id": router})
    assert result["failed"]
    assert "does not let this login in" in result["msg"]
    assert not write.file.exists()
