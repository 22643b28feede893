# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster in a cloud that is there already, as most people come: an ordinary member of a project, with what others have beside it.

The cloud is that of the lab in KOS_STATE, as somebody else's; what happens here has a state folder, a project and a clouds.yaml of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import shutil
import socket
import subprocess
import typing as t
import urllib.parse

import openstack
import pytest
import yaml

from kos import lab, rings
from kos.cli import Paths

PASSWORD = "of-a-person-1"
SETTINGS = {
    "base_existing_image": "debian-13",
    "base_existing_flavor_master": "kos.master",
    "base_existing_flavor_worker": "kos.worker",
    "cluster_workers": 1,
}


class Cloud:
    """The command line of OpenStack with one login."""

    def __init__(self, root: pathlib.Path, clouds: pathlib.Path, name: str) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("OS_")}
        self.program = str(root / ".venv/bin/openstack")
        self.environ = {**kept, "OS_CLIENT_CONFIG_FILE": str(clouds), "OS_CLOUD": name}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.program, *words], env=self.environ, capture_output=True, text=True, timeout=300, check=False)

    def __call__(self, *words: str) -> t.Any:
        done = self.run(*words, "-f", "json")
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr.strip()}"
        return json.loads(done.stdout)

    @functools.cached_property
    def sdk(self) -> t.Any:
        config = openstack.config.OpenStackConfig(config_files=[self.environ["OS_CLIENT_CONFIG_FILE"]], load_envvars=False)
        return openstack.connection.Connection(config=config.get_one(cloud=self.environ["OS_CLOUD"]))

    @property
    def has_volumes(self) -> bool:
        return bool(self.sdk.has_service("block-storage"))

    def everything(self) -> dict[str, set[str]]:
        """What the project has of its own, by kind."""
        network, own = self.sdk.network, {"project_id": self.sdk.current_project_id}
        kinds = {
            "server": self.sdk.compute.servers(),
            "server group": self.sdk.compute.server_groups(),
            "keypair": self.sdk.compute.keypairs(),
            "network": network.networks(**own),
            "subnet": network.subnets(**own),
            "router": network.routers(**own),
            "port": network.ports(**own),
            "floating ip": network.ips(**own),
            "security group": network.security_groups(**own),
            "load balancer": self.sdk.load_balancer.load_balancers(**own) if self.sdk.has_service("load-balancer") else (),
            "volume": self.sdk.block_storage.volumes() if self.has_volumes else (),
            "snapshot": self.sdk.block_storage.snapshots() if self.has_volumes else (),
        }
        return {kind: {each.id for each in found} for kind, found in kinds.items()}

    def credentials(self) -> dict[str, t.Any]:
        """Return the user's application credentials by name."""
        return {each.name: each for each in self.sdk.identity.application_credentials(self.sdk.current_user_id)}


class Person:
    """Somebody with a clouds.yaml and a file of settings, who runs our commands beside them."""

    def __init__(self, paths: Paths, home: pathlib.Path, state: pathlib.Path) -> None:
        self.paths, self.home, self.state = paths, home, state

    def run(self, tool: str, *words: str) -> tuple[int, str]:
        """Run one of our tools as a person does, beside their own files."""
        return self.end([str(self.paths.root / "tools" / tool), *words], self.home, self.kept())

    def lab(self, *words: str) -> tuple[int, str]:
        return self.run("lab", lab.numbered(self.paths.root)[-1], *words)

    def playbook(self, name: str, *words: str) -> tuple[int, str]:
        """Run a playbook on the state folder, as one does without our tools."""
        (self.state / "inventory").mkdir(parents=True, exist_ok=True)
        (self.state / "inventory/none.yaml").write_text("---\nall: {}\n", encoding="ascii")
        paths = dataclasses.replace(self.paths, state=self.state)
        return self.end(["ansible-playbook", f"playbooks/{name}.yaml", *words], paths.root, paths.environment(self.kept()))

    def kept(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("OS_", "KOS_", "ANSIBLE_"))}
        return {**kept, "KOS_STATE": str(self.state), "KOS_CACHE": str(self.paths.cache), "ANSIBLE_NOCOLOR": "1"}

    @staticmethod
    def end(argv: t.Sequence[str], folder: pathlib.Path, environ: t.Mapping[str, str]) -> tuple[int, str]:
        done = subprocess.run(
            argv,
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, " ".join(done.stdout.split())


def add_entry(home: pathlib.Path, url: str, name: str, password: str) -> None:
    path = home / "clouds.yaml"
    clouds = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {"clouds": {}}
    auth = {"auth_url": url, "username": "berta", "password": password, "project_name": "berta"}
    auth |= {"user_domain_name": "Default", "project_domain_name": "Default"}
    clouds["clouds"][name] = {"auth": auth, "region_name": "RegionOne"}
    path.write_text(yaml.safe_dump(clouds), encoding="utf-8")


@pytest.fixture(scope="module")
def paths() -> Paths:
    return Paths.of()


@pytest.fixture(scope="module")
def operator(paths: Paths) -> Cloud:
    return Cloud(paths.root, paths.state / "clouds.yaml", "kos-admin")


@pytest.fixture(scope="module")
def person(paths: Paths, operator: Cloud, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Person]:
    """Berta, an ordinary member of her project."""
    home = tmp_path_factory.mktemp("home")
    operator("project", "create", "berta")
    operator("user", "create", "--password", PASSWORD, "--project", "berta", "berta")
    assert operator.run("role", "add", "--project", "berta", "--user", "berta", "member").returncode == 0
    url = yaml.safe_load((paths.state / "clouds.yaml").read_text(encoding="utf-8"))["clouds"]["kos-admin"]["auth"]["auth_url"]
    add_entry(home, url, "work", PASSWORD)
    add_entry(home, url, "mistyped", "wrong")
    # The mirror of this run, at an address that the nodes reach.
    hosts = yaml.safe_load((paths.state / "inventory/hosts.yaml").read_text(encoding="utf-8"))
    host = urllib.parse.urlsplit(hosts["all"]["vars"]["mirror_url"]).hostname
    with contextlib.ExitStack() as stack:
        files, registry = (stack.enter_context(socket.create_server((host, 0))).getsockname()[1] for _ in range(2))
    mirror = {"mirror_url": f"http://{host}:{files}", "mirror_registry": f"{host}:{registry}"}
    (home / "my-cloud.yaml").write_text(yaml.safe_dump({**SETTINGS, **mirror}), encoding="utf-8")
    person = Person(paths, home, paths.state / "existing")
    yield person
    if (person.state / "cloud.yaml").exists():
        person.run("refresh", "--only-delete", "--yes")
        person.playbook("base_existing", "-e", "base_existing_state=absent")
    person.run("mirror", "stop")
    for folder in paths.state.glob("existing*"):
        shutil.rmtree(folder)
    operator.run("user", "delete", "berta")
    operator.run("project", "delete", "berta")


@pytest.fixture(scope="module")
def cloud(paths: Paths, person: Person) -> Cloud:
    """The cloud as Berta sees it."""
    return Cloud(paths.root, person.home / "clouds.yaml", "work")


@pytest.fixture(scope="module")
def theirs(cloud: Cloud) -> t.Iterator[dict[str, set[str]]]:
    """What is in the project already, of somebody else: it is there before and after."""
    with contextlib.ExitStack() as stack:

        def make(*kind: str, words: t.Sequence[str], name: str = "") -> str:
            made = cloud(*kind, "create", *words)
            stack.callback(cloud.run, *kind, "delete", *(["--wait"] if kind == ("server",) else []), made.get("id") or name)
            return str(made["id"])

        make("network", words=["theirs"])
        make("subnet", words=["--network", "theirs", "--subnet-range", "10.77.0.0/24", "theirs"])
        make("router", words=["theirs"])
        make("floating", "ip", words=["--description", "theirs", "public"])
        make("server", words=["--image", "debian-13", "--flavor", "kos.worker", "--network", "theirs", "--wait", "theirs"])
        if cloud.has_volumes:
            made = cloud.sdk.block_storage.get_volume(make("volume", words=["--size", "1", "theirs"]))
            cloud.sdk.block_storage.wait_for_status(made, "available", failures=["error"], interval=1, wait=120)
        yield cloud.everything()


@pytest.fixture(scope="module")
def first(paths: Paths) -> t.Iterator[dict[str, set[str]]]:
    """The cluster of the lab that the cloud was made for: it is there before and after, too."""
    tenant = Cloud(paths.root, paths.state / "clouds.yaml", "kos-tenant")
    before, nodes = tenant.everything(), nodes_ready(paths.state)
    yield before
    assert tenant.everything() == before
    assert nodes_ready(paths.state) == nodes


def nodes_ready(state: pathlib.Path) -> list[str]:
    argv = [str(state / "bin/kubectl"), "--kubeconfig", str(state / "kubeconfig/admin"), "get", "nodes", "-o", "json"]
    found = json.loads(subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout)["items"]
    ready = {node["metadata"]["name"]: {each["type"]: each["status"] for each in node["status"]["conditions"]} for node in found}
    return sorted(name for name, conditions in ready.items() if conditions.get("Ready") == "True")


# The cloud has Cinder under its usual names, so it is looked for under another.
WRONG = {
    "base_existing_external_network": "nowhere",
    "base_existing_image": "none",
    "kos_cloud_offers": ["cinder"],
    "kos_cloud_offer_types": {"cinder": ["volumev9"]},
    "cluster_workers": 60,
}


@pytest.mark.parametrize(
    ("words", "sentences"),
    [
        (["--cloud", "mistyped"], ["does not let the entry mistyped of"]),
        (["--cloud", "home"], ["There is no entry home in"]),
        (
            ["--cloud", "work", "--", "-e", json.dumps(WRONG)],
            [
                "no external network nowhere: set base_existing_external_network to public.",
                "no active image none for this project: set base_existing_image to debian-13.",
                "The lab needs Cinder and the cloud's catalog has no volumev9 service",
                "The quota of project berta leaves",
            ],
        ),
    ],
    ids=["password", "entry", "the rest"],
)
def test_what_cannot_work_is_told_before_anything_is_made(person, cloud, theirs, words, sentences):
    code, said = person.lab("--base", "existing", "--settings", "my-cloud.yaml", *words)
    assert code != 0
    assert [sentence for sentence in sentences if sentence not in said] == [], said[-3000:]
    assert PASSWORD not in said
    assert cloud.everything() == theirs
    assert cloud.credentials() == {}


def test_an_ordinary_member_gets_a_cluster(person, cloud, theirs, first):
    code, said = person.lab("--cloud", "work", "--settings", "my-cloud.yaml")
    assert code == 0, said[-3000:]
    assert nodes_ready(person.state) == ["master1", "worker1"]
    assert len(cloud.everything()["server"]) == len(theirs["server"]) + 2


def test_a_second_run_changes_nothing_and_needs_no_names(person, first):
    code, said = person.lab(*rings.BRIEFLY)
    assert code == 0, said[-3000:]
    rings.unchanged(person.state / "timings.json")


def test_no_password_of_a_person_is_kept(person, cloud):
    kept = [path for path in person.state.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
    assert kept == []
    clouds = yaml.safe_load((person.state / "clouds.yaml").read_text(encoding="utf-8"))["clouds"]
    assert {name: entry["auth_type"] for name, entry in clouds.items()} == dict.fromkeys(
        ("kos-tenant", "kos-cluster"), "v3applicationcredential"
    )
    (credential,) = cloud.credentials().values()
    assert {role["name"] for role in credential.roles} == {"member", "reader"}


def test_the_login_of_a_program_is_used_as_it_is(person, cloud):
    made = cloud.sdk.identity.create_application_credential(cloud.sdk.current_user_id, "by-hand")
    path = person.home / "clouds.yaml"
    clouds = yaml.safe_load(path.read_text(encoding="utf-8"))
    auth = {"auth_url": clouds["clouds"]["work"]["auth"]["auth_url"], "application_credential_id": made.id}
    auth["application_credential_secret"] = made.secret
    clouds["clouds"]["program"] = {"auth_type": "v3applicationcredential", "auth": auth}
    path.write_text(yaml.safe_dump(clouds), encoding="utf-8")
    other = Person(person.paths, person.home, person.state.with_name("existing-program"))
    names = {
        **SETTINGS,
        "kos_base": "existing",
        "base_existing_cloud": "program",
        "base_existing_clouds_file": str(path),
        "cluster_name": "other",
        "cluster_node_prefix": "other-",
    }
    before = set(cloud.credentials())
    try:
        code, said = other.playbook("base_existing", "-e", json.dumps(names))
        assert code == 0, said[-3000:]
        kept = yaml.safe_load((other.state / "clouds.yaml").read_text(encoding="utf-8"))["clouds"]["kos-cluster"]
        assert kept["auth"]["application_credential_id"] == made.id
        assert set(cloud.credentials()) == before
        code, said = other.playbook("base_existing", "-e", "base_existing_state=absent")
        assert code == 0, said[-3000:]
    finally:
        cloud.run("application", "credential", "delete", made.id)


def test_another_state_folder_does_not_take_over_a_cluster(person, cloud):
    before = cloud.everything()
    other = Person(person.paths, person.home, person.state.with_name("existing-other"))
    code, said = other.lab("--cloud", "work", "--settings", "my-cloud.yaml")
    assert code != 0
    assert (
        "Project berta has a cluster kos already that another state folder made (master1, worker1): set cluster_name and cluster_node_prefix"
        in said
    )
    assert cloud.everything() == before


def test_refresh_leaves_what_others_have(person, cloud, theirs, first):
    code, said = person.run("refresh", "--only-delete", "--yes")
    assert code == 0, said[-3000:]
    left = {kind: ids - theirs[kind] for kind, ids in cloud.everything().items()}
    assert {kind for kind, ids in left.items() if ids} == {"keypair"}
    assert {kind: theirs[kind] - ids for kind, ids in cloud.everything().items() if theirs[kind] - ids} == {}


def test_leaving_takes_key_and_login_away(person, cloud, theirs):
    code, said = person.playbook("base_existing", "-e", "base_existing_state=absent")
    assert code == 0, said[-3000:]
    assert cloud.everything() == theirs
    assert cloud.credentials() == {}
