"""Files of conversations: every shape that is taken, and every malformed line by its number."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from include.answering.citations import renumbered
from include.datasets.conversations.contamination import HeldOut
from include.datasets.conversations.lines import as_line, kind_of_file, read_conversations
from include.datasets.conversations.options import LlmDataOptions
from include.datasets.conversations.sides import near_keys, sides_of
from include.datasets.conversations.tokens import token_statistics
from include.datasets.filters import normalised
from include.errors import BadData
from include.indexing.near_duplicates import shingles
from include.store.conversations import Conversation
from tests.training.llm.tiny import make_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

USER = {"role": "user", "content": "How far?"}
SYSTEM = {"role": "system", "content": "Be brief."}
NEAR = {"role": "assistant", "content": "Two miles."}
FAR = {"role": "assistant", "content": "A hundred miles."}

MALFORMED: list[tuple[str, str]] = [
    ("{", "not JSON"),
    ("[]", "not a JSON object"),
    (json.dumps({"messages": []}), "messages is missing or no list"),
    (json.dumps({"text": "x"}), "unknown key 'text'"),
    (json.dumps({"messages": [USER]}), "messages ends with user"),
    (json.dumps({"messages": [NEAR, USER]}), "messages goes assistant, user"),
    (json.dumps({"messages": [USER, USER, NEAR]}), "messages goes user, user, assistant"),
    (json.dumps({"messages": [USER, SYSTEM, NEAR]}), "messages goes user, system, assistant"),
    (json.dumps({"messages": [SYSTEM]}), "messages goes system"),
    (json.dumps({"messages": [USER, {"role": "tool", "content": "x"}]}), "message 2 has the role 'tool'"),
    (json.dumps({"messages": [USER, {"role": "assistant", "content": " "}]}), "content of message 2 is missing"),
    (json.dumps({"messages": [USER, {"role": "assistant", "content": [{"type": "text"}]}]}), "content of message 2"),
    (json.dumps({"messages": [USER, {**NEAR, "weight": 1}]}), "message 2 has an unknown key 'weight'"),
    (json.dumps({"messages": [USER, "x"]}), "message 2 is not a JSON object"),
    (json.dumps({"messages": [USER, {**NEAR, "content": "\x00"}]}), "cannot store"),
    (json.dumps({"messages": [USER, NEAR], "split": "eval"}), "split is 'eval'"),
    (json.dumps({"messages": [USER, NEAR], "task": ""}), "task is ''"),
    (json.dumps({"messages": [USER, NEAR], "metadata": {"passages": [1]}}), "metadata.passages"),
    (json.dumps({"messages": [USER, NEAR], "rejected": "x"}), "is a preference"),
]
UNFIT: list[tuple[str, str]] = [
    (json.dumps({"messages": [USER, NEAR]}), "rejected is missing"),
    (json.dumps({"prompt": "How far?", "chosen": "x", "rejected": "x "}), "chosen and rejected are the same"),
    (json.dumps({"messages": [USER, NEAR], "chosen": "x", "rejected": "y"}), "messages ends with assistant"),
    (json.dumps({"chosen": [USER, NEAR], "rejected": [SYSTEM, USER, FAR]}), "rejected answers other messages"),
]
PREFERENCES: list[dict[str, Any]] = [
    {"messages": [USER], "chosen": "Two miles.", "rejected": "A hundred miles."},
    {"prompt": "How far?", "chosen": "Two miles.", "rejected": "A hundred miles."},
    {"prompt": [USER], "chosen": [NEAR], "rejected": [FAR]},
    {"chosen": [USER, NEAR], "rejected": [USER, FAR]},
    {"messages": [USER, NEAR], "rejected": "A hundred miles."},
]


@pytest.mark.parametrize(("kind", "table"), [("conversations", MALFORMED), ("preferences", UNFIT)])
def test_each_malformed_line_is_named(tmp_path: Path, kind: Any, table: list[tuple[str, str]]) -> None:
    path = tmp_path / "set.jsonl"
    good = {"messages": [USER, NEAR]} if kind == "conversations" else PREFERENCES[0]
    path.write_text("\n".join([json.dumps(good), *(line for line, _ in table)]))
    with pytest.raises(BadData) as raised:
        read_conversations(str(path), kind)
    said = str(raised.value)
    assert f"{len(table)} of {len(table) + 1} conversations are malformed" in said
    for number, (_, why) in enumerate(table, 2):
        assert why in said.partition(f"line {number}: ")[2].partition("; line")[0]


def test_the_shapes_of_preferences_say_one_thing(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text("\n".join(map(json.dumps, PREFERENCES)))
    assert kind_of_file(str(path)) == "preferences"
    assert {repr(line.conversation) for line in read_conversations(str(path), "preferences")} == {
        repr(Conversation((USER, NEAR), "A hundred miles."))
    }


def test_a_line_comes_back_as_it_was(tmp_path: Path) -> None:
    rows = [
        Conversation(
            (SYSTEM, USER, NEAR), None, "test", "exact", "2", "a.md", "llm", {"question": "How far?"}, ("a.md", "b.md")
        ),
        Conversation((USER, FAR, USER, NEAR), "None.", "dev", "feedback", origin="feedback"),
    ]  # fmt: skip
    for row, kind in zip(rows, ("conversations", "preferences"), strict=True):
        path = tmp_path / kind
        path.write_text(json.dumps(as_line(row, 7)))
        (line,) = read_conversations(str(path), kind)  # type: ignore[arg-type]
        assert (line.conversation, line.split, line.dataset) == (row, row.split, 7)
    path.write_text(json.dumps({"id": 3, "messages": [USER, NEAR], "metadata": {"final_answer": 12}}))
    (line,) = read_conversations(str(path), "conversations")
    assert (line.split, line.conversation.task, line.conversation.expected) == (None, "exact", "12")
    assert line.conversation.metadata == {"final_answer": 12, "id": 3}


def test_what_is_held_out_is_met_again() -> None:
    """Equal but for case and points; inside a longer text; nearly the same; short ones only when they are equal."""
    texts = ["How far is it from the old mill to the lake?", "And why?", "Who may open the gate of the northern yard at night"]
    held = HeldOut(list(enumerate(texts)), 0.5)
    for text, expected in [
        ("how far is it, from the OLD mill to the lake", (0, "equal")),
        ("Context: it is late. How far is it from the old mill to the lake? Say it in miles.", (0, "contained")),
        ("So how far is it from the old mill to the lake", (0, "contained")),
        ("How far is it now from the old mill to the lake?", (0, "near_duplicate")),
        ("AND WHY", (1, "equal")),
        ("and why not", None),
        ("How far is it from the new bridge to the market?", None),
    ]:
        match = held.match(text)
        assert (match and (match.key, match.how)) == expected, text
    assert held.match("short", "Tell me: who may open the gate of the northern yard at night, and why?") is not None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is [3]. And [2, 3].", "It is [2]. And [1][2]."), ("No [1][2].", "No [1]."), ("No [1].", "No."),
        ("`a[1]` [2]", "`a[1]` [1]"),
    ],
)  # fmt: skip
def test_citations_of_passages_that_are_left_out(text: str, expected: str) -> None:
    assert renumbered(text, {2: 1, 3: 2}) == expected


def test_every_near_duplicate_is_found() -> None:
    """Against comparing each with each, on texts of a small vocabulary that are often alike."""
    rng = random.Random(4)
    seeds = [[rng.choice("abcdefgh") for _ in range(14)] for _ in range(12)]
    texts = [
        " ".join(rng.choice("abcdefgh") if rng.random() < 0.08 else word for word in rng.choice(seeds)) for _ in range(150)
    ]
    for threshold in (0.5, 0.7, 0.9):
        held = HeldOut([(text, text) for text in texts[:75]], threshold)
        for text in texts[75:]:
            mine = shingles(normalised(text))
            alike = {o for o in texts[:75] if len(mine & shingles(o)) >= threshold * len(mine | shingles(o))}
            assert {match.key for match in held.matches(text)} == alike


def test_what_belongs_together_is_on_one_side() -> None:
    """Documents, near-identical questions; shares are kept, a given side is kept and taken along, again is the same."""
    questions = [
        f"Question number {n // 2} about the thing that is called {n // 2} by all{' here' * (n % 2)}" for n in range(200)
    ]
    near = near_keys([(text, text) for text in questions], 0.7)
    keys = [(f"d {n // 4}", *alike) for n, alike in enumerate(near)]
    options = LlmDataOptions(dev_share=0.1, test_share=0.2, min_dev=5)
    sides = sides_of(keys, [None] * 200, options)
    assert [sides.count(side) for side in ("test", "dev")] == [40, 20]
    assert all(len(set(sides[n : n + 4])) == 1 for n in range(0, 200, 4))
    assert sides_of(keys, [None] * 200, options) == sides
    told = sides_of(keys, ["test" if n == 9 else None for n in range(200)], options)
    assert told[8:12] == ["test"] * 4
    assert set(sides_of(keys, [None] * 200, LlmDataOptions(test_share=0))) == {"train", "dev"}


def test_token_statistics() -> None:
    """Lengths as the template writes them, what is over the limit, and how full packed sequences are."""
    tokenizer = make_tokenizer()
    rows = [Conversation(({"role": "user", "content": "x" * n}, NEAR)) for n in (5, 10, 40)]
    found = token_statistics(rows, tokenizer, 40)
    written = [len(tokenizer.apply_chat_template(list(row.messages), return_dict=False)) for row in rows]
    assert (found["conversations"], found["tokens"], found["over_limit"]) == (3, sum(written), 1)
    assert found["length"] == {"min": written[0], "median": written[1], "p95": written[2], "max": written[2]}
    assert found["packing"]["efficiency"] == sum(written[:2]) / (found["packing"]["sequences"] * 40)
    assert 0 < found["answer_tokens"] < found["tokens"]
    pair = token_statistics([Conversation((USER, NEAR), "A hundred miles.")], tokenizer, 40)
    assert (pair["conversations"], pair["sequences"]) == (1, 2)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"kind": "preferences", "sources": "grounded"}, "no worse one"), ({"sources": "file"}, "needs a file"),
        ({"questions": "qrels"}, "queries and qrels"), ({"qrels": "x"}, "belong together"), ({"name": "A b"}, "pattern"),
    ],
)  # fmt: skip
def test_options_that_cannot_be(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        LlmDataOptions.model_validate(given)
    assert [LlmDataOptions(kind=kind).name for kind in ("conversations", "preferences")] == ["conversations", "preferences"]
