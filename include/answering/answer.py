"""Answers a question from passages: grounded in them, with citations, or not at all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from include.answering import citations
from include.answering.confidence import confidence
from include.answering.extractive import extract
from include.answering.prompts import Prompt, load_prompt
from include.answering.quotes import Citation, cite
from include.answering.reading import Reading, read
from include.guardrails.groundedness import claims, groundedness
from include.guardrails.injection import find_instructions, without_invisible
from include.guardrails.personal import scrub

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from include.answering.llm import LLM
    from include.collection_file import Collection
    from include.embedding.embedder import Embedder
    from include.store.search import Hit


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said to a question, and what it rests on.

    :param citations: each exists among ``sources``.
    :param sources: the passages it could rest on; number 1 is the first.
    :param abstained: it says that the documents do not hold the answer.
    :param extractive: sentences of the passages as they stand, because no LLM is set.
    :param confidence: that the passages hold the answer, 0 to 1.
    :param groundedness: share of its sentences that their citations bear out; None when it abstained.
    :param flags: what to know before trusting it; docs/answers.md lists them.
    :param passport: prompt {name, version}; llm {model, base_url}, of a champion also its version, base and adapter, None when
        none was asked; confidence: the formula.
    """

    question: str
    text: str
    citations: tuple[Citation, ...]
    sources: tuple[Hit, ...]
    abstained: bool
    extractive: bool
    confidence: float
    groundedness: float | None
    flags: tuple[str, ...]
    passport: dict[str, Any]


def answer(
    question: str, hits: Sequence[Hit], collection: Collection, llm: LLM | None, *, embedder: Embedder | None = None
) -> Answer:
    """Answer from the first ``answers.passages`` hits.

    :param question: as :func:`include.guardrails.questions.admit` let it in.
    :param llm: None: the answer is extracted.
    :param embedder: the collection's; makes confidence and the choice of sentences surer.
    :raises ServiceUnavailable: the LLM does not answer; see :class:`include.answering.llm.LLM` for its other errors.
    """
    prepared = _prepare(question, hits, collection, llm, embedder)
    if not prepared.asks:
        return prepared.without_llm()
    settings = collection.answers
    done = prepared.llm.complete(prepared.messages(), settings.max_tokens, settings.temperature)
    unknown: set[int] = set()
    text = citations.clean(done.text.strip(), len(prepared.sources), unknown)
    return prepared.written(text, unknown, ("truncated",) if done.truncated else ())


class AnswerStream:
    """The text of an answer piece by piece, then the answer. What was shown is exactly its text.

    Where answers are scrubbed of personal data the text comes in one piece: a value could lie across two.
    """

    def __init__(self, prepared: _Prepared) -> None:
        self._answer: Answer | None = None
        self._pieces = self._run(prepared)

    def __iter__(self) -> Iterator[str]:
        return self._pieces

    @property
    def answer(self) -> Answer:
        """The finished answer; what is still to come is read first."""
        for _ in self._pieces:
            pass
        if self._answer is None:
            raise RuntimeError("the stream of this answer broke off")  # the caller had the error that broke it
        return self._answer

    def close(self) -> None:
        """Stop the LLM: nobody listens any more."""
        self._pieces.close()

    def _run(self, prepared: _Prepared) -> Generator[str]:
        if not prepared.asks:
            self._answer = prepared.without_llm()
            yield self._answer.text
            return
        settings, unknown, said = prepared.collection.answers, set[int](), []
        pieces = prepared.llm.stream(prepared.messages(), settings.max_tokens, settings.temperature)
        whole = bool(prepared.collection.guardrails.scrub_answers)
        try:
            for piece in citations.clean_stream(_stripped(pieces), len(prepared.sources), unknown):
                said.append(piece)
                if not whole:
                    yield piece
        finally:
            pieces.close()
        self._answer = prepared.written("".join(said), unknown, ())
        if whole:
            yield self._answer.text


def stream(
    question: str, hits: Sequence[Hit], collection: Collection, llm: LLM | None, *, embedder: Embedder | None = None
) -> AnswerStream:
    """As :func:`answer`, as it is written; errors of the LLM come out of the iteration."""
    return AnswerStream(_prepare(question, hits, collection, llm, embedder))


@dataclass(frozen=True, slots=True)
class _Prepared:
    """All that is known before an LLM is asked."""

    question: str
    collection: Collection
    prompt: Prompt
    sources: tuple[Hit, ...]
    reading: Reading
    confidence: float
    formula: str
    flags: tuple[str, ...]
    llm_or_none: LLM | None
    embedder: Embedder | None

    @property
    def asks(self) -> bool:
        """Whether the LLM is asked: not when there is none, and not when the passages hold nothing."""
        return self.llm_or_none is not None and self._worthwhile

    @property
    def llm(self) -> LLM:
        if self.llm_or_none is None:
            raise RuntimeError("no LLM is set")
        return self.llm_or_none

    @property
    def _worthwhile(self) -> bool:
        return bool(self.sources) and self.confidence >= self.collection.answers.abstain_below

    def messages(self) -> list[dict[str, str]]:
        as_written = self.collection.guardrails.injection == "ignore"
        shown = [(h.document, h.text if as_written else without_invisible(h.text)) for h in self.sources]
        return self.prompt.messages(self.question, shown)

    def without_llm(self) -> Answer:
        if not self._worthwhile:
            why = "low_confidence" if self.sources else "nothing_found"
            return self._done(self.prompt.abstention, (), None, (why,), abstained=True)
        chosen = sorted(extract(self.reading), key=lambda s: (s.source, s.start))
        # Footnotes of the document would be taken for citations of the answer.
        text = " ".join(f"{' '.join(citations.without(s.text).split())} [{s.source + 1}]" for s in chosen)
        cited = tuple(
            Citation(s.source + 1, hit.document, hit.start + s.start, hit.start + s.end, s.text)
            for s in chosen
            for hit in (self.sources[s.source],)
        )
        return self._done(text, cited, 1.0, ())

    def written(self, text: str, unknown: set[int], flags: tuple[str, ...]) -> Answer:
        """What becomes of the LLM's text."""
        if not text or self.prompt.is_abstention(text):
            why = "llm_abstained" if text else "llm_said_nothing"
            return self._done(text or self.prompt.abstention, (), None, (*flags, why), abstained=True)
        language = self.collection.lexical.language
        said = claims(text, [h.text for h in self.sources], language, self.embedder)
        cited, share = cite(said, self.sources, language), groundedness(said)
        found = {
            "unknown_citation": bool(unknown),
            "no_citation": not cited,
            "ungrounded": share is not None and share < self.collection.guardrails.min_groundedness,
        }
        return self._done(text, cited, share, (*flags, *(flag for flag, is_so in found.items() if is_so)))

    def _done(
        self, text: str, cited: tuple[Citation, ...], share: float | None, flags: tuple[str, ...], *, abstained: bool = False
    ) -> Answer:
        llm = self.llm_or_none
        passport = {
            "prompt": {"name": self.prompt.name, "version": self.prompt.version},
            "llm": llm.facts if llm and self.asks else None,
            "confidence": self.formula,
        }
        made = Answer(
            self.question, text, cited, self.sources, abstained, llm is None, self.confidence, share,
            (*self.flags, *flags), passport,
        )  # fmt: skip
        return _scrubbed(made, self.collection.guardrails.scrub_answers)


def _prepare(
    question: str, hits: Sequence[Hit], collection: Collection, llm: LLM | None, embedder: Embedder | None
) -> _Prepared:
    sources, flags = _guarded(hits[: collection.answers.passages], collection.guardrails.injection)
    reading = read(question, [h.text for h in sources], collection.lexical.language, embedder)
    sure, formula = confidence(reading, collection.embedding.model)
    prompt = load_prompt(collection.answers.prompt)
    return _Prepared(question, collection, prompt, sources, reading, sure, formula, flags, llm, embedder)


def _guarded(hits: Sequence[Hit], mode: str) -> tuple[tuple[Hit, ...], tuple[str, ...]]:
    """The passages, flagged or without those that give orders to a model."""
    if mode == "ignore":
        return tuple(hits), ()
    suspect = [bool(find_instructions(hit.text)) for hit in hits]
    if not any(suspect):
        return tuple(hits), ()
    if mode == "drop":
        return tuple(hit for hit, bad in zip(hits, suspect, strict=True) if not bad), ("injection_dropped",)
    return tuple(hits), ("injection",)


def _scrubbed(made: Answer, kinds: Sequence[str]) -> Answer:
    """Without personal data, in the text, the quotes and the passages; spans stay those of the document."""
    if not kinds:
        return made
    found = False

    def clean(text: str) -> str:
        nonlocal found
        result, some = scrub(text, kinds, "guardrails.scrub_answers")
        found = found or some
        return result

    cleaned = replace(
        made,
        text=clean(made.text),
        citations=tuple(replace(c, quote=clean(c.quote)) for c in made.citations),
        sources=tuple(replace(h, text=clean(h.text)) for h in made.sources),
    )
    return replace(cleaned, flags=(*cleaned.flags, "pii_in_answer")) if found else cleaned


def _stripped(pieces: Iterator[str]) -> Iterator[str]:
    """Without white space at either end."""
    waiting, begun = "", False
    for piece in pieces:
        waiting += piece if begun else piece.lstrip()
        begun = begun or bool(waiting)
        ready = waiting.rstrip()
        if ready:
            yield ready
        waiting = waiting[len(ready) :]
