"""Conversations as the tokens that a model reads, and which of them it learns: the answer alone, never what was asked."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from include.errors import BadData

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from include.store.conversations import Conversation

_TODAY = re.compile(r"""strftime_now\(\s*(?P<quote>['"])(?P<format>[^'"]*)(?P=quote)\s*\)""")
MERGED_TOKENS = 1  # that a tokenizer may make of the last one of the question and the answer's beginning
IGNORED = -100  # a label that counts in no loss: torch's cross-entropy


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation in tokens.

    :param prompt: all before the answer, as serving would write it.
    :param answer: with the token that ends a turn, so that stopping is learned.
    :param rejected: a worse answer; empty: there is none.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    rejected: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        """Tokens of the longest sequence that it makes."""
        return len(self.prompt) + max(len(self.answer), len(self.rejected))

    @property
    def tokens(self) -> int:
        """That are read: a worse answer makes a second sequence."""
        pair = len(self.prompt) + len(self.rejected) if self.rejected else 0
        return len(self.prompt) + len(self.answer) + pair

    @property
    def labels(self) -> list[int]:
        """A label a token: of the prompt, one that is ignored."""
        return [IGNORED] * len(self.prompt) + list(self.answer)


@dataclass(frozen=True, slots=True)
class Examples:
    """What of a split can be read.

    :param left_out: conversations over the limit, or whose question alone fills it.
    :param truncated: of which the end of the answer was cut off.
    """

    kept: tuple[Example, ...]
    left_out: int = 0
    truncated: int = 0

    @property
    def longest(self) -> int:
        """Tokens of the longest; 0: there is none."""
        return max((one.length for one in self.kept), default=0)

    @property
    def tokens(self) -> int:
        """Of all together."""
        return sum(one.tokens for one in self.kept)


def read_examples(
    tokenizer: Any,
    rows: Iterable[Conversation],
    *,
    method: str,
    max_length: int,
    too_long: str,
    split: str = "train",
    day: datetime | None = None,
) -> Examples:
    """The conversations of a split in tokens, within ``max_length``.

    :param too_long: ``leave_out`` or ``truncate``.
    :param day: that templates which write the date are told, so that a training which goes on tomorrow reads the same tokens;
        None: today.
    :raises BadData: one cannot be written with the template, there is nothing to prefer, or all are too long.
    """
    found = [example_of(tokenizer, row, f"conversation {n} of split {split}", day) for n, row in enumerate(rows, 1)]
    found = [one for one in found if one.rejected] if method == "dpo" else [replace(one, rejected=()) for one in found]
    if not found:
        why = "no conversation has a rejected answer beside the right one" if method == "dpo" else "there is none"
        raise BadData(f"split {split} of the dataset", why, "Build a dataset of preferences, or train with method sft")
    kept = [one if one.length <= max_length else _cut(one, max_length, too_long) for one in found]
    left = tuple(one for one in kept if one is not None)
    if not left:
        shortest, longest = min(one.length for one in found), max(one.length for one in found)
        raise BadData(
            f"split {split} of the dataset", f"all {len(found)} conversations are over max_length {max_length}: the shortest"
            f" has {shortest} tokens, the longest {longest}", "Raise max_length, or put fewer passages into a conversation",
        )  # fmt: skip
    cut = sum(one.length > max_length and after is not None for one, after in zip(found, kept, strict=True))
    return Examples(left, len(found) - len(left), cut)


def example_of(tokenizer: Any, row: Conversation, name: str, day: datetime | None = None) -> Example:
    """One conversation in tokens. The answer begins where question and whole part ways, which is where serving begins to write.

    :param name: of the conversation, for a message.
    :param day: as of :func:`read_examples`.
    :raises BadData: the template refuses it, leaves nothing of the answer, or has serving begin elsewhere.
    """
    if not row.messages or row.messages[-1].get("role") != "assistant":
        raise BadData(name, "its last message is not the assistant's, so there is no answer to learn", "Correct the dataset")
    asked = _written(tokenizer, row.messages[:-1], name, day, open_end=True)
    whole = _written(tokenizer, row.messages, name, day)
    other: list[int] = []
    shared = _common(asked, whole)
    if row.rejected is not None:
        other = _written(tokenizer, (*row.messages[:-1], {"role": "assistant", "content": row.rejected}), name, day)
        shared = min(shared, _common(asked, other))
    if len(asked) - shared > MERGED_TOKENS:
        raise BadData(
            name, f"before an answer that is to be written the chat template has {len(asked) - shared} tokens which it leaves"
            " out before one that is there, so another place would be learned than serving writes at",
            "Correct chat_template.jinja: add_generation_prompt must write what stands before an answer",
        )  # fmt: skip
    answer, rejected = tuple(whole[shared:]), tuple(other[shared:])
    if not answer or (row.rejected is not None and not rejected):
        raise BadData(name, "the chat template leaves nothing of its answer", "Correct the template or the conversation")
    return Example(tuple(whole[:shared]), answer, rejected)


def columns(examples: Sequence[Example], method: str) -> dict[str, list[list[int]]]:
    """The columns that trl's trainers read, already in tokens."""
    if method == "dpo":
        return {
            "prompt_ids": [list(one.prompt) for one in examples],
            "chosen_ids": [list(one.answer) for one in examples],
            "rejected_ids": [list(one.rejected) for one in examples],
        }
    return {
        "input_ids": [[*one.prompt, *one.answer] for one in examples],
        "labels": [one.labels for one in examples],
    }


def _cut(example: Example, limit: int, too_long: str) -> Example | None:
    room = limit - len(example.prompt)
    if too_long == "leave_out" or room < 1:
        return None
    return replace(example, answer=example.answer[:room], rejected=example.rejected[:room])


def _written(
    tokenizer: Any, messages: Sequence[Mapping[str, str]], name: str, day: datetime | None, *, open_end: bool = False
) -> list[int]:
    from jinja2 import TemplateError

    try:
        written = tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=open_end, return_dict=False, chat_template=_dated(tokenizer, day)
        )
    except TemplateError as error:
        fix = "Correct the conversation, or take a base whose template allows it"
        raise BadData(name, f"the base's chat template refuses it: {error}", fix) from error
    return [int(token) for token in written]


def _dated(tokenizer: Any, day: datetime | None) -> str:
    """The chat template with a date in the place of today's; transformers takes no function for a template."""
    template = str(tokenizer.get_chat_template())
    return template if day is None else _TODAY.sub(lambda call: json.dumps(day.strftime(call["format"])), template)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
