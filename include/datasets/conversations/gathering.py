"""What a set of conversations may be made of, from every source, before anybody knows on which side it stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from include.answering.prompts import load_prompt
from include.datasets.build import Build, Found, belongs_to
from include.datasets.conversations.drafts import text_keys
from include.datasets.conversations.feedback import feedback_drafts
from include.datasets.conversations.held_out import asked
from include.datasets.conversations.lines import read_conversations
from include.datasets.filters import normalised
from include.datasets.kept_out import Barred
from include.datasets.options import DatasetOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from include.collection_file import Collection
    from include.config import Settings
    from include.datasets.conversations.drafts import Draft
    from include.datasets.conversations.held_out import GoldenTexts
    from include.datasets.conversations.options import LlmDataOptions, Source
    from include.datasets.live_index import LiveIndex
    from include.datasets.questions import Question, Tally
    from include.store.conversations import Conversation
    from include.store.datasets import Split
    from include.store.reviewed import Reviewed

_SHARED = (  # options that mean the same for pairs
    "queries", "qrels", "made_rows", "styles", "llm_clients", "temperature", "round_trip", "golden", "seed",
)  # fmt: skip
_MOST = 200_000  # pairs that the questions may be: the limit of conversations is applied later


@dataclass(frozen=True, slots=True)
class Item:
    """One conversation to be: a question whose answer is yet to come, a draft, or a finished one of a file.

    :param asked: all that users say in it: the question, of a file's conversation the questions before it too.
    :param keys: by which it belongs together with others; what is asked is compared besides.
    :param documents: those that answer it.
    :param given: the side that a file gives it.
    """

    source: Question | Draft | Conversation
    question: str
    asked: str
    keys: tuple[str, ...]
    documents: frozenset[str]
    given: Split | None = None


@dataclass(frozen=True, slots=True)
class Gathered:
    """All of them.

    :param known: normalised question → documents that answer it.
    :param corrections: normalised question → the answer that a person gave, for questions of the index.
    """

    items: list[Item]
    known: dict[str, frozenset[str]] = field(default_factory=dict)
    corrections: dict[str, Reviewed] = field(default_factory=dict)


def sources_of(options: LlmDataOptions) -> tuple[Source, ...]:
    """The sources that are named, or those that there are."""
    if options.sources:
        return options.sources
    if options.kind == "preferences":
        return ("file", "feedback") if options.file else ("feedback",)
    return ("file" if options.file else "grounded", "feedback")


@dataclass(frozen=True, slots=True)
class Gathering:
    """One collection's sources.

    :param tally: what was left out is counted here.
    """

    settings: Settings
    index: LiveIndex
    config: Collection
    options: LlmDataOptions
    golden: GoldenTexts
    tally: Tally

    def gather(self) -> Gathered:
        """Everything, without what judges."""
        sources = sources_of(self.options)
        self.tally.notes["sources"] = list(sources)
        judges = Barred(self.index, self.golden.documents)
        drafts, corrections = self._feedback(judges) if "feedback" in sources else ([], {})
        found = self._questions(sources)
        answered = {normalised(draft.question) for draft in drafts}
        items = [self._of_question(q) for q in self._worth_learning(found, answered, corrections)]
        items += [self._of_draft(draft) for draft in drafts]
        if "file" in sources:
            items += self._of_lines(judges)
        return Gathered(items, found.known, corrections)

    def _feedback(self, judges: Barred) -> tuple[list[Draft], dict[str, Reviewed]]:
        with self.index.pool.connection() as connection:
            drafts, corrections = feedback_drafts(
                connection, self.index.collection, load_prompt(self.config.answers.prompt),
                preferences=self.options.kind == "preferences", language=self.config.lexical.language, tally=self.tally,
            )  # fmt: skip
        out = judges.among({uri for draft in drafts for uri in draft.documents})
        kept = []
        for draft in drafts:
            if self.golden.questions.match(draft.question):
                self.tally.drop("golden_question")
            elif out & set(draft.documents):
                self.tally.drop("golden_document")
            else:
                kept.append(draft)
        return kept, corrections

    def _questions(self, sources: Sequence[Source]) -> Found:
        """Questions about the collection with the passages that answer them, as pairs have them."""
        wanted = [self._asks()] if "grounded" in sources else []
        if "feedback" in sources:
            wanted.append("feedback")
        if not wanted:
            return Found([], Barred(self.index, ()), {})
        shared = {name: getattr(self.options, name) for name in _SHARED}
        values: dict[str, Any] = {**shared, "sources": tuple(wanted), "max_rows": _MOST}
        return Build(self.index, DatasetOptions(**values), self.golden.golden).find(self.settings, self.tally)

    def _asks(self) -> str:
        if self.options.questions != "auto":
            return self.options.questions
        if self.options.qrels:
            return "qrels"
        return "llm" if self.settings.llm_base_url else "headings"

    def _worth_learning(self, found: Found, answered: set[str], corrections: dict[str, Reviewed]) -> Iterator[Question]:
        """Those that something answers, that feedback has not answered already, and that nobody judges by."""
        for question in found.questions:
            key = normalised(question.query)
            corrected = corrections.get(key)
            if question.label <= 0:
                self.tally.drop("judged_wrong")
            elif self.golden.questions.match(question.query):
                self.tally.drop("golden_question")
            elif self.options.kind == "preferences" and (corrected is None or corrected.said is None or corrected.thumb == 1):
                continue  # nothing was said that is worse
            elif key not in answered:
                yield question

    def _of_question(self, question: Question) -> Item:
        keys = belongs_to(self.index, question)
        return Item(question, question.query, question.query, keys, frozenset((question.document,)))

    def _of_draft(self, draft: Draft) -> Item:
        abstains = load_prompt(self.config.answers.prompt).is_abstention(draft.answer)
        keys = (*self._groups(draft.documents), *text_keys(draft.question, draft.answer, abstains=abstains))
        return Item(draft, draft.question, draft.question, keys, frozenset(draft.documents))

    def _of_lines(self, judges: Barred) -> Iterator[Item]:
        """Conversations of the file that may be learned, with the sides it gives them."""
        self.index.progress.step("read conversations", None)
        lines = read_conversations(self.options.file or "", self.options.kind)
        barred = judges.among({uri for line in lines for uri in line.conversation.named})
        seen: set[tuple[str, str, str]] = set()
        for line in lines:
            row = line.conversation
            key = (repr(row.prompt), normalised(row.answer), normalised(row.rejected or ""))
            if reason := self.golden.reason(row) or ("golden_document" if barred & set(row.named) else None):
                self.tally.drop(reason)
            elif key in seen:
                self.tally.drop("duplicate")
            else:
                seen.add(key)
                keys = (*self._groups(row.named), *text_keys(row.question, row.answer))
                yield Item(row, row.question, asked(row), keys, frozenset(row.named), line.split)

    def _groups(self, documents: Sequence[str]) -> Iterator[str]:
        return (f"d {self.index.groups.of(uri)}" for uri in documents)
