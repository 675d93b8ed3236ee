"""The prompt that has an LLM ask questions, and what is read out of its reply; the prompt is a file that may be edited."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include.answering.prompts import FOLDER
from include.datasets.options import STYLES
from include.errors import BadConfiguration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

PATH = FOLDER / "questions" / "ask.md"
REQUIRED: dict[str, set[str]] = {"system": {"boundary"}, "user": {"boundary", "passage", "styles"}}
REQUIRED |= {style: set() for style in STYLES}

_PART = re.compile(r"^# (\w+)\n", re.MULTILINE)
_PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_KEYS = ("question", "query", "text")


@dataclass(frozen=True, slots=True)
class QuestionPrompt:
    """The prompt.

    :param version: first twelve hexadecimal digits of the SHA-256 of the file.
    :param styles: what is asked for, by style.
    """

    version: str
    system: str
    user: str
    styles: Mapping[str, str]

    def messages(self, passage: str, styles: Sequence[str], boundary: str | None = None) -> list[dict[str, str]]:
        """System and user message.

        :param boundary: marks the passage off; random for each call, so that no passage can close its own mark.
        """
        mark = boundary or _boundary(passage)
        asked = "\n".join(f"- {style}: {self.styles[style]}" for style in styles)
        values = {"boundary": mark, "passage": passage, "styles": asked}
        return [
            {"role": role, "content": _PLACEHOLDER.sub(lambda match: values[match[1]], text)}
            for role, text in (("system", self.system), ("user", self.user))
        ]


def load_question_prompt(path: Path = PATH) -> QuestionPrompt:
    """Read it.

    :raises BadConfiguration: it is not there, or a part or a placeholder is missing or unknown.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadConfiguration(str(path), error.strerror or "not readable", "Restore the file") from error
    parts = _PART.split(content.decode("utf-8"))
    found = {part: text.strip() for part, text in zip(parts[1::2], parts[2::2], strict=True)}
    for part, placeholders in REQUIRED.items():
        if not found.get(part):
            raise BadConfiguration(str(path), f"there is no part '# {part}'", f"It has the parts {', '.join(REQUIRED)}")
        used = set(_PLACEHOLDER.findall(found[part]))
        if used != placeholders:
            wanted = ", ".join(f"{{{{{name}}}}}" for name in sorted(placeholders)) or "none"
            raise BadConfiguration(str(path), f"# {part} has the placeholders {sorted(used)}", f"It takes: {wanted}")
    version = hashlib.sha256(content).hexdigest()[:12]
    return QuestionPrompt(version, found["system"], found["user"], {style: found[style] for style in STYLES})


def read_reply(reply: str, styles: Sequence[str]) -> list[tuple[str, str]] | None:
    """(style, question) of an LLM's reply, whatever it wrote around the JSON; None: it holds nothing of the kind.

    Of each style that was asked for the first counts. An empty list is an answer: there is nothing to ask.
    """
    for value in _json_values(reply):
        entries = value.get("questions") if isinstance(value, dict) else value
        if isinstance(entries, list):
            read = [found for entry in entries if (found := _entry(entry, styles)) is not None]
            if read or not entries:
                return list({style: (style, question) for style, question in reversed(read)}.values())[::-1]
    return None


def _entry(entry: Any, styles: Sequence[str]) -> tuple[str, str] | None:
    """An object with a style and a question; where one style was asked for, a bare text is of that."""
    if isinstance(entry, str) and len(styles) == 1:
        entry = {"question": entry, "style": styles[0]}
    if not isinstance(entry, dict):
        return None
    text = next((entry[key] for key in _KEYS if isinstance(entry.get(key), str)), "")
    style = entry.get("style", styles[0] if len(styles) == 1 else None)
    plain = " ".join(text.replace("\x00", " ").split())
    return (str(style), plain) if plain and style in styles else None


def _json_values(text: str) -> Iterator[Any]:
    """Every JSON object or list that begins somewhere in the text, in order."""
    decoder, position = json.JSONDecoder(), 0
    while (start := min((i for i in (text.find("{", position), text.find("[", position)) if i >= 0), default=-1)) >= 0:
        try:
            value, position = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            position = start + 1
        else:
            yield value


def _boundary(passage: str) -> str:
    while (boundary := secrets.token_hex(8)) in passage:
        pass
    return boundary
