"""Conversations of what users said and a person accepted: an answer they liked, or what would have been right.

With a correction the answer it corrects is known to be the worse one: a preference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.answering import citations
from include.datasets.conversations.drafts import Draft
from include.datasets.filters import normalised
from include.guardrails.groundedness import BORNE_OUT, support
from include.store import answering_passages, answers
from include.store.answering_passages import Passage
from include.store.reviewed import reviewed

if TYPE_CHECKING:
    from include.answering.prompts import Prompt
    from include.datasets.questions import Tally
    from include.store.pool import Connection
    from include.store.reviewed import Reviewed

TASK = "feedback"


def feedback_drafts(
    connection: Connection, collection: int, prompt: Prompt, *, preferences: bool, language: str | None, tally: Tally
) -> tuple[list[Draft], dict[str, Reviewed]]:
    """A draft for each judged answer whose passages are kept; of those that say the same, the first.

    :param preferences: only corrections, with the answer they correct.
    :return: the drafts, and by normalised question the corrections whose passage is yet to be looked up: nothing was
        answered, or the right document was not among what was shown.
    """
    drafts: dict[tuple[str, str, str], Draft] = {}
    elsewhere: dict[str, Reviewed] = {}
    found = reviewed(connection, collection)
    tally.notes["feedback"] = len(found)
    for one in found:
        passages = _shown(connection, one)
        if passages is None and one.said is not None:
            tally.drop("passages_not_kept")
            continue
        if one.correction is not None and (one.said is None or _is_elsewhere(one, passages or [])):
            if one.document is None:
                tally.drop("not_in_passages")
            else:
                elsewhere[normalised(one.question)] = one
            continue
        draft = _draft(connection, collection, one, passages or [], prompt, preferences, language, tally)
        if draft is not None:
            key = (normalised(draft.question), normalised(draft.answer), normalised(draft.rejected or ""))
            if key in drafts:
                tally.drop("duplicate")
            drafts.setdefault(key, draft)
    return list(drafts.values()), elsewhere


def _shown(connection: Connection, one: Reviewed) -> list[Passage] | None:
    """The passages of the judged answer; None: their texts are not kept."""
    stored = answers.load_answer(connection, one.query_id) if one.said is not None else None
    if stored is None or any(source.text is None for source in stored.sources):
        return None
    sources = sorted(stored.sources, key=lambda source: source.number)
    return [Passage(s.document, s.start, s.end, s.text or "") for s in sources]


def _is_elsewhere(one: Reviewed, passages: list[Passage]) -> bool:
    """Whether the right answer stands in a document that was not shown, and nobody said at which characters."""
    return one.document is not None and one.start is None and all(p.document != one.document for p in passages)


def _draft(
    connection: Connection,
    collection: int,
    one: Reviewed,
    passages: list[Passage],
    prompt: Prompt,
    preferences: bool,
    language: str | None,
    tally: Tally,
) -> Draft | None:
    if one.correction is None:
        if preferences:
            return None
        return _liked(one, passages, prompt, tally)
    named = _named(connection, collection, one)
    if named is not None and not any(_same_place(named, passage) for passage in passages):
        passages.append(named)
    return _corrected(one, passages, prompt, preferences, language, tally)


def _liked(one: Reviewed, passages: list[Passage], prompt: Prompt, tally: Tally) -> Draft | None:
    said = one.said or ""
    cited = frozenset(n for n in citations.numbers(said) if n <= len(passages))
    if not cited and not prompt.is_abstention(said):
        tally.drop("no_citation")
        return None
    return Draft(one.question, tuple(passages), said, cited, TASK, "feedback")


def _corrected(
    one: Reviewed, passages: list[Passage], prompt: Prompt, preferences: bool, language: str | None, tally: Tally
) -> Draft | None:
    """The correction, citing what bears it out; a worse answer is there where preferences are asked for."""
    correction = one.correction or ""
    answer, cited = _with_citations(correction, one, passages, prompt, language)
    if not cited and not prompt.is_abstention(correction):
        tally.drop("not_in_passages")
        return None
    if not preferences:
        return Draft(one.question, tuple(passages), answer, cited, TASK, "feedback")
    if one.thumb == 1 or normalised(citations.without(one.said or "")) == normalised(citations.without(answer)):
        tally.drop("nothing_rejected")
        return None
    return Draft(one.question, tuple(passages), answer, cited, TASK, "feedback", one.said)


def _with_citations(
    correction: str, one: Reviewed, passages: list[Passage], prompt: Prompt, language: str | None
) -> tuple[str, frozenset[int]]:
    """A person writes no numbers: those of the named document, else of the passage that says most of it."""
    if prompt.is_abstention(correction):
        return correction, frozenset()
    written = frozenset(n for n in citations.numbers(correction) if n <= len(passages))
    if written:
        return citations.clean(correction, len(passages), set()), written
    plain = citations.without(correction)
    scored = [
        ((passage.document == one.document) + support(plain, passage.text, language), -number)
        for number, passage in enumerate(passages, 1)
    ]
    best = max(scored, default=(0.0, 0))
    if best[0] < BORNE_OUT:
        return plain, frozenset()
    return f"{plain} [{-best[1]}]", frozenset({-best[1]})


def _named(connection: Connection, collection: int, one: Reviewed) -> Passage | None:
    """The characters that the person who corrected named."""
    if one.document is None or one.start is None or one.end is None:
        return None
    text = answering_passages.stored_text(connection, collection, one.document, one.start, one.end)
    return Passage(one.document, one.start, one.end, text) if text and text.strip() else None


def _same_place(left: Passage, right: Passage) -> bool:
    if left.document != right.document or None in (left.start, left.end, right.start, right.end):
        return False
    return min(left.end or 0, right.end or 0) > max(left.start or 0, right.start or 0)
