# SPDX-License-Identifier: GPL-3.0-or-later
"""OCI images and the registry's storage: deterministic tarballs, manifests, and the folders that docker-registry reads."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import io
import json
import os
import pathlib
import tarfile
import tempfile
import typing as t

__all__ = ["Blob", "Entry", "Storage", "config", "manifest", "pack", "repack", "write"]

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
# Numbers of the capabilities that images of ours want on their files.
_CAPABILITIES = {"net_bind_service": 10}
_EPOCH = "1970-01-01T00:00:00Z"


@dataclasses.dataclass(frozen=True)
class Blob:
    """Something in the registry, by its content."""

    media_type: str
    digest: str
    size: int
    diff_id: str = ""

    @property
    def descriptor(self) -> dict[str, t.Any]:
        """What manifests say about it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclasses.dataclass(frozen=True)
class Entry:
    """One member of a tarball: a file from disk, text, or a folder."""

    name: str
    source: pathlib.Path | None = None
    text: str | None = None
    mode: int = 0o755
    capabilities: tuple[str, ...] = ()


@contextlib.contextmanager
def write(path: pathlib.Path) -> t.Iterator[t.BinaryIO]:
    """Open a file that takes its name only when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fchmod(stream.fileno(), 0o644)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


class _Hashing:
    """Passes bytes on and keeps their digest."""

    def __init__(self, stream: t.BinaryIO) -> None:
        self._stream = stream
        self.sha256 = hashlib.sha256()
        self.size = 0

    def write(self, data: t.Any) -> int:
        self.sha256.update(data)
        self.size += len(data)
        return self._stream.write(data)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self._stream.flush()


@contextlib.contextmanager
def _archive(stream: t.BinaryIO, blob: list[Blob]) -> t.Iterator[tarfile.TarFile]:
    outer = _Hashing(stream)
    # Level 3: these layers and tarballs travel over a local wire, and time to pack is what people wait for.
    with gzip.GzipFile(filename="", fileobj=t.cast(t.BinaryIO, outer), mode="wb", compresslevel=3, mtime=0) as packer:
        inner = _Hashing(t.cast(t.BinaryIO, packer))
        with tarfile.open(fileobj=t.cast(t.BinaryIO, inner), mode="w", format=tarfile.PAX_FORMAT) as tar:
            yield tar
    blob.append(Blob(LAYER, f"sha256:{outer.sha256.hexdigest()}", outer.size, f"sha256:{inner.sha256.hexdigest()}"))


def pack(stream: t.BinaryIO, entries: t.Iterable[Entry]) -> Blob:
    """Write a tar.gz that depends on nothing but names, modes and contents."""
    blob: list[Blob] = []
    with _archive(stream, blob) as tar:
        for entry in entries:
            info = tarfile.TarInfo(entry.name)
            info.mode = entry.mode
            if entry.capabilities:
                info.pax_headers = {"SCHILY.xattr.security.capability": _capability(entry.capabilities)}
            if entry.source is not None:
                info.size = entry.source.stat().st_size
                with entry.source.open("rb") as source:
                    tar.addfile(info, source)
            elif entry.text is not None:
                data = entry.text.encode()
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            else:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
    return blob[0]


def repack(source: pathlib.Path, stream: t.BinaryIO, without: tuple[str, ...]) -> Blob:
    """Write a root file system as a layer, without the named paths and what is below them."""
    blob: list[Blob] = []
    with tarfile.open(source) as old, _archive(stream, blob) as new:
        for info in old:
            info.name = info.name.removeprefix("./")
            if info.name in ("", ".") or any(info.name == path or info.name.startswith(f"{path}/") for path in without):
                continue
            info.mtime = 0
            info.pax_headers = {}
            info.uname = info.gname = ""
            if info.islnk():
                info.linkname = info.linkname.removeprefix("./")
            new.addfile(info, old.extractfile(info) if info.isreg() else None)
    return blob[0]


def _capability(names: t.Iterable[str]) -> str:
    """Return the kernel's form of file capabilities (revision 2), permitted and effective."""
    bits = sum(1 << _CAPABILITIES[name] for name in names)
    words = (0x02000001, bits & 0xFFFFFFFF, 0, bits >> 32, 0)
    return b"".join(word.to_bytes(4, "little") for word in words).decode("utf-8")


def config(
    arch: str,
    layers: t.Sequence[Blob],
    *,
    entrypoint: t.Sequence[str] = (),
    command: t.Sequence[str] = (),
    environment: t.Mapping[str, str] | None = None,
    user: str = "",
    labels: t.Mapping[str, str] | None = None,
) -> bytes:
    """Return the image configuration."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    inner = {
        "User": user,
        "Env": [f"{name}={value}" for name, value in {"PATH": path, **(environment or {})}.items()],
        "Entrypoint": list(entrypoint),
        "Cmd": list(command),
        "WorkingDir": "/",
        "Labels": dict(labels or {}),
    }
    return _json(
        {
            "architecture": arch,
            "os": "linux",
            "created": _EPOCH,
            "config": {name: value for name, value in inner.items() if value},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        }
    )


def manifest(config_blob: Blob, layers: t.Sequence[Blob]) -> bytes:
    """Return the image manifest."""
    return _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config_blob.descriptor,
            "layers": [layer.descriptor for layer in layers],
        }
    )


def _json(value: t.Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


class Storage:
    """docker-registry's file system storage; a reader never sees half of anything."""

    def __init__(self, root: pathlib.Path) -> None:
        self._root = root / "docker/registry/v2"

    def path(self, digest: str) -> pathlib.Path:
        """Where the content with this digest is."""
        algorithm, _, value = digest.partition(":")
        return self._root / "blobs" / algorithm / value[:2] / value / "data"

    def has(self, blob: Blob) -> bool:
        """Whether the content is there in its full size."""
        try:
            return self.path(blob.digest).stat().st_size == blob.size
        except FileNotFoundError:
            return False

    def put(self, media_type: str, data: bytes) -> Blob:
        """Store bytes."""
        blob = Blob(media_type, f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))
        if not self.has(blob):
            with write(self.path(blob.digest)) as stream:
                stream.write(data)
        return blob

    def adopt(self, blob: Blob, source: pathlib.Path) -> None:
        """Take over a file whose digest is known, without a copy."""
        target = self.path(blob.digest)
        if not self.has(blob):
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".new-{os.getpid()}")
            temporary.unlink(missing_ok=True)
            try:
                os.link(source, temporary)
            except OSError:
                temporary.write_bytes(source.read_bytes())
            os.replace(temporary, target)

    def layer(self, entries: t.Sequence[Entry]) -> Blob:
        """Pack a layer and store it."""
        scratch = self._root / "scratch"
        with write(scratch) as stream:
            blob = pack(stream, entries)
        self.adopt(blob, scratch)
        scratch.unlink()
        return blob

    def tag(self, repository: str, tag: str, blobs: t.Iterable[Blob], top: Blob) -> None:
        """Make a manifest, and what it is made of, visible under a name."""
        home = self._root / "repositories" / repository
        for blob in blobs:
            self._link(home / "_layers", blob)
        self._link(home / "_manifests/revisions", top)
        self._link(home / "_manifests/tags" / tag / "index", top)
        with write(home / "_manifests/tags" / tag / "current/link") as stream:
            stream.write(top.digest.encode())

    def revision(self, repository: str, blob: Blob) -> None:
        """Make a manifest that an index names readable by its digest."""
        self._link(self._root / "repositories" / repository / "_manifests/revisions", blob)

    def complete(self, repository: str, tag: str, digest: str) -> bool:
        """Whether a tag points at the digest and all that hangs on it is there, by size."""
        home = self._root / "repositories" / repository / "_manifests/tags" / tag / "current/link"
        try:
            if home.read_text() != digest:
                return False
            return self._complete(json.loads(self.path(digest).read_bytes()))
        except (FileNotFoundError, ValueError):
            return False

    def contents(self, digest: str) -> t.Iterator[str]:
        """Digests of a manifest and of all that hangs on it."""
        yield digest
        top = json.loads(self.path(digest).read_bytes())
        for item in [*top.get("manifests", ())]:
            if self.path(item["digest"]).exists():
                yield from self.contents(item["digest"])
        for item in [*([top["config"]] if "config" in top else ()), *top.get("layers", ())]:
            yield item["digest"]

    def _complete(self, top: t.Mapping[str, t.Any]) -> bool:
        if "manifests" in top:
            stored = [item for item in top["manifests"] if self.path(item["digest"]).exists()]
            return bool(stored) and all(self._complete(json.loads(self.path(item["digest"]).read_bytes())) for item in stored)
        return all(self.has(Blob(item["mediaType"], item["digest"], item["size"])) for item in [top["config"], *top["layers"]])

    @staticmethod
    def _link(folder: pathlib.Path, blob: Blob) -> None:
        algorithm, _, value = blob.digest.partition(":")
        with write(folder / algorithm / value / "link") as stream:
            stream.write(blob.digest.encode())
