"""Writes answers with a base and any number of its adapters, here and greedily: the same model gives the same words again."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from include.answering.llm import LLM, Completion
from include.errors import BadConfiguration
from include.training.llm.bases import load_base, load_tokenizer, plain_generation
from include.training.llm.merging import with_adapters

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from include.store.conversations import Conversation
    from include.training.llm.adapters import Adapter
    from include.training.llm.bases import Base

_MARK = re.compile(r"(?<=passage-)[0-9a-f]{16}\b")
_FIXED_MARK = "5ca1ab1e0ddba115"


@dataclass(frozen=True, slots=True)
class Written:
    """An answer, and how many tokens it took."""

    text: str
    tokens: int


class Writer:
    """A base in memory, with adapters beside it.

    :param adapters: by name; None: the base alone.
    """

    def __init__(self, base: Base, adapters: dict[str, Adapter | None]) -> None:
        import torch

        started = time.monotonic()
        cuda = torch.cuda.is_available()
        quantisation = {one.quantisation for one in adapters.values() if one is not None}
        as_trained = replace(base, quantisation=quantisation.pop()) if cuda and len(quantisation) == 1 else base.in_full()
        self._base = base if base.stored else as_trained
        self._tokenizer = load_tokenizer(base)
        self._parts = list({one.fingerprint: one for one in adapters.values() if one is not None}.values())
        self._of = {name: one.fingerprint if one else None for name, one in adapters.items()}
        plain = load_base(self._base, device="cuda" if cuda else "cpu")
        self._ends = plain_generation(plain, self._tokenizer)  # as serving does: what judges must write what serves
        self._model = with_adapters(plain, self._parts) if self._parts else plain
        self.seconds = time.monotonic() - started

    @property
    def precision(self) -> str:
        """How the base's weights are held: as they were trained on, where CUDA is there."""
        return f"{self._base.quantisation} on {self._model.device.type}"

    def write(self, side: str, messages: Sequence[dict[str, str]], max_tokens: int) -> Written:
        """An answer; empty when the question alone fills the window.

        :raises BadConfiguration: the chat template refuses the messages.
        """
        import torch

        ids = self._written(messages)
        room = min(max_tokens, self._window - len(ids))
        if room < 1:
            return Written("", 0)
        given = torch.tensor([ids], device=self._model.device)
        with self._as(side), torch.inference_mode():
            whole = self._model.generate(
                input_ids=given, attention_mask=torch.ones_like(given), max_new_tokens=room, do_sample=False, num_beams=1,
            )  # fmt: skip
        new = whole[0, len(ids) :].tolist()
        said = new[:-1] if new and new[-1] in self._ends else new
        return Written(self._tokenizer.decode(said, skip_special_tokens=True).strip(), len(new))

    def losses(self, side: str, rows: Sequence[Conversation]) -> list[float | None]:
        """Nats a token of each conversation's answer; None of one that is over the window."""
        from include.training.llm.examples import example_of
        from include.training.llm.heldout import answer_losses

        read = [example_of(self._tokenizer, row, f"conversation {n}") for n, row in enumerate(rows, 1)]
        fit = [n for n, one in enumerate(read) if len(one.prompt) + len(one.answer) <= self._window]
        found: list[float | None] = [None] * len(read)
        with self._as(side):
            losses = answer_losses(self._model, [(read[n].prompt, read[n].answer) for n in fit])
        for n, (loss, count) in zip(fit, losses, strict=True):
            found[n] = loss / max(1, count)
        return found

    @property
    def _window(self) -> int:
        return int(getattr(self._model.config, "max_position_embeddings", None) or 4096)

    def _written(self, messages: Sequence[dict[str, str]]) -> list[int]:
        from jinja2 import TemplateError

        try:
            text = self._tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
        except TemplateError as error:
            why = f"it refuses a conversation ({error})"
            raise BadConfiguration(f"the chat template of {self._base.name}", why, "Take a model with system turns") from error
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    @contextmanager
    def _as(self, side: str) -> Iterator[None]:
        """The model with the adapter of a side, or with none."""
        fingerprint = self._of[side]
        if fingerprint is None:
            with self._model.disable_adapter() if self._parts else nullcontext():
                yield
            return
        self._model.set_adapter(f"part{[one.fingerprint for one in self._parts].index(fingerprint)}")
        yield


class LocalLLM(LLM):
    """One side of a writer in the place of an endpoint, so that golden queries are answered by the code that serves.

    The random mark around passages is replaced by a fixed one: champion and challenger read the same prompt.
    """

    def __init__(self, writer: Writer, side: str) -> None:
        super().__init__("http://localhost", side)
        self._writer, self._side = writer, side

    def complete(self, messages: Sequence[dict[str, str]], max_tokens: int, temperature: float) -> Completion:
        """Greedily, whatever the temperature."""
        marks = {mark for one in messages for mark in _MARK.findall(one["content"])}
        fixed = [{**one, "content": _replaced(one["content"], marks)} for one in messages]
        written = self._writer.write(self._side, fixed, max_tokens)
        return Completion(written.text, self.model, truncated=written.tokens >= max_tokens)


def _replaced(text: str, marks: set[str]) -> str:
    for mark in marks:
        text = text.replace(mark, _FIXED_MARK)
    return text
