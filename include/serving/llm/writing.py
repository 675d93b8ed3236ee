"""One answer on its way out of a model: tokens become text, and end at a stop string, the limit, or when nobody listens."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

_BROKEN = "�"  # what a tokenizer writes for bytes that are half of a character


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of an answer.

    :param reason: OpenAI's: ``stop`` or ``length``.
    :param tokens: that were written.
    """

    reason: str
    tokens: int


@dataclass(slots=True)
class Ask:
    """What is asked of a model.

    :param adapter: its name in the engine.
    :param ids: tokens of the conversation.
    :param limit: most tokens of the answer.
    :param put: told each piece of text, then how it ended, or the error that it ended with; called from the engine's thread.
    """

    adapter: str
    ids: list[int]
    limit: int
    put: Callable[[str | Ended | Exception], None]
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    left: threading.Event = field(default_factory=threading.Event)

    def goes_with(self, other: Ask) -> bool:
        """Whether the two may be answered together: drawn alike by one adapter. A seed wants its draws for itself."""
        if self.seed is not None or other.seed is not None:
            return False
        return (self.adapter, self.temperature, self.top_p) == (other.adapter, other.temperature, other.top_p)


class Writing:
    """The answer to one ask, token by token."""

    def __init__(self, ask: Ask, tokenizer: Any, ends: frozenset[int]) -> None:
        self._ask, self._tokenizer, self._ends = ask, tokenizer, ends
        self._ids: list[int] = []
        self._prefix = self._read = 0  # a window is decoded, for a token's text depends on the one before
        self._said, self._sent = "", 0
        self._held = max((len(stop) for stop in ask.stop), default=1) - 1
        self.done = False

    def take(self, token: int) -> None:
        """The next token."""
        if self._ask.left.is_set():
            self.done = True
        elif token in self._ends:
            self._end("stop")
        else:
            self._ids.append(token)
            last = len(self._ids) >= self._ask.limit
            if self._hear(last=last):
                self._end("stop")
            elif last:
                self._end("length")
            else:
                self._send(len(self._said) - self._held)

    def _hear(self, *, last: bool) -> bool:
        """Take up the text of the newest tokens; whether it holds a stop string, before which it then ends."""
        before = self._decoded(self._prefix, self._read)
        now = self._decoded(self._prefix, len(self._ids))
        if len(now) <= len(before) or (now.endswith(_BROKEN) and not last):
            return False
        looked = max(len(self._said) - self._held, 0)
        self._said += now[len(before) :]
        self._prefix, self._read = self._read, len(self._ids)
        found = [place for stop in self._ask.stop if (place := self._said.find(stop, looked)) >= 0]
        if found:
            self._said = self._said[: min(found)]
        return bool(found)

    def _decoded(self, start: int, end: int) -> str:
        return str(self._tokenizer.decode(self._ids[start:end], skip_special_tokens=True))

    def _send(self, upto: int) -> None:
        if upto > self._sent:
            self._ask.put(self._said[self._sent : upto])
            self._sent = upto

    def _end(self, reason: str) -> None:
        self.done = True
        self._send(len(self._said))
        self._ask.put(Ended(reason, len(self._ids)))


class Following:
    """Streamer and stopping criterion of transformers' ``generate``: hears the tokens of a batch, says which rows are done."""

    def __init__(self, writings: Sequence[Writing]) -> None:
        self._writings = writings
        self._begun = False

    def put(self, tokens: torch.Tensor) -> None:
        """The prompt, then the next token of each row."""
        if not self._begun:
            self._begun = True
            return
        for writing, token in zip(self._writings, tokens.flatten().tolist(), strict=True):
            if not writing.done:
                writing.take(token)

    def end(self) -> None:
        """Nothing follows."""

    def __call__(self, ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        """Which rows are done."""
        import torch

        return torch.tensor([writing.done for writing in self._writings], device=ids.device)
