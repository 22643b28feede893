#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Install programs, each checked by its digest."""

from __future__ import annotations

DOCUMENTATION = r"""
module: binaries
short_description: Install programs, each checked by its digest
version_added: 0.1.0
description:
  - Compares the digests of installed programs with those wanted, and fetches only what is missing or differs. Does in one round trip
    what takes a chain of M(ansible.builtin.get_url), M(ansible.builtin.unarchive) and M(ansible.builtin.copy) for each program.
  - A program is fetched beside its place, checked and renamed into it. One that runs goes on with its old file until it is restarted.
options:
  binaries:
    description: What to install.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the program, or of the tarball that holds several.
        type: str
        required: true
      url:
        description: Where it is fetched.
        type: str
        required: true
      sha256:
        description: SHA-256 of what is fetched.
        type: str
        required: true
      directory:
        description: Where the programs go. It is made if it is missing.
        type: path
        default: /usr/local/bin
      members:
        description:
          - Makes it a tarball. Paths in it of programs to install, each with its SHA-256, or with an empty string where nobody knows that.
          - In that case a file in O(marks) remembers which tarball the program came out of.
        type: dict
  marks:
    description: Directory for notes about tarballs whose members have no known digest.
    type: path
    default: /var/lib/kos/binary
  timeout:
    description: Seconds to wait for an answer of a server.
    type: int
    default: 30
attributes:
  check_mode:
    description: Says what would be fetched.
    support: full
  diff_mode:
    description: Programs are no text.
    support: none
author:
  - The kos.labs authors (@kos-labs)
"""

EXAMPLES = r"""
- name: Install a program and a part of a tarball
  kos.labs.binaries:
    binaries:
      - name: kubelet
        url: https://dl.k8s.io/release/v1.36.2/bin/linux/amd64/kubelet
        sha256: "{{ kubelet_sha256 }}"
      - name: cni-plugins
        url: "{{ cni_plugins_url }}"
        sha256: "{{ cni_plugins_sha256 }}"
        directory: /opt/cni/bin
        members:
          ./bridge: "{{ bridge_sha256 }}"
          ./loopback: ""
"""

RETURN = r"""
paths:
  description: Programs that were installed.
  returned: always
  type: list
  elements: str
  sample: [/usr/local/bin/kubelet]
"""

import hashlib
import os
import tarfile
import tempfile
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url

CHUNK = 1 << 20


class BinaryError(Exception):
    """Why a program cannot be installed, and what to do."""


def digest(path: str) -> str | None:
    """Return the SHA-256 of a file, None if there is none."""
    found = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for chunk in iter(lambda: file.read(CHUNK), b""):
                found.update(chunk)
    except FileNotFoundError:
        return None
    return found.hexdigest()


def wanted_files(binary: dict[str, t.Any]) -> dict[str, str]:
    """Return the paths that a binary brings, each with its digest or an empty string."""
    members = binary["members"] or {binary["name"]: binary["sha256"]}
    return {os.path.join(binary["directory"], os.path.basename(member)): known for member, known in members.items()}


def mark_of(binary: dict[str, t.Any], marks: str) -> str:
    """Return the file that remembers the tarball."""
    return os.path.join(marks, f"{binary['name']}-{binary['sha256']}")


def stale_files(binary: dict[str, t.Any], marks: str) -> list[str]:
    """Return those of the binary's paths that are missing or are not what they should be."""
    marked = os.path.exists(mark_of(binary, marks))
    stale = []
    for path, known in wanted_files(binary).items():
        right = digest(path) == known if known else marked and os.path.exists(path)
        if not right:
            stale.append(path)
    return stale


class Installer:
    """Puts files in place, by way of temporary ones beside them."""

    def __init__(self, timeout: int) -> None:
        self.timeout = timeout
        self.temporary: list[str] = []

    def _open(self, directory: str) -> t.IO[bytes]:
        file = tempfile.NamedTemporaryFile(dir=directory, prefix=".kos-", delete=False)  # noqa: SIM115 - it outlives this method
        self.temporary.append(file.name)
        return file

    def _copy(self, source: t.IO[bytes], directory: str, known: str, what: str) -> str:
        found = hashlib.sha256()
        with self._open(directory) as file:
            for chunk in iter(lambda: source.read(CHUNK), b""):
                found.update(chunk)
                file.write(chunk)
        if known and found.hexdigest() != known:
            raise BinaryError(f"{what} has the checksum {found.hexdigest()} and not {known}")
        return file.name

    def fetch(self, binary: dict[str, t.Any]) -> str:
        """Fetch a binary, check it, and return the temporary file."""
        try:
            with open_url(binary["url"], timeout=self.timeout, http_agent="kos.labs") as answer:
                return self._copy(answer, binary["directory"], binary["sha256"], binary["url"])
        except OSError as error:
            raise BinaryError(f"{binary['url']} cannot be fetched: {error}") from error

    def unpack(self, binary: dict[str, t.Any], archive: str, stale: list[str]) -> None:
        """Put members of a tarball in place."""
        try:
            with tarfile.open(archive) as tar:
                for member, known in binary["members"].items():
                    path = os.path.join(binary["directory"], os.path.basename(member))
                    if path not in stale:
                        continue
                    source = tar.extractfile(member)
                    if source is None:
                        raise BinaryError(f"{member} in {binary['url']} is not a file")
                    with source:
                        self.place(self._copy(source, binary["directory"], known, f"{member} in {binary['url']}"), path)
        except (KeyError, tarfile.TarError) as error:
            raise BinaryError(f"{binary['url']} is not the tarball that it should be: {error}") from error

    def place(self, temporary: str, path: str) -> None:
        """Rename a temporary file to its name."""
        os.chmod(temporary, 0o755)
        os.replace(temporary, path)
        self.temporary.remove(temporary)

    def install(self, binary: dict[str, t.Any], stale: list[str], marks: str) -> None:
        """Fetch a binary and put in place what is stale of it."""
        os.makedirs(binary["directory"], mode=0o755, exist_ok=True)
        fetched = self.fetch(binary)
        if not binary["members"]:
            self.place(fetched, stale[0])
            return
        self.unpack(binary, fetched, stale)
        if not all(binary["members"].values()):
            os.makedirs(marks, mode=0o755, exist_ok=True)
            with open(mark_of(binary, marks), "w", encoding="ascii"):
                pass

    def clean(self) -> None:
        """Remove what was fetched and did not get a place."""
        for path in self.temporary:
            if os.path.exists(path):
                os.unlink(path)


def main() -> None:
    """Run the module."""
    spec = {
        "name": {"type": "str", "required": True},
        "url": {"type": "str", "required": True},
        "sha256": {"type": "str", "required": True},
        "directory": {"type": "path", "default": "/usr/local/bin"},
        "members": {"type": "dict"},
    }
    module = AnsibleModule(
        argument_spec={
            "binaries": {"type": "list", "elements": "dict", "options": spec, "required": True},
            "marks": {"type": "path", "default": "/var/lib/kos/binary"},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    marks = module.params["marks"]
    installer = Installer(module.params["timeout"])
    paths: list[str] = []
    try:
        for binary in module.params["binaries"]:
            stale = stale_files(binary, marks)
            if stale and not module.check_mode:
                installer.install(binary, stale, marks)
            paths.extend(stale)
    except BinaryError as error:
        module.fail_json(msg=str(error), paths=paths)
    finally:
        installer.clean()
    module.exit_json(changed=bool(paths), paths=paths)


if __name__ == "__main__":
    main()
