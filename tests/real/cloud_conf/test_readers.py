# SPDX-License-Identifier: GPL-3.0-or-later
"""What is written, read back by the code of cloud-provider-openstack."""

from __future__ import annotations

import itertools
import os
import string

import pytest
from ansible_collections.kos.labs.plugins.module_utils import cloud_conf, cloud_conf_gcfg, cloud_conf_schema
from ansible_collections.kos.labs.plugins.module_utils.cloud_conf_gcfg import Block, CloudConfError, Line
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

# KOS_EXAMPLES=20 makes it twenty times as many.
MANY = 300 * int(os.environ.get("KOS_EXAMPLES", "1"))
many = settings(max_examples=MANY, deadline=None, suppress_health_check=list(HealthCheck))
SECTIONS = cloud_conf_schema.SECTIONS
GO_TYPES = {
    "str": {"string", "gopkg.Availability", "gophercloud.Availability"},
    "text_bool": {"string"},
    "joined": {"string"},
    "bool": {"bool"},
    "int": {"int", "int64"},
    "uint": {"uint"},
    "duration": {"util.MyDuration"},
    "list": {"[]string"},
}


def sections_of(reader):
    """The sections of a reader; of the two for logins, the Cinder CSI driver has one struct, which serves both."""
    return {(section.name, section.option): section for section in SECTIONS if reader in section.readers}


# The schema


@pytest.mark.parametrize("name", cloud_conf_schema.READERS)
def test_every_key_of_the_readers_is_known_and_the_reverse(reader, name):
    theirs = reader.ask("describe", name)["config"]["sections"]
    ours = sections_of(name).values()
    assert {section.name for section in ours} == set(theirs)
    for section in ours:
        assert {key.name for key in section.keys} == set(theirs[section.name]["keys"]), section.name
        assert theirs[section.name]["named"] or not section.named
        for key in section.keys:
            assert theirs[section.name]["keys"][key.name] in GO_TYPES[key.kind], key.name


@pytest.mark.parametrize("name", ["occm", "barbican_kms"])
def test_defaults_are_those_of_the_readers(reader, name):
    theirs = reader.ask("describe", name)["config"]["defaults"]
    for section in sections_of(name).values():
        for key in section.keys if not section.named else ():
            assert expected(key, key.default, reader_default=True) == (theirs[section.name][key.name] or expected(key, "", True)), key.name


def expected(key, value, reader_default=False):
    """What a value is in Go."""
    if key.kind == "bool":
        return value if isinstance(value, bool) else value == "true"
    if key.kind == "text_bool":
        return value if reader_default else str(value).lower()
    if key.kind in ("int", "uint"):
        return int(value or 0)
    if key.kind == "duration":
        return cloud_conf.nanoseconds(value or "0s")
    if key.kind == "list":
        return list(value)
    if key.kind == "joined" and not isinstance(value, str):
        return ",".join(value)
    return value


# Any value


ANY = st.text(st.characters(exclude_characters="\r\0", exclude_categories=("Cs",)))
# What means something to some parser, closer together than chance brings it.
AWKWARD = st.text(st.sampled_from("\"\\#;=[]{}'`$% \t\nnt\u00a0\u2028\ufeff\ufffdé😀a"), max_size=12)
VALUE = st.one_of(ANY, AWKWARD)
# The endpoint type is read otherwise, up to the first blank; only three words are offered for it.
TEXT_KEYS = [key.name for key in SECTIONS[0].keys if key.kind == "str" and not key.choices]


@many
@given(st.dictionaries(st.sampled_from(TEXT_KEYS), VALUE, min_size=1))
@example({"password": "a#b;c", "username": ' "', "region": "\\", "auth-url": "\ufeff", "token": "\n\t"})
def test_any_text_comes_back(reader, values):
    text = cloud_conf_gcfg.render([Block("Global", "", tuple(Line(*item) for item in values.items()))], header="x")
    for name in cloud_conf_schema.READERS:
        answer = reader.ask("read", name, text)
        assert "error" not in answer, answer["error"]
        assert "ignored" not in answer
        config = answer["config"]["Global"]
        found = config[""] if name == "cinder_csi" else config
        assert {key: found[key] for key in values} == values
    assert cloud_conf_gcfg.parse(text.encode())[0].lines == tuple(Line(*item) for item in values.items())


NAME = VALUE.filter(lambda name: name and "\n" not in name)


@many
@given(st.dictionaries(NAME, VALUE, min_size=1, max_size=4))
def test_any_name_comes_back(reader, named):
    blocks = [Block("LoadBalancerClass", name, (Line("subnet-id", value),)) for name, value in named.items()]
    blocks += [Block("Global", name, (Line("password", value),)) for name, value in named.items()]
    text = cloud_conf_gcfg.render(blocks)
    classes = reader.ask("read", "occm", text)["config"]["LoadBalancerClass"]
    assert {name: found["subnet-id"] for name, found in classes.items()} == named
    logins = reader.ask("read", "cinder_csi", text)["config"]["Global"]
    assert {name: found["password"] for name, found in logins.items()} == named
    assert cloud_conf_gcfg.parse(text.encode()) == tuple(blocks)


# Any text


# fmt: off
FRAGMENTS = st.sampled_from([
    "[Global]", '[Global "a"]', "[Route]", '[LoadBalancerClass "x"]', "[", "]", '"', "\\", "\n", "\n", "\r\n", " ", "\t", "\0", "=", "#", ";", "\\n", '\\"', "\\\\", "password", "username", "PassWord", "router-id", "no-such", "a", "-", "1", "é", '"x"', "x y",
])
# fmt: on
FILE = st.lists(st.one_of(FRAGMENTS, st.sampled_from(["[Global]\n", "password = ", "username=", '"a b" c', "\\\n"])), max_size=30).map(
    "".join
)


@settings(parent=many, max_examples=4 * MANY)
@given(FILE)
@example('[Global]\npassword = "a" b # c\nusername=\\"\n')
@example("[Global]\npassword = a\\\r\nb\n")
@example("[Global]\npassword\n")
@example("[Global] username = x")
def test_any_file_is_read_as_the_readers_read_it(reader, text):
    text = "[Global]\n" + text
    theirs = reader.ask("read", "barbican_kms", text)
    try:
        blocks = cloud_conf_gcfg.parse(text.encode())
    except CloudConfError:
        assert "error" in theirs
        return
    plain = [line for block in blocks if block.section.lower() == "global" and not block.name for line in block.lines]
    # What the text form says is fine can still be no value for a key.
    if any(line.value is None and SECTIONS[0].key(line.key) for line in plain):
        assert "blank value" in theirs["error"]
        return
    assert "error" not in theirs, theirs["error"]
    last = {line.key.lower(): line.value for line in plain}
    for key in ("password", "username"):
        assert theirs["config"]["Global"][key] == last.get(key, "")


@many
@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused_as_the_readers_do(reader, data):
    data = b"[Route]\n# " + data
    theirs = reader.ask("read", "occm", data)
    try:
        cloud_conf_gcfg.parse(data)
    except CloudConfError:
        assert "error" in theirs
    else:
        assert "error" not in theirs


# Durations

DURATION = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 10**6).map(str), st.from_regex(r"[0-9]{0,4}\.[0-9]{0,9}", fullmatch=True)),
        st.sampled_from(["ns", "us", "µs", "μs", "ms", "s", "m", "h", "d", ""]),
    ).map("".join),
    max_size=3,
).map("".join)


@many
@given(st.sampled_from(["", "+", "-"]), DURATION)
@example("", "0")
@example("", ".s")
@example("", "9223372036854775807ns")
@example("", "9223372036854775808ns")
def test_durations_are_as_long_as_go_says(reader, sign, text):
    text = sign + text
    theirs = reader.ask("read", "occm", f'[Metadata]\nrequest-timeout = "{text}"\n')
    ours = cloud_conf.nanoseconds(text)
    if ours is None:
        assert "error" in theirs
    else:
        assert theirs["config"]["Metadata"]["request-timeout"] == ours


# Whole files

PLAIN = st.text(string.ascii_letters + string.digits + '-_ #;"\\', min_size=1, max_size=12)
LOGIN = {"auth_url": "https://k/v3", "user_id": "u", "password": 'p#"\\', "project_id": "p"}


def value_of(key):
    if key.kind in ("bool", "text_bool"):
        return st.booleans()
    if key.kind in ("int", "uint"):
        return st.integers(1, 10)
    if key.kind == "duration":
        return st.integers(4, 400).map(lambda seconds: f"{seconds}s")
    if key.name == "address-sort-order":
        return st.lists(st.sampled_from(["10.0.0.0/8", "192.168.1.0/24", "fd00::/8"]), min_size=1)
    if key.name == "search-order":
        return st.sampled_from([["configDrive"], ["metadataService", "configDrive"]])
    if key.kind == "list":
        return st.lists(PLAIN.map(str.strip).filter(bool), min_size=1, max_size=3)
    if key.choices:
        return st.sampled_from(key.choices)
    if key.name == "node-selector":
        return PLAIN.map(lambda value: f"label={value}")
    if key.refers:
        return st.uuids().map(str)
    return PLAIN


def options_of(section):
    return st.fixed_dictionaries({}, optional={key.option: value_of(key) for key in section.keys if key.offered})


def without_contradictions(given_options):
    """Take out what the module refuses, so that most of what is drawn gets through."""
    result = dict(given_options)
    if result.get("enabled") is False:
        return {"enabled": False}
    gone = {
        "ingress_hostname_suffix": not result.get("enable_ingress_hostname"),
        "monitor_delay": "monitor_timeout" in result,
        "floating_subnet": "floating_subnet_id" in result,
        "floating_subnet_tags": "floating_subnet_id" in result,
        **{name: True for name in result if name.startswith("floating_") and result.get("internal_lb")},
    }
    result = {name: value for name, value in result.items() if not gone.get(name)}
    if "monitor_timeout" in result:
        result["monitor_delay"] = result["monitor_timeout"]
    if "default_tls_container_ref" in result:
        result["default_tls_container_ref"] += "/secrets/1"
    return result


@st.composite
def whole(draw):
    options = {"global": LOGIN}
    for section in SECTIONS:
        if section.name != "Global" and section.option != "key_manager" and draw(st.booleans()):
            options[section.option] = without_contradictions(draw(options_of(section)))
            if section.named:
                names = draw(st.lists(PLAIN, unique=True, max_size=3))
                options[section.option] = [{"name": name, **without_contradictions(draw(options_of(section)))} for name in names]
    if options.get("load_balancer", {}).get("enabled") is False:
        options.pop("load_balancer_classes", None)
    return options


def plan_of(options, readers=("occm", "cinder_csi")):
    return cloud_conf.make_plan(options, readers=readers, reader_version="1.36")


def refusal_of(options):
    try:
        plan_of(options)
    except CloudConfError as error:
        return str(error)
    return ""


def check_section(section, given_options, found, defaults):
    for key in section.keys:
        if key.option in given_options:
            assert found[key.name] == expected(key, given_options[key.option]), key.name
        else:
            assert found[key.name] == defaults[key.name], key.name


@settings(parent=many, max_examples=2 * MANY)
@given(whole())
def test_whole_files_arrive_and_nothing_else_does(reader, options):
    plan = plan_of(options)
    for name in ("occm", "cinder_csi"):
        answer = reader.ask("read", name, plan.text)
        assert "error" not in answer, answer["error"]
        config = answer["config"]
        defaults = reader.ask("describe", name)["config"]["defaults"]
        for section in sections_of(name).values():
            if section.name == "Global":
                found = config["Global"][""] if name == "cinder_csi" else config["Global"]
                assert {key: value for key, value in found.items() if value} == {
                    "auth-url": "https://k/v3", "user-id": "u", "password": 'p#"\\', "tenant-id": "p"
                }  # fmt: skip
            elif section.named:
                entries = {entry["name"]: entry for entry in options.get(section.option, ())}
                assert set(config[section.name]) == set(entries)
                for entry in entries.values():
                    check_section(
                        section, entry, config[section.name][entry["name"]], dict.fromkeys([key.name for key in section.keys], "")
                    )
            else:
                check_section(section, options.get(section.option, {}), config[section.name], defaults[section.name])


@many
@given(whole())
def test_a_reader_passes_over_nothing_that_is_for_it_alone(reader, options):
    for name, others in (("occm", ("block_storage",)), ("cinder_csi", ("load_balancer", "load_balancer_classes", "networking", "route"))):
        mine = {option: value for option, value in options.items() if option not in others}
        if name == "cinder_csi" and "metadata" in mine:
            mine["metadata"] = {key: value for key, value in mine["metadata"].items() if key != "request_timeout"}
        plan = plan_of(mine, [name])
        assert "ignored" not in reader.ask("read", name, plan.text)


# Logins

LOGIN_OPTIONS = [
    key.option
    for key in SECTIONS[0].keys
    if key.offered and key.kind == "str" and key.option not in ("auth_url", "region", "os_endpoint_type", "ca_file", "cert_file", "key_file")
    and key.option not in ("cloud", "clouds_file")
]  # fmt: skip


def leaves(value):
    return {leaf for item in value.values() for leaf in leaves(item)} if isinstance(value, dict) else {str(value)}


# No login needs more than five keys beside the URL.
MIXES = [set(names) for size in range(7) for names in itertools.combinations(LOGIN_OPTIONS, size)]


def test_a_login_is_taken_if_and_only_if_the_reader_uses_all_of_it(reader):
    """Each key has its own name as its value, so the request to Keystone shows which of them count."""
    taken = [names for names in MIXES if is_taken_rightly(reader, names)]
    assert len(taken) == 33


def is_taken_rightly(reader, names):
    login = {name: f"<{name}>" for name in names}
    lines = [Line(name.replace("project", "tenant").replace("_", "-"), value) for name, value in login.items()]
    answer = reader.ask("login", "occm", cloud_conf_gcfg.render([Block("Global", "", (Line("auth-url", "https://k/v3"), *lines))]))
    auth = answer["request"][""]["auth"] if "request" in answer else {}
    ignored = set(login.values()) - leaves(auth)
    refusal = refusal_of({"global": {"auth_url": "https://k/v3", **login}})
    if not refusal:
        assert auth, answer
        assert not ignored, answer
        return True
    scope = auth.get("scope", {})
    # Keystone lets no application credential choose its scope; for the others, neither a domain nor nothing is where servers are.
    is_credential = "application_credential" in auth.get("identity", {})
    out_of_scope = bool(scope) if is_credential else not {"project", "OS-TRUST:trust"} & set(scope)
    useless = (
        not auth
        or ignored
        or out_of_scope
        # These the reader sorts out by rules of its own that nobody should have to know.
        or {"trustee_id", "trustee_password"} & names
        or {"project_domain_id", "domain_name"} <= names
    )
    assert useless, f"{refusal} but {answer}"
    return False


# Drift

OLD_FORMS = {
    "true": ["true", "Yes", "ON", "1"],
    "false": ["false", "no", "off", "0"],
}


@st.composite
def rewritten(draw, blocks):
    """The same to the reader, in another hand."""
    blocks = list(blocks)
    result = []
    for block in draw(st.permutations(blocks)):
        section = next(one for one in SECTIONS if one.name == block.section and one.named == bool(block.name))
        lines = []
        for line in block.lines:
            key = section.key(line.key)
            value = line.value
            if key.kind == "bool":
                value = draw(st.sampled_from(OLD_FORMS[value]))
            elif key.kind in ("int", "uint"):
                value = draw(st.sampled_from([value, hex(int(value)), "0" + value]))
            elif key.kind == "duration":
                value = draw(st.sampled_from([value, value[:-1] + "000ms", value + "0ns"]))
            if key.kind != "list" and draw(st.booleans()):
                lines.append(Line(draw(st.sampled_from([key.name, key.name.upper()])), line.value))
            lines.append(Line(draw(st.sampled_from([key.name, key.name.title()])), value))
        result.append(Block(draw(st.sampled_from([block.section, block.section.lower()])), block.name, tuple(lines)))
    return result


@many
@given(st.data(), whole(), whole())
def test_no_drift_means_the_same_to_the_readers(reader, data, options, other):
    want, have = plan_of(options).blocks, plan_of(other).blocks
    assert cloud_conf.compare(data.draw(rewritten(want)), want)[0] == []
    changes, _diff = cloud_conf.compare(have, want)
    texts = [cloud_conf_gcfg.render(blocks) for blocks in (have, want)]
    if not changes:
        for name in ("occm", "cinder_csi"):
            assert reader.ask("read", name, texts[0])["config"] == reader.ask("read", name, texts[1])["config"]
    rendered = cloud_conf_gcfg.parse(texts[0].encode())
    assert cloud_conf.compare(rendered, want)[0] == changes
