# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the modules that talk to MariaDB have in common."""

from __future__ import annotations


class ModuleDocFragment:
    """The socket of the server."""

    DOCUMENTATION = r"""
options:
  socket:
    description:
      - The socket of the server.
      - The module logs in as the user that it runs as, which the server of Debian lets in if that is root.
    type: path
    default: /run/mysqld/mysqld.sock
requirements:
  - PyMySQL
"""
