"""Runs the app with uvicorn: one process, stopped in order by SIGTERM."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import uvicorn

from include.errors import ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp

GRACE_SECONDS = 25  # for open requests after SIGTERM; Kubernetes kills after 30 by default
KEEP_ALIVE_SECONDS = 65  # longer than load balancers keep a connection, so that none is reused as it closes


class Listening(Protocol):
    """Where a server is to listen."""

    @property
    def host(self) -> str: ...  # noqa: D102
    @property
    def port(self) -> int: ...  # noqa: D102


class Server(uvicorn.Server):
    """Says when it listens, and where: with port 0 nobody else knows.

    :param started_at: told the URL.
    """

    def __init__(self, app: ASGIApp, options: Listening, started_at: Callable[[str], None] = lambda url: None) -> None:
        super().__init__(
            uvicorn.Config(
                app, host=options.host, port=options.port, access_log=False, log_config=None, server_header=False,
                timeout_graceful_shutdown=GRACE_SECONDS, timeout_keep_alive=KEEP_ALIVE_SECONDS, ws="none",
            )
        )  # fmt: skip
        self._options, self._started_at = options, started_at

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """As uvicorn does, then tell."""
        await super().startup(None)
        if self.started:
            self._started_at(self.url)

    def serve_until_stopped(self) -> None:
        """Serve until SIGTERM or SIGINT; open requests are answered.

        :raises ServiceUnavailable: it cannot listen there.
        """
        # uvicorn raises what stopped it once more when it is done; whoever calls this still has logs to write
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        with suppress(SystemExit):  # uvicorn's way to say that it cannot listen
            self.run()
        if not self.started:
            raise ServiceUnavailable(
                f"nothing can listen on {self._options.host}:{self._options.port}",
                "the port is taken, or the address is not this machine's", "Give another --port or --host",
            )  # fmt: skip

    @property
    def url(self) -> str:
        """Where it listens."""
        port = self.servers[0].sockets[0].getsockname()[1]
        host = f"[{self._options.host}]" if ":" in self._options.host else self._options.host
        return f"http://{host}:{port}"
