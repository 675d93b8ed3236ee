"""Clients of the server, in a process of their own: ``python -m bench.load.clients JSON``, ended by SIGTERM.

Writes {calls: [[sent, ms, status, embed_ms, search_ms, total_ms, answer], …], answers: [[generation, places], …], failures},
where an answer is a place in the list of different ones, and -1 after a failure.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from bench.load import turns

TIMEOUT = 40.0


class Clients:
    """What they asked, and what they were answered."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._given, self._start = given, float(given["start"])
        self._questions: list[str] = given["questions"]
        self.calls: list[list[float]] = []
        self.failures: list[str] = []
        self._answers: dict[tuple[int, tuple[tuple[Any, ...], ...]], int] = {}
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Ask until SIGTERM."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._ended.set)
        await asyncio.sleep(self._start - time.time())
        limits = httpx.Limits(max_keepalive_connections=None)
        async with httpx.AsyncClient(base_url=self._given["url"], timeout=TIMEOUT, limits=limits) as http:
            await asyncio.gather(*(self._ask(http, number) for number in range(self._given["clients"])))

    async def _ask(self, http: httpx.AsyncClient, number: int) -> None:
        draw = random.Random(number)
        while not self._ended.is_set():
            if number and not turns.served(time.time(), self._start):
                await asyncio.sleep(turns.until_served(time.time(), self._start))
                continue
            body = {"collection": self._given["collection"], "query": draw.choice(self._questions), "mode": "dense"}
            sent, started = time.time(), time.perf_counter()
            try:
                reply = await http.post("/v1/search", json=body)
                status, found = reply.status_code, reply.json()
            except (httpx.HTTPError, ValueError) as error:
                status, found = 0, {"error": repr(error)}
            milliseconds = (time.perf_counter() - started) * 1000
            if status == 200:
                steps = [1000 * found["seconds"][step] for step in ("embed", "search", "total")]
                self.calls.append([sent, milliseconds, status, *steps, self._number(found)])
            else:
                self.calls.append([sent, milliseconds, status, 0, 0, 0, -1])
                self.failures.append(json.dumps(found)[:300])

    def _number(self, found: dict[str, Any]) -> int:
        places = tuple((hit["document"], hit["ordinal"], hit["start"], hit["end"]) for hit in found["results"])
        return self._answers.setdefault((found["passport"]["generation"], places), len(self._answers))

    def write(self, path: Path) -> None:
        """Keep it all."""
        answers = [[generation, list(places)] for generation, places in self._answers]
        path.write_text(json.dumps({"calls": self.calls, "answers": answers, "failures": self.failures}), encoding="utf-8")


def main() -> None:
    """Ask, then write."""
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))

    async def ask() -> Clients:
        clients = Clients(given)
        await clients.run()
        return clients

    asyncio.run(ask()).write(Path(given["out"]))


if __name__ == "__main__":
    main()
