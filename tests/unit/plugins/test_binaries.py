# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import io
import os
import tarfile

import pytest
from ansible_collections.kos.labs.plugins.modules import binaries
from ansible_collections.kos.labs.plugins.modules.binaries import BinaryError, Installer, stale_files

PROGRAM = b"\x7fELF program"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def tarball(members):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


@pytest.fixture
def web(monkeypatch):
    pages = {}

    def answer(url, **_more):
        if url not in pages:
            raise OSError("HTTP Error 404: Not Found")
        return io.BytesIO(pages[url])

    monkeypatch.setattr(binaries, "open_url", answer)
    return pages


@pytest.fixture
def place(tmp_path):
    return {"directory": str(tmp_path / "bin"), "marks": str(tmp_path / "marks")}


def plain(place, data=PROGRAM):
    return {"name": "kubelet", "url": "http://mirror/kubelet", "sha256": sha256(data), "directory": place["directory"], "members": None}


def packed(place, members, data):
    return {"name": "tools", "url": "http://mirror/t.tgz", "sha256": sha256(data), "directory": place["directory"], "members": members}


def install(binary, place):
    installer = Installer(5)
    try:
        installer.install(binary, stale_files(binary, place["marks"]), place["marks"])
    finally:
        installer.clean()


def test_a_program_is_installed_once(web, place):
    web["http://mirror/kubelet"] = PROGRAM
    binary = plain(place)
    path = os.path.join(place["directory"], "kubelet")
    assert stale_files(binary, place["marks"]) == [path]
    install(binary, place)
    assert stale_files(binary, place["marks"]) == []
    assert os.stat(path).st_mode & 0o777 == 0o755
    assert os.listdir(place["directory"]) == ["kubelet"]


def test_a_changed_program_is_replaced(web, place):
    web["http://mirror/kubelet"] = PROGRAM
    install(plain(place), place)
    with open(os.path.join(place["directory"], "kubelet"), "ab") as file:
        file.write(b"!")
    assert stale_files(plain(place), place["marks"])
    install(plain(place), place)
    assert not stale_files(plain(place), place["marks"])


def test_a_wrong_checksum_leaves_nothing_behind(web, place):
    web["http://mirror/kubelet"] = b"evil"
    with pytest.raises(BinaryError, match="has the checksum"):
        install(plain(place), place)
    assert os.listdir(place["directory"]) == []


def test_no_answer(web, place):
    with pytest.raises(BinaryError, match=r"http://mirror/kubelet cannot be fetched: .*404"):
        install(plain(place), place)


def test_members_of_a_tarball(web, place):
    data = tarball({"./bin/one": b"1", "./bin/two": b"2", "./README": b""})
    web["http://mirror/t.tgz"] = data
    binary = packed(place, {"./bin/one": sha256(b"1"), "./bin/two": sha256(b"2")}, data)
    install(binary, place)
    assert sorted(os.listdir(place["directory"])) == ["one", "two"]
    assert stale_files(binary, place["marks"]) == []
    assert not os.path.exists(place["marks"])


def test_members_without_a_digest_are_remembered_by_their_tarball(web, place):
    old, new = tarball({"one": b"1"}), tarball({"one": b"new"})
    web["http://mirror/t.tgz"] = old
    binary = packed(place, {"one": ""}, old)
    install(binary, place)
    assert stale_files(binary, place["marks"]) == []
    assert stale_files(packed(place, {"one": ""}, new), place["marks"]) == [os.path.join(place["directory"], "one")]


@pytest.mark.parametrize("member", ["missing", "folder"])
def test_a_tarball_that_lacks_a_member(web, place, member):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        entry = tarfile.TarInfo("folder")
        entry.type = tarfile.DIRTYPE
        tar.addfile(entry)
    web["http://mirror/t.tgz"] = made.getvalue()
    with pytest.raises(BinaryError):
        install(packed(place, {member: ""}, made.getvalue()), place)
    assert os.listdir(place["directory"]) == []


def test_what_is_no_tarball(web, place):
    web["http://mirror/t.tgz"] = b"<html>"
    with pytest.raises(BinaryError, match="is not the tarball"):
        install(packed(place, {"one": ""}, b"<html>"), place)
