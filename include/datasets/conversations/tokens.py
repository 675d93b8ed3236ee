"""How long conversations are for a model: what exceeds its limit, and what packing saves; before a GPU is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from include.store.conversations import Conversation


def token_statistics(conversations: Iterable[Conversation], tokenizer: Any, max_length: int) -> dict[str, Any]:
    """Count them as training reads them: prompt by the chat template, then the answer; a worse answer is a sequence more.

    :param tokenizer: of the base, as :func:`include.training.llm.bases.load_tokenizer` gives it: with a chat template.
    :param max_length: tokens of the longest sequence that is trained on.
    :return: conversations; tokens, answer_tokens (those that are learned); length and answer_length, each {min, median, p95,
        max}; max_length, over_limit, over_limit_share; packing {sequences, efficiency} by best fit, efficiency being the
        share of places that hold a token, and padding_efficiency, the same when each sequence is filled up to the longest.
    :raises BadData: the template refuses a conversation.
    """
    from include.training.llm.examples import example_of
    from include.training.llm.forecast import packed_rows

    lengths: list[int] = []
    answers: list[int] = []
    count = 0
    for count, row in enumerate(conversations, 1):
        example = example_of(tokenizer, row, f"conversation {count}")
        for answer in (example.answer, example.rejected) if example.rejected else (example.answer,):
            lengths.append(len(example.prompt) + len(answer))
            answers.append(len(answer))
    over = sum(length > max_length for length in lengths)
    fit = [length for length in lengths if length <= max_length]
    bins = packed_rows(fit, max_length)
    return {
        "conversations": count,
        "sequences": len(lengths),
        "tokens": sum(lengths),
        "answer_tokens": sum(answers),
        "length": _spread(lengths),
        "answer_length": _spread(answers),
        "max_length": max_length,
        "over_limit": over,
        "over_limit_share": over / len(lengths) if lengths else 0.0,
        "packing": {"sequences": bins, "efficiency": sum(fit) / (bins * max_length) if bins else 0.0},
        "padding_efficiency": sum(fit) / (len(fit) * max(fit)) if fit else 0.0,
    }


def _spread(values: Sequence[int]) -> dict[str, int]:
    if not values:
        return {"min": 0, "median": 0, "p95": 0, "max": 0}
    ordered = sorted(values)
    last = len(ordered) - 1
    return {"min": ordered[0], "median": ordered[last // 2], "p95": ordered[round(0.95 * last)], "max": ordered[-1]}
