# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `tools/mirror`: fills the mirror, by download or from source, and serves it."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import pathlib
import platform
import shutil
import sys
import time
import typing as t

from kos import KosError
from kos import mirror_download as download
from kos import mirror_oci as oci
from kos import mirror_serve as serve
from kos.cli import Paths, table
from kos.mirror_build import Builder, sha256_of
from kos.mirror_plan import ARCHITECTURES, Components, File, Image, Item, fingerprint, load, select

__all__ = ["Index", "main"]


class Index:
    """index.json, and what was last known of the files that it names."""

    def __init__(self, tree: pathlib.Path, arch: str) -> None:
        self.tree = tree
        self.storage = oci.Storage(tree / "registry")
        self._path = tree / "index.json"
        self._seen_path = tree / ".seen.json"
        empty: dict[str, t.Any] = {"version": 1, "arch": arch, "files": {}, "images": {}}
        self.data = self._read(self._path) or empty
        self._seen = self._read(self._seen_path) or {}
        if self.data.get("arch") != arch:
            self.data = empty

    @staticmethod
    def _read(path: pathlib.Path) -> dict[str, t.Any] | None:
        try:
            value = json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return value if isinstance(value, dict) else None

    def entry(self, item: Item) -> dict[str, t.Any] | None:
        """Return what is known of an item."""
        if isinstance(item, Image):
            return self.data["images"].get(item.reference)
        return self.data["files"].get(item.name)

    def intact(self, item: Item, thorough: bool = False) -> bool:
        """Whether what the index says of an item is what is there; a file is read only if it changed since it was last read."""
        entry = self.entry(item)
        if entry is None:
            return False
        if isinstance(item, Image):
            if not self.storage.complete(item.name, item.version, entry["digest"]):
                return False
            if not thorough:
                return True
            return all(
                sha256_of(self.storage.path(digest)) == digest.partition(":")[2] for digest in self.storage.contents(entry["digest"])
            )
        path = self.tree / entry["path"]
        try:
            now = [path.stat().st_size, path.stat().st_mtime_ns, entry["sha256"]]
        except FileNotFoundError:
            return False
        if self._seen.get(entry["path"]) == now and not thorough:
            return True
        if sha256_of(path) != entry["sha256"]:
            return False
        self._seen[entry["path"]] = now
        return True

    def put(self, item: Item, entry: dict[str, t.Any]) -> None:
        """Record an item that is in place."""
        if isinstance(item, Image):
            self.data["images"][item.reference] = entry
        else:
            self.data["files"][item.name] = entry
            path = self.tree / entry["path"]
            self._seen[entry["path"]] = [path.stat().st_size, path.stat().st_mtime_ns, entry["sha256"]]
        self.save()

    def forget(self, item: Item) -> None:
        """Strike an item out, and remove what is damaged so that it is made anew."""
        entry = self.entry(item)
        if entry is None:
            return
        if isinstance(item, Image):
            for digest in [*self._damaged(entry["digest"])]:
                self.storage.path(digest).unlink(missing_ok=True)
            del self.data["images"][item.reference]
        else:
            (self.tree / entry["path"]).unlink(missing_ok=True)
            del self.data["files"][item.name]
        self.save()

    def _damaged(self, digest: str) -> t.Iterator[str]:
        with contextlib.suppress(FileNotFoundError, ValueError):
            for name in self.storage.contents(digest):
                path = self.storage.path(name)
                if path.exists() and sha256_of(path) != name.partition(":")[2]:
                    yield name

    def save(self) -> None:
        """Write both files; a reader sees the old or the new one."""
        for path, value in ((self._seen_path, self._seen), (self._path, self.data)):
            with oci.write(path) as stream:
                stream.write(json.dumps(value, indent=1, sort_keys=True).encode() + b"\n")


class Filler:
    """Brings the mirror up to date, by one of the ways."""

    def __init__(self, paths: Paths, components: Components, say: t.Callable[[str], None]) -> None:
        self._components = components
        self._say = say
        self.tree = paths.cache / "mirror"
        self.index = Index(self.tree, components.arch)
        self._builder = Builder(components, paths.root, paths.cache, say)

    def fill(self, way: str, items: t.Sequence[Item]) -> list[str]:
        """Make or get what is missing; returns the names of what changed."""
        missing = [item for item in items if not self._current(way, item)]
        self.index.save()
        if not missing:
            return []
        ways = self._ways(way, missing)
        built = [item for item in missing if ways[_name(item)] == "build"]
        if built:
            self._builder.check(built)
        for group in self._components.groups:
            mine = [item for item in missing if item.group == group]
            if compiled := [item for item in mine if item in built]:
                self._builder.prepare(compiled)
            for item in mine:
                self._one(way, ways[_name(item)], item)
        return [_name(item) for item in missing]

    def _current(self, way: str, item: Item) -> bool:
        entry = self.index.entry(item)
        keys = {"build": self._builder.item_key(item), "download": _download_key(item)}
        fitting = keys.values() if way == "auto" else [keys[way]]
        if entry is None or entry.get("key") not in fitting:
            return False
        if self.index.intact(item):
            return True
        self._say(f"{'damaged':<10} {_name(item)}: it is made again")
        self.index.forget(item)
        return False

    def _ways(self, way: str, items: t.Sequence[Item]) -> dict[str, str]:
        if way == "auto":
            published = [item for item in items if download.refusal(item) is None]
            sites = download.reachable({download.host_of(item) for item in published})
            if published and not sites:
                self._say("The release sites do not answer: everything is built from source.")
            return {_name(item): "download" if item in published and download.host_of(item) in sites else "build" for item in items}
        if way == "download" and (refused := [words for item in items if (words := download.refusal(item))]):
            more = f" (and {len(refused) - 1} more like it)" if len(refused) > 1 else ""
            raise KosError(f"{refused[0]}{more}; `tools/mirror auto` downloads what it can and builds the rest")
        return {_name(item): way for item in items}

    def _one(self, asked: str, way: str, item: Item) -> None:
        started = time.monotonic()
        if way == "download":
            try:
                self._put(item, self._download(item), "download", _download_key(item))
            except KosError as error:
                if asked != "auto":
                    raise
                self._say(f"{error}. It is built instead.")
                self._builder.check([item])
                way = "build"
        if way == "build":
            self._builder.prepare([item])
            target = self.tree / item.path if isinstance(item, File) else None
            entry = self._builder.file(item, target) if isinstance(item, File) and target else self._builder.image(t.cast(Image, item))
            self._put(item, entry, "build", self._builder.item_key(item))
        verb = "downloaded" if way == "download" else "packed"
        self._say(f"{verb:<10} {_name(item):<52} {time.monotonic() - started:6.1f} s  {item.version}")

    def _download(self, item: Item) -> dict[str, t.Any]:
        if isinstance(item, Image):
            return download.image(item, self.index.storage, self._components.arch)
        return download.file(item, self.tree / item.path)

    def _put(self, item: Item, entry: dict[str, t.Any], source: str, key: str) -> None:
        self.index.put(item, {**entry, "source": source, "key": key})

    def verify(self, items: t.Sequence[Item]) -> list[str]:
        """Read everything, and strike out what is not what it should be; returns the names."""
        known = [item for item in items if self.index.entry(item) is not None]
        damaged = [item for item in known if not self.index.intact(item, thorough=True)]
        for item in damaged:
            self.index.forget(item)
        self.index.save()
        return [_name(item) for item in damaged]


def _download_key(item: Item) -> str:
    return fingerprint("download", item.digest, item.version, item.url if isinstance(item, File) else item.name)


def _name(item: Item) -> str:
    return item.reference if isinstance(item, Image) else item.name


@contextlib.contextmanager
def _alone(folder: pathlib.Path, say: t.Callable[[str], None]) -> t.Iterator[None]:
    """Hold the mirror's lock; the kernel drops it when this process ends in whatever way."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Another tools/mirror works on {folder}: waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for place in (folder.parent / "programs", folder):
            for stray in place.glob(".build-*"):
                shutil.rmtree(stray, ignore_errors=True)
        yield


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tools/mirror", description="Fill and serve the mirror that nodes get binaries and images from.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, words in {
        "auto": "download what the release sites have, build the rest",
        "build": "compile and pack everything from source",
        "download": "get the published releases, checked against the digests in components/components.yaml",
        "list": "show what the mirror holds, and what it could hold",
        "verify": "read all that the mirror holds, and strike out what is damaged",
    }.items():
        one = verbs.add_parser(verb, help=words, description=words)
        one.add_argument("--only", action="append", default=[], metavar="NAME", help="a group, file or image; may be given several times")
        one.add_argument("--json", action="store_true", help="say the result as JSON")
        if verb == "list":
            one.add_argument(
                "--upstream", action="store_true", help="as JSON: the published files with address and digest, much as in index.json"
            )
    up = verbs.add_parser("serve", help="start the file server and the registry, and leave them running")
    up.add_argument("--address", default="127.0.0.1", help="the address of this machine to serve on (%(default)s)")
    up.add_argument("--port", type=int, default=8480, help="of the file server (%(default)s)")
    up.add_argument("--registry-port", type=int, default=5480, help="of the registry (%(default)s)")
    down = verbs.add_parser("stop", help="end the servers that serve started")
    for one in (up, down):
        one.add_argument("--state", type=pathlib.Path, help="folder for pids and logs (KOS_STATE/mirror)")
        one.add_argument("--json", action="store_true", help="say the result as JSON")
    return parser


def main(argv: t.Sequence[str]) -> int:
    """Run the command."""
    given = _arguments().parse_args(argv)
    try:
        return _run(given)
    except OSError as error:
        raise KosError(
            f"{error.filename or 'the cache'} cannot be used ({error.strerror}): mend that, or set KOS_CACHE to a folder elsewhere"
        ) from error


def _run(given: argparse.Namespace) -> int:
    paths = Paths.of()

    def say(text: str) -> None:
        print(text, file=sys.stderr if given.json else sys.stdout, flush=True)

    def result(words: str, **value: t.Any) -> int:
        print(json.dumps(value) if given.json else words, flush=True)
        return 0

    if given.verb in ("serve", "stop"):
        state = (given.state or paths.state / "mirror").absolute()
        with _alone(state, say):
            if given.verb == "stop":
                changed = serve.stop(state)
                return result("Stopped." if changed else "It was not running.", changed=changed)
            changed = serve.start(given.address, given.port, given.registry_port, paths.cache / "mirror", state)
        url, registry = f"http://{given.address}:{given.port}", f"{given.address}:{given.registry_port}"
        return result(f"Files at {url}, images at {registry}.", changed=changed, url=url, registry=registry)

    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise KosError(f"components are known for {' and '.join(ARCHITECTURES)}, not for {machine}")
    components = load(paths.root, ARCHITECTURES[machine])
    items = select(components, given.only)
    if given.verb == "list":
        return _list(paths, components, items, given)
    with _alone(paths.cache / "mirror", say):
        filler = Filler(paths, components, say)
        if given.verb == "verify":
            damaged = filler.verify(items)
            if damaged:
                raise KosError(
                    f"{', '.join(damaged)} did not match the index and was removed: fill the mirror again with `tools/mirror auto`"
                )
            return result("Everything is as the index says.", changed=False)
        started = time.monotonic()
        changed_names = filler.fill(given.verb, items)
    words = f"{len(changed_names)} new" if changed_names else "nothing to do"
    return result(
        f"{filler.tree}: {len(items)} components, {words}, {time.monotonic() - started:.1f} s",
        changed=bool(changed_names),
        items=changed_names,
    )


def _list(paths: Paths, components: Components, items: t.Sequence[Item], given: argparse.Namespace) -> int:
    if given.upstream:
        files = {
            item.name: {
                "version": item.version,
                "url": item.url,
                "sha256": item.sha256 or "",
                **({"members": dict.fromkeys(item.members, "")} if item.members else {}),
            }
            for item in items
            if isinstance(item, File) and item.url
        }
        print(json.dumps({"version": 1, "arch": components.arch, "files": files}))
        return 0
    index = Index(paths.cache / "mirror", components.arch)
    rows = []
    for item in items:
        entry = index.entry(item) or {}
        rows.append((item.group, _name(item), item.version, entry.get("source", "-"), "yes" if item.digest else "no"))
    if given.json:
        print(json.dumps([dict(zip(("group", "name", "version", "source", "digest"), row)) for row in rows]))
    else:
        print(table(("group", "name", "version", "in the mirror", "digest known"), rows))
    return 0
