"""Questions that an LLM asks of passages, in several styles; whether a passage answers them is looked at later."""

from __future__ import annotations

import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING

from include.datasets.question_prompt import load_question_prompt, read_reply
from include.datasets.questions import Question
from include.errors import BadData, Transient

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from include.answering.llm import LLM, Completion
    from include.datasets.options import DatasetOptions
    from include.datasets.questions import Tally
    from include.progress import Progress
    from include.store.answering_passages import Passage

logger = logging.getLogger(__name__)

TOKENS, TOKENS_A_STYLE = 60, 80  # of a reply
FAILED_AT_MOST, FAILED_SHARE = 3, 0.05  # requests that may fail for good, each after the client's own retries
REQUESTS_A_CLIENT = 4  # in a batch
TRIED = 20  # replies after which nothing readable among them means that the model cannot do it


def ask_llm(
    llm: LLM, passages: Iterable[Passage], options: DatasetOptions, tally: Tally, progress: Progress
) -> Iterator[Question]:
    """Questions for each passage, in the order of the passages; a few requests are under way at once.

    :raises Transient: more than a few requests fail, though each was tried several times.
    :raises BadConfiguration: the endpoint refuses the key, the model or the request.
    :raises BadData: nothing in the first replies can be read.
    """
    prompt = load_question_prompt()
    tally.notes["llm"] = {"model": llm.model, "base_url": llm.base_url, "prompt": {"name": "ask", "version": prompt.version}}
    replies = _Replies(llm.model, options.styles)

    def ask(passage: Passage) -> Completion | Transient:
        messages = prompt.messages(passage.text, options.styles)
        try:
            return llm.complete(messages, TOKENS + TOKENS_A_STYLE * len(options.styles), options.temperature)
        except Transient as error:  # judged with the others: of thousands of requests some fail
            return error

    left = iter(passages)
    try:
        with ThreadPoolExecutor(max_workers=options.llm_clients) as pool:
            while batch := list(islice(left, REQUESTS_A_CLIENT * options.llm_clients)):
                for passage, reply in zip(batch, pool.map(ask, batch), strict=True):
                    progress.advance(1)
                    for style, text in replies.read(reply):
                        yield Question(text, passage.document, passage.start, passage.end, passage, origin="llm", style=style)
    finally:
        tally.drop("unreadable_reply", replies.counts["unreadable"])
        tally.drop("failed_request", replies.counts["failed"])
        tally.notes["llm"] |= {"requests": replies.counts["asked"], "nothing_to_ask": replies.counts["nothing"]}
        tally.notes["llm"] |= replies.usage


class _Replies:
    """Reads replies, counts what comes of them, and gives up when there is no use in going on."""

    def __init__(self, model: str, styles: Sequence[str]) -> None:
        self._model, self._styles = model, styles
        self.counts: Counter[str] = Counter()
        self.usage: Counter[str] = Counter()

    def read(self, reply: Completion | Transient) -> list[tuple[str, str]]:
        """(style, question); none when the request failed or the reply cannot be read.

        :raises Transient: too many requests failed.
        :raises BadData: so many replies, and not one that could be read.
        """
        self.counts["asked"] += 1
        if isinstance(reply, Transient):
            self.counts["failed"] += 1
            logger.warning("a question is left out: %s", reply)
            if self.counts["failed"] > max(FAILED_AT_MOST, FAILED_SHARE * self.counts["asked"]):
                raise reply
            return []
        self.usage.update({key: reply.usage.get(key, 0) for key in ("prompt_tokens", "completion_tokens")})
        found = read_reply(reply.text, self._styles)
        if not found:
            self.counts["unreadable" if found is None else "nothing"] += 1
        if self.counts["unreadable"] >= TRIED and self.counts["unreadable"] == self.counts["asked"] - self.counts["failed"]:
            raise BadData(
                f"{self._model} asked no question in {self.counts['asked']} replies",
                f"the last one begins {reply.text[:80]!r}",
                "Name a model that follows instructions in RAGWORKS_LLM_MODEL, or take the source headings",
            )
        return found or []
