"""Who asks, and what they may: keys by the hash of what the request carries, their scopes, collections and rate."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from include.serving.failures import AGAIN_SECONDS, Refusal
from include.serving.rates import Rates
from include.store import api_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from include.store.api_keys import ApiKey

logger = logging.getLogger(__name__)

FRESH_SECONDS = 2.0  # a revoked key ends within these
UNKNOWN_SECONDS = 0.5  # an unknown key asks the database again only after these, so guessing costs it nothing
STALE_SECONDS = 60.0  # without a database known keys are taken so long, for their requests to fail with the true reason


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    :param key: None: the server runs without logins.
    """

    key: ApiKey | None

    @property
    def key_id(self) -> int | None:
        """For the logs."""
        return self.key.id if self.key else None

    def may(self, scope: str) -> bool:
        """Whether a scope is theirs."""
        return self.key is None or scope in self.key.scopes

    def require(self, scope: str) -> None:
        """Refuse who lacks a scope.

        :raises Refusal: 403.
        """
        if not self.may(scope):
            raise Refusal(403, "missing_scope", f"This key lacks the scope {scope!r}. Ask for a key that has it")

    def may_ask(self, collection: str) -> bool:
        """Whether a collection is theirs."""
        return self.key is None or self.key.collections is None or collection in self.key.collections

    def require_collection(self, collection: str, param: str = "collection") -> None:
        """Refuse who has no right to a collection, whether there is one of this name or not.

        :raises Refusal: 403.
        """
        if not self.may_ask(collection):
            raise Refusal(403, "collection_not_allowed", "This key has no right to this collection", param)

    def principals(self, wanted: Sequence[str] | None) -> tuple[str, ...]:
        """For whom documents are seen: as the key says, or as the request says if the key may act for others.

        :raises Refusal: 403 it may not.
        """
        if wanted is None:
            return self.key.principals if self.key else ()
        if not self.may("act_as"):
            raise Refusal(
                403, "missing_scope", "Only a key with the scope 'act_as' may name principals. Leave them out", "principals"
            )
        return tuple(wanted)

    def sees(self, asked_by: int | None) -> bool:
        """Whether the answer to a question may be shown: to who asked it, and to who may act as anybody."""
        return self.key is None or self.key.id == asked_by or self.may("act_as")


class Keyring:
    """All keys, read again when a request comes and they are older than two seconds.

    A key is looked up by its hash, so nothing can be learned from how long it takes.

    :param load: reads the keys from the database.
    """

    def __init__(self, load: Callable[[], Sequence[ApiKey]]) -> None:
        self._load, self._rates = load, Rates()
        self._known: Mapping[bytes, ApiKey] = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def admit(self, authorization: str | None) -> Caller:
        """The caller of a request, whose rate is counted.

        :param authorization: the header, ``Bearer rw_…``.
        :raises Refusal: 401 no key, or one that is unknown, revoked or expired; 429 it asks too often.
        """
        scheme, _, secret = (authorization or "").strip().partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise Refusal(401, "missing_api_key", "No API key was given. Send the header 'Authorization: Bearer rw_…'")
        key = await self._find(api_keys.hashed(secret.strip()))
        if key is None:
            raise Refusal(401, "invalid_api_key", "This API key is unknown, revoked or expired. Ask for a new one")
        wait = self._rates.take(key.id, key.requests_per_minute, time.monotonic())
        if wait is not None:
            raise Refusal(
                429, "rate_limit_exceeded",
                f"This key may ask {key.requests_per_minute} times a minute. Try again in {wait} s", retry_after=wait,
            )  # fmt: skip
        return Caller(key)

    async def _find(self, digest: bytes) -> ApiKey | None:
        await self._refresh(FRESH_SECONDS if digest in self._known else UNKNOWN_SECONDS)
        key = self._known.get(digest)
        return key if key is not None and key.state == "active" else None

    async def _refresh(self, oldest: float) -> None:
        if time.monotonic() - self._read_at < oldest:
            return
        async with self._reading:
            if time.monotonic() - self._read_at < oldest:
                return
            started = time.monotonic()
            try:
                self._known = {key.key_hash: key for key in await asyncio.to_thread(self._load)}
                self._read_at = started
            except psycopg.Error as error:
                if started - self._read_at > STALE_SECONDS:
                    raise Refusal(
                        503, "database_unavailable", "The database does not answer. Try again", retry_after=AGAIN_SECONDS
                    ) from error
                logger.warning("keys are taken as they were %.0f s ago: %s", started - self._read_at, error)
