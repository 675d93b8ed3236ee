"""Questions that people asked: judged files in the BEIR layout, accepted feedback, files of pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.datasets.lines import read_lines
from include.datasets.questions import Question
from include.errors import BadData
from include.evaluation.checked_lines import Wrong
from include.evaluation.checked_lines import metadata as checked_metadata
from include.evaluation.judgements import read_qrels, read_query_rows
from include.store import evaluations, feedback, review_queue
from include.store.answering_passages import Passage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.datasets.lines import Line
    from include.datasets.questions import Tally
    from include.store.pool import Connection

TOO_MANY_MISSING = 0.5  # share of judged documents that are not in the index, from which something is wrong with the ids


def from_qrels(queries_path: str, qrels_path: str, held: frozenset[str] | set[str], tally: Tally) -> Iterator[Question]:
    """A question for each judgement; those of grade 0 and below say that the document does not answer.

    :param held: documents of the live index; judgements of others are counted and left out.
    :raises BadData: a file is wrong or empty, the two do not fit each other, or most documents are unknown.
    """
    queries, qrels = read_query_rows(queries_path), read_qrels(qrels_path)
    if not qrels:
        raise BadData(qrels_path, "it holds no judgements", "Write query-id<TAB>corpus-id<TAB>score")
    judged = [(query, document, grade) for query, grades in qrels.items() for document, grade in grades.items()]
    asked = [(query, document, grade) for query, document, grade in judged if query in queries]
    if not asked:
        raise BadData(qrels_path, f"none of its queries is in {queries_path}", "Check that both files use the same query ids")
    tally.drop("unknown_query", len(judged) - len(asked))
    there = [(query, document, grade) for query, document, grade in asked if document in held]
    _enough_documents(qrels_path, [document for _, document, _ in asked if document not in held], len(asked))
    tally.drop("unknown_document", len(asked) - len(there))
    for query, document, grade in there:
        text, metadata = queries[query]
        yield Question(text, document, label=float(grade > 0), metadata=_storable(metadata, queries_path, query))


def _storable(metadata: dict[str, Any], path: str, query: str) -> dict[str, Any]:
    try:
        return checked_metadata(metadata)
    except Wrong as error:
        raise error.at(f"{path}, query {query!r}") from None


def _enough_documents(path: str, missing: list[str], of: int) -> None:
    if len(missing) > TOO_MANY_MISSING * of:
        raise BadData(
            path,
            f"{len(missing)} of {of} judgements name documents that the live index does not hold, such as {missing[0]!r}",
            "Give the documents' uris as `ragworks export` shows them, or index the collection first",
        )


def from_feedback(connection: Connection, collection: int, tally: Tally) -> Iterator[Question]:
    """What users said and a person accepted: a better document, or a thumb up for an answer, whose citations then count.

    A thumb up for a search says not which of its results was meant, so it gives nothing. Passages that do not answer, as a
    reviewer or a thumb down says, follow with the label 0, where nobody says of the same question that they do.
    """
    better = evaluations.accepted_feedback(connection, collection)
    praised = feedback.praised_citations(connection, collection)
    tally.notes["feedback"] = len(better) + len(praised)
    for query in better:
        for span in query.spans:
            yield Question(query.query, span.document, span.start, span.end, origin="feedback")
    for text, document, start, end in praised:
        yield Question(text, document, start, end, origin="feedback")
    right = {(query.query, span.document) for query in better for span in query.spans} | {row[:2] for row in praised}
    wrong = [row for row in review_queue.disliked(connection, collection) if row[:2] not in right]
    tally.notes["disliked"] = len(wrong)
    for text, document, start, end in wrong:
        yield Question(text, document, start, end, label=0.0, origin="feedback")


def from_file(path: str, held: frozenset[str] | set[str], tally: Tally) -> Iterator[Question]:
    """Pairs of a file; a line without a text takes the best passage of its document.

    :raises BadData: with file, line, what is wrong and what is right.
    """
    for line in read_lines(path):
        if line.positive is None and line.document not in held:
            tally.drop("unknown_document")
        else:
            yield _question(line)


def _question(line: Line) -> Question:
    passage = None if line.positive is None else Passage(line.document, line.start, line.end, line.positive)
    return Question(
        line.query, line.document, line.start, line.end, passage, line.label, "imported", line.style, line.metadata,
        line.negatives or None,
    )  # fmt: skip
