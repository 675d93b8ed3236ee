"""Datasets made of a real index with the real small model: sources, passages, what is left out, negatives, versions."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from include.datasets.build import build_dataset
from include.datasets.check import check_dataset
from include.datasets.options import DatasetOptions
from include.errors import BadConfiguration, BadData
from include.progress import Silent
from include.store import collections, golden
from include.store.feedback import Feedback, save_feedback
from include.store.golden import GoldenQuery, GoldenSpan
from include.store.pool import open_pool
from tests.datasets.zoo import ANIMALS, page, write_judgements
from tests.support import HashEmbedder, export, index, query

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.config import Settings
    from tests.datasets.conftest import Zoo


def test_judged_questions(zoo: Zoo) -> None:
    """Passages are chunks of the judged documents; negatives are others, below the margin; again is the same version."""
    options = zoo.judged(dev_share=0.2, negatives=3)
    made = zoo.build(options)
    rows = zoo.pairs(made)
    chunks = {(row["document"], row["start"], row["end"]): row["text"] for row in export(zoo.settings, "handbook")}
    assert len(rows) == 3 * len(ANIMALS)
    assert made.statistics["rows"] == {"dev": 18, "train": 72}
    assert made.statistics["dropped"] == {}
    for row in rows:
        assert chunks[row.uri, row.start, row.end] == row.positive
        assert row.uri.removesuffix(".md") in row.query
        assert row.metadata["kind"] in "012"
        assert 0 < len(row.negatives) <= 3
        for negative in row.negatives:
            assert chunks[negative.uri, negative.start, negative.end] == negative.text
            assert negative.uri != row.uri
            assert negative.score is not None
            assert negative.score < options.margin * row.metadata["score"] + 1e-3
        assert len({negative.uri for negative in row.negatives}) == len(row.negatives)
    homes = [row for row in rows if row.query.startswith("Where can I find")]
    assert sum("Home of the" in row.positive for row in homes) > 0.9 * len(homes)  # the best of three chunks
    dev = {row.uri for row in rows if row.split == "dev"}
    assert not dev & {row.uri for row in rows if row.split == "train"}
    assert not dev & {n.uri for row in rows if row.split == "train" for n in row.negatives}
    report = check_dataset(zoo.pool, zoo.id, made)
    assert (report["sound"], report["rows"]) == (True, {"dev": 18, "train": 72})
    again = zoo.build(options)
    assert (again.id, again.content_hash) == (made.id, made.content_hash)
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(zoo.build, [zoo.judged(seed=5), zoo.judged(seed=5)]))
    assert both[0].id == both[1].id != made.id


def test_golden_queries_and_their_copies_are_left_out(zoo: Zoo) -> None:
    """The page of the otter judges: neither it, nor its copy, nor an equal question may be learned, nor stand as a negative."""
    (zoo.folder / "archive").mkdir()
    (zoo.folder / "archive" / "otter.md").write_text(page(*ANIMALS[0]).replace("early", "late"))
    index(zoo.settings, "handbook")
    options = zoo.judged()
    with (zoo.folder.parent / "qrels.tsv").open("a") as qrels:
        qrels.write("\notter0\tarchive/otter.md\t1")
    with zoo.pool.connection() as connection:
        queries = (
            GoldenQuery("Anything about the otter?", (GoldenSpan("otter.md"),)),
            GoldenQuery("where can i find a BADGER", (), answerable=False),
        )
        golden.save(connection, zoo.id, queries)
    made = zoo.build(options)
    rows = zoo.pairs(made)
    assert made.statistics["dropped"] == {"golden_document": 3, "golden_question": 1} | {"golden_document": 4}
    assert made.statistics["golden"] == {"questions": 2, "documents": 1}
    shown = {row.uri for row in rows} | {negative.uri for row in rows for negative in row.negatives}
    assert not {uri for uri in shown if "otter" in uri}
    assert "Where can I find a badger?" not in {row.query for row in rows}
    check_dataset(zoo.pool, zoo.id, made)
    seen = zoo.build(zoo.judged(golden="questions"))
    assert seen.statistics["dropped"] == {"golden_question": 1}
    assert check_dataset(zoo.pool, zoo.id, seen)["sound"]


def test_near_duplicates_are_no_negatives_and_on_one_side(zoo: Zoo) -> None:
    for name, *facts in ANIMALS[:6]:
        (zoo.folder / f"{name}-2.md").write_text(page(name, *facts).replace("quiet", "silent"))
    index(zoo.settings, "handbook")
    options = zoo.judged(dev_share=0.3)
    with (zoo.folder.parent / "qrels.tsv").open("a") as qrels:
        qrels.write("".join(f"\n{name}1\t{name}-2.md\t1" for name, *_ in ANIMALS[:3]))
    rows = zoo.pairs(zoo.build(options))
    for row in rows:
        name = row.uri.removesuffix(".md").removesuffix("-2")
        assert not {negative.uri for negative in row.negatives} & {f"{name}.md", f"{name}-2.md"}
        assert len({n.uri.removesuffix(".md").removesuffix("-2") for n in row.negatives}) == len(row.negatives)
    sides = {name: {row.split for row in rows if row.uri in (f"{name}.md", f"{name}-2.md")} for name, *_ in ANIMALS[:3]}
    assert all(len(side) == 1 for side in sides.values())


def test_judged_wrong_is_kept_with_its_label(zoo: Zoo) -> None:
    options = zoo.judged()
    with (zoo.folder.parent / "qrels.tsv").open("a") as qrels:
        qrels.write("\notter0\tseal.md\t0\notter0\tnobody.md\t1\nnobody\tseal.md\t1")
    made = zoo.build(options)
    (wrong,) = (row for row in zoo.pairs(made) if row.label == 0)
    assert (wrong.query, wrong.uri, wrong.negatives) == ("Where can I find a otter?", "seal.md", ())
    assert made.statistics["dropped"] == {"unknown_document": 1, "unknown_query": 1}


def test_headings_and_sentences(zoo: Zoo) -> None:
    """What asks is no part of what answers, the origin says how it was made, and each finds its document again."""
    (zoo.folder / "plain.txt").write_text(
        "The ferry leaves at six in the morning. It takes cars and bicycles, though no lorries. "
        "Tickets are sold on board by the crew."
    )
    (zoo.folder / "empty.txt").write_text("Nothing.")
    index(zoo.settings, "handbook")
    made = zoo.build(DatasetOptions(sources=("headings",), min_train=5, min_dev=5))
    rows = zoo.pairs(made)
    assert (made.origin, made.statistics["sources"]) == ("headings", ["headings"])
    assert {row.style for row in rows} == {"heading", "sentence"}
    assert made.statistics["styles"] == {"heading": sum(r.style == "heading" for r in rows), "sentence": 1}
    texts = dict(query(zoo.settings, "select d.uri, t.text from ragworks.document d join ragworks.document_text t"
                       " using (collection_id, content_hash)"))  # fmt: skip
    for row in rows:
        assert texts[row.uri][row.start : row.end] == row.positive
        assert row.query not in row.positive
    assert check_dataset(zoo.pool, zoo.id, made)["sound"]
    default = zoo.build(DatasetOptions(min_train=5, min_dev=5))  # without files and an LLM: the same
    assert (default.id, default.arguments["sources"]) == (made.id, [])


def test_accepted_feedback(zoo: Zoo) -> None:
    """A better document or characters of it, and what a praised answer cites; nothing that nobody reviewed."""
    text = (zoo.folder / "yak.md").read_text()
    start = text.index("For food the yak")
    asked = ["what do yaks feed on", "where do yaks live", "yak at night", "liked but not reviewed", "liked search"]
    with zoo.pool.connection() as connection:
        ids = {}
        for question in asked:
            ids[question] = uuid4()
            connection.execute(
                "insert into ragworks.query_log (id, collection_id, kind, query) values (%s, %s, 'chat', %s)",
                (ids[question], zoo.id, question),
            )
        citation = {"number": 1, "document": "yak.md", "start": text.index("The yak sleeps"), "end": len(text) - 1}
        connection.execute(
            "insert into ragworks.answer (id, question, text, abstained, extractive, citations) values (%s, 'q', 't', false,"
            " false, %s)",
            (ids["yak at night"], json.dumps([citation])),
        )
        save_feedback(connection, Feedback(ids["what do yaks feed on"], -1, document="yak.md", start=start, end=start + 40))
        save_feedback(connection, Feedback(ids["where do yaks live"], document="yak.md"))
        save_feedback(connection, Feedback(ids["yak at night"], 1))
        save_feedback(connection, Feedback(ids["liked search"], 1))
        connection.execute("update ragworks.feedback set state = 'accepted'")
        save_feedback(connection, Feedback(ids["liked but not reviewed"], 1, document="yak.md"))
    rows = {row.query: row for row in zoo.pairs(zoo.build(DatasetOptions(sources=("feedback",))))}
    assert rows.keys() == set(asked[:3])
    assert {row.origin for row in rows.values()} == {"feedback"}
    assert rows["what do yaks feed on"].positive.startswith("## What the yak eats")
    assert rows["yak at night"].positive.startswith("## How the yak sleeps")
    both = zoo.build(zoo.judged())
    assert both.statistics["sources"] == ["qrels", "feedback"]
    assert both.origin == "mixed"


def test_pairs_of_a_file(zoo: Zoo) -> None:
    lines = [
        {"query": "how do moles sleep", "document": "mole.md"},
        {"query": "what otters eat", "document": "otter.md", "positive": "Eels and crayfish, says the keeper."},
        {"query": "who knows", "document": "nobody.md"},
        {"query": "who knows it all", "document": "a book.md", "positive": "A text from elsewhere, of no document here.",
         "negatives": [{"document": "mole.md", "text": "No."}]},
        {"query": "What otters eat!", "document": "otter.md", "positive": "Eels and crayfish, says the keeper."},
    ]  # fmt: skip
    path = zoo.folder.parent / "pairs.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    made = zoo.build(DatasetOptions(file=str(path)))
    rows = {row.query: row for row in zoo.pairs(made)}
    assert rows.keys() == {"how do moles sleep", "what otters eat", "who knows it all"}
    assert made.statistics["dropped"] == {"unknown_document": 1, "duplicate": 1}
    assert (rows["what otters eat"].start, rows["what otters eat"].positive) == (None, lines[1]["positive"])
    assert rows["what otters eat"].metadata["score"] > 0.3
    assert [n.text for n in rows["who knows it all"].negatives] == ["No."]
    assert rows["how do moles sleep"].negatives


def test_golden_text_that_a_file_gives_under_another_name(zoo: Zoo) -> None:
    """The page of the yak judges: its text is neither learned as right nor as wrong, whatever it is called."""
    taken = (zoo.folder / "yak.md").read_text()[30:180]
    lines = [
        {"query": "where yaks are at home", "document": "a book.md", "positive": taken},
        {"query": "where moles are at home", "document": "mole.md", "positive": "Below damp lawns.",
         "negatives": [{"document": "a book.md", "text": taken}, {"document": "no book.md", "text": "Nowhere at all."}]},
        {"query": "what is in the sea", "document": "the sea.md", "positive": "Salt water, and much of it."},
    ]  # fmt: skip
    path = zoo.folder.parent / "pairs.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    options = DatasetOptions(file=str(path), sources=("file",), min_dev=1, min_train=1)
    assert len(zoo.pairs(zoo.build(options))) == 3
    with zoo.pool.connection() as connection:
        golden.save(connection, zoo.id, [GoldenQuery("Which animal lives high up?", (GoldenSpan("yak.md"),))])
    made = zoo.build(options)
    rows = {row.query: row for row in zoo.pairs(made)}
    assert rows.keys() == {"where moles are at home", "what is in the sea"}
    assert [one.text for one in rows["where moles are at home"].negatives] == ["Nowhere at all."]
    assert made.statistics["dropped"] == {"golden_passage": 1, "negative_of_other_side": 1}


def test_limits_take_always_the_same_rows(zoo: Zoo) -> None:
    some = zoo.build(zoo.judged(max_rows=30, negatives=0))
    more = zoo.build(zoo.judged(max_rows=60, negatives=0))
    assert some.statistics["dropped"] == {"over_max_rows": 60}
    assert {row.query for row in zoo.pairs(some)} < {row.query for row in zoo.pairs(more)}
    assert all(row.negatives == () for row in zoo.pairs(more))


def test_a_narrow_margin_leaves_fewer(zoo: Zoo) -> None:
    wide, narrow = (zoo.build(zoo.judged(margin=margin)) for margin in (1.0, 0.3))
    assert narrow.statistics["negatives"] < wide.statistics["negatives"]
    assert narrow.statistics["without_negatives"] > 0


def test_a_run_that_was_interrupted_finds_what_it_made(zoo: Zoo) -> None:
    made = zoo.build(zoo.judged(max_rows=40), run_key="dag/1")
    assert made.statistics["run_key"] == "dag/1"
    write_judgements(zoo.folder.parent, 2)  # the files changed; the run goes on with what it had
    assert zoo.build(zoo.judged(max_rows=40), run_key="dag/1").id == made.id


def test_what_can_be_wrong_with_the_files(zoo: Zoo) -> None:
    def refused(match: str, *, queries: bytes | None = None, qrels: bytes | None = None) -> None:
        options = zoo.judged()
        for name, content in (("queries.jsonl", queries), ("qrels.tsv", qrels)):
            if content is not None:
                (zoo.folder.parent / name).write_bytes(content)
        with pytest.raises(BadData, match=match) as error:
            zoo.build(options)
        assert error.value.fix

    refused("holds no judgements", qrels=b"")
    refused("holds no judgements", qrels=b"query-id\tcorpus-id\tscore\n")
    refused(r"qrels\.tsv line 2.*not a judgement", qrels=b"a\tb\t1\nnonsense\n")
    refused("none of its queries is in", queries=b"")
    refused(r"queries\.jsonl line 1.*not a query", queries=b"nonsense\n")
    refused("utf-8", queries='{"id": "a", "text": "Wo wohnt der Bär?"}'.encode("latin-1"))
    refused("utf-8", qrels="ä\tb\t1".encode("utf-16"))
    refused("2 of 3 judgements name documents that the live index does not hold, such as 'x'",
            qrels=b"otter0\tx\t1\notter1\ty\t1\notter2\totter.md\t1")  # fmt: skip
    refused("not a judgement|no question for dataset|unreadable|number that is none",
            queries=b'{"id": "otter0", "text": "Where?", "metadata": {"x": NaN}}', qrels=b"otter0\totter.md\t1")  # fmt: skip
    refused("is left: 2 too_short, 1 too_long", queries="\n".join(
        json.dumps({"id": f"otter{n}", "text": text}) for n, text in enumerate(("Why", "?", "why " * 300))
    ).encode(), qrels=b"otter0\totter.md\t1\notter1\totter.md\t1\notter2\totter.md\t1")  # fmt: skip


def test_without_an_index_or_an_llm(settings: Settings, collection: Callable[..., str], documents: Path) -> None:
    with open_pool(settings) as pool:
        with pytest.raises(BadData, match=r"has no index yet.*Run: ragworks index handbook"):
            build_dataset(settings, pool, "handbook", DatasetOptions(), progress=Silent())
        with pool.connection() as connection:
            collections.ensure_collection(connection, "handbook")
        with pytest.raises(BadData, match="has no live index"):
            build_dataset(settings, pool, "handbook", DatasetOptions(), progress=Silent())
        (documents / "a.md").write_text("Too little to ask.")
        index(settings, collection(), embedder=HashEmbedder())
        with pytest.raises(BadConfiguration, match="RAGWORKS_LLM_BASE_URL is not set"):
            build_dataset(
                settings, pool, "handbook", DatasetOptions(sources=("llm",)), progress=Silent(), embedder=HashEmbedder()
            )
        with pytest.raises(BadData, match=r"no question .* is left: nothing came"):
            build_dataset(settings, pool, "handbook", DatasetOptions(), progress=Silent(), embedder=HashEmbedder())
