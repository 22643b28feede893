# SPDX-License-Identifier: GPL-3.0-or-later
"""A file server for the mirror: GET and HEAD below one folder, nothing else. A program of its own, started by `tools/mirror serve`."""

from __future__ import annotations

import argparse
import functools
import http.server
import socket
import typing as t

__all__ = ["Handler", "Server", "main"]


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files; hides names that begin with a dot and the registry's storage, which has a server of its own."""

    protocol_version = "HTTP/1.1"
    server_version = "kos-mirror"
    sys_version = ""
    # One client that stops reading must not hold a thread for ever.
    timeout = 60

    def send_head(self) -> t.Any:
        """Open what the request asks for."""
        parts = [part for part in self.path.partition("?")[0].split("/") if part]
        if any(part.startswith(".") for part in parts) or parts[:1] == ["registry"]:
            self.send_error(404)
            return None
        return super().send_head()

    def guess_type(self, path: t.Any) -> str:
        """All are plain bytes: clients check digests, nobody shows them."""
        return "application/json" if str(path).endswith(".json") else "application/octet-stream"


class Server(http.server.ThreadingHTTPServer):
    """Many clients at once."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], folder: str) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, functools.partial(Handler, directory=folder))


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("folder")
    given = parser.parse_args()
    Server((given.address, given.port), given.folder).serve_forever()


if __name__ == "__main__":
    main()
