# SPDX-License-Identifier: GPL-3.0-or-later
"""Images and tarballs: the same content gives the same bytes, and a registry can read them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pathlib
import tarfile

import pytest

from kos import mirror_oci as oci


@pytest.fixture
def program(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "program"
    path.write_bytes(b"\x7fELF" + bytes(range(256)) * 100)
    return path


def entries(program: pathlib.Path) -> list[oci.Entry]:
    return [oci.Entry("bin/program", source=program), oci.Entry("etc/motd", text="hello\n", mode=0o644), oci.Entry("tmp", mode=0o1777)]


def test_the_same_content_gives_the_same_bytes(program: pathlib.Path) -> None:
    first, second = io.BytesIO(), io.BytesIO()
    one = oci.pack(first, entries(program))
    os.utime(program, (1, 1))
    program.chmod(0o600)
    two = oci.pack(second, entries(program))
    assert first.getvalue() == second.getvalue()
    assert one == two


def test_a_layer_says_what_it_is(program: pathlib.Path) -> None:
    stream = io.BytesIO()
    blob = oci.pack(stream, entries(program))
    data = stream.getvalue()
    assert blob.size == len(data)
    assert blob.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert blob.diff_id == f"sha256:{hashlib.sha256(gzip.decompress(data)).hexdigest()}"
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert [(info.name, info.mode, info.uid, info.mtime) for info in tar] == [
            ("bin/program", 0o755, 0, 0),
            ("etc/motd", 0o644, 0, 0),
            ("tmp", 0o1777, 0, 0),
        ]


def test_file_capabilities_have_the_kernels_form(program: pathlib.Path) -> None:
    stream = io.BytesIO()
    oci.pack(stream, [oci.Entry("coredns", source=program, capabilities=("net_bind_service",))])
    with tarfile.open(fileobj=io.BytesIO(stream.getvalue())) as tar:
        value = tar.getmember("coredns").pax_headers["SCHILY.xattr.security.capability"]
    # VFS_CAP_REVISION_2 | effective; permitted: bit 10.
    assert value.encode() == bytes.fromhex("0100000200040000000000000000000000000000")


def test_a_root_file_system_loses_what_belongs_to_a_machine(tmp_path: pathlib.Path) -> None:
    source = tmp_path / "root.tar"
    with tarfile.open(source, "w") as tar:
        for name, kind in (
            ("./", tarfile.DIRTYPE),
            ("./etc", tarfile.DIRTYPE),
            ("./etc/hostname", tarfile.REGTYPE),
            ("./var/log", tarfile.DIRTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.mtime, info.uname = kind, 12345, "somebody"
            tar.addfile(info)
        for name in ("./var/log/x", "./etc/logs"):
            tar.addfile(tarfile.TarInfo(name))
        link = tarfile.TarInfo("./etc/linked")
        link.type, link.linkname = tarfile.LNKTYPE, "./etc/logs"
        tar.addfile(link)
    stream = io.BytesIO()
    oci.repack(source, stream, ("etc/hostname", "var/log"))
    with tarfile.open(fileobj=io.BytesIO(stream.getvalue())) as tar:
        assert tar.getnames() == ["etc", "etc/logs", "etc/linked"]
        assert tar.getmember("etc/linked").linkname == "etc/logs"
        assert {(info.mtime, info.uname) for info in tar} == {(0, "")}


def test_a_manifest_names_all_its_parts(tmp_path: pathlib.Path, program: pathlib.Path) -> None:
    storage = oci.Storage(tmp_path / "registry")
    layer = storage.layer(entries(program))
    description = storage.put(
        oci.CONFIG, oci.config("amd64", [layer], entrypoint=["/bin/program"], command=["serve"], environment={"A": "b"}, user="65532:65532")
    )
    top = storage.put(oci.MANIFEST, oci.manifest(description, [layer]))
    manifest = json.loads(storage.path(top.digest).read_bytes())
    assert manifest["schemaVersion"] == 2
    assert manifest["mediaType"] == oci.MANIFEST
    for part in (manifest["config"], *manifest["layers"]):
        data = storage.path(part["digest"]).read_bytes()
        assert part["size"] == len(data)
        assert part["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
    config = json.loads(storage.path(description.digest).read_bytes())
    assert (config["os"], config["architecture"]) == ("linux", "amd64")
    assert config["rootfs"] == {"type": "layers", "diff_ids": [layer.diff_id]}
    assert config["config"]["Entrypoint"] == ["/bin/program"]
    assert config["config"]["Cmd"] == ["serve"]
    assert config["config"]["User"] == "65532:65532"
    assert {"A=b", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"} == {*config["config"]["Env"]}


def test_an_image_is_complete_only_with_all_its_parts(tmp_path: pathlib.Path, program: pathlib.Path) -> None:
    storage = oci.Storage(tmp_path / "registry")
    layer = storage.layer(entries(program))
    description = storage.put(oci.CONFIG, oci.config("amd64", [layer]))
    top = storage.put(oci.MANIFEST, oci.manifest(description, [layer]))
    assert not storage.complete("example.org/x", "v1", top.digest)
    storage.tag("example.org/x", "v1", [description, layer], top)
    assert storage.complete("example.org/x", "v1", top.digest)
    assert {*storage.contents(top.digest)} == {top.digest, description.digest, layer.digest}
    path = storage.path(layer.digest)
    path.write_bytes(path.read_bytes()[:-1])
    assert not storage.complete("example.org/x", "v1", top.digest)


def test_a_file_appears_whole_or_not_at_all(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "deep/file"

    def fail() -> None:
        with oci.write(path) as stream:
            stream.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [*path.parent.iterdir()] == []
    with oci.write(path) as stream:
        stream.write(b"whole")
    assert path.read_bytes() == b"whole"
