"""Prompts are files: include/prompts/NAME.md, in parts headed `# system`, `# user` and `# abstention`.

A prompt's version is the hash of its content, so that an answer's passport names exactly what was asked.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.config import PROJECT_ROOT
from include.errors import BadConfiguration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

FOLDER = PROJECT_ROOT / "include" / "prompts"
PLACEHOLDERS = {"system": {"boundary", "abstention"}, "user": {"passages", "question", "boundary"}, "abstention": set[str]()}
REQUIRED = {"system": {"boundary", "abstention"}, "user": {"passages", "question"}, "abstention": set[str]()}

_PART = re.compile(r"^# (\w+)\n", re.MULTILINE)
_PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt.

    :param version: first twelve hexadecimal digits of the SHA-256 of the file.
    :param abstention: what is said when the passages do not hold the answer, in the prompt's language.
    """

    name: str
    version: str
    system: str
    user: str
    abstention: str

    def messages(self, question: str, passages: Sequence[tuple[str, str]], boundary: str | None = None) -> list[dict[str, str]]:
        """System and user message.

        :param passages: (document, text), numbered from 1.
        :param boundary: marks passages off; random for each call, so that no document can close its own mark.
        """
        boundary = boundary or _boundary(passages)
        shown = "\n\n".join(_delimited(n, document, text, boundary) for n, (document, text) in enumerate(passages, 1))
        values = {"boundary": boundary, "abstention": self.abstention, "passages": shown, "question": question}
        return [
            {"role": role, "content": _filled(text, values)} for role, text in (("system", self.system), ("user", self.user))
        ]

    def is_abstention(self, text: str) -> bool:
        """Whether an LLM's text begins with the agreed sentence, give or take quotation marks, case and citations."""
        said, agreed = _plain(text), _plain(self.abstention)
        return said.startswith(agreed)

    def is_abstention_alone(self, text: str) -> bool:
        """Whether it is that sentence and nothing more: what follows it would be made up."""
        return _plain(text) == _plain(self.abstention)


def load_prompt(name: str, folder: Path = FOLDER) -> Prompt:
    """Read a prompt.

    :raises BadConfiguration: it does not exist, or a part or placeholder is missing or unknown.
    """
    path = folder / f"{name}.md"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        known = prompt_names(folder)
        close = difflib.get_close_matches(name, known, n=1)
        fix = f"Did you mean {close[0]}?" if close else f"Known are {', '.join(known)}"
        raise BadConfiguration(f"answers.prompt: {name!r}", f"{path} does not exist", fix) from None
    parts = _PART.split(content.decode("utf-8"))
    found = {part: text.strip() for part, text in zip(parts[1::2], parts[2::2], strict=True)}
    for part, known_here in PLACEHOLDERS.items():
        _check(path, part, found.get(part, ""), known_here)
    return Prompt(name, hashlib.sha256(content).hexdigest()[:12], found["system"], found["user"], found["abstention"])


def prompt_names(folder: Path = FOLDER) -> list[str]:
    """Every prompt there is."""
    return sorted(path.stem for path in folder.glob("*.md"))


def _check(path: Path, part: str, text: str, known: set[str]) -> None:
    if not text:
        raise BadConfiguration(
            str(path), f"there is no part '# {part}'", "A prompt has '# system', '# user' and '# abstention'"
        )
    used = set(_PLACEHOLDER.findall(text))
    if wrong := sorted(used - known):
        raise BadConfiguration(str(path), f"# {part} has the unknown placeholder {{{{{wrong[0]}}}}}", f"Known: {sorted(known)}")
    if missing := sorted(REQUIRED[part] - used):
        raise BadConfiguration(str(path), f"# {part} lacks {{{{{missing[0]}}}}}", "Without it the answer cannot be grounded")


def _boundary(passages: Sequence[tuple[str, str]]) -> str:
    while True:
        boundary = secrets.token_hex(8)
        if not any(boundary in document or boundary in text for document, text in passages):
            return boundary


def _delimited(number: int, document: str, text: str, boundary: str) -> str:
    name = _SPACE.sub(" ", document).replace('"', "'")[:200]
    return f'<passage-{boundary} number="{number}" document="{name}">\n{text}\n</passage-{boundary}>'


def _filled(template: str, values: Mapping[str, str]) -> str:
    """Once: a placeholder inside a document or a question is text."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)


def _plain(text: str) -> str:
    return _SPACE.sub(" ", re.sub(r"\[[\d,\s]*\]|[\"'“”«»*_.!]", "", text)).strip().casefold()
