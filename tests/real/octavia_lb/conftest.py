# SPDX-License-Identifier: GPL-3.0-or-later
"""A cloud with Octavia, named by KOS_OCTAVIA_CLOUD in clouds.yaml.

Any cloud will do. One whose load balancers do nothing, but whose API, database, queue and worker are real, is made like this:

    export KOS_STATE=/var/tmp/octavia ANSIBLE_INVENTORY=hosts.yaml,/var/tmp/octavia/inventory
    tools/sandbox up
    .venv/bin/ansible-playbook tests/real/octavia_lb/noop_cloud.yaml
    KOS_OCTAVIA_CLOUD=kos-admin OS_CLIENT_CONFIG_FILE=$KOS_STATE/clouds.yaml .venv/bin/pytest -s tests/real/octavia_lb
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import time
import typing as t

import openstack
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
Options = dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a task said, how many requests it sent, and how long it took."""

    result: Options
    requests: int
    seconds: float


@pytest.fixture(scope="session")
def cloud() -> str:
    name = os.environ.get("KOS_OCTAVIA_CLOUD")
    if not name:
        pytest.skip("KOS_OCTAVIA_CLOUD names no entry of clouds.yaml; tests/real/octavia_lb/noop_cloud.yaml makes a cloud for these tests")
    return name


@pytest.fixture(scope="session")
def connection(cloud: str) -> t.Any:
    return openstack.connect(cloud=cloud)


@pytest.fixture(scope="session")
def subnet(connection: t.Any) -> t.Iterator[str]:
    """A subnet for virtual IPs. Where there is no Neutron, Octavia's own driver without networks takes any id."""
    if not connection.has_service("network"):
        yield "7f5b3a52-1f5e-4d0b-9f0b-3d1f0b6a7c01"
        return
    network = connection.network.create_network(name="kos-octavia-lb-test")
    try:
        yield connection.network.create_subnet(network_id=network.id, ip_version=4, cidr="10.211.0.0/24", name="kos-octavia-lb-test").id
    finally:
        connection.network.delete_network(network.id)


@pytest.fixture(scope="session")
def play(cloud: str, tmp_path_factory: pytest.TempPathFactory) -> t.Callable[..., list[Outcome]]:
    """Run tasks in one play, as a user does."""
    folder = tmp_path_factory.mktemp("play")
    # Nothing of this clone's own settings may add to what is printed.
    settings = folder / "ansible.cfg"
    settings.touch()

    def run(tasks: list[tuple[str, Options]], *, check_mode: bool = False, may_fail: bool = False) -> list[Outcome]:
        log, playbook = folder / "sdk.log", folder / "play.yaml"
        log.unlink(missing_ok=True)
        traced = {"cloud": cloud, "sdk_log_path": str(log), "sdk_log_level": "DEBUG"}
        listed = [{"name": f"Task {number}", name: {**traced, **options}} for number, (name, options) in enumerate(tasks)]
        playbook.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": listed}]), encoding="utf-8")
        environment = {
            **os.environ,
            "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}",
            "ANSIBLE_CONFIG": str(settings),
            "ANSIBLE_INVENTORY": str(ROOT / "hosts.yaml"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".venv"),
        }
        argv = ["ansible-playbook", *(["--check"] if check_mode else []), "--diff", str(playbook)]
        start = time.monotonic()
        done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - start
        assert may_fail or done.returncode == 0, done.stdout + done.stderr
        results = [task["hosts"]["localhost"] for one in json.loads(done.stdout)["plays"] for task in one["tasks"]]
        sent = len(re.findall(r"REQ: curl", log.read_text(encoding="utf-8"))) if log.exists() else 0
        return [Outcome(result, sent, seconds) for result in results]

    return run


@pytest.fixture
def lb(play: t.Callable[..., list[Outcome]]) -> t.Iterator[t.Callable[..., Outcome]]:
    """Run the module once; what it made goes away at the end."""
    names = set()

    def run(check_mode: bool = False, may_fail: bool = False, **options: t.Any) -> Outcome:
        names.add(options["name"])
        return play([("kos.labs.octavia_lb", options)], check_mode=check_mode, may_fail=may_fail)[0]

    yield run
    for name in names:
        run(name=name, state="absent")
