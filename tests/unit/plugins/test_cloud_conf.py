# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re

import pytest
import yaml
from ansible_collections.kos.labs.plugins.module_utils import cloud_conf, cloud_conf_gcfg, cloud_conf_schema
from ansible_collections.kos.labs.plugins.module_utils.cloud_conf_gcfg import Block, CloudConfError, Line
from ansible_collections.kos.labs.plugins.modules import cloud_conf as module
from hypothesis import given
from hypothesis import strategies as st

URL = "https://keystone.example.org:5000/v3"
CREDENTIAL = {"auth_url": URL, "application_credential_id": "id", "application_credential_secret": "s"}
PASSWORD = {"auth_url": URL, "username": "u", "password": "p", "project_name": "p", "domain_name": "Default"}
NETWORK = "3dc94023-5e9c-4d36-9b3c-8c0dba2ab1c0"
SUBNET = "61bcb6ed-f8e2-4c4f-92a1-5a7d0e0a2f4d"


def plan(readers=("occm", "cinder_csi"), reader_version="1.36", **options):
    return cloud_conf.make_plan({"global": CREDENTIAL, **options}, readers=readers, reader_version=reader_version)


def refusal(**options):
    with pytest.raises(CloudConfError) as caught:
        plan(**options)
    return str(caught.value)


# What is written


def test_writes_what_is_given_and_nothing_else():
    made = plan(
        load_balancer={"create_monitor": True, "monitor_delay": "10s", "monitor_max_retries": 2, "subnet_id": None},
        networking={"internal_network_name": ["a", "b"], "address_sort_order": ["10.0.0.0/8", " fd00::/8"]},
        load_balancer_classes=[{"name": 'x "y"\\', "subnet_id": SUBNET}, {"name": "empty"}],
        route={},
        metadata={"search_order": ["configDrive"]},
    )
    assert made.text == (
        f"# {cloud_conf.HEADER}\n\n"
        f'[Global]\nauth-url = "{URL}"\napplication-credential-id = "id"\napplication-credential-secret = "s"\n\n'
        '[LoadBalancer]\ncreate-monitor = "true"\nmonitor-delay = "10s"\nmonitor-max-retries = "2"\n\n'
        f'[LoadBalancerClass "x \\"y\\"\\\\"]\nsubnet-id = "{SUBNET}"\n\n'
        '[LoadBalancerClass "empty"]\n\n'
        '[Networking]\ninternal-network-name = "a"\ninternal-network-name = "b"\naddress-sort-order = "10.0.0.0/8,fd00::/8"\n\n'
        '[Metadata]\nsearch-order = "configDrive"\n'
    )


def test_words_of_today_become_those_of_the_file():
    login = {"auth_url": URL, "user_id": "u", "password": 'a#b;c"\\\n', "project_name": "p", "project_domain_id": "d", "tls_insecure": True}
    text = plan(**{"global": login}).text
    assert 'tenant-name = "p"\ntenant-domain-id = "d"\n' in text
    assert 'tls-insecure = "true"' in text
    assert 'password = "a#b;c\\"\\\\\\n"' in text


LOGINS = [
    ("application_credential", CREDENTIAL),
    ("application_credential", {"auth_url": URL, "application_credential_name": "n", "application_credential_secret": "s", "user_id": "u"}),
    (
        "application_credential",
        {"auth_url": URL, "application_credential_name": "n", "application_credential_secret": "s", "username": "u", "domain_id": "d"},
    ),
    ("password", PASSWORD),
    ("password", {"auth_url": URL, "user_id": "u", "password": "p", "project_id": "p"}),
    (
        "password",
        {
            "auth_url": URL,
            "username": "u",
            "user_domain_name": "d",
            "password": "p",
            "project_id": "p",
            "cert_file": "/c",
            "key_file": "/k",
        },
    ),
    ("trust", {"auth_url": URL, "trust_id": "t", "trustee_id": "u", "trustee_password": "p"}),
    ("trust", {"auth_url": URL, "trust_id": "t", "user_id": "u", "password": "p"}),
    ("token", {"auth_url": URL, "token": "t", "project_id": "p"}),
    ("clouds", {"use_clouds": True, "clouds_file": "/c", "cloud": "x", "region": "r", "ca_file": "/a", "os_endpoint_type": "internal"}),
]


@pytest.mark.parametrize(("way", "login"), LOGINS)
def test_ways_to_log_in(way, login):
    made = plan(**{"global": login})
    assert made.logins == (cloud_conf.Login("global", way, login),)
    assert [warning.partition(":")[0].split()[0] for warning in made.warnings] == ["global.token"] * (way == "token")


def test_what_a_check_against_the_cloud_looks_at():
    made = plan(load_balancer={"floating_network_id": NETWORK, "floating_subnet_id": SUBNET}, route={"router_id": SUBNET})
    assert made.octavia
    assert made.references == (
        cloud_conf.Reference("load_balancer.floating_network_id", "external_network", NETWORK),
        cloud_conf.Reference("load_balancer.floating_subnet_id", "subnet", SUBNET, inside=NETWORK),
        cloud_conf.Reference("route.router_id", "router", SUBNET),
    )
    assert not plan(load_balancer={"enabled": False}).octavia
    assert not plan(readers=["cinder_csi"]).octavia
    both = plan(readers=["cinder_csi"], clouds=[{"name": "x", **PASSWORD}])
    assert [login.where for login in both.logins] == ["global", "clouds[x]"]


@pytest.mark.parametrize(("provider", "told"), [("amphorra", " Was amphora meant?"), ("vendor", "")])
def test_warns_of_a_provider_that_upstream_does_not_know(provider, told):
    assert plan(load_balancer={"lb_provider": "f5"}).warnings == ()
    assert plan(load_balancer={"lb_provider": provider}).warnings == (
        f"load_balancer.lb_provider: cloud-provider-openstack is not made for {provider!r}.{told}",
    )


# What is refused: each time one sentence, which says what is wrong

BASE = {"auth_url": URL, "username": "u", "password": "p"}
NAMED = {"auth_url": URL, "application_credential_name": "n", "application_credential_secret": "s"}
REFUSED = [
    # the login
    ({"global": {}}, "global has no way to log in: give application_credential_id and"),
    ({"global": {**CREDENTIAL, "password": "p"}}, "several ways to log in, application_credential and password: keep one."),
    ({"global": {**PASSWORD, "token": "t"}}, "several ways to log in, password and token: keep one."),
    ({"global": {**PASSWORD, "use_clouds": True}}, "several ways to log in, password and use_clouds: keep one."),
    ({"global": {**CREDENTIAL, "auth_url": None}}, "global.auth_url is missing"),
    ({"global": {**CREDENTIAL, "auth_url": "keystone:5000"}}, "it must be a URL, as in"),
    ({"global": {**CREDENTIAL, "auth_url": "http://k:5000/v2.0"}}, "write it with /v3"),
    ({"global": {**CREDENTIAL, "application_credential_secret": None}}, "application_credential_secret is missing"),
    ({"global": {"auth_url": URL, "application_credential_secret": "s"}}, "application_credential_id or application_credential_name is missing"),
    ({"global": {**CREDENTIAL, "application_credential_name": "n"}}, "application_credential_id and application_credential_name are both given"),
    ({"global": {**CREDENTIAL, "project_id": "p"}}, "global.project_id has no effect when the way to log in is application credential"),
    ({"global": NAMED}, "global.user_id or username is missing"),
    ({"global": {**NAMED, "username": "u"}}, "global.user_domain_id or user_domain_name is missing"),
    ({"global": {**NAMED, "user_id": "u", "domain_id": "d"}}, "global.domain_id has no effect"),
    ({"global": {**PASSWORD, "username": None}}, "global.user_id or username is missing"),
    ({"global": {**PASSWORD, "user_id": "u"}}, "user_id and username are both given"),
    ({"global": {**BASE, "user_domain_id": "d"}}, "project_id or project_name is missing"),
    ({"global": {**BASE, "project_id": "p"}}, "user_domain_id or user_domain_name is missing"),
    ({"global": {**PASSWORD, "project_id": "p"}}, "project_id and project_name are both given"),
    ({"global": {**BASE, "user_domain_id": "d", "project_name": "p"}}, "project_domain_id or project_domain_name is missing"),
    ({"global": {**PASSWORD, "domain_id": "d"}}, "global.domain_id and domain_name are both given"),
    ({"global": {**BASE, "user_domain_id": "d", "project_id": "p", "domain_id": "e"}}, "global.domain_id has no effect"),
    ({"global": {**PASSWORD, "username": None, "user_id": "u"}}, "with user_id the reader dies of domain_id"),
    ({"global": {**BASE, "user_domain_id": "d", "project_id": "p", "project_domain_id": "d"}}, "global.project_domain_id has no effect"),
    ({"global": {"auth_url": URL, "trustee_id": "u", "trustee_password": "p"}}, "trust_id is missing"),
    ({"global": {"auth_url": URL, "trust_id": "t", "trustee_id": "u"}}, "trustee_id and trustee_password need each other"),
    ({"global": {"auth_url": URL, "trust_id": "t", "user_id": "u"}}, "trustee_id and trustee_password are missing"),
    ({"global": {**BASE, "trust_id": "t", "domain_id": "d"}}, "user_domain_id or user_domain_name is missing"),
    ({"global": {**BASE, "trust_id": "t", "user_domain_id": "d", "project_id": "p"}}, "global.project_id has no effect"),
    ({"global": {"auth_url": URL, "token": "t", "username": "u"}}, "global.username has no effect when the way to log in is token"),
    ({"global": {"cloud": "x"}}, "only work with use_clouds: true"),
    ({"global": {"use_clouds": True, "auth_url": URL}}, "global.auth_url has no effect when the way to log in is clouds"),
    ({"global": {**CREDENTIAL, "cert_file": "/c"}}, "cert_file and key_file need each other"),
    ({"global": {**CREDENTIAL, "ca_file": "/c", "tls_insecure": True}}, "global.ca_file has no effect with tls_insecure"),
    # values
    ({"global": {**CREDENTIAL, "application_credential_secret": "a\rb"}}, "application_credential_secret has a carriage return, which the reader drops"),
    ({"global": {**CREDENTIAL, "region": "a\0"}}, "global.region has a NUL character"),
    ({"global": {**CREDENTIAL, "region": "\udc80"}}, "global.region is not valid Unicode"),
    ({"global": {**CREDENTIAL, "region": ""}}, "global.region is empty: leave it out"),
    ({"load_balancer": {"monitor_delay": "5"}}, "monitor_delay is '5', and the reader dies of a number without a unit: write 5s."),
    ({"load_balancer": {"monitor_delay": "5 s"}}, "write a number with a unit, as in 5s or 1m30s"),
    ({"load_balancer": {"monitor_delay": "5500ms"}}, "of which only whole seconds count"),
    ({"metadata": {"request_timeout": "0s"}}, "metadata.request_timeout is '0s': it must be longer than nothing"),
    ({"metadata": {"request_timeout": "-1s"}}, "it must be longer than nothing"),
    ({"metadata": {"search_order": ["configDrive", "configDrive"]}}, "search_order names a place twice"),
    ({"metadata": {"search_order": []}}, "metadata.search_order is empty"),
    ({"load_balancer": {"floating_network_id": "public"}}, "floating_network_id is 'public', which is no id: the reader does not look for names"),
    ({"route": {"router_id": "r"}}, "route.router_id is 'r', which is no id"),
    ({"load_balancer": {"monitor_max_retries": 11}}, "monitor_max_retries is 11: it must lie between 1 and 10"),
    ({"load_balancer": {"monitor_max_retries_down": 0}}, "monitor_max_retries_down is 0: it must lie between 1 and 10"),
    ({"load_balancer": {"max_shared_lb": -1}}, "max_shared_lb is -1"),
    ({"block_storage": {"node_volume_attach_limit": 257}}, "node_volume_attach_limit is 257: it must lie between 1 and 256"),
    ({"networking": {"public_network_name": [" net"]}}, "public_network_name has blanks around 'net'"),
    ({"networking": {"public_network_name": [""]}}, "public_network_name is empty"),
    ({"networking": {"address_sort_order": ["10.0.0.0"]}}, "without a prefix length, and the reader would pass over it: write 10.0.0.0/32"),
    ({"networking": {"address_sort_order": ["10.0.0.0/255.0.0.0"]}}, "write 10.0.0.0/8"),
    ({"networking": {"address_sort_order": ["net"]}}, "has 'net', which is no network in CIDR notation"),
    # what does not go together
    ({"load_balancer": {"enabled": False, "lb_method": "SOURCE_IP"}}, "load_balancer is not enabled, so lb_method has no effect"),
    ({"load_balancer": {"enabled": False, "lb_method": "SOURCE_IP", "create_monitor": True}}, "so create_monitor, lb_method have no effect"),
    ({"load_balancer": {"enabled": False}, "load_balancer_classes": [{"name": "x"}]}, "so load_balancer_classes have no effect"),
    ({"load_balancer": {"floating_subnet_id": SUBNET, "floating_subnet": "x"}}, "load_balancer.floating_subnet has no effect beside floating_subnet_id"),
    ({"load_balancer_classes": [{"name": "x", "floating_subnet_id": SUBNET, "floating_subnet_tags": "x"}]}, "load_balancer_classes[x].floating_subnet_tags has no effect"),
    ({"load_balancer": {"internal_lb": True, "floating_network_id": NETWORK}}, "floating_network_id has no effect with internal_lb: true"),
    ({"load_balancer": {"lb_provider": "ovn"}}, "lb_method must be SOURCE_IP_PORT"),
    ({"load_balancer": {"lb_provider": "ovn", "lb_method": "SOURCE_IP_PORT", "flavor_id": SUBNET}}, "the provider ovn has no flavors"),
    ({"load_balancer": {"monitor_timeout": "6s"}}, "monitor_timeout is longer than monitor_delay"),
    ({"load_balancer": {"ingress_hostname_suffix": "x"}}, "has no effect without enable_ingress_hostname: true"),
    ({"load_balancer": {"default_tls_container_ref": "x"}}, "must end in /containers/ID or /secrets/ID"),
    ({"load_balancer": {"node_selector": "a=b,=c"}}, "write label=value, with commas in between"),
    # who reads it
    ({"readers": ["cinder_csi"], "route": {"router_id": SUBNET}}, "route is read by occm only: leave it out or name one of them in readers"),
    ({"readers": ["cinder_csi"], "metadata": {"request_timeout": "9s"}}, "metadata.request_timeout is used by occm only: leave it out"),
    ({"key_manager": {"key_id": SUBNET}}, "key_manager is read by barbican_kms only"),
    ({"readers": ["barbican_kms"]}, "key_manager.key_id is missing"),
    ({"readers": []}, "readers is empty"),
    ({"global": None}, "global is missing: occm would have no login"),
    ({"global": None, "clouds": [{"name": "x", **PASSWORD}]}, "global is missing: occm would have no login"),
    ({"global": None, "readers": ["cinder_csi"]}, "global or clouds is missing: cinder_csi would have no login"),
    ({"readers": ["occm"], "clouds": [{"name": "x", **PASSWORD}]}, "clouds is read by cinder_csi only"),
    # releases
    ({"reader_version": "1.25"}, "reader_version is '1.25': it must lie between 1.26 and 1.36, in quotes"),
    ({"reader_version": "1.3"}, "it must lie between 1.26 and 1.36, in quotes"),
    ({"reader_version": "new"}, "it must lie between"),
    ({"reader_version": "1.28", "load_balancer": {"monitor_max_retries_down": 2}}, "monitor_max_retries_down came with 1.29: the reader of 1.28 passes over it"),
    ({"reader_version": "v1.30.2", "clouds": [{"name": "x", **PASSWORD}]}, "clouds came with 1.31"),
    # names
    ({"load_balancer_classes": [{"name": ""}]}, "load_balancer_classes: an entry has an empty name"),
    ({"load_balancer_classes": [{"name": "a\nb"}]}, "a name must not have line breaks"),
    ({"load_balancer_classes": [{"name": "a\r"}]}, "a name must not have line breaks"),
    ({"load_balancer_classes": [{"name": "a"}, {"name": "a"}]}, "load_balancer_classes[a] is there twice"),
    ({"clouds": [{"name": "x", "password": "p", "token": "t"}]}, "clouds[x] has several ways to log in"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "said"), REFUSED)
def test_refuses_in_one_sentence(options, said):
    assert said in refusal(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"load_balancer": {"lb_provider": "ovn", "lb_method": "SOURCE_IP_PORT"}},
        {"load_balancer": {"default_tls_container_ref": "x", "container_store": "external"}},
        {"load_balancer": {"default_tls_container_ref": "https://b/v1/secrets/x", "node_selector": "a=b,c"}},
        {"load_balancer": {"ingress_hostname_suffix": "x", "enable_ingress_hostname": True, "floating_subnet": "a*"}},
        {"load_balancer": {"internal_lb": True, "subnet_id": SUBNET, "monitor_delay": "1m", "monitor_timeout": "1m"}},
        {"load_balancer": {"flavor_id": SUBNET.replace("-", ""), "enabled": True}},
        {"networking": {"address_sort_order": ["10.1.2.3/8", "fd00::/8"], "ipv6_support_disabled": True}},
        {"readers": ["barbican_kms"], "key_manager": {"key_id": SUBNET}},
        {"reader_version": "v1.36.0", "metadata": {"request_timeout": "1.5s"}},
    ],
)
def test_takes_what_is_right(options):
    assert plan(**options).text


def test_says_all_that_is_wrong_at_once():
    said = refusal(route={"router_id": "r"}, metadata={"request_timeout": "5"})
    assert "route.router_id" in said
    assert "metadata.request_timeout" in said


# Options that do not exist

UNKNOWN = [
    ({"gobal": {}}, "gobal does not exist: global does."),
    ({"load-balancer": {}}, "load-balancer: write it load_balancer."),
    ({"zzz": 1}, "zzz does not exist: see the module's documentation for what does."),
    ({"router_id": "x"}, "router_id: router_id belongs to route."),
    ({"global": {"auth-url": "x"}}, "global.auth-url: write it auth_url."),
    ({"global": {"pasword": "x"}}, "global.pasword does not exist: password does."),
    ({"global": {"tenant_name": "x"}}, "global.tenant_name: it is called project_name here and written as tenant-name."),
    (
        {"global": {"tenant-domain-id": "x"}},
        "global.tenant-domain-id: it is called project_domain_id here and written as tenant-domain-id.",
    ),
    ({"global": {"cafilecontents": "x"}}, "global.cafilecontents: put the certificates into a file and name it in ca_file."),
    (
        {"load_balancer": {"lb-version": "v2"}},
        "load_balancer.lb-version: leave it out: the load balancers are always those of Octavia (LBaaS v2).",
    ),
    ({"load_balancer": {"use_octavia": True}}, "load_balancer.use_octavia: leave it out: the load balancers are always those of Octavia."),
    ({"load_balancer": {"router_id": "x"}}, "load_balancer.router_id: router_id belongs to route."),
    ({"load_balancer": {"floating_network": "x"}}, "load_balancer.floating_network does not exist: floating_network_id does."),
    (
        {"block_storage": {"bs_version": "v3"}},
        "block_storage.bs_version: leave it out: volumes are the Cinder CSI driver's, which speaks version 3.",
    ),
    ({"block_storage": {"trust_device_path": 1}}, "block_storage.trust_device_path: leave it out: volumes are"),
    ({"clouds": [{"name": "x", "user_name": "y"}]}, "clouds.user_name does not exist: username does."),
    ({"global": {"secret_name": "x"}}, "global.secret_name: leave it out: the login stands in this file, which can itself be the Secret."),
]


@pytest.mark.parametrize(("params", "said"), UNKNOWN)
def test_names_the_option_that_is_meant(params, said):
    told = cloud_conf.refused_options(params, ["path", "mode"])
    assert len(told) == 1
    assert told[0].startswith(said)


def test_has_nothing_to_say_about_options_that_exist():
    assert (
        cloud_conf.refused_options({"path": "/x", "global": PASSWORD, "clouds": ["x"], "load_balancer_classes": [{"name": "x"}]}, ["path"])
        == []
    )


# The text form


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[a-z][a-z0-9-]{0,5}", fullmatch=True),
            st.text(st.characters(exclude_characters="\r\0", exclude_categories=("Cs",))),
        )
    )
)
def test_reads_what_it_writes(lines):
    block = Block("Global", 'a "b" \\', tuple(Line(*line) for line in lines))
    assert cloud_conf_gcfg.parse(cloud_conf_gcfg.render([block], header="x").encode()) == (block,)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("k=a", "a"), ("k = a b \t", "a b"), ("k=a#b", "a"), ("k=a;b", "a"), ('k="a#b"', "a#b"), ('k = a "b " ', "a b "), ("k=", ""), ("k", None),
        ("k # c", None), ('k="\\n\\t\\"\\\\"', '\n\t"\\'), ("k=a\\\nb", "ab"), ("k=a\\\r\nb", "ab"), ('k=\\"a', '"a'), ("k=a\rb", "ab"), ('k="a\rb"', "ab"), ("k=a ", "a"),
    ],
)  # fmt: skip
def test_reads_as_the_readers_do(text, value):
    for end in ("", "\n", "\n\n# x\n"):
        assert cloud_conf_gcfg.parse(f"; x\n[S]\n{text}{end}".encode())[0].lines == (Line("k", value),)


def test_writes_a_key_without_a_value():
    assert cloud_conf_gcfg.render([Block("S", "", (Line("k", None),))]) == "[S]\nk\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("k=1", "line 1: a key stands before the first section"),
        ("[S]\n?", "line 2: neither a section nor a key begins like this"),
        ("[S]\nk v", "line 2: an equals sign is missing after k"),
        ("[S]\nk_v=1", "line 2: an equals sign is missing after k"),
        ("[S]\nk=a\\b", "line 2: a backslash stands before none of what may follow it"),
        ('[S]\nk="a\\b"', "line 2: a backslash stands before none of what may follow it"),
        ('[S]\nk="a', "line 2: the closing quote is missing"),
        ('[S]\nk="a\nb"', "line 2: the closing quote is missing"),
        ("[]", "line 1: a section needs a name"),
        ("[S", "line 1: the closing bracket of the section is missing"),
        ("[S x]", "line 1: the closing bracket of the section is missing"),
        ("[S] k", "line 1: nothing may follow a section header"),
        ('[S ""]', "line 1: the name of a section must not be empty"),
        ('[S "a', "line 1: the closing quote of the section's name is missing"),
        ('[S "a\n"]', "line 1: the closing quote of the section's name is missing"),
        ('[S "\\n"]', "line 1: a section's name knows no escapes but"),
        ("[S]\n#\0", "line 2: there is a NUL character"),
    ],
)
def test_says_where_the_readers_stop(text, said):
    with pytest.raises(CloudConfError) as caught:
        cloud_conf_gcfg.parse(text.encode())
    assert str(caught.value).startswith(said)
    with pytest.raises(CloudConfError, match="line 2: there is no valid UTF-8"):
        cloud_conf_gcfg.parse(b"[S]\n\xff")


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("0", 0),
        ("5s", 5 * 10**9),
        ("1m30s", 90 * 10**9),
        ("1.5h", 5400 * 10**9),
        (".5s", 5 * 10**8),
        ("2.s", 2 * 10**9),
        ("-1ms", -(10**6)),
        ("+1us", 1000),
        *((text, None) for text in ("5", "", "s", "1d", ".s", "9223372036854775808ns", "1 s")),
    ],
)
def test_lengths_of_durations(text, length):
    assert cloud_conf.nanoseconds(text) == length


# Drift


def drift(before, **options):
    changes, diff = cloud_conf.compare(cloud_conf_gcfg.parse(before.encode()), plan(**options).blocks)
    return [(change.section, change.name, change.key, change.change, change.before, change.after, change.note) for change in changes], diff


LOGIN_TEXT = f"[Global]\nauth-url={URL}\napplication-credential-id=id\napplication-credential-secret=s\n"
SAME = [
    ("", {}),
    ("# another comment\n[route]\n", {}),
    ('[LoadBalancer]\ncreate-monitor\nmonitor-delay=5000ms\nMonitor-Max-Retries=0x2\nmax-shared-lb="7"\n', {"load_balancer": {"create_monitor": True, "monitor_delay": "5s", "monitor_max_retries": 2, "max_shared_lb": 7}}),
    ("[Networking]\nipv6-support-disabled=OFF\naddress-sort-order=10.0.0.0/8, fd00::/8\n", {"networking": {"ipv6_support_disabled": False, "address_sort_order": ["10.0.0.0/8", "fd00::/8"]}}),
    ("[Networking]\npublic-network-name=x\npublic-network-name\npublic-network-name=a\n[Networking]\npublic-network-name=b\n", {"networking": {"public_network_name": ["a", "b"]}}),
    ('[Route]\nrouter-id=x\n[route]\nROUTER-ID="' + SUBNET + '"\n', {"route": {"router_id": SUBNET}}),
]  # fmt: skip


@pytest.mark.parametrize(("before", "options"), SAME)
def test_what_means_the_same_is_no_drift(before, options):
    assert drift(LOGIN_TEXT + before, **options)[0] == []


DRIFT = [
    ("[Route]\nrouter-id=x\n", {}, ("Route", "", "router-id", "removed", "x", None, "")),
    ("", {"route": {"router_id": SUBNET}}, ("Route", "", "router-id", "added", None, SUBNET, "")),
    ("[LoadBalancer]\nmonitor-delay=5s\n", {"load_balancer": {"monitor_delay": "10s"}}, ("LoadBalancer", "", "monitor-delay", "changed", "5s", "10s", "")),
    ("[LoadBalancer]\nmonitor-delay=5\n", {"load_balancer": {"monitor_delay": "5s"}}, ("LoadBalancer", "", "monitor-delay", "changed", "5", "5s", "")),
    ("[LoadBalancer]\ncreate-monitor=maybe\nmax-shared-lb=2\n", {"load_balancer": {"create_monitor": True, "max_shared_lb": 2}}, ("LoadBalancer", "", "create-monitor", "changed", "maybe", "true", "")),
    ("[Networking]\npublic-network-name=a\n", {"networking": {"public_network_name": ["a", "b"]}}, ("Networking", "", "public-network-name", "changed", "a", "a, b", "")),
    ("passwrod=hush\n", {}, ("Global", "", "passwrod", "removed", "(not shown)", None, "no reader knows this key; password was meant, perhaps")),
    ("zzzzz=hush\n", {}, ("Global", "", "zzzzz", "removed", "(not shown)", None, "no reader knows this key")),
    ("[LoadBalancr]\nenabled\n", {}, ("LoadBalancr", "", "enabled", "removed", "(not shown)", None, "no reader knows this section; LoadBalancer was meant, perhaps")),
    ("[Zzzz]\nx=y\n", {}, ("Zzzz", "", "x", "removed", "(not shown)", None, "no reader knows this section")),
    ("zzzzz=1\nzzzzz=1\n", {}, ("Global", "", "zzzzz", "removed", "(not shown)", None, "no reader knows this key")),
    ('[Route "x"]\nrouter-id=y\n', {}, ("Route", "x", "router-id", "removed", "(not shown)", None, "no reader knows this section; Route was meant, perhaps")),
    ('[LoadBalancerClass "x"]\n', {}, ("LoadBalancerClass", "x", "", "removed", None, None, "")),
    ("", {"load_balancer_classes": [{"name": "x"}]}, ("LoadBalancerClass", "x", "", "added", None, None, "")),
    ("application-credential-secret=old\n", {}, ("Global", "", "application-credential-secret", "changed", "(secret)", "(new secret)", "")),
    ("tls-insecure=yes\n", {"global": {**CREDENTIAL, "tls_insecure": True}}, ("Global", "", "tls-insecure", "changed", "yes", "true", "")),
]  # fmt: skip


@pytest.mark.parametrize(("before", "options", "change"), DRIFT)
def test_drift_key_by_key(before, options, change):
    changes, diff = drift(LOGIN_TEXT + before, **options)
    assert changes == [change]
    assert "hush" not in str(diff)
    assert "old" not in str(diff)


def test_a_diff_shows_that_a_secret_changes_and_not_which():
    _changes, diff = drift(LOGIN_TEXT)
    assert diff["before"] == diff["after"]
    assert 'application-credential-secret = "(secret)"' in diff["after"]
    _changes, diff = drift(LOGIN_TEXT.replace("secret=s", "secret=old"))
    assert 'application-credential-secret = "(secret)"' in diff["before"]
    assert 'application-credential-secret = "(new secret)"' in diff["after"]


# The schema


def test_it_is_that_of_the_pinned_release(root):
    versions = yaml.safe_load((root / "group_vars/all/versions.yaml").read_text(encoding="utf-8"))
    release = versions["cloud_provider_openstack_version"]
    assert release.startswith("v{}.{}.".format(*cloud_conf_schema.NEWEST))
    assert module.OWN["reader_version"]["default"] == "{}.{}".format(*cloud_conf_schema.NEWEST)
    pinned = (root / "tests/real/cloud_conf/reader/go.mod").read_text(encoding="utf-8")
    assert f"k8s.io/cloud-provider-openstack {release}\n" in pinned


def test_documentation_says_types_defaults_and_releases():
    documented = yaml.safe_load(module.DOCUMENTATION)["options"]
    spec = {**cloud_conf_schema.argument_spec(), **module.OWN}
    assert set(documented) == set(spec)
    for section in cloud_conf_schema.SECTIONS:
        described = documented[section.option]
        assert all(f"C({reader})" in described["description"][1] for reader in section.readers)
        options = spec[section.option]["options"]
        assert list(described["suboptions"]) == list(options) or set(described["suboptions"]) == set(options)
        for key in section.keys if not section.named else ():
            if key.offered:
                text = described["suboptions"][key.option]["description"]
                assert (f"default is C({key.default})" in text) == (key.default not in ("", "0", "0s")), key
                assert re.findall(r"Since 1\.(\d+)", text) == [str(key.since)] * (key.since > cloud_conf_schema.OLDEST[1]), key


def test_secrets_are_no_log_and_nothing_else_is():
    spec = cloud_conf_schema.argument_spec()
    secret = {"password", "application_credential_secret", "trustee_password", "token"}
    for section in cloud_conf_schema.SECTIONS:
        for name, option in spec[section.option]["options"].items():
            assert option.get("no_log", False) is (name in secret), name


def test_what_has_no_option_is_refused_by_name():
    for section in cloud_conf_schema.SECTIONS:
        for key in section.keys:
            if not key.offered:
                assert cloud_conf_schema.RETIRED[key.option] == key.instead
