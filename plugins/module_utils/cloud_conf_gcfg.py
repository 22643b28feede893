# SPDX-License-Identifier: GPL-3.0-or-later
"""The text form of a cloud.conf: what gopkg.in/gcfg.v1 reads, and as it reads it."""

from __future__ import annotations

import dataclasses
import typing as t

__all__ = ["Block", "CloudConfError", "Line", "parse", "quote", "quote_name", "render", "unfit"]

_ESCAPED = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}
_UNESCAPED = {"\\": "\\", '"': '"', "n": "\n", "t": "\t"}
_BLANKS = " \t\r"


class CloudConfError(Exception):
    """Says in one sentence each what is wrong and what to do."""


@dataclasses.dataclass(frozen=True)
class Line:
    """A key with its value; None stands for a key without an equals sign."""

    key: str
    value: str | None


@dataclasses.dataclass(frozen=True)
class Block:
    """A section header and the lines below it."""

    section: str
    name: str
    lines: tuple[Line, ...]


def unfit(value: str) -> str:
    """Say why no quoting carries a value to the reader; empty if one does."""
    if "\r" in value:
        return "has a carriage return, which the reader drops"
    if "\0" in value:
        return "has a NUL character, which the reader refuses"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "is not valid Unicode, which the reader refuses"
    return ""


def quote(value: str) -> str:
    """Write a value so that the reader gets every character of it."""
    return '"' + "".join(_ESCAPED.get(character, character) for character in value) + '"'


def quote_name(name: str) -> str:
    """Write the name of a section, where the reader knows two escapes only."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def render(blocks: t.Iterable[Block], *, header: str = "") -> str:
    """Return the text of a file."""
    parts = [f"# {header}\n"] if header else []
    for block in blocks:
        head = f"[{block.section} {quote_name(block.name)}]" if block.name else f"[{block.section}]"
        lines = (line.key if line.value is None else f"{line.key} = {quote(line.value)}" for line in block.lines)
        parts.append("\n".join([head, *lines]) + "\n")
    return "\n".join(parts)


class _Scanner:
    """Goes through a text once, as the reader does."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    @property
    def here(self) -> str:
        """The character at hand, empty at the end."""
        return self.text[self.at : self.at + 1]

    def error(self, what: str) -> CloudConfError:
        return CloudConfError(f"line {self.text.count(chr(10), 0, self.at) + 1}: {what}")

    def skip_blanks(self) -> None:
        while self.here and self.here in _BLANKS:
            self.at += 1

    def skip_comment(self) -> None:
        if self.here and self.here in "#;":
            end = self.text.find("\n", self.at)
            self.at = len(self.text) if end < 0 else end

    def end_line(self, after: str) -> None:
        self.skip_blanks()
        self.skip_comment()
        if self.here not in ("", "\n"):
            raise self.error(f"nothing may follow {after}")

    def identifier(self) -> str:
        start = self.at
        # Only a letter can begin one: the reader takes digits and dashes from the second character on.
        while _is_letter(self.here) or (self.at > start and (self.here.isdecimal() or self.here == "-")):
            self.at += 1
        return self.text[start : self.at]

    def header(self) -> tuple[str, str]:
        self.at += 1
        self.skip_blanks()
        section, name = self.identifier(), ""
        if not section:
            raise self.error("a section needs a name of letters, digits and dashes")
        self.skip_blanks()
        if self.here == '"':
            name = self.quoted_name()
            self.skip_blanks()
        if self.here != "]":
            raise self.error("the closing bracket of the section is missing")
        self.at += 1
        self.end_line("a section header")
        return section, name

    def quoted_name(self) -> str:
        self.at += 1
        name = []
        while self.here != '"':
            if self.here in ("", "\n"):
                raise self.error("the closing quote of the section's name is missing")
            if self.here == "\\":
                self.at += 1
                if self.here not in ("\\", '"'):
                    raise self.error("a section's name knows no escapes but \\\\ and \\\"")
            name.append(self.here)
            self.at += 1
        self.at += 1
        if not name:
            raise self.error("the name of a section must not be empty")
        return "".join(name)

    def value(self) -> str:
        self.skip_blanks()
        characters: list[str] = []
        kept = 0  # what stands before blanks that may turn out to be the last ones
        quoted = False
        while quoted or self.here not in ("", "\n", "#", ";"):
            character = self.here
            if character in ("", "\n"):
                raise self.error("the closing quote is missing, or a line break is not written as \\n")
            self.at += 1
            if character == '"':
                quoted = not quoted
                kept = len(characters)
            elif character == "\\":
                characters.append(self.escape(quoted))
                kept = len(characters)
            elif character != "\r":
                characters.append(character)
                if quoted or character not in _BLANKS:
                    kept = len(characters)
        return "".join(characters[:kept])

    def escape(self, quoted: bool) -> str:
        if not quoted and self.here == "\r":
            self.at += 1
        character = self.here
        if quoted and character in _UNESCAPED:
            self.at += 1
            return _UNESCAPED[character]
        if not quoted and character in ('"', "\n"):
            self.at += 1
            return character.strip("\n")
        raise self.error("a backslash stands before none of what may follow it; write it twice and the value in double quotes")


def _is_letter(character: str) -> bool:
    return character.isalpha() if character else False


def _decode(data: bytes) -> str:
    for problem, found in (("a NUL character", data.find(b"\0")), ("no valid UTF-8", _first_bad(data))):
        if found >= 0:
            raise CloudConfError(f"line {data.count(10, 0, found) + 1}: there is {problem}")
    return data.decode()


def _first_bad(data: bytes) -> int:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.start
    return -1


def parse(data: bytes) -> tuple[Block, ...]:
    """Read a text; raise a CloudConfError where the reader stops."""
    scanner = _Scanner(_decode(data))
    blocks: list[tuple[str, str, list[Line]]] = []
    while True:
        scanner.skip_blanks()
        scanner.skip_comment()
        if not scanner.here:
            return tuple(Block(section, name, tuple(lines)) for section, name, lines in blocks)
        if scanner.here == "\n":
            scanner.at += 1
        elif scanner.here == "[":
            blocks.append((*scanner.header(), []))
        elif not _is_letter(scanner.here):
            raise scanner.error("neither a section nor a key begins like this")
        elif not blocks:
            raise scanner.error("a key stands before the first section")
        else:
            blocks[-1][2].append(_line(scanner))


def _line(scanner: _Scanner) -> Line:
    key = scanner.identifier()
    scanner.skip_blanks()
    scanner.skip_comment()
    if scanner.here in ("", "\n"):
        return Line(key, None)
    if scanner.here != "=":
        raise scanner.error(f"an equals sign is missing after {key}")
    scanner.at += 1
    return Line(key, scanner.value())
