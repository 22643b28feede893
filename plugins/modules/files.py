#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Write several small files and their directories in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: files
short_description: Write several small files and their directories in one call
version_added: 0.1.0
description:
  - A service often needs a dozen small files, such as certificates, keys, configuration and a unit.
    One call of this module replaces a loop of M(ansible.builtin.copy) and M(ansible.builtin.template), which costs a round trip per file.
  - All files are validated before the first one is replaced, and each is replaced atomically.
author:
  - The kos.labs authors (@kos-labs)
options:
  directories:
    description: Directories to make, in this order, before the files. Parents that are missing are made with the same attributes.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      mode:
        description: Permissions, octal and quoted.
        type: str
        default: "0755"
      owner:
        description: Name of the owner. By default the user that the module runs as.
        type: str
      group:
        description: Name of the group. By default the group that the module runs as.
        type: str
  files:
    description: Files to write.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path. The directory must exist or be in O(directories).
        type: path
        required: true
      content:
        description: What the file shall contain. Exactly one of this and O(files[].secret_content) is needed.
        type: str
      secret_content:
        description: The same for what must not be seen in a log or a diff.
        type: str
      mode:
        description: Permissions, octal and quoted.
        type: str
        default: "0644"
      owner:
        description: Name of the owner. By default the user that the module runs as.
        type: str
      group:
        description: Name of the group. By default the group that the module runs as.
        type: str
      validate:
        description: Command that checks the new content, with C(%s) for the path of a temporary file that holds it.
        type: str
attributes:
  check_mode:
    support: full
    description: Says what would change and changes nothing.
  diff_mode:
    support: full
    description: Shows the old and the new content but for O(files[].secret_content).
"""

EXAMPLES = r"""
- name: Configure a service
  kos.labs.files:
    directories:
      - path: /etc/example
    files:
      - path: /etc/example/example.conf
        content: "{{ lookup('ansible.builtin.template', 'example.conf.j2') }}"
        validate: example --check %s
      - path: /etc/example/tls.key
        secret_content: "{{ lookup('ansible.builtin.file', example_key) }}"
        mode: "0600"
  notify: Restart example
"""

RETURN = r"""
paths:
  description: Paths that were made or changed.
  type: list
  elements: str
  returned: always
  sample: [/etc/example/tls.key]
"""

import os
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule

ATTRIBUTES = {"mode": {"type": "str"}, "owner": {"type": "str"}, "group": {"type": "str"}}


def text_of(data: bytes | None) -> str:
    """Make readable what a diff shows of a file."""
    if data is None:
        return ""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "(binary)\n"


def difference(path: str, before: bytes | None, after: bytes, secret: bool) -> dict[str, str]:
    """Make the diff of one file; a secret's content is not in it."""
    if secret:
        return {"before_header": path, "after_header": path, "before": "" if before is None else "(secret)\n", "after": "(new secret)\n"}
    return {"before_header": path, "after_header": path, "before": text_of(before), "after": text_of(after)}


def read(path: str) -> bytes | None:
    """Read a file, None if there is none."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


class Writer:
    """Brings directories and files to the state that the options describe."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.changed: list[str] = []
        self.diff: list[dict[str, str]] = []

    def run(self) -> None:
        """Make directories, check every new content, then replace."""
        for directory in self.module.params["directories"]:
            self.make_directory(directory)
        new = [(entry, wanted, before) for entry, wanted, before in map(self.compare, self.module.params["files"]) if wanted != before]
        temporary = [self.write_temporary(entry, wanted) for entry, wanted, _before in new]
        for (entry, wanted, before), source in zip(new, temporary):
            self.diff.append(difference(entry["path"], before, wanted, entry["content"] is None))
            self.changed.append(entry["path"])
            if not self.module.check_mode:
                self.replace(entry, source)
        for entry in self.module.params["files"]:
            self.set_attributes(entry)

    def make_directory(self, entry: dict[str, Any]) -> None:
        """Make a directory and what it lies in."""
        path = entry["path"]
        missing = []
        while not os.path.exists(path):
            missing.append(path)
            path = os.path.dirname(path)
        if not os.path.isdir(path):
            self.module.fail_json(msg=f"{path} is not a directory: move it away")
        for path in reversed(missing):
            self.changed.append(path)
            if not self.module.check_mode:
                os.mkdir(path, 0o700)
                self.set_attributes({**entry, "path": path})
        self.set_attributes(entry)

    def compare(self, entry: dict[str, Any]) -> tuple[dict[str, Any], bytes, bytes | None]:
        """Pair a file's entry with its wanted and its present content."""
        content = entry["content"] if entry["content"] is not None else entry["secret_content"]
        path = entry["path"]
        if os.path.isdir(path):
            self.module.fail_json(msg=f"{path} is a directory: a file shall be written there")
        return entry, content.encode(), read(path)

    def write_temporary(self, entry: dict[str, Any], wanted: bytes) -> str:
        """Write the new content to a temporary file and check it with the entry's command."""
        descriptor, source = tempfile.mkstemp(dir=self.module.tmpdir)
        self.module.add_cleanup_file(source)
        with os.fdopen(descriptor, "wb") as file:
            file.write(wanted)
        # In check mode what the command needs may not be installed yet.
        if entry["validate"] and not self.module.check_mode:
            rc, out, err = self.module.run_command(entry["validate"].replace("%s", source))
            if rc != 0:
                self.module.fail_json(msg=f"what was to become {entry['path']} is not valid: {(err or out).strip()}", rc=rc)
        return source

    def replace(self, entry: dict[str, Any], source: str) -> None:
        """Put the new content in its place, with nobody's eyes on a secret in between."""
        path = entry["path"]
        descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".kos-")
        self.module.add_cleanup_file(temporary)
        with os.fdopen(descriptor, "wb") as target, open(source, "rb") as content:
            target.write(content.read())
            target.flush()
            os.fsync(target.fileno())
        self.set_attributes({**entry, "path": temporary}, report=False)
        os.replace(temporary, path)

    def set_attributes(self, entry: dict[str, Any], *, report: bool = True) -> None:
        """Set owner, group and permissions where they differ."""
        path = entry["path"]
        if not os.path.exists(path):  # check mode
            return
        changed = self.module.set_owner_if_different(path, entry["owner"] or str(os.geteuid()), False)
        changed = self.module.set_group_if_different(path, entry["group"] or str(os.getegid()), changed)
        changed = self.module.set_mode_if_different(path, entry["mode"], changed)
        if changed and report and path not in self.changed:
            self.changed.append(path)


class QuietModule(AnsibleModule):
    """Keeps its arguments out of the machine's log, where a secret of several lines is not recognized and masked."""

    def _log_invocation(self) -> None:
        paths = [entry["path"] for entry in self.params["files"]]
        self.log("Invoked for " + ", ".join(paths))


def main() -> None:
    """Run the module."""
    module = QuietModule(
        argument_spec={
            "directories": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"path": {"type": "path", "required": True}, **ATTRIBUTES, "mode": {"type": "str", "default": "0755"}},
            },
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str", "no_log": False},
                    "secret_content": {"type": "str", "no_log": True},
                    "validate": {"type": "str"},
                    **ATTRIBUTES,
                    "mode": {"type": "str", "default": "0644"},
                },
                "required_one_of": [["content", "secret_content"]],
                "mutually_exclusive": [["content", "secret_content"]],
            },
        },
        supports_check_mode=True,
    )
    writer = Writer(module)
    writer.run()
    module.exit_json(changed=bool(writer.changed), paths=writer.changed, diff=writer.diff)


if __name__ == "__main__":
    main()
