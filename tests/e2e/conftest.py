# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab that stands in KOS_STATE, seen from outside by clients that are not ours."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time
import typing as t

import pytest
import yaml

from kos.cli import Paths


@pytest.fixture(scope="session")
def paths() -> Paths:
    found = Paths.of()
    if not (found.state / "inventory/hosts.yaml").exists():
        pytest.fail(f"no lab stands in {found.state}; run tools/lab 2 first")
    return found


@pytest.fixture(scope="session")
def briefly() -> bool:
    """Return whether there is time for a few of many tests only."""
    return bool(os.environ.get("KOS_BRIEFLY"))


@pytest.fixture(scope="session")
def versions(root: pathlib.Path) -> dict[str, str]:
    return yaml.safe_load((root / "group_vars/all/versions.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def contract(paths: Paths) -> dict[str, t.Any]:
    """Return what the cloud offers to the cluster."""
    return yaml.safe_load((paths.state / "cloud.yaml").read_text(encoding="utf-8"))["cloud"]


@pytest.fixture(scope="session")
def inventory(paths: Paths) -> dict[str, t.Any]:
    done = subprocess.run(
        ["ansible-inventory", "--list"], cwd=paths.root, env=paths.environment(), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def nodes(inventory: dict[str, t.Any]) -> dict[str, dict[str, t.Any]]:
    """Each node of the cluster with its variables."""
    names = [name for group in ("masters", "workers") for name in inventory.get(group, {}).get("hosts", [])]
    return {name: inventory["_meta"]["hostvars"][name] for name in names}


@pytest.fixture(scope="session")
def playbook(paths: Paths) -> t.Callable[..., subprocess.CompletedProcess[str]]:
    """Return what runs a playbook on this lab with variables of its own, and gives back what it said."""

    def run(name: str, variables: dict[str, t.Any], *arguments: str, seconds: float = 600) -> subprocess.CompletedProcess[str]:
        argv = ["ansible-playbook", name, "-e", json.dumps(variables), *arguments]
        return subprocess.run(argv, cwd=paths.root, env=paths.environment(), capture_output=True, text=True, timeout=seconds, check=False)

    return run


class Client:
    """A program with the arguments that all its calls share."""

    def __init__(self, *argv: str, env: dict[str, str]) -> None:
        self.argv, self.env = argv, env

    def run(self, *arguments: str, **options: t.Any) -> subprocess.CompletedProcess[str]:
        options = {"capture_output": True, "text": True, "timeout": 300, "check": False, **options}
        return subprocess.run([*self.argv, *arguments], env=self.env, **options)

    def __call__(self, *arguments: str, **options: t.Any) -> str:
        done = self.run(*arguments, **options)
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stderr.strip()}"
        return done.stdout.strip()

    def json(self, *arguments: str) -> t.Any:
        return json.loads(self(*arguments))


@pytest.fixture(scope="session")
def mirrored(paths: Paths) -> t.Callable[[str], pathlib.Path]:
    """Return what finds a file of the mirror by its component's name; fail where the mirror has none."""

    def find(name: str) -> pathlib.Path:
        tree = paths.cache / "mirror"
        try:
            return tree / json.loads((tree / "index.json").read_text(encoding="utf-8"))["files"][name]["path"]
        except (OSError, KeyError):
            pytest.fail(f"{name} is not in the mirror; `tools/mirror auto` makes it, with `--only=tests` what only tests need")

    return find


@pytest.fixture(scope="session")
def kubectl(paths: Paths, mirrored: t.Callable[[str], pathlib.Path]) -> Client:
    """Return the kubectl that the lab brought, or this machine's own."""
    program = shutil.which("kubectl", path=f"{paths.state / 'bin'}:{os.environ['PATH']}") or str(mirrored("kubectl"))
    return Client(program, "--kubeconfig", str(paths.state / "kubeconfig/admin"), env=dict(os.environ))


class OpenStack(Client):
    """The openstack client, loaded once for all calls."""

    def __init__(self, paths: Paths, cloud: str) -> None:
        environment = {**paths.environment(), "OS_CLIENT_CONFIG_FILE": str(paths.state / "clouds.yaml"), "OS_CLOUD": cloud}
        super().__init__("openstack", env=environment)
        program = pathlib.Path(__file__).with_name("openstack_client.py")
        self._server = subprocess.Popen(
            [sys.executable, str(program)], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        # Some tests watch in a thread.
        self._turn = threading.Lock()

    def run(self, *arguments: str, **options: t.Any) -> subprocess.CompletedProcess[str]:
        assert self._server.stdin
        assert self._server.stdout
        with self._turn:
            request = {"arguments": arguments, "seconds": options.pop("timeout", 300)}
            assert not options, f"the client is not started anew, so it cannot have {sorted(options)}"
            self._server.stdin.write(json.dumps(request) + "\n")
            self._server.stdin.flush()
            answer = json.loads(self._server.stdout.readline())
        return subprocess.CompletedProcess([*self.argv, *arguments], answer["code"], answer["out"], answer["err"])

    def __enter__(self) -> OpenStack:
        return self

    def __exit__(self, *_: object) -> None:
        with self._server:
            self._server.terminate()


@pytest.fixture(scope="session")
def operator(paths: Paths) -> t.Iterator[Client]:
    with OpenStack(paths, "kos-admin") as client:
        yield client


@pytest.fixture(scope="session")
def tenant(paths: Paths) -> t.Iterator[Client]:
    with OpenStack(paths, "kos-tenant") as client:
        yield client


@pytest.fixture(scope="session")
def wait_for() -> t.Callable[..., t.Any]:
    """Return what a function returns as soon as that is something; fail after a while."""

    def wait(what: str, ready: t.Callable[[], t.Any], seconds: float) -> t.Any:
        end = time.monotonic() + seconds
        while not (found := ready()):
            if time.monotonic() > end:
                pytest.fail(f"{what} did not come within {seconds:.0f} s")
            time.sleep(1)
        return found

    return wait
