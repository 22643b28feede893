# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import pathlib
import stat
import types

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.kos.labs.plugins.module_utils import cloud_conf_gcfg, cloud_conf_verify
from ansible_collections.kos.labs.plugins.module_utils.cloud_conf import Login, make_plan
from ansible_collections.kos.labs.plugins.module_utils.cloud_conf_gcfg import CloudConfError
from ansible_collections.kos.labs.plugins.modules import cloud_conf as module

URL = "https://keystone.example.org:5000/v3"
SECRET = "hush hush"
CREDENTIAL = {"auth_url": URL, "application_credential_id": "id-of-it", "application_credential_secret": SECRET}
NETWORK = "3dc94023-5e9c-4d36-9b3c-8c0dba2ab1c0"
SUBNET = "61bcb6ed-f8e2-4c4f-92a1-5a7d0e0a2f4d"
EXAMPLES = [task["kos.labs.cloud_conf"] | {"no_log": task.get("no_log", False)} for task in yaml.safe_load(module.EXAMPLES)]


@pytest.fixture
def run(capsys, monkeypatch):
    logged = []
    monkeypatch.setattr(module.AnsibleModule, "log", lambda _self, text, **_options: logged.append(text))

    def call(check=False, no_log=False, **arguments):
        arguments = {"global": CREDENTIAL, **arguments}
        given = {"_ansible_check_mode": check, "_ansible_no_log": no_log, "_ansible_diff": True, **arguments}
        with patch_module_args(given), pytest.raises(SystemExit):
            module.main()
        assert SECRET not in str(logged)
        made = json.loads(capsys.readouterr().out)
        made.pop("invocation", None)  # ansible-core before 2.21 adds it
        return made

    return call


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


# The file


def test_writes_once_and_for_nobody_else(tmp_path, run):
    path = tmp_path / "cloud.conf"
    first = run(path=str(path))
    assert (first["changed"], first["unreadable"], first["verified"]) == (True, "", [])
    assert [change["key"] for change in first["drift"]] == ["application-credential-id", "application-credential-secret", "auth-url"]
    assert mode_of(path) == 0o600
    assert f'"{SECRET}"' in path.read_text(encoding="utf-8")
    assert SECRET not in json.dumps(first)
    second = run(path=str(path))
    assert (second["changed"], second["drift"]) == (False, [])
    assert second["diff"]["before"] == second["diff"]["after"]
    assert os.listdir(tmp_path) == ["cloud.conf"]


def test_check_mode_predicts_and_writes_nothing(tmp_path, run):
    path = tmp_path / "cloud.conf"
    predicted = run(check=True, path=str(path), backup=True, validate="false %s")
    assert os.listdir(tmp_path) == []
    made = run(path=str(path))
    assert {**predicted, "diff": 0} == {**made, "diff": 0}
    assert predicted["diff"]["after"] == made["diff"]["after"]
    # What a file lies in may be made by a task before.
    assert run(check=True, path=str(tmp_path / "missing" / "cloud.conf"))["changed"] is True
    path.write_text("[Global]\n")
    path.chmod(0o644)
    before = path.stat().st_mtime_ns
    assert run(check=True, path=str(path))["changed"] is True
    assert (path.stat().st_mtime_ns, mode_of(path)) == (before, 0o644)


def test_leaves_alone_what_means_the_same(tmp_path, run):
    path = tmp_path / "cloud.conf"
    text = f"; by hand\n[global]\nAuth-URL={URL}\napplication-credential-secret={SECRET}\napplication-credential-id=id-of-it\n"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    assert run(path=str(path))["changed"] is False
    assert path.read_text(encoding="utf-8") == text
    path.chmod(0o644)
    assert run(check=True, path=str(path))["changed"] is True
    mended = run(path=str(path))
    assert (mended["changed"], mended["drift"], mode_of(path)) == (True, [], 0o600)
    assert path.read_text(encoding="utf-8") == text


def test_shows_what_differs_but_for_secrets(tmp_path, run):
    path = tmp_path / "cloud.conf"
    run(path=str(path), load_balancer={"monitor_delay": "5s"})
    login = {**CREDENTIAL, "application_credential_secret": "another"}
    changed = run(path=str(path), load_balancer={"monitor_delay": "10s"}, backup=True, **{"global": login})
    assert changed["drift"] == [
        {"section": "Global", "name": "", "key": "application-credential-secret", "change": "changed", "before": "(secret)", "after": "(new secret)", "note": ""},
        {"section": "LoadBalancer", "name": "", "key": "monitor-delay", "change": "changed", "before": "5s", "after": "10s", "note": ""},
    ]  # fmt: skip
    assert 'monitor-delay = "5s"' in changed["diff"]["before"]
    assert 'monitor-delay = "10s"' in changed["diff"]["after"]
    assert SECRET not in json.dumps(changed)
    kept = pathlib.Path(changed["backup_file"])
    assert SECRET in kept.read_text(encoding="utf-8")
    assert mode_of(kept) == 0o600


def test_replaces_what_no_reader_gets_through(tmp_path, run):
    path = tmp_path / "cloud.conf"
    path.write_bytes(b"password = old\xff\n")
    changed = run(path=str(path))
    assert (changed["changed"], changed["unreadable"]) == (True, "line 1: there is no valid UTF-8")
    assert "old" not in json.dumps(changed)
    assert run(path=str(path))["changed"] is False


def test_replaces_what_a_link_leads_to(tmp_path, run):
    (tmp_path / "link").symlink_to("cloud.conf")
    assert run(path=str(tmp_path / "link"))["changed"] is True
    assert (tmp_path / "link").is_symlink()
    assert run(path=str(tmp_path / "cloud.conf"))["changed"] is False


def test_an_invalid_file_stays_out(tmp_path, run):
    path = tmp_path / "cloud.conf"
    assert run(path=str(path), validate="grep --quiet hush %s")["changed"] is True
    failed = run(path=str(path), validate="grep --quiet nonsense %s", route={"router_id": NETWORK})
    assert failed["msg"].startswith(f"what was to become {path} is not valid:")
    assert "router" not in path.read_text(encoding="utf-8")
    assert run(path=str(path), validate="true", route={"router_id": NETWORK})["msg"].startswith("validate must have %s")
    assert os.listdir(tmp_path) == ["cloud.conf"]


def test_a_file_that_cannot_be_replaced(tmp_path, run, monkeypatch):
    path = tmp_path / "cloud.conf"
    path.touch()

    def refuse(*_names):
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(module.os, "replace", refuse)
    assert run(path=str(path))["msg"] == f"{path} cannot be replaced: Device or resource busy; if it is a mount, see unsafe_writes."
    assert run(path=str(path), unsafe_writes=True)["changed"] is True
    assert SECRET in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("path", "said"),
    [(".", "is a directory: name a file in it."), ("no/such", "does not exist: make the directory first."), ("\0", "cannot be")],
)
def test_paths_that_cannot_be(tmp_path, run, path, said, monkeypatch):
    if path == "\0":
        path = "x"
        (tmp_path / "x").touch()

        def refuse(*_names):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(module, "open", refuse, raising=False)
    assert said in run(path=str(tmp_path / path))["msg"]


# The text


def test_returns_the_text_only_where_nobody_sees_it(run):
    told = run()
    assert told["failed"] is True
    assert told["msg"] == "Without path the text is returned, secrets and all: give the task no_log=true, or a path."
    # Secrets this short would turn into stars all over the text.
    login = {**CREDENTIAL, "application_credential_secret": "a"}
    made = run(no_log=True, **{"global": login})
    assert made["changed"] is False
    assert cloud_conf_gcfg.parse(made["content"].encode())[0].lines[-1].value == "a"
    assert "****" not in made["content"]
    assert set(made) <= set(yaml.safe_load(module.RETURN)) | {"changed"}


def test_compares_with_the_text_that_is_there(run):
    text = run(no_log=True)["content"]
    assert run(no_log=True, current=text)["changed"] is False
    changed = run(no_log=True, current=text, route={"router_id": NETWORK})
    assert (changed["changed"], changed["drift"][0]["key"]) == (True, "router-id")
    assert "mutually exclusive" in run(no_log=True, current=text, path="/x")["msg"]


# Options


def test_names_the_option_that_is_meant(tmp_path, run):
    path = str(tmp_path / "cloud.conf")
    assert run(path=path, **{"global": {**CREDENTIAL, "pasword": "x"}})["msg"] == "global.pasword does not exist: password does."
    told = run(path=path, lodbalancer={}, load_balancer={"lb_version": "v2", "crate_monitor": True})["msg"]
    assert told == (
        "lodbalancer does not exist: load_balancer does. "
        "load_balancer.lb_version: leave it out: the load balancers are always those of Octavia (LBaaS v2). "
        "load_balancer.crate_monitor does not exist: create_monitor does."
    )
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"load_balancer": {"create_monitor": "maybe"}}, "create_monitor"),
        ({"load_balancer": {"max_shared_lb": "many"}}, "max_shared_lb"),
        ({"load_balancer": {"lb_method": "RANDOM"}}, "value of lb_method must be one of: ROUND_ROBIN"),
        ({"load_balancer": "x"}, "dictionary requested"),
        ({"load_balancer_classes": [{"subnet_id": SUBNET}]}, "missing required arguments: name"),
        ({"metadata": {"search_order": ["configdrive"]}}, "value of search_order must be one or more of: configDrive, metadataService"),
        ({"global": {**CREDENTIAL, "os_endpoint_type": "publicURL"}}, "value of os_endpoint_type must be one of: public, internal, admin"),
        ({"readers": ["csi"]}, "value of readers must be one or more of: occm"),
        ({"route": {"router_id": "r"}}, "which is no id"),
        ({"reader_version": 1.3}, "in quotes"),
    ],
)
def test_refuses_wrong_types_and_choices(tmp_path, run, options, said):
    failed = run(path=str(tmp_path / "cloud.conf"), **options)
    assert failed["failed"] is True
    assert said in failed["msg"]
    assert os.listdir(tmp_path) == []


def test_warns(tmp_path, run, monkeypatch):
    warnings = []
    monkeypatch.setattr(module.AnsibleModule, "warn", lambda _self, text: warnings.append(text))
    run(path=str(tmp_path / "cloud.conf"), load_balancer={"lb_provider": "vendor"})
    assert warnings == ["load_balancer.lb_provider: cloud-provider-openstack is not made for 'vendor'."]


# What the documentation says


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_work(tmp_path, run, example, cloud):
    example = json.loads(json.dumps(example))
    if "path" in example:
        example["path"] = str(tmp_path / "cloud.conf")
    example.setdefault("global", None)
    made = run(**example)
    assert not made.get("failed"), made["msg"]
    assert not run(**example, check=True)["changed"]


def test_returns_what_is_documented(tmp_path, run):
    path = tmp_path / "cloud.conf"
    path.touch()
    documented = yaml.safe_load(module.RETURN)
    made = run(path=str(path), backup=True)
    assert set(made) == set(documented) - {"content"} | {"changed", "diff"}
    for change in made["drift"]:
        assert set(change) == set(documented["drift"]["contains"])


# Against the cloud


class Cloud:
    """What the SDK would reach."""

    def __init__(self):
        self.configs = []
        self.refuse = False
        self.octavia = "http://octavia"
        self.clouds = ["east"]
        self.things = {
            ("network", NETWORK): types.SimpleNamespace(name="public", is_router_external=True),
            ("subnet", SUBNET): types.SimpleNamespace(network_id=NETWORK),
        }
        self.session = types.SimpleNamespace(get_endpoint=lambda **_options: self.octavia)
        self.config = types.SimpleNamespace(get_interface=lambda _service: "public", region_name="r")
        self.network = self.load_balancer = self.key_manager = self

    def __getattr__(self, name):
        if not name.startswith("get_"):
            raise AttributeError(name)

        def get(value):
            if (name[4:], value) == ("router", "0" * 32):
                raise cloud_conf_verify.openstack.exceptions.HttpException("500: out of order")
            if (name[4:], value) not in self.things:
                raise cloud_conf_verify.openstack.exceptions.NotFoundException()
            return self.things[name[4:], value]

        return get

    def authorize(self):
        if self.refuse:
            raise cloud_conf_verify.openstack.exceptions.HttpException("401: not you")


@pytest.fixture
def cloud(monkeypatch):
    fake = Cloud()

    class Config:
        def __init__(self, **options):
            self.options = options

        def get_cloud_names(self):
            return ["envvars", *fake.clouds]

        def get_one(self, **options):
            fake.configs.append((self.options, options))
            return options

    monkeypatch.setattr(cloud_conf_verify.openstack.config, "OpenStackConfig", Config)
    monkeypatch.setattr(cloud_conf_verify.openstack.connection, "Connection", lambda config: fake)
    return fake


def verify(readers=("occm", "cinder_csi"), files=None, **options):
    plan = make_plan({"global": CREDENTIAL, **options}, readers=readers, reader_version="1.36")
    return cloud_conf_verify.verify(plan, files or {})


def test_verifies_before_it_writes(tmp_path, run, cloud):
    path = tmp_path / "cloud.conf"
    options = {"path": str(path), "verify": True, "load_balancer": {"floating_network_id": NETWORK, "floating_subnet_id": SUBNET}}
    assert run(check=True, **options)["verified"] == ["global", "load_balancer.floating_network_id", "load_balancer.floating_subnet_id"]
    cloud.refuse = True
    failed = run(**options)
    assert failed["msg"].startswith("global: Keystone does not let this login in:")
    assert SECRET not in str(failed)
    assert not path.exists()


def test_verifies_with_the_very_login(cloud):
    verify()
    ((loading, options),) = cloud.configs
    assert loading == {"load_yaml_config": False, "load_envvars": False}
    auth = {"auth_url": URL, "application_credential_id": "id-of-it", "application_credential_secret": SECRET}
    assert options == {"auth_type": "v3applicationcredential", "auth": auth, "interface": "public", "verify": True}


def test_says_all_that_is_not_there(cloud):
    cloud.octavia = None
    cloud.things["network", NETWORK].is_router_external = False
    cloud.things["subnet", SUBNET].network_id = "other"
    with pytest.raises(CloudConfError) as caught:
        verify(load_balancer={"floating_network_id": NETWORK, "floating_subnet_id": SUBNET, "subnet_id": NETWORK})
    assert str(caught.value) == (
        "the cloud has no Octavia, without which occm ends: set load_balancer.enabled to false. "
        f"load_balancer.floating_network_id: {NETWORK} (public) is no external network, so it has no floating IPs. "
        f"load_balancer.floating_subnet_id: {SUBNET} is a subnet of other, not of floating_network_id. "
        f"load_balancer.subnet_id: the login of this file sees no subnet {NETWORK}."
    )
    assert verify(load_balancer={"enabled": False}) == ["global"]


def test_says_that_a_service_is_missing(cloud):
    def missing(*_names, **_options):
        raise cloud_conf_verify.login_exceptions.EndpointNotFound

    cloud.session.get_endpoint = missing
    cloud.load_balancer = types.SimpleNamespace(get_flavor=missing)
    with pytest.raises(CloudConfError) as caught:
        verify(load_balancer={"flavor_id": SUBNET})
    assert str(caught.value) == (
        "the cloud has no Octavia, without which occm ends: set load_balancer.enabled to false. "
        f"load_balancer.flavor_id: the cloud has no service in which {SUBNET} could be."
    )


def test_says_that_the_cloud_is_out_of_order(cloud):
    with pytest.raises(CloudConfError, match=r"the cloud cannot be asked for what the file names: .*500: out of order"):
        verify(route={"router_id": "0" * 32})


def test_takes_a_login_from_clouds_yaml(cloud, tmp_path):
    (tmp_path / "clouds.yaml").touch()
    there = str(tmp_path / "clouds.yaml")
    login = {"use_clouds": True, "clouds_file": "/etc/config/clouds.yaml"}
    assert verify(files={"/etc/config/clouds.yaml": there}, **{"global": login}) == ["global"]
    assert cloud.configs == [({"config_files": [there], "load_envvars": False}, {"cloud": "east", "interface": "public", "verify": True})]
    with pytest.raises(
        CloudConfError, match=r"clouds_file: /etc/config/clouds.yaml is not on this machine.*say where it lies in verify_files"
    ):
        verify(**{"global": login})
    with pytest.raises(CloudConfError, match=r"global.cloud is 'west': clouds.yaml has east\."):
        verify(**{"global": {"use_clouds": True, "cloud": "west"}})
    cloud.clouds = []
    with pytest.raises(CloudConfError, match=r"global.cloud is None: clouds.yaml has none\."):
        verify(**{"global": {"use_clouds": True}})


@pytest.mark.parametrize(
    ("way", "given", "kind", "auth"),
    [
        ("password", {"username": "u", "password": "p", "project_name": "p", "domain_id": "d"}, "v3password",
         {"username": "u", "password": "p", "project_name": "p", "user_domain_id": "d", "project_domain_id": "d"}),
        ("trust", {"trust_id": "t", "trustee_id": "u", "trustee_password": "p"}, "v3password", {"trust_id": "t", "user_id": "u", "password": "p"}),
        ("trust", {"trust_id": "t", "user_id": "u", "password": "p"}, "v3password", {"trust_id": "t", "user_id": "u", "password": "p"}),
        ("token", {"token": "t", "project_id": "p"}, "v3token", {"token": "t", "project_id": "p"}),
    ],
)  # fmt: skip
def test_logs_in_as_the_readers_do(way, given, kind, auth):
    options = cloud_conf_verify.connection_options(Login("global", way, {"auth_url": URL, **given}), {})
    assert (options["auth_type"], options["auth"]) == (kind, {"auth_url": URL, **auth})


def test_takes_the_files_that_lie_here(tmp_path):
    for name in ("ca", "cert", "key"):
        (tmp_path / name).touch()
    files = {f"/there/{name}": str(tmp_path / name) for name in ("ca", "cert", "key")}
    login = Login(
        "global", "application_credential", {**CREDENTIAL, "ca_file": "/there/ca", "cert_file": "/there/cert", "key_file": "/there/key"}
    )
    options = cloud_conf_verify.connection_options(login, files)
    assert [options[name] for name in ("cacert", "cert", "key")] == [str(tmp_path / name) for name in ("ca", "cert", "key")]
    insecure = cloud_conf_verify.connection_options(Login("global", "application_credential", {**CREDENTIAL, "tls_insecure": True}), {})
    assert insecure["verify"] is False


def test_says_that_the_sdk_is_missing(tmp_path, run, monkeypatch):
    monkeypatch.setattr(cloud_conf_verify, "SDK_ERROR", "ImportError")
    assert "openstacksdk" in run(path=str(tmp_path / "x"), verify=True)["msg"]
    assert run(path=str(tmp_path / "x"))["changed"] is True


def blocks_of(text, language):
    return [part.split("```")[0] for part in text.split(f"```{language}\n")[1:]]


def test_examples_of_the_guide_work(tmp_path, run, cloud, root):
    cloud.clouds = ["east"]
    (tmp_path / "clouds.yaml").touch()
    tasks = [
        task
        for block in blocks_of((root / "docs/modules/cloud_conf.md").read_text(encoding="utf-8"), "yaml")
        for task in yaml.safe_load(block)
    ]
    assert len(tasks) == 3
    for task in tasks:
        options = {"global": None, **task["kos.labs.cloud_conf"]}
        if "path" in options:
            options["path"] = str(tmp_path / "cloud.conf")
        if "verify_files" in options:
            options["verify_files"] = dict.fromkeys(options["verify_files"], str(tmp_path / "clouds.yaml"))
        made = run(check=task.get("check_mode", False), no_log=task.get("no_log", False), **options)
        assert not made.get("failed"), made["msg"]
