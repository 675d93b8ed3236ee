"""How one server runs: the options of `serve`."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from include.errors import BadConfiguration


@dataclass(frozen=True, slots=True)
class Options:
    """What `serve` was told.

    :param no_auth: take every request for a local administrator's; loopback only.
    :param metrics_open: show metrics without a key.
    :param threads: searches, reranks and embeddings at a time, and connections to Postgres.
    :param answer_threads: answers being written at a time; they wait for the LLM.
    :param waiting: calls that may wait for a thread of each kind.
    :param timeout: seconds for a search, rerank or embedding.
    :param answer_timeout: seconds for an answer, and between two pieces of a streamed one.
    :param max_body: bytes of a request.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    no_auth: bool = False
    metrics_open: bool = False
    threads: int = 8
    answer_threads: int = 16
    waiting: int = 64
    timeout: float = 30.0
    answer_timeout: float = 120.0
    max_body: int = 2_000_000

    def check(self, active_keys: int) -> None:
        """Refuse to be open to a network without logins.

        :param active_keys: API keys that are neither revoked nor expired.
        :raises BadConfiguration: ``no_auth`` on another address than loopback, or nobody could log in.
        """
        if self.no_auth and not is_loopback(self.host):
            raise BadConfiguration(
                f"--no-auth on {self.host}", "everybody on the network could read the index",
                "Serve on 127.0.0.1, or make a key: ragworks keys create NAME",
            )  # fmt: skip
        if not self.no_auth and not active_keys:
            raise BadConfiguration(
                "there is no API key", "nobody could log in",
                "Run: ragworks keys create NAME; or, on this machine alone, serve with --no-auth",
            )  # fmt: skip


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
