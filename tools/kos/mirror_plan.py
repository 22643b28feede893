# SPDX-License-Identifier: GPL-3.0-or-later
"""What the mirror is made of: reads components.yaml and versions.yaml, and says what has to be done. No network, no processes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import re
import typing as t

import yaml

from kos import KosError

__all__ = ["Components", "File", "Image", "Item", "Layer", "Program", "Recipe", "fingerprint", "load", "pinned", "select"]

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_REQUIRE = re.compile(r"^\s*(?:require\s+)?(\S+)\s+(v\S+)(?:\s+//.*)?$")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A Go module of ours that pins programs and all they depend on."""

    name: str
    directory: pathlib.Path
    pins: t.Mapping[str, str]
    cgo: bool = False
    tags: tuple[str, ...] = ()
    needs: t.Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Program:
    """One binary: from a Go package, or from one C file."""

    name: str
    version: str
    recipe: str | None = None
    package: str | None = None
    stamps: tuple[str, ...] = ()
    source: pathlib.Path | None = None


@dataclasses.dataclass(frozen=True)
class Layer:
    """A root file system that images stand on."""

    name: str
    packages: tuple[str, ...] = ()
    bundle_from: str | None = None


@dataclasses.dataclass(frozen=True)
class File:
    """A file as upstream publishes it: a binary, or a tarball with members."""

    name: str
    group: str
    version: str
    path: str
    url: str | None = None
    sha256: str | None = None
    program: str | None = None
    members: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    # A file of a Go module as it is, instead of programs: the recipe that pins the module, the module, and the path in it.
    recipe: str | None = None
    module: str | None = None
    member: str | None = None

    @property
    def digest(self) -> str | None:
        """Of the published form."""
        return f"sha256:{self.sha256}" if self.sha256 else None

    @property
    def programs(self) -> tuple[str, ...]:
        """Names of the programs that the built form holds."""
        return (self.program,) if self.program else tuple(self.members.values())


@dataclasses.dataclass(frozen=True)
class Image:
    """A container image under the name that upstream gave it."""

    name: str
    group: str
    version: str
    files: t.Mapping[str, str]
    layer: str | None = None
    digest: str | None = None
    directories: tuple[str, ...] = ()
    capabilities: t.Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    user: str = ""

    @property
    def reference(self) -> str:
        """Name and tag, as manifests say it."""
        return f"{self.name}:{self.version}"

    @property
    def programs(self) -> tuple[str, ...]:
        """Names of the programs that it holds."""
        return tuple(self.files.values())


Item = t.Union[File, Image]


@dataclasses.dataclass(frozen=True)
class Components:
    """The whole list, with versions filled in."""

    arch: str
    debian: str
    groups: tuple[str, ...]
    recipes: t.Mapping[str, Recipe]
    programs: t.Mapping[str, Program]
    layers: t.Mapping[str, Layer]
    files: tuple[File, ...]
    images: tuple[Image, ...]

    @property
    def items(self) -> tuple[Item, ...]:
        """Files and images in the order of their groups."""
        return tuple(item for group in self.groups for kind in (self.files, self.images) for item in kind if item.group == group)


def fingerprint(*parts: t.Any) -> str:
    """Digest of plain data, the same for the same data."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def pinned(go_mod: str) -> dict[str, str]:
    """Return the module versions that the text of a go.mod requires; a replacement by another version of itself counts."""
    found: dict[str, str] = {}
    replaced: dict[str, str] = {}
    for line in go_mod.splitlines():
        left, arrow, right = line.partition("=>")
        if arrow:
            name = left.replace("replace", "", 1).split()[0] if left.strip().startswith("replace") else left.split()[0]
            if len(right.split()) == 2:
                replaced[name] = right.split()[1]
        elif match := _REQUIRE.match(line):
            found[match[1]] = match[2]
    return {**found, **{name: version for name, version in replaced.items() if name in found}}


def load(root: pathlib.Path, arch: str) -> Components:
    """Read the list of the clone at root for one architecture."""
    raw = _read(root / "components/components.yaml")
    versions = _read(root / "group_vars/all/versions.yaml")
    go = root / "components/go"
    recipes = {
        name: Recipe(
            name=name,
            directory=go / name,
            pins=value["pins"],
            cgo=value.get("cgo", False),
            tags=tuple(value.get("tags", ())),
            needs=value.get("needs", {}),
        )
        for name, value in raw["recipes"].items()
    }
    modules = _Modules(recipes)

    def version(name: str) -> str:
        if name not in versions:
            raise KosError(f"components.yaml asks for the version {name}, which group_vars/all/versions.yaml does not have")
        return str(versions[name])

    for recipe in recipes.values():
        for module, variable in recipe.pins.items():
            have = pinned(modules.text(recipe.name)).get(module)
            if have != version(variable):
                raise KosError(
                    f"versions.yaml says {variable} {version(variable)}, but {recipe.directory / 'go.mod'} pins {have}: "
                    f"run `go get {module}@{version(variable)} && go mod tidy` there, or set {variable} to a version that the list knows"
                )

    programs = {name: _program(name, value, version, root / "components") for name, value in raw["programs"].items()}
    layers = {name: Layer(name, tuple(value.get("packages", ())), value.get("bundle_from")) for name, value in raw["layers"].items()}
    files = tuple(_file(value, programs, version, arch) for value in raw["files"])
    images = tuple(_image(value, version) for value in raw["images"])
    components = Components(
        arch=arch,
        debian=str(versions["debian_release"]),
        groups=tuple(raw["groups"]),
        recipes=recipes,
        programs=programs,
        layers=layers,
        files=files,
        images=images,
    )
    _check(components)
    return components


def select(components: Components, only: t.Sequence[str]) -> tuple[Item, ...]:
    """Return the items of the groups or with the names in `only`; all of them when it is empty."""
    if not only:
        return components.items
    known = {*components.groups}
    for item in components.items:
        known |= {item.name, item.reference} if isinstance(item, Image) else {item.name}
    if unknown := [name for name in only if name not in known]:
        raise KosError(
            f"nothing in components.yaml is called {', '.join(unknown)}: name a group ({', '.join(components.groups)}), "
            "or a file or image as `tools/mirror list` shows it"
        )
    return tuple(
        item for item in components.items if {item.group, item.name, item.reference if isinstance(item, Image) else item.name} & {*only}
    )


class _Modules:
    """The go.mod files, each read once."""

    def __init__(self, recipes: t.Mapping[str, Recipe]) -> None:
        self._recipes = recipes
        self._texts: dict[str, str] = {}

    def text(self, recipe: str) -> str:
        if recipe not in self._texts:
            self._texts[recipe] = (self._recipes[recipe].directory / "go.mod").read_text()
        return self._texts[recipe]


def _read(path: pathlib.Path) -> t.Any:
    try:
        return yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise KosError(f"{path} is missing: this clone is incomplete") from None
    except yaml.YAMLError as error:
        raise KosError(f"{path} is not YAML: {str(error).splitlines()[0]}") from None


def _fill(text: str, version: str, arch: str = "") -> str:
    number = version.removeprefix("v")
    major, _, rest = number.partition(".")
    return text.format(version=version, number=number, major=major, minor=rest.partition(".")[0], arch=arch)


def _program(name: str, value: t.Mapping[str, t.Any], version: t.Callable[[str], str], root: pathlib.Path) -> Program:
    own = version(value["version"])
    return Program(
        name=name,
        version=own,
        recipe=value.get("recipe"),
        package=value.get("package"),
        stamps=tuple(_fill(stamp, own) for stamp in value.get("stamps", ())),
        source=root / value["source"] if "source" in value else None,
    )


def _file(value: t.Mapping[str, t.Any], programs: t.Mapping[str, Program], version: t.Callable[[str], str], arch: str) -> File:
    own = programs[value["program"]].version if "program" in value else version(value["version"])
    url = _fill(value["url"], own, arch) if "url" in value else None
    known = value.get("sha256", {})
    return File(
        name=value["name"],
        group=value["group"],
        version=own,
        path=_fill(value["path"], own, arch) if url is None else url.partition("://")[2],
        url=url,
        sha256=known if isinstance(known, str) else known.get(arch),
        program=value.get("program"),
        members={_fill(path, own, arch): program for path, program in value.get("members", {}).items()},
        recipe=value.get("recipe"),
        module=value.get("module"),
        member=value.get("member"),
    )


def _image(value: t.Mapping[str, t.Any], version: t.Callable[[str], str]) -> Image:
    return Image(
        name=value["name"],
        group=value["group"],
        version=version(value["version"]),
        files=value["files"],
        layer=value.get("layer"),
        digest=value.get("digest"),
        directories=tuple(value.get("directories", ())),
        capabilities={path: tuple(names) for path, names in value.get("capabilities", {}).items()},
        entrypoint=tuple(value.get("entrypoint", ())),
        command=tuple(value.get("command", ())),
        environment=value.get("environment", {}),
        user=value.get("user", ""),
    )


def _check(components: Components) -> None:
    for item in components.items:
        for program in item.programs:
            if program not in components.programs:
                raise KosError(f"components.yaml: {item.name} holds the program {program}, which is not in its list of programs")
        if isinstance(item, Image) and item.layer not in (None, *components.layers):
            raise KosError(f"components.yaml: {item.name} stands on the layer {item.layer}, which is not in its list of layers")
    for file in components.files:
        if file.member is not None and (file.module is None or file.recipe not in components.recipes):
            raise KosError(f"components.yaml: {file.name} is a file of a Go module, but does not say which module, or which recipe pins it")
    everything: list[Item] = [*components.files, *components.images]
    if strays := [item.name for item in everything if item.group not in components.groups]:
        raise KosError(f"components.yaml: {', '.join(strays)} is in a group that is not in its list of groups")
