# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads, against a server on this machine."""

from __future__ import annotations

import collections.abc as c
import hashlib
import http.server
import io
import json
import pathlib
import tarfile
import threading

import pytest

from kos import KosError
from kos import mirror_download as download
from kos import mirror_oci as oci
from kos.mirror_plan import File, Image


class Site(http.server.BaseHTTPRequestHandler):
    """A release site and a registry that wants a token."""

    content: dict[str, bytes]
    seen: list[tuple[str, str | None]]

    def do_HEAD(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.seen.append((path, self.headers.get("Authorization")))
        if path.startswith("/v2/") and self.headers.get("Authorization") != "Bearer let-me-in":
            self.send_response(401)
            self.send_header("WWW-Authenticate", f'Bearer realm="http://{self.headers["Host"]}/token",service="here"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if "/blobs/" in path:
            self.send_response(307)
            self.send_header("Location", f"/storage/{path.rpartition('/')[2]}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if path not in self.content:
            self.send_error(404)
            return
        data = self.content[path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(data) + (10 if path.endswith("broken") else 0)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site() -> c.Iterator[tuple[str, type[Site]]]:
    handler = type("Here", (Site,), {"content": {}, "seen": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}", handler
        server.shutdown()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def a_file(address: str, path: str, digest: str | None, members: dict[str, str] | None = None) -> File:
    return File("tool", "core", "v1.0.0", f"{address}{path}", f"http://{address}{path}", digest, None if members else "tool", members or {})


def test_a_file_with_the_right_digest_is_kept(site: tuple[str, type[Site]], tmp_path: pathlib.Path) -> None:
    address, handler = site
    handler.content["/v1.0.0/tool"] = b"tool"
    entry = download.file(a_file(address, "/v1.0.0/tool", sha256(b"tool")), tmp_path / "tool")
    assert entry == {"version": "v1.0.0", "path": f"{address}/v1.0.0/tool", "sha256": sha256(b"tool")}
    assert (tmp_path / "tool").read_bytes() == b"tool"


def test_a_file_with_another_digest_is_refused_and_not_kept(site: tuple[str, type[Site]], tmp_path: pathlib.Path) -> None:
    address, handler = site
    handler.content["/tool"] = b"evil"
    with pytest.raises(KosError, match=r"components\.yaml says"):
        download.file(a_file(address, "/tool", sha256(b"tool")), tmp_path / "tool")
    assert [*tmp_path.iterdir()] == []


def test_a_file_that_is_not_there_is_named(site: tuple[str, type[Site]], tmp_path: pathlib.Path) -> None:
    with pytest.raises(KosError, match="answers 404"):
        download.file(a_file(site[0], "/gone", sha256(b"tool")), tmp_path / "tool")


def test_a_download_that_breaks_off_leaves_nothing_and_can_be_repeated(site: tuple[str, type[Site]], tmp_path: pathlib.Path) -> None:
    address, handler = site
    handler.content["/broken"] = b"tool"
    with pytest.raises(KosError, match=r"broke off|cannot be had"):
        download.file(a_file(address, "/broken", sha256(b"tool")), tmp_path / "tool")
    assert [*tmp_path.iterdir()] == []
    handler.content["/whole"] = b"tool"
    download.file(a_file(address, "/whole", sha256(b"tool")), tmp_path / "tool")
    assert (tmp_path / "tool").exists()


def test_an_old_file_stays_when_the_new_one_is_bad(site: tuple[str, type[Site]], tmp_path: pathlib.Path) -> None:
    address, handler = site
    (tmp_path / "tool").write_bytes(b"old")
    handler.content["/tool"] = b"evil"
    with pytest.raises(KosError):
        download.file(a_file(address, "/tool", sha256(b"tool")), tmp_path / "tool")
    assert (tmp_path / "tool").read_bytes() == b"old"


def test_members_of_a_tarball_get_their_digests(site: tuple[str, type[Site]], tmp_path: pathlib.Path) -> None:
    address, handler = site
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, data in (("./bridge", b"bridge"), ("./other", b"other")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    data = stream.getvalue()
    handler.content["/x.tgz"] = data
    entry = download.file(a_file(address, "/x.tgz", sha256(data), {"./bridge": "bridge"}), tmp_path / "x.tgz")
    assert entry["members"] == {"./bridge": sha256(b"bridge")}
    with pytest.raises(KosError, match=r"does not hold \./gone"):
        download.file(a_file(address, "/x.tgz", sha256(data), {"./gone": "gone"}), tmp_path / "x.tgz")


def test_nothing_is_downloaded_without_a_digest(tmp_path: pathlib.Path) -> None:
    with pytest.raises(KosError, match=r"no digest of tool v1\.0\.0"):
        download.file(a_file("nowhere.invalid", "/tool", None), tmp_path / "tool")
    with pytest.raises(KosError, match="not published"):
        download.file(File("tool", "core", "v1", "x/tool", program="tool"), tmp_path / "tool")


def publish(handler: type[Site], repository: str) -> str:
    layer, description = b"layer", b'{"config": true}'
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "config": {"mediaType": oci.CONFIG, "digest": f"sha256:{sha256(description)}", "size": len(description)},
            "layers": [{"mediaType": oci.LAYER, "digest": f"sha256:{sha256(layer)}", "size": len(layer)}],
        }
    ).encode()
    index = json.dumps(
        {
            "manifests": [
                {"digest": f"sha256:{'0' * 64}", "size": 1, "platform": {"os": "linux", "architecture": "s390x"}},
                {"digest": f"sha256:{sha256(manifest)}", "size": len(manifest), "platform": {"os": "linux", "architecture": "amd64"}},
            ]
        }
    ).encode()
    handler.content.update(
        {
            "/token": b'{"token": "let-me-in"}',
            f"/v2/{repository}/manifests/sha256:{sha256(index)}": index,
            f"/v2/{repository}/manifests/sha256:{sha256(manifest)}": manifest,
            f"/storage/sha256:{sha256(layer)}": layer,
            f"/storage/sha256:{sha256(description)}": description,
        }
    )
    return f"sha256:{sha256(index)}"


def test_an_image_is_copied_for_this_architecture(site: tuple[str, type[Site]], tmp_path: pathlib.Path) -> None:
    address, handler = site
    digest = publish(handler, "x/y")
    storage = oci.Storage(tmp_path)
    item = Image(f"{address}/x/y", "core", "v1", {}, digest=digest)
    assert download.image(item, storage, "amd64", "http") == {"digest": digest}
    assert storage.complete(item.name, "v1", digest)
    assert len({*storage.contents(digest)}) == 4
    # The token is for the registry, not for where it keeps its blobs.
    assert {token for path, token in handler.seen if path.startswith("/storage/")} == {None}


def test_an_image_of_another_architecture_is_not_taken(site: tuple[str, type[Site]], tmp_path: pathlib.Path) -> None:
    address, handler = site
    item = Image(f"{address}/x/y", "core", "v1", {}, digest=publish(handler, "x/y"))
    with pytest.raises(KosError, match="not published for arm64"):
        download.image(item, oci.Storage(tmp_path), "arm64", "http")


def test_a_changed_manifest_is_refused(site: tuple[str, type[Site]], tmp_path: pathlib.Path) -> None:
    address, handler = site
    digest = publish(handler, "x/y")
    handler.content[f"/v2/x/y/manifests/{digest}"] += b" "
    with pytest.raises(KosError, match="has the sha256"):
        download.image(Image(f"{address}/x/y", "core", "v1", {}, digest=digest), oci.Storage(tmp_path), "amd64", "http")


def test_a_site_that_answers_is_reachable_and_another_is_not(site: tuple[str, type[Site]]) -> None:
    assert download.reachable([f"http://{site[0]}", "http://127.0.0.1:1"], 2) == {f"http://{site[0]}"}
    assert download.reachable([]) == set()
