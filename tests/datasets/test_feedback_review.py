"""Feedback from the queue to what judges and what is learned: by verdicts, by a file, by the command; again changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from include.cli.main import main
from include.datasets.options import DatasetOptions
from include.errors import BadData
from include.feedback.lines import read_verdicts, write_queue
from include.feedback.review import Reviewed, Verdict, decided, purpose_of, review
from include.store import golden, query_log, review_queue
from include.store.feedback import Feedback, save_feedback
from include.store.pool import open_pool
from include.store.review_queue import Item
from include.store.traces import TRACES, find
from tests.datasets.conftest import Zoo
from tests.datasets.zoo import write_pages
from tests.support import HashEmbedder, index, query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from include.config import Settings

NOW = datetime(2026, 11, 28, tzinfo=UTC)


@pytest.fixture
def zoo(settings: Settings, documents: Path, collection: Callable[..., str]) -> Iterator[Zoo]:
    """The pages, with vectors that cost nothing: what is found is not the matter here."""
    write_pages(documents)
    index(settings, collection(chunking={"max_tokens": 48}), embedder=HashEmbedder())
    with open_pool(settings) as pool:
        yield Zoo(settings, pool, documents)


def spot(zoo: Zoo, animal: str, words: str) -> dict[str, Any]:
    """Where a sentence of a page stands, as the query log has a result."""
    text = (zoo.folder / f"{animal}.md").read_text()
    start = text.index(words)
    return {"document": f"{animal}.md", "start": start, "end": start + 60, "ordinal": 0, "score": 0.5}


def asked(zoo: Zoo, text: str, shown: list[dict[str, Any]], *, kind: str = "search", cited: tuple[int, ...] = ()) -> UUID:
    """A question of the log with what it was shown; a chat has an answer."""
    with zoo.pool.connection() as connection:
        made = query_log.save_query(
            connection, collection_id=zoo.id, generation_id=1, kind=kind, query=text, embedding=None, passport={},
            results=shown, status="ok", seconds={},
        )  # fmt: skip
        if kind == "chat":
            citations = [{"number": n, **{k: shown[n - 1][k] for k in ("document", "start", "end")}} for n in cited]
            connection.execute(
                "insert into ragworks.answer (id, question, text, abstained, extractive, citations)"
                " values (%s, %s, 'It is so.', false, false, %s)",
                (made, text, json.dumps(citations)),
            )
            for number, one in enumerate(shown, 1):
                connection.execute(
                    "insert into ragworks.answer_source (answer_id, number, uri, ordinal, start_char, end_char, text, score)"
                    " values (%s, %s, %s, 0, %s, %s, 'shown text', 0.5)",
                    (made, number, one["document"], one["start"], one["end"]),
                )
    return made


def judged(zoo: Zoo, query_id: UUID, **said: Any) -> UUID:
    with zoo.pool.connection() as connection:
        return save_feedback(connection, Feedback(query_id, **said))


def take(zoo: Zoo, *verdicts: Verdict) -> Reviewed:
    with zoo.pool.connection() as connection:
        return review(connection, zoo.id, verdicts, by="ada")


def animals(purpose: str, count: int) -> list[str]:
    """Pages whose questions are used so."""
    names = ("otter", "badger", "heron", "falcon", "lynx", "moose", "beaver", "salmon", "turtle", "gecko", "camel", "giraffe")
    found = [name for name in names if purpose_of(f"{name}.md") == purpose]
    assert len(found) >= count
    return found[:count]


def test_what_judges_is_not_learned_from(zoo: Zoo) -> None:
    """Some documents judge; what users disliked is a hard negative of the question, and a pair with the label 0."""
    (judge,), (learn, other) = animals("golden", 1), animals("training", 2)
    wrong, right = spot(zoo, other, "For food the"), spot(zoo, learn, "For food the")
    of_judge = asked(zoo, "meals of it", [wrong, spot(zoo, judge, "For food the")])
    of_learn = asked(zoo, "what does that beast have for dinner", [wrong, right])
    chat = asked(zoo, "who naps where", [spot(zoo, learn, "The "), wrong], kind="chat", cited=(2,))
    one = judged(zoo, of_judge, thumb=-1, document=f"{judge}.md")
    two = judged(zoo, of_learn, thumb=-1, document=f"{learn}.md", start=right["start"], end=right["end"])
    three = judged(zoo, chat, thumb=-1)
    done = take(zoo, *(Verdict(i, accepted=True) for i in (one, two, three)))
    assert done == Reviewed(accepted=3, golden=1)
    assert take(zoo, *(Verdict(i, accepted=True) for i in (one, two, three))) == Reviewed(unchanged=3)
    with zoo.pool.connection() as connection:
        (made,) = golden.golden_queries(connection, zoo.id)
        liked = list(review_queue.disliked(connection, zoo.id))
    assert (made.query, made.origin, made.spans[0].document) == ("meals of it", "feedback", f"{judge}.md")
    place = (wrong["document"], wrong["start"], wrong["end"])
    assert sorted(row[0] for row in liked if row[1:] == place) == sorted(
        ["meals of it", "what does that beast have for dinner", "who naps where"]
    )
    options = DatasetOptions(sources=("feedback",))
    rows = zoo.pairs(zoo.build(options, embedder=HashEmbedder()))
    assert "meals of it" not in {row.query for row in rows}
    labels = {(row.query, row.uri): row.label for row in rows}
    assert labels["what does that beast have for dinner", f"{learn}.md"] == 1
    assert labels["what does that beast have for dinner", f"{other}.md"] == 0
    assert labels["who naps where", f"{other}.md"] == 0
    (pair,) = [row for row in rows if row.label > 0]
    assert (pair.negatives[0].uri, pair.negatives[0].text[:12]) == (f"{other}.md", "## What the ")
    assert len(pair.negatives) <= options.negatives
    assert take(zoo, Verdict(one, accepted=False)) == Reviewed(rejected=1, withdrawn=1)
    with zoo.pool.connection() as connection:
        assert golden.count(connection, zoo.id).queries == 0


def test_out_to_a_file_and_back(zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is exported and imported unchanged changes nothing; what a reviewer wrote is taken; open lines say nothing."""
    (learn,) = animals("training", 1)
    first = judged(zoo, asked(zoo, "one", [spot(zoo, learn, "For food the"), spot(zoo, "yak", "For food the")]), thumb=-1)
    second = judged(zoo, asked(zoo, "two", []), comment="nothing found")
    third = judged(zoo, asked(zoo, "three", []), thumb=1)
    path = tmp_path / "queue.jsonl"

    def export() -> list[dict[str, Any]]:
        with zoo.pool.connection() as connection:
            write_queue(str(path), review_queue.items(connection, zoo.id))
        return [json.loads(line) for line in path.read_text().splitlines()]

    def come_back(lines: list[dict[str, Any]]) -> Reviewed:
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return take(zoo, *read_verdicts(str(path)))

    lines = export()
    assert [(line["question"], line["state"], line["id"]) for line in lines] == [
        ("one", "open", str(first)), ("two", "open", str(second)), ("three", "open", str(third)),
    ]  # fmt: skip
    assert lines[0]["shown"][1]["text"].startswith("For food the yak")
    assert come_back(lines) == Reviewed()
    lines[0] |= {"state": "accepted", "document": f"{learn}.md", "wrong": [2], "purpose": "golden"}
    lines[1] |= {"state": "rejected"}
    assert come_back(lines) == Reviewed(edited=1, rejected=1, golden=1)
    assert come_back(lines) == Reviewed(unchanged=2)
    again = export()
    assert [line["state"] for line in again] == ["edited", "rejected", "open"]
    assert (again[0]["by"], again[0]["wrong"], again[0]["purpose"]) == ("ada", [2], "golden")
    assert come_back(again) == Reviewed(unchanged=2)
    with zoo.pool.connection() as connection:
        assert [row[1] for row in review_queue.disliked(connection, zoo.id)] == ["yak.md"]
        # Forgetting takes the document out of the queue and of what was made of it; numbers of passages stay numbers.
        for trace in TRACES:
            for target in find(connection, zoo.id, f"{learn}.md"):
                trace.erase(connection, target)
        (left,) = review_queue.items(connection, zoo.id, ids=[first])
        assert (left.document, golden.count(connection, zoo.id).queries) == (None, 0)
    assert f"{learn}.md" not in json.dumps(export())
    environment = {"RAGWORKS_DATABASE_URL": zoo.settings.database_url or "", "RAGWORKS_HOME": str(zoo.settings.home)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        assert main(["feedback", "handbook", "--accept", str(third)[:8], "--by", "bo", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"collection": "handbook", **Reviewed(accepted=1).as_dict()}
        assert main(["feedback", "handbook", "--accept", str(third), "--reject", str(third)]) == 65
        assert main(["feedback", "handbook", "--state", "all"]) == 0
        shown = capsys.readouterr().out
    assert "0 open, 1 accepted, 1 rejected, 1 edited" in shown
    assert query(zoo.settings, "select reviewed_by from ragworks.feedback where id = %s", third) == [("bo",)]


WRONG: tuple[tuple[dict[str, Any], str], ...] = (
    ({"id": "x"}, "id is 'x'"),
    ({"state": "fine"}, "state is 'fine'"),
    ({"id": str(uuid4())}, "there is none with the id"),
    ({"start": 3}, "the passage goes from 3 to None"),
    ({"document": None, "start": 3, "end": 9}, "it has a start and no document"),
    ({"document": "nobody.md"}, "the collection holds no document 'nobody.md'"),
    ({"document": "yak.md", "start": 0, "end": 99_999}, "characters 0 to 99999 of yak.md"),
    ({"wrong": [7]}, "wrong names passage 7"),
    ({"wrong": "first"}, "wrong is 'first'"),
    ({"purpose": "fun"}, "purpose is 'fun'"),
    ({"verdict": 1}, "the line has an unknown key 'verdict'"),
)


def test_a_wrong_line_is_named_and_nothing_is_taken(zoo: Zoo, tmp_path: Path) -> None:
    one, two = (judged(zoo, asked(zoo, f"question {n}", []), thumb=-1) for n in range(2))
    path = tmp_path / "queue.jsonl"
    for changed, message in WRONG:
        lines: list[dict[str, Any]] = [{"id": str(one), "state": "accepted"}, {"id": str(two), "state": "accepted", **changed}]
        path.write_text("\n".join(map(json.dumps, lines)))
        with pytest.raises(BadData) as raised:
            take(zoo, *read_verdicts(str(path)))
        assert f"line 2: {message}" in str(raised.value)
    with zoo.pool.connection() as connection:
        assert review_queue.counts(connection, zoo.id)["open"] == 2


ITEM = Item(
    uuid4(), uuid4(), "open", "search", "q", -1, None, None, None, None, None, None, None, None, "", None, NOW
)  # fmt: skip


@pytest.mark.parametrize(
    ("before", "verdict", "after"),
    [
        ({}, {"accepted": True}, {"state": "accepted", "by": "ada"}),
        ({}, {"accepted": False}, {"state": "rejected", "by": "ada"}),
        ({"state": "rejected", "by": "bo"}, {"accepted": False}, {"state": "rejected", "by": "bo"}),
        ({"state": "rejected"}, {"accepted": True}, {"state": "accepted"}),
        ({"state": "edited", "answer": "a"}, {"accepted": True}, {"state": "edited", "answer": "a", "by": ""}),
        ({}, {"accepted": True, "correction": {"answer": "so"}}, {"state": "edited", "answer": "so"}),
        ({"document": "d", "start": 1, "end": 2}, {"accepted": True, "correction": {"document": "e"}},
         {"document": "e", "start": None, "state": "edited"}),
        ({"document": "d"}, {"accepted": True, "correction": {"purpose": "golden"}}, {"state": "accepted"}),
        ({"document": "d", "purpose": "golden"}, {"accepted": True, "correction": {"document": None}}, {"purpose": None}),
    ],
)  # fmt: skip
def test_verdicts(before: dict[str, Any], verdict: dict[str, Any], after: dict[str, Any]) -> None:
    item = replace(ITEM, **before)
    found = decided(item, Verdict(item.id, **verdict), "ada")
    assert {key: getattr(found, key) for key in after} == after
    assert decided(found, Verdict(item.id, **verdict), "cy") == found


def test_three_of_ten_documents_judge() -> None:
    purposes = [purpose_of(f"page {n}") for n in range(2000)]
    assert 0.26 < purposes.count("golden") / 2000 < 0.34
