# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/sandbox: what it decides, and what it does to files."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import os
import pathlib
import threading

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kos import KosError, sandbox
from kos import sandbox_host as host
from kos import sandbox_plan as plan
from kos import sandbox_root as roots

NAMES = st.text("abcdefgh_", min_size=1, max_size=8)
TREES = st.recursive(
    st.dictionaries(
        NAMES.map("v_{}".format),
        st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"])) | st.integers() | st.booleans(),
        max_size=4,
    ),
    lambda inner: st.dictionaries(NAMES.map("d_{}".format), inner, max_size=3),
)


def make(
    layout: str = "compact", *, name: str = "kos-0a1b2c", taken: tuple[str, ...] = (), ports: frozenset[int] = frozenset()
) -> plan.Sandbox:
    return plan.new_sandbox(
        name=name, layout=layout, state="/srv/state", cache="/srv/cache", root="/srv/cache/root/x", pool=plan.POOL, taken=taken, ports=ports
    )


def nothing() -> plan.Observed:
    return plan.Observed(links={}, routes={}, rules={}, settings={})


class TestNames:
    @settings(deadline=None)  # two cores that others use too
    @given(st.from_regex(r"[a-z][a-z0-9-]{0,30}[a-z0-9]", fullmatch=True), st.sampled_from(list(plan.LAYOUTS)))
    def test_links_fit_the_kernel(self, name, layout):
        one = make(layout, name=name)
        links = [*one.bridges, *(link for machine in one.machines for link in one.links(machine))]
        assert all(len(link) <= 15 for link in links)
        assert len(set(links)) == len(links)

    @settings(deadline=None)  # two cores that others use too
    @given(st.text(min_size=1), st.text(min_size=1))
    def test_two_state_folders_get_two_names(self, one, other):
        assert (plan.default_name(one) == plan.default_name(other)) == (one == other)

    def test_a_name_from_the_state_folder_can_be_seen_in_its_links(self):
        assert make(name="kos-0a1b2c").bridges == ("kos0a1b2c-m", "kos0a1b2c-u")

    @pytest.mark.parametrize("name", ["", "a", "-a", "Ab", "a_b", "a-", "a" * 33, "1a"])
    def test_bad_names_are_refused(self, name):
        with pytest.raises(KosError, match="small letters"):
            make(name=name)

    @pytest.mark.parametrize("folder", ["/a b", "/a:b", "/a,b", '/a"b', "/a\\b"])
    def test_folders_that_mounts_cannot_carry_are_refused(self, folder):
        with pytest.raises(KosError, match="choose another"):
            plan.new_sandbox(name="ab", layout="compact", state=folder, cache="/c", root="/r", pool=plan.POOL, taken=(), ports=())


class TestSubnets:
    def test_first_free_ones(self):
        assert plan.choose_subnets("10.123.0.0/16", 2, ["10.123.0.17/32", "0.0.0.0/0", "fd00::/64", "10.123.2.0/23"]) == [
            "10.123.1.0/24",
            "10.123.4.0/24",
        ]

    @pytest.mark.parametrize(("pool", "taken"), [("10.0.0.0/24", []), ("10.0.0.0/25", []), ("10.0.0.0/16", ["10.0.0.0/8"])])
    def test_a_full_pool_is_said(self, pool, taken):
        with pytest.raises(KosError, match="another range"):
            plan.choose_subnets(pool, 3, taken)

    @pytest.mark.parametrize("pool", ["10.0.0.1/16", "fd00::/16", "x"])
    def test_a_pool_that_is_none_is_said(self, pool):
        with pytest.raises(KosError, match="not an IPv4 network"):
            plan.choose_subnets(pool, 3, [])

    @settings(deadline=None)  # two cores that others use too
    @given(st.lists(st.integers(0, 250).map(lambda n: f"10.123.{n}.0/24"), max_size=60))
    def test_nothing_overlaps(self, taken):
        found = plan.choose_subnets(plan.POOL, 3, taken)
        assert len(set(found)) == 3
        assert not set(found) & set(taken)

    def test_a_second_sandbox_takes_others(self):
        one = make()
        two = make(name="other", taken=(one.management, one.underlay, one.external))
        assert not {one.management, one.underlay, one.external} & {two.management, two.underlay, two.external}

    def test_ports_in_use_are_passed_over(self):
        assert make(ports=frozenset({8480, 8481})).mirror_port == 8482


class TestRecord:
    @pytest.mark.parametrize("layout", list(plan.LAYOUTS))
    def test_reads_what_it_wrote(self, layout):
        one = make(layout)
        assert plan.Sandbox.from_json(one.to_json(), "x") == one

    def test_unknown_layout(self):
        with pytest.raises(KosError, match="compact, full"):
            make("huge")

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1}', "null"])
    def test_damage_is_said(self, text):
        with pytest.raises(KosError, match="the-file"):
            plan.Sandbox.from_json(text, "the-file")

    def test_another_version_is_said(self):
        text = json.dumps({**json.loads(make().to_json()), "version": 99})
        with pytest.raises(KosError, match="another version"):
            plan.Sandbox.from_json(text, "x")


def applied(one: plan.Sandbox, before: plan.Observed) -> plan.Observed:
    """Play the commands of network_steps on a model of the host."""
    links = dict(before.links)
    routes, rules, settings = dict(before.routes), {table: list(lines) for table, lines in before.rules.items()}, dict(before.settings)
    for step in plan.network_steps(one, before):
        words = step.argv
        if words[0] == "sysctl":
            key, value = words[2].split("=")
            settings[key] = value
        elif words[:3] == ("ip", "link", "add"):
            links[words[3]] = plan.Link(up=False, master="", addresses=frozenset())
        elif words[:3] == ("ip", "address", "replace"):
            links[words[5]] = dataclasses.replace(links[words[5]], addresses=links[words[5]].addresses | {words[3]})
        elif words[:3] == ("ip", "link", "set"):
            master = words[words.index("master") + 1] if "master" in words else links[words[3]].master
            links[words[3]] = dataclasses.replace(links[words[3]], up=True, master=master)
        elif words[:3] == ("ip", "route", "replace"):
            routes[words[3]] = words[5]
        elif words[0] == "iptables":
            rest = [word for word in words[4:] if word != "1"]
            rules.setdefault(words[3], []).append(" ".join(["-A", *rest[1:]]))
        else:
            raise AssertionError(words)
    return plan.Observed(links=links, routes=routes, rules=rules, settings=settings)


class TestNetwork:
    @pytest.mark.parametrize("layout", list(plan.LAYOUTS))
    @pytest.mark.parametrize(
        "filters", [[":FORWARD ACCEPT [0:0]"], [":FORWARD DROP [0:0]"], [":FORWARD ACCEPT [0:0]", "-A FORWARD -j REJECT"]]
    )
    def test_what_is_done_needs_doing_once(self, layout, filters):
        one = make(layout)
        ends = {link: plan.Link(up=False, master="", addresses=frozenset()) for machine in one.machines for link in one.links(machine)}
        after = applied(one, dataclasses.replace(nothing(), rules={"filter": filters}, links=ends))
        assert plan.network_steps(one, after) == []
        assert any(one.comment in rule for rule in after.rules["filter"]) == (len(filters) > 1 or "DROP" in filters[0])

    def test_a_machine_that_lost_its_bridge_is_plugged_in_again(self):
        one = make()
        ends = {link: plan.Link(up=False, master="", addresses=frozenset()) for link in one.links(one.machines[0])}
        after = applied(one, dataclasses.replace(nothing(), links=ends))
        del after.links["kos0a1b2c-m"]  # type: ignore[attr-defined]
        lost = dataclasses.replace(after, links={**after.links, "kos0a1b2c-m1": plan.Link(up=True, master="", addresses=frozenset())})
        assert [step.what for step in plan.network_steps(one, lost)] == [
            "add the bridge kos0a1b2c-m",
            "give kos0a1b2c-m the address 10.123.0.1/24",
            "set kos0a1b2c-m up",
            "plug kos0a1b2c-m1 into kos0a1b2c-m",
        ]

    def test_settings_go_upwards_only(self):
        high = {"net.ipv4.ip_forward": "1", "fs.inotify.max_user_instances": "99999", "fs.inotify.max_user_watches": "9999999"}
        assert not [step for step in plan.network_steps(make(), dataclasses.replace(nothing(), settings=high)) if step.argv[0] == "sysctl"]

    def test_removal_takes_ours_and_nothing_else(self):
        one, other = make(), make(name="other", taken=("10.123.0.0/22",))
        foreign = [
            "-A POSTROUTING -s 192.0.2.0/24 -j MASQUERADE",
            '-A POSTROUTING -m comment --comment "kos-sandbox:kos-0a1b2c-more" -j MASQUERADE',
        ]
        host_links = {
            "eth0": plan.Link(up=True, master="", addresses=frozenset()),
            "kos0a1b2cx": plan.Link(up=True, master="", addresses=frozenset()),
        }
        both = applied(other, applied(one, dataclasses.replace(nothing(), rules={"nat": foreign}, links=host_links)))
        removed = [" ".join(step.argv) for step in plan.network_removal(one, both)]
        assert len([line for line in removed if line.startswith("iptables")]) == 2
        assert all(one.comment in line.split() for line in removed if line.startswith("iptables"))
        assert [line for line in removed if line.startswith("ip ")] == ["ip link delete kos0a1b2c-m", "ip link delete kos0a1b2c-u"]

    def test_machines_links_go_before_bridges(self):
        one = make()
        links = {link: plan.Link(up=True, master="", addresses=frozenset()) for link in (*one.bridges, *one.links(one.machines[0]))}
        gone = [step.argv[-1] for step in plan.network_removal(one, dataclasses.replace(nothing(), links=links))]
        assert gone[-2:] == list(one.bridges)

    def test_rules_as_iptables_save_writes_them_are_known_again(self):
        one = make()
        lines = [
            f'-A POSTROUTING -s {net} ! -o kos0a1b2c-m -m comment --comment "{one.comment}" -j MASQUERADE'
            for net in (one.management, one.external)
        ]
        steps = plan.network_steps(one, dataclasses.replace(nothing(), rules={"nat": lines}))
        assert not [step for step in steps if step.argv[0] == "iptables"]


class TestMachine:
    def test_mounts_are_read_with_their_escapes(self):
        found = plan.parse_mounts("kos /srv/a\\040b overlay rw,relatime 0 0\n\nproc /proc proc rw 0 0\n")
        assert found[0] == plan.Mount("kos", "/srv/a b", "overlay", ("rw", "relatime"))
        assert len(found) == 2

    @pytest.mark.parametrize(
        ("text", "unified", "places"),
        [
            ("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", True, ["/sys/fs/cgroup"]),
            (
                "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n",
                False,
                ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/unified"],
            ),
            ("cgroup /srv/x/sys/fs/cgroup/cpu cgroup rw 0 0\n", False, []),
        ],
    )
    def test_cgroup_versions(self, text, unified, places):
        assert plan.cgroup_mounts(plan.parse_mounts(text)) == (unified, places)
        assert ("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY" in plan.nspawn_environment(unified=unified)) is not unified

    def test_loop_devices_go_with_those_made_of_them(self):
        root, foreign = plan.Loop(1, 40, 0, "/instances/disk"), plan.Loop(2, 50, 0, "/elsewhere/disk")
        volume, raw, upon = plan.Loop(3, 60, 0, "/srv/m/volume"), plan.Loop(4, 6, 3, "/dev/loop3"), plan.Loop(5, 6, 4, "/kubelet/pod")
        # A raw volume of another machine.
        other = plan.Loop(6, 6, 2, "/dev/loop2")
        assert plan.loops_of([root, foreign, upon, raw, volume, other], {40}, "/srv/m") == [upon, raw, volume, root]

    def test_command(self):
        one = make("full")
        argv = plan.nspawn_argv(one, one.machines[2], binds=[("/c", "/d")], devices=["/dev/fuse"], modules=False)
        assert argv[0] == "systemd-nspawn"
        assert "--directory=/srv/state/sandbox/machines/compute1/root" in argv
        assert "--network-veth-extra=kos0a1b2c-m3:mgmt0" in argv
        assert argv[-2:] == ["--bind=/dev/fuse", "--bind=/c:/d"]
        assert not [word for word in argv if "modules" in word]


class TestTexts:
    def test_resolvers_on_the_loopback_do_not_count(self):
        assert plan.resolvers("nameserver 127.0.0.53\nnameserver ::1\n", "# x\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n") == [
            "192.0.2.1",
            "192.0.2.2",
        ]
        assert plan.resolvers("options edns0\nnameserver\nnameserver x\n") == []

    @pytest.mark.parametrize(
        ("texts", "mirrors"),
        [
            ([], ("http://deb.debian.org/debian", "http://deb.debian.org/debian-security")),
            (
                ["Types: deb\n# http://old/debian\nURIs: https://m.example/debian/\n"],
                ("https://m.example/debian", "http://deb.debian.org/debian-security"),
            ),
            (
                ["deb [signed-by=/k] http://m/debian bookworm main\ndeb http://m/debian-security x main\n"],
                ("http://m/debian", "http://m/debian-security"),
            ),
            (
                ["deb http://archive.ubuntu.com/ubuntu noble main\n"],
                ("http://deb.debian.org/debian", "http://deb.debian.org/debian-security"),
            ),
        ],
    )
    def test_mirrors(self, texts, mirrors):
        assert plan.debian_mirrors(texts) == mirrors

    def test_known_hosts_keep_what_is_not_ours(self):
        text = plan.merge_known_hosts("10.0.0.1 ssh-rsa OLD\n\n192.0.2.9 ssh-ed25519 X\n", {"10.0.0.1": "ssh-ed25519 NEW"})
        assert text == "192.0.2.9 ssh-ed25519 X\n10.0.0.1 ssh-ed25519 NEW\n"
        assert plan.merge_known_hosts(text, {"10.0.0.1": ""}) == "192.0.2.9 ssh-ed25519 X\n"

    @pytest.mark.parametrize("layout", list(plan.LAYOUTS))
    def test_contract(self, layout):
        one = make(layout)
        data = plan.contract(one, dns=["192.0.2.1"], mirror=True)
        assert yaml.safe_load(plan.to_yaml(data)) == data
        variables, openstack = data["all"]["vars"], data["all"]["children"]["openstack"]
        assert variables["hosts_contract"] == {"version": 1, "base": "sandbox", "layout": layout, "name": one.name}
        assert set(openstack["hosts"]) == {machine.name for machine in one.machines}
        assert set(openstack["children"]) == {"controller", "network", "compute", "storage"}
        assert all(group["hosts"] for group in openstack["children"].values())
        external = ipaddress.ip_network(variables["external_cidr"])
        for name in ("external_gateway", "external_pool_start", "external_pool_end"):
            assert ipaddress.ip_address(variables[name]) in external
        assert variables["mirror_url"] == f"http://{one.host_ip}:8480"
        assert "mirror_url" not in plan.contract(one, dns=[], mirror=False)["all"]["vars"]

    @settings(deadline=None)  # two cores that others use too
    @given(TREES)
    def test_yaml_is_read_as_it_was_meant(self, data):
        assert yaml.safe_load(plan.to_yaml(data)) == data


class TestFiles:
    def test_write_tells_what_changed(self, tmp_path):
        path = tmp_path / "a/b"
        assert host.write(path, "x", 0o600)
        assert not host.write(path, "x", 0o600)
        assert host.write(path, "x", 0o644)
        assert path.stat().st_mode & 0o777 == 0o644
        assert [file.name for file in path.parent.iterdir()] == ["b"]

    def test_write_replaces_a_link_and_not_what_it_leads_to(self, tmp_path):
        (tmp_path / "host").write_text("mine")
        (tmp_path / "link").symlink_to(tmp_path / "host")
        assert host.write(tmp_path / "link", "x")
        assert (tmp_path / "host").read_text() == "mine"

    def test_a_lock_that_is_held_is_waited_for_and_then_said(self, tmp_path):
        with (
            host.lock(tmp_path / "lock", "command"),
            pytest.raises(KosError, match="another command"),
            host.lock(tmp_path / "lock", "command", 0.3),
        ):
            pass

    def test_a_lock_is_handed_on(self, tmp_path):
        order = []

        def second() -> None:
            with host.lock(tmp_path / "lock", "command", 5):
                order.append(2)

        with host.lock(tmp_path / "lock", "command"):
            thread = threading.Thread(target=second)
            thread.start()
            order.append(1)
        thread.join()
        assert order == [1, 2]

    def test_failures_of_commands_are_one_sentence(self):
        with pytest.raises(KosError, match=r"failed \(3\): oh no$"):
            host.run("sh", "-c", "echo oh no >&2; exit 3")
        with pytest.raises(KosError, match="is missing"):
            host.run("no-such-command-here")

    def test_packages_are_shared_and_kept(self, tmp_path):
        one = make()
        one = dataclasses.replace(one, cache=str(tmp_path))
        shared = roots.archives(tmp_path) / "shared"
        shared.mkdir(parents=True)
        (shared / "a.deb").write_text("a")
        roots._seed(tmp_path, "m")
        own = roots.archives(tmp_path) / "m"
        assert os.path.samefile(own / "a.deb", shared / "a.deb")
        (own / "b.deb").write_text("b")
        roots.harvest(tmp_path, "m")
        assert sorted(file.name for file in shared.iterdir()) == ["a.deb", "b.deb"]
        assert not own.exists()

    def test_the_root_depends_on_the_recipe(self):
        assert roots.key(("http://a", "http://b")) == roots.key(("http://a", "http://b"))
        assert roots.key(("http://a", "http://b")) != roots.key(("http://c", "http://b"))

    def test_files_of_machines(self, root):
        source = root / roots._MACHINE_FILES
        units = {path.name for path in (source / "etc/systemd/system").glob("*.service")}
        assert units == set(roots.ENABLED)
        for unit in units:
            text = (source / "etc/systemd/system" / unit).read_text()
            assert f"WantedBy={roots.ENABLED[unit]}" in text
            for program in (line.split("=", 1)[1] for line in text.splitlines() if "/usr/local/" in line):
                assert os.access(source / program.lstrip("/"), os.X_OK)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Give the command a state folder and a registry of its own, on a host that is large enough."""
    monkeypatch.setenv("KOS_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("KOS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sandbox, "REGISTRY", tmp_path / "registry")
    enough = sandbox.checks.Host(system="Linux", machine="x86_64", root=True, has_apt=True, memory=2**40, free={str(tmp_path): 2**50})
    monkeypatch.setattr(sandbox.checks, "probe", lambda *_places: enough)
    monkeypatch.setattr(sandbox.os, "geteuid", lambda: 0)
    monkeypatch.setattr(sandbox, "_filesystem", lambda _place: "ext4")
    return tmp_path


def record(folder: pathlib.Path, **changes: str) -> plan.Sandbox:
    one = dataclasses.replace(make(), state=str(folder / "state"), cache=str(folder / "cache"), **changes)
    host.write(folder / "state/sandbox/sandbox.json", one.to_json())
    host.write(folder / f"registry/{one.name}.json", one.to_json())
    return one


class TestCommand:
    @pytest.mark.parametrize("verb", ["start", "stop", "status"])
    def test_no_sandbox(self, place, verb):
        with pytest.raises(KosError, match="there is no sandbox in"):
            sandbox.main([verb])
        assert not (place / "state").exists()

    def test_destroy_of_nothing_is_fine(self, place, capsys):
        assert sandbox.main(["destroy", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"changed": False, "actions": [], "sandbox": None}

    def test_destroy_of_an_unknown_name(self, place):
        with pytest.raises(KosError, match="tools/sandbox list"):
            sandbox.main(["destroy", "--name", "other"])

    def test_another_layout_or_name(self, place):
        record(place)
        with pytest.raises(KosError, match="has the layout compact, not full"):
            sandbox.main(["up", "--layout", "full"])
        with pytest.raises(KosError, match="has the name kos-0a1b2c, not mine"):
            sandbox.main(["up", "--name", "mine"])

    def test_a_state_folder_of_another_base(self, place):
        host.write(place / "state/inventory/hosts.yaml", "all:\n  vars:\n    hosts_contract: \n      base: vagrant\n")
        with pytest.raises(KosError, match="vagrant"):
            sandbox.main(["up"])

    def test_a_state_folder_on_an_overlay(self, place, monkeypatch):
        monkeypatch.setattr(sandbox, "_filesystem", lambda _place: "overlay")
        with pytest.raises(KosError, match="lies on an overlay"):
            sandbox.main(["up"])
        assert not (place / "state").exists()

    @pytest.mark.parametrize(
        ("changes", "words"),
        [({"root": False}, "as root"), ({"system": "Darwin"}, "Darwin"), ({"memory": 2**30}, "memory"), ({"free": {"/x": 2**30}}, "disk")],
    )
    def test_a_host_that_does_not_do(self, place, monkeypatch, changes, words):
        small = dataclasses.replace(sandbox.checks.probe(), **changes)
        monkeypatch.setattr(sandbox.checks, "probe", lambda *_places: small)
        with pytest.raises(KosError, match=words):
            sandbox.main(["up"])
        assert not (place / "state").exists()

    def test_a_state_folder_that_was_moved(self, place):
        record(place)
        os.rename(place / "state", place / "elsewhere")
        os.environ["KOS_STATE"] = str(place / "elsewhere")
        with pytest.raises(KosError, match="move the folder back"):
            sandbox.main(["status"])

    def test_status_and_list(self, place, capsys):
        record(place)
        assert sandbox.main(["status"]) == 3
        assert "controller1  stopped" in capsys.readouterr().out
        assert sandbox.main(["list", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["sandboxes"][0]["name"] == "kos-0a1b2c"

    def test_destroy_removes_the_contracts_that_rest_on_it(self, place, monkeypatch):
        one = record(place)
        monkeypatch.setattr(sandbox, "stop", lambda *_arguments: None)
        monkeypatch.setattr(sandbox.host, "observe", nothing)
        state = place / "state"
        host.write(state / "inventory/hosts.yaml", plan.to_yaml(plan.contract(one, dns=[], mirror=True)))
        for name in ("clouds.yaml", "openrc/admin", "secrets/keep", "inventory/cluster.yaml", "inventory/none.yaml"):
            host.write(state / name, "x")
        assert sandbox.main(["destroy"]) == 0
        left = sorted(str(path.relative_to(state)) for path in state.rglob("*") if path.is_file())
        assert left == ["inventory/none.yaml", "sandbox.lock", "secrets/keep"]
        assert not list((place / "registry").glob("*.json"))

    def test_destroy_leaves_the_contracts_of_others(self, place, monkeypatch):
        record(place)
        monkeypatch.setattr(sandbox, "stop", lambda *_arguments: None)
        monkeypatch.setattr(sandbox.host, "observe", nothing)
        host.write(place / "state/inventory/hosts.yaml", 'base: "sandbox"\nname: "another"\n')
        sandbox.main(["destroy"])
        assert (place / "state/inventory/hosts.yaml").exists()
