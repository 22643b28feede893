# SPDX-License-Identifier: GPL-3.0-or-later
"""Gets published releases: files and images, checked against the digests that stand in components.yaml."""

from __future__ import annotations

import concurrent.futures
import hashlib
import http.client
import json
import pathlib
import re
import tarfile
import typing as t
import urllib.error
import urllib.parse
import urllib.request

from kos import KosError
from kos import mirror_oci as oci
from kos.mirror_build import sha256_of
from kos.mirror_plan import File, Image, Item

__all__ = ["fetch", "file", "host_of", "image", "reachable", "refusal"]

PATIENCE = 3.0
_STALL = 60.0
_AGENT = "kos-mirror"


def refusal(item: Item) -> str | None:
    """Why an item cannot be downloaded, if so."""
    if isinstance(item, File) and item.url is None:
        return f"{item.name} is not published by its upstream: build it with `tools/mirror build --only {item.name}`"
    if item.digest is None:
        name = item.reference if isinstance(item, Image) else f"{item.name} {item.version}"
        return (
            f"components.yaml has no digest of {name}, and what cannot be checked is not downloaded: add the digest, "
            f"or build it with `tools/mirror build --only {item.name}`"
        )
    return None


def host_of(item: Item) -> str:
    """Scheme and host that publish an item."""
    if isinstance(item, Image):
        return f"https://{item.name.partition('/')[0]}"
    parts = urllib.parse.urlsplit(str(item.url))
    return f"{parts.scheme}://{parts.netloc}"


def reachable(hosts: t.Iterable[str], patience: float = PATIENCE) -> set[str]:
    """Return the release sites that answer at all within the given seconds; all are asked at once."""

    def ask(host: str) -> bool:
        request = urllib.request.Request(f"{host}/", method="HEAD", headers={"User-Agent": _AGENT})
        try:
            urllib.request.urlopen(request, timeout=patience).close()
        except urllib.error.HTTPError as error:
            # A site that has nothing at its root is a site; a gateway that refuses is not.
            return error.code in (400, 401, 404, 405)
        except (OSError, http.client.HTTPException):
            return False
        return True

    wanted = sorted({*hosts})
    pool = concurrent.futures.ThreadPoolExecutor(max_workers=max(1, len(wanted)))
    asked = {pool.submit(ask, host): host for host in wanted}
    # A resolver that does not answer has no time-out of its own: do not wait for stragglers.
    done, _ = concurrent.futures.wait(asked, timeout=patience + 1)
    pool.shutdown(wait=False, cancel_futures=True)
    return {asked[future] for future in done if future.result()}


def fetch(url: str, digest: str, target: pathlib.Path, headers: t.Mapping[str, str] | None = None) -> None:
    """Download to a file, which appears only when its content has the digest (sha256:… or sha512:…)."""
    algorithm, _, wanted = digest.partition(":")
    check = hashlib.new(algorithm)
    request = urllib.request.Request(url, headers={"User-Agent": _AGENT})
    for name, value in (headers or {}).items():
        # Registries hand over to storage elsewhere, which must not see the token.
        request.add_unredirected_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=_STALL) as answer, oci.write(target) as stream:
            size = answer.headers.get("Content-Length")
            got = 0
            while data := answer.read(1 << 20):
                check.update(data)
                got += len(data)
                stream.write(data)
            if size is not None and got != int(size):
                raise KosError(f"{url} broke off after {got} of {size} bytes: run the same command again")
            if check.hexdigest() != wanted:
                raise KosError(
                    f"{url} has the {algorithm} {check.hexdigest()}, but components.yaml says {wanted}: nothing was kept; "
                    "do not use it unless upstream says why it changed"
                )
    except urllib.error.HTTPError as error:
        raise KosError(f"{url} answers {error.code} {error.reason}: is the version in versions.yaml a published one?") from None
    except (OSError, http.client.HTTPException) as error:
        raise KosError(f"{url} cannot be had ({error}): check the network, or use `tools/mirror build`") from None


def file(item: File, target: pathlib.Path) -> dict[str, t.Any]:
    """Download a file to its place in the tree; returns what the index says of it."""
    if words := refusal(item):
        raise KosError(words)
    fetch(str(item.url), str(item.digest), target)
    entry: dict[str, t.Any] = {"version": item.version, "path": item.path, "sha256": sha256_of(target)}
    if item.members:
        entry["members"] = _members(item, target)
    return entry


def _members(item: File, path: pathlib.Path) -> dict[str, str]:
    found: dict[str, str] = {}
    plain = {name.removeprefix("./"): name for name in item.members}
    with tarfile.open(path) as tar:
        for info in tar:
            name = plain.get(info.name.removeprefix("./"))
            stream = tar.extractfile(info) if name and info.isreg() else None
            if name and stream:
                found[name] = hashlib.file_digest(t.cast(t.Any, stream), "sha256").hexdigest()
    if missing := [name for name in item.members if name not in found]:
        raise KosError(f"{item.url} does not hold {', '.join(missing)}, which components.yaml expects: correct its list of members")
    return found


def image(item: Image, storage: oci.Storage, arch: str, scheme: str = "https") -> dict[str, t.Any]:
    """Copy an image from its registry into the storage; returns what the index says of it."""
    if words := refusal(item):
        raise KosError(words)
    host, _, repository = item.name.partition("/")
    source = _Registry(f"{scheme}://{host}", repository)
    top = json.loads(source.take(storage, "manifests", str(item.digest)))
    blobs: list[oci.Blob] = []
    if "manifests" in top:
        mine = [
            entry["digest"]
            for entry in top["manifests"]
            if (entry.get("platform", {}).get("os"), entry.get("platform", {}).get("architecture")) == ("linux", arch)
        ]
        if not mine:
            raise KosError(f"{item.reference} is not published for {arch}: build it with `tools/mirror build --only {item.name}`")
        data = source.take(storage, "manifests", mine[0])
        storage.revision(item.name, oci.Blob(oci.MANIFEST, mine[0], len(data)))
        top = json.loads(data)
    for part in [top["config"], *top["layers"]]:
        blob = oci.Blob(part["mediaType"], part["digest"], part["size"])
        if not storage.has(blob):
            fetch(source.url("blobs", blob.digest), blob.digest, storage.path(blob.digest), source.headers)
        blobs.append(blob)
    storage.tag(item.name, item.version, blobs, oci.Blob(oci.INDEX, str(item.digest), 0))
    return {"digest": item.digest}


class _Registry:
    """One repository of a registry, for anonymous reading."""

    def __init__(self, host: str, repository: str) -> None:
        self._host = host
        self._repository = repository
        self.headers = {
            "Accept": ", ".join(
                (
                    oci.INDEX,
                    oci.MANIFEST,
                    "application/vnd.docker.distribution.manifest.list.v2+json",
                    "application/vnd.docker.distribution.manifest.v2+json",
                )
            )
        }
        self._authenticate()

    def url(self, kind: str, digest: str) -> str:
        return f"{self._host}/v2/{self._repository}/{kind}/{digest}"

    def take(self, storage: oci.Storage, kind: str, digest: str) -> bytes:
        path = storage.path(digest)
        if not path.exists():
            fetch(self.url(kind, digest), digest, path, self.headers)
        return path.read_bytes()

    def _authenticate(self) -> None:
        request = urllib.request.Request(f"{self._host}/v2/", headers={"User-Agent": _AGENT})
        try:
            urllib.request.urlopen(request, timeout=_STALL).close()
        except urllib.error.HTTPError as error:
            wants = dict(re.findall(r'(\w+)="([^"]*)"', error.headers.get("WWW-Authenticate", "")))
            if error.code != 401 or "realm" not in wants:
                raise KosError(f"{self._host} answers {error.code} {error.reason}: it does not look like a registry") from None
            query = urllib.parse.urlencode({"service": wants.get("service", ""), "scope": f"repository:{self._repository}:pull"})
            try:
                with urllib.request.urlopen(f"{wants['realm']}?{query}", timeout=_STALL) as answer:
                    token = json.load(answer)
            except (OSError, ValueError) as second:
                raise KosError(f"{self._host} gives no anonymous access to {self._repository} ({second})") from None
            self.headers["Authorization"] = f"Bearer {token.get('token') or token.get('access_token')}"
        except (OSError, http.client.HTTPException) as error:
            raise KosError(f"{self._host} cannot be reached ({error}): check the network, or use `tools/mirror build`") from None
