# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands between csi-sanity and a driver, and answers once the cloud has done what the driver asked it for.

A driver may answer as soon as the cloud has begun: Kubernetes asks again until the next step works. csi-sanity asks once.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import pathlib
import typing as t

import grpc

__all__ = ["relay"]

SECONDS = 120


class _Relay(grpc.GenericRpcHandler):
    """Passes on every call as it came, without knowing what stands in it."""

    def __init__(self, driver: grpc.Channel, settle: t.Callable[[], None]) -> None:
        self._driver, self._settle = driver, settle

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Return what answers calls of this name."""
        call = self._driver.unary_unary(details.method)

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                said: bytes = call(request, timeout=SECONDS)
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
            try:
                if details.method.startswith("/csi.v1.Controller/"):
                    self._settle()
            except BaseException as problem:
                # grpc answers for Exception alone, and what a test fails with is none.
                context.set_code(grpc.StatusCode.INTERNAL)
                context.set_details(str(problem))
                return b""
            return said

        return grpc.unary_unary_rpc_method_handler(answer)


@contextlib.contextmanager
def relay(driver: pathlib.Path, socket: pathlib.Path, settle: t.Callable[[], None]) -> t.Iterator[None]:
    """Pass on what comes to a socket to a driver's; call `settle` after each answer of its controller."""
    with grpc.insecure_channel(f"unix:{driver}") as channel:
        server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), handlers=[_Relay(channel, settle)])
        server.add_insecure_port(f"unix:{socket}")
        server.start()
        try:
            yield
        finally:
            server.stop(grace=5).wait()
