"""Conversations in a file of JSON lines, as people and other tools have them, and as an export writes them.

A malformed one must not be learned, nor be passed over: the whole file is read, and every wrong line is named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include.errors import BadData
from include.evaluation.checked_lines import Wrong, json_object, known, metadata, numbered_lines, span, storable
from include.store.conversations import PASSAGES, Conversation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from include.store.conversations import Kind
    from include.store.datasets import Split

LINE = '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}'
PREFERENCE = '{"messages": [{"role": "user", "content": "…"}], "chosen": "…", "rejected": "…"}'
ROLES = ("system", "user", "assistant")
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
ORIGINS = ("qrels", "feedback", "llm", "headings", "imported")
FINAL_ANSWER = "final_answer"  # of an imported line's metadata: what its answer can be compared with exactly
NAMED = 20  # malformed lines that a message names
_KEYS = {
    "id", "dataset", "messages", "prompt", "chosen", "rejected", "split", "task", "expected", "document", "documents",
    "origin", "metadata",
}  # fmt: skip
_MAX_TASK = 50


@dataclass(frozen=True, slots=True)
class Line:
    """One line, checked.

    :param split: None: not said.
    :param dataset: id of the dataset that it was exported from.
    """

    place: str
    conversation: Conversation
    split: Split | None
    dataset: int | None


def read_conversations(path: str, kind: Kind) -> list[Line]:
    """All lines of a file, plain or gzipped; blank lines are skipped.

    :raises BadData: it holds none, or some are malformed: each by its number, with what is wrong.
    """
    lines: list[Line] = []
    wrong: list[tuple[str, str]] = []
    fix = ""
    for number, text in numbered_lines(path):
        try:
            lines.append(_line(text, f"{path} line {number}", kind))
        except Wrong as error:
            what, right = error.args
            wrong.append((f"line {number}", what))
            fix = fix or right
    if wrong:
        named = "; ".join(f"{place}: {what}" for place, what in wrong[:NAMED]) + (" …" if len(wrong) > NAMED else "")
        raise BadData(f"{path}: {len(wrong)} of {len(lines) + len(wrong)} conversations are malformed", named, fix)
    if not lines:
        raise BadData(path, "it holds no conversations", f"A line is {LINE if kind == 'conversations' else PREFERENCE}")
    return lines


def kind_of_file(path: str) -> Kind | None:
    """What the first line of a file holds; None: neither messages nor a choice, so perhaps pairs."""
    for _, text in numbered_lines(path):
        try:
            row = json_object(text, LINE)
        except Wrong:
            return None
        if "rejected" in row or "chosen" in row:
            return "preferences"
        return "conversations" if "messages" in row else None
    return None


def as_line(row: Conversation, dataset: int) -> dict[str, Any]:
    """A row as :func:`read_conversations` takes it; what is not known is left out."""
    line = {
        "dataset": dataset, "split": row.split, "task": row.task, "origin": row.origin, "messages": list(row.messages),
        "rejected": row.rejected, "expected": row.expected, "document": row.uri,
        "documents": list(row.documents) or None, "metadata": dict(row.metadata) or None,
    }  # fmt: skip
    if row.rejected is not None:
        line |= {"messages": row.prompt, "chosen": row.answer}
    return {key: value for key, value in line.items() if value is not None}


def lines_of(rows: Iterable[Conversation], dataset: int) -> Iterator[dict[str, Any]]:
    """Every row as a line."""
    return (as_line(row, dataset) for row in rows)


def _line(text: str, place: str, kind: Kind) -> Line:
    row = json_object(text, LINE)
    known(row, _KEYS, "the line")
    split, origin, dataset = row.get("split"), row.get("origin", "imported"), row.get("dataset")
    if split not in (None, *SPLITS):
        raise Wrong(f"split is {split!r}", f"Write one of {', '.join(SPLITS)}, or leave it out")
    if origin not in ORIGINS:
        raise Wrong(f"origin is {origin!r}", f"Write one of {', '.join(ORIGINS)}, or leave it out")
    if dataset is not None and (isinstance(dataset, bool) or not isinstance(dataset, int)):
        raise Wrong(f"dataset is {dataset!r}", "Leave the number as it was exported, or leave it out")
    messages, rejected = _preference(row) if kind == "preferences" else (_conversation(row), None)
    facts = _facts(row)
    expected = _expected(row, facts)
    uri, documents = _documents(row)
    task = _task(row.get("task"), "imported" if expected is None else "exact")
    made = Conversation(messages, rejected, split or "train", task, expected, uri, origin, facts, documents)
    return Line(place, made, split, dataset)


def _conversation(row: dict[str, Any]) -> tuple[dict[str, str], ...]:
    if "rejected" in row or "chosen" in row:
        raise Wrong("it has an answer beside another, which is a preference", "Import the file with the kind preferences")
    if "prompt" in row:
        raise Wrong("it has a prompt, and no messages", f"Write {LINE}")
    return _messages(row.get("messages"), "messages", ends="assistant")


def _preference(row: dict[str, Any]) -> tuple[tuple[dict[str, str], ...], str]:
    """Prompt and answer of the better one, and the text of the other; in any of the shapes that trl reads."""
    if "rejected" not in row:
        raise Wrong("rejected is missing", f"Write {PREFERENCE}")
    given = row.get("messages", row.get("prompt"))
    if "chosen" not in row:  # the last of the messages is the better answer
        whole = _messages(given, "messages", ends="assistant")
        prompt, chosen = whole[:-1], whole[-1]["content"]
        return whole, _differs(chosen, _answer(row["rejected"], "rejected", prompt))
    if given is None:  # both are whole conversations, with the same beginning
        whole = _messages(row["chosen"], "chosen", ends="assistant")
        prompt, chosen = whole[:-1], whole[-1]["content"]
    else:
        asked = [{"role": "user", "content": given}] if isinstance(given, str) else given
        prompt = _messages(asked, "messages" if "messages" in row else "prompt", ends="user")
        chosen = _answer(row["chosen"], "chosen", prompt)
    rejected = _differs(chosen, _answer(row["rejected"], "rejected", prompt))
    return (*prompt, {"role": "assistant", "content": chosen}), rejected


def _answer(value: Any, where: str, prompt: tuple[dict[str, str], ...]) -> str:
    """The text of an answer, given as such, as its message, or at the end of the whole conversation."""
    if not isinstance(value, list):
        return storable(value, where, PREFERENCE)
    if len(value) == 1:
        value = [*prompt, *value]
    whole = _messages(value, where, ends="assistant")
    if whole[:-1] != prompt:
        raise Wrong(f"{where} answers other messages", "chosen and rejected answer the same ones: write their texts alone")
    return whole[-1]["content"]


def _differs(chosen: str, rejected: str) -> str:
    if chosen.strip() == rejected.strip():
        raise Wrong("chosen and rejected are the same", "Remove the line: nothing is to be preferred")
    return rejected


def _messages(value: Any, where: str, *, ends: str) -> tuple[dict[str, str], ...]:
    """Checked: system first if at all, then user and assistant in turn; chat templates refuse anything else."""
    if not isinstance(value, list) or not value:
        raise Wrong(f"{where} is missing or no list", f"Write {LINE}")
    messages = tuple(_message(one, f"message {number}") for number, one in enumerate(value, 1))
    roles = [one["role"] for one in messages]
    said = roles[1:] if roles[0] == "system" else roles
    expected = ["user" if n % 2 == 0 else "assistant" for n in range(len(said))]
    if said != expected or not said:
        raise Wrong(f"{where} goes {', '.join(roles)}", "Write system first or not at all, then user and assistant in turn")
    if roles[-1] != ends:
        right = "End with what the assistant says" if ends == "assistant" else "End with what the user says"
        raise Wrong(f"{where} ends with {roles[-1]}", right)
    return messages


def _message(one: Any, where: str) -> dict[str, str]:
    if not isinstance(one, dict):
        raise Wrong(f"{where} is not a JSON object", f"Write {LINE}")
    if one.get("role") not in ROLES:
        raise Wrong(f"{where} has the role {one.get('role')!r}", f"Write one of {', '.join(ROLES)}; tools are not learned")
    known(one, {"role", "content"}, where)
    return {"role": one["role"], "content": storable(one.get("content"), f"content of {where}", LINE)}


def _facts(row: dict[str, Any]) -> dict[str, Any]:
    facts = metadata(row.get("metadata"))
    for passage in facts.get(PASSAGES, []) if isinstance(facts.get(PASSAGES, []), list) else [None]:
        if not isinstance(passage, dict) or not isinstance(passage.get("document"), str):
            raise Wrong(f"metadata.{PASSAGES} is not as an export has it", "Leave it as it was exported, or leave it out")
        span(passage.get("start"), passage.get("end"), f"metadata.{PASSAGES}")
    return {**facts, "id": row["id"]} if isinstance(row.get("id"), str | int) else facts


def _expected(row: dict[str, Any], facts: dict[str, Any]) -> str | None:
    value = row.get("expected", facts.get(FINAL_ANSWER))
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    return None if value is None else storable(value, "expected", '"expected": "…"')


def _documents(row: dict[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    uri = None if row.get("document") is None else storable(row["document"], "document", '"document": "…"')
    shown = row.get("documents", [uri] if uri else [])
    if not isinstance(shown, list):
        raise Wrong("documents is no list", 'Write "documents": ["…"]')
    return uri, tuple(dict.fromkeys(storable(one, "documents", '"documents": ["…"]') for one in shown))


def _task(value: Any, default: str) -> str:
    if value is None:
        return default
    if not isinstance(value, str) or not value.strip() or len(value) > _MAX_TASK:
        raise Wrong(f"task is {value!r}", f"Write a word of at most {_MAX_TASK} characters")
    return storable(value.strip(), "task", '"task": "…"')
