"""A loopback server that speaks OpenAI's /chat/completions, plain and streamed, and says what a test told it."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass
class FakeLLM:
    """What is said, and what was asked.

    :param reply: the text; ``answers`` makes it of the user's message.
    :param status: of every answer; other than 200 gives OpenAI's error object.
    :param refuses: a parameter that the model does not take.
    :param breaks: the connection ends in the middle of a stream.
    """

    reply: str = "Hello."
    answers: Callable[[str], str] | None = None
    status: int = 200
    refuses: str | None = None
    breaks: bool = False
    finish: str = "stop"
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    url: str = ""

    @property
    def prompt(self) -> str:
        """The user's message of the last request."""
        return str(self.requests[-1]["messages"][-1]["content"])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        fake = self.server.fake
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fake.requests.append(asked)
        fake.keys.append(self.headers["Authorization"])
        if fake.status != 200:
            self._json(fake.status, {"error": {"message": "refused", "type": "error", "param": None, "code": None}})
        elif fake.refuses in asked:
            message = f"Unsupported parameter: {fake.refuses!r}"
            self._json(
                400, {"error": {"message": message, "type": "invalid_request_error", "param": fake.refuses, "code": None}}
            )
        elif asked.get("stream"):
            self._stream(fake)
        else:
            said = fake.answers(asked["messages"][-1]["content"]) if fake.answers else fake.reply
            message = {"role": "assistant", "content": said}
            usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
            choice = {"index": 0, "message": message, "finish_reason": fake.finish}
            self._json(200, _reply("chat.completion", choice) | {"usage": usage})

    def _stream(self, fake: FakeLLM) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        pieces = [fake.reply[i : i + 3] for i in range(0, len(fake.reply), 3)]
        for number, piece in enumerate(pieces):
            if fake.breaks and number == 2:
                self._event({"error": {"message": "out of memory", "type": "server_error", "param": None, "code": None}})
                break
            self._event(_reply("chat.completion.chunk", {"index": 0, "delta": {"content": piece}, "finish_reason": None}))
        else:
            self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _event(self, value: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())

    def _json(self, status: int, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    fake: FakeLLM


def _reply(kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    return {"id": "1", "object": kind, "created": 1, "model": "tiny-1", "choices": [choice]}


@contextmanager
def serve_llm() -> Iterator[FakeLLM]:
    """Run it; ``url`` is its base URL."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.fake = FakeLLM(url=f"http://127.0.0.1:{server.server_address[1]}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
