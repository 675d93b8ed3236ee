"""Golden queries: files as people have them, mistakes with their line, the store, and the command."""

from __future__ import annotations

import gzip
import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from include.cli.main import build_parser
from include.errors import BadConfiguration, BadData
from include.evaluation.bootstrap import paired_interval
from include.evaluation.golden import read_golden, read_pair
from include.evaluation.headings import sanity_queries
from include.evaluation.relevance import covers, gains, ndcg, recall
from include.output import Output
from include.store import golden
from include.store.forgotten import forget
from include.store.golden import GoldenQuery, GoldenSpan
from include.store.pool import open_pool
from include.store.search import Hit
from tests.evaluation.two_generations import TwoGenerations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from include.config import Settings

GOOD = '{"query": "q", "relevant": [{"document": "a.md"}]}'


@pytest.fixture
def two(settings: Settings) -> Iterator[TwoGenerations]:
    with open_pool(settings) as pool:
        made = TwoGenerations(pool)
        made.write({"a.md": "The first text.", "b.md": "The second text."})
        yield made


def _read(tmp_path: Path, *lines: str) -> list[GoldenQuery]:
    path = tmp_path / "golden.jsonl"
    path.write_text("\n".join(lines))
    return list(read_golden(str(path)))


def test_a_file_plain_and_gzipped(tmp_path: Path) -> None:
    content = (
        '{"query": "one", "relevant": [{"document": "a", "start": 0, "end": 5, "grade": 2.5}], "metadata": {"team": "x"}}\n'
        '\n{"query": "two", "relevant": [{"document": "a"}, {"document": "b"}]}\n'
    )
    (tmp_path / "g.jsonl").write_text(content)
    with gzip.open(tmp_path / "g.jsonl.gz", "wt") as file:
        file.write(content)
    for name in ("g.jsonl", "g.jsonl.gz"):
        assert list(read_golden(str(tmp_path / name))) == [
            GoldenQuery("one", (GoldenSpan("a", 0, 5, 2.5),), {"team": "x"}),
            GoldenQuery("two", (GoldenSpan("a"), GoldenSpan("b"))),
        ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"relevant": [{"document": "a"}]}', "query is missing"),
        ('{"query": " ", "relevant": [{"document": "a"}]}', "query is missing"),
        ('{"query": "q"}', "relevant is not a list"),
        ('{"query": "q", "relevant": []}', 'relevant is not a list.*"answerable": false'),
        ('{"query": "q", "relevant": [{"document": "a"}], "answerable": false}', "has an answer and is not answerable"),
        ('{"query": "q", "relevant": [], "answerable": false, "answer": "x"}', "has an answer and is not answerable"),
        ('{"query": "q", "relevant": [], "answerable": "no"}', "answerable is 'no'"),
        ('{"query": "q", "relevant": [{"document": "a"}], "answer": 3}', "answer is missing or no text"),
        ('{"query": "q", "relevant": ["a"]}', r"relevant\[0\] is not a JSON object"),
        ('{"query": "q", "relevant": [{"document": "a"}, {"doc": "a"}]}', r"relevant\[1\] has an unknown key 'doc'"),
        ('{"query": "q", "relevant": [{"document": "a"}], "tags": 1}', "unknown key 'tags'"),
        ('{"query": "q", "relevant": [{"document": "a", "start": 3}]}', "from 3 to None"),
        ('{"query": "q", "relevant": [{"document": "a", "start": 3, "end": 3}]}', "from 3 to 3"),
        ('{"query": "q", "relevant": [{"document": "a", "start": -1, "end": 3}]}', "from -1 to 3"),
        ('{"query": "q", "relevant": [{"document": "a", "start": 0, "end": 3000000000}]}', "from 0 to 3000000000"),
        ('{"query": "q", "relevant": [{"document": "a", "start": true, "end": 3}]}', "from True to 3"),
        ('{"query": "q", "relevant": [{"document": "a", "grade": 0}]}', "grade is 0"),
        ('{"query": "q", "relevant": [{"document": "a", "grade": NaN}]}', "grade is nan"),
        ('{"query": "q", "relevant": [{"document": "a"}, {"document": "a"}]}', "same characters twice"),
        ('{"query": "q", "relevant": [{"document": "a"}], "metadata": []}', "metadata is not a JSON object"),
        ('{"query": "q", "relevant": [{"document": "a"}], "metadata": {"x": NaN}}', "number that is none"),
        ('{"query": "q", "relevant": [{"document": "a"}], "origin": "guess"}', "origin is 'guess'"),
        ('{"query": "q\\u0000", "relevant": [{"document": "a"}]}', "cannot store"),
        ('{"query": "q\\ud800", "relevant": [{"document": "a"}]}', "cannot store"),
        ('{"query": "q", "relevant": [{"document": "a"}], "metadata": {"x": "\\u0000"}}', "cannot store"),
        (GOOD.replace('"q"', '"first"'), "stands on line 1 already"),
    ],
)
def test_a_wrong_line_is_named_with_what_is_right(line: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadData, match=message) as error:
        _read(tmp_path, GOOD.replace('"q"', '"first"'), line)
    assert error.value.what.endswith("golden.jsonl line 2")
    assert error.value.fix


def test_an_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"none\.jsonl"):
        list(read_golden(str(tmp_path / "none.jsonl")))


def test_a_pair_of_files(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"_id": 1, "text": "same"}\n{"_id": 2, "text": "same"}\n{"_id": 3, "text": "none"}\n')
    (tmp_path / "r.tsv").write_text("query-id\tcorpus-id\tscore\n1\ta\t1\n2\ta\t2\n2\tb\t1\n3\tc\t0\n")
    assert list(read_pair(str(tmp_path / "q.jsonl"), str(tmp_path / "r.tsv"))) == [
        GoldenQuery("same", (GoldenSpan("a", grade=2.0), GoldenSpan("b", grade=1.0)))
    ]


def test_import_twice_is_import_once(two: TwoGenerations) -> None:
    queries = [GoldenQuery(f"query {n} " + "long " * 3000, (GoldenSpan("a.md", 4, 9),)) for n in range(1200)]
    with two.pool.connection() as connection:
        for _ in range(2):
            assert golden.save(connection, two.collection, iter(queries)) == 1200
            assert golden.count(connection, two.collection) == golden.GoldenCounts(1200, 1200, 1, 0)
        assert list(golden.golden_queries(connection, two.collection)) == queries
        golden.save(connection, two.collection, [GoldenQuery(queries[0].query, (GoldenSpan("b.md"),), {"k": 1}, "added")])
        first = next(iter(golden.golden_queries(connection, two.collection)))
        assert (first.spans, first.metadata, first.origin) == ((GoldenSpan("b.md"),), {"k": 1}, "added")
        assert golden.delete_all(connection, two.collection) == 1200
        assert golden.count(connection, two.collection) == golden.GoldenCounts(0, 0, 0, 0)


def test_a_span_beyond_its_document_is_refused(two: TwoGenerations) -> None:
    queries = [
        GoldenQuery("fits", (GoldenSpan("a.md", 0, 15),)),
        GoldenQuery("does not", (GoldenSpan("b.md"), GoldenSpan("b.md", 0, 17)), place="file line 2"),
    ]
    with two.pool.connection() as connection, pytest.raises(BadData, match=r"file line 2: characters 0 to 17 of b.md: .* 16 "):
        golden.save(connection, two.collection, queries)


def test_forgetting_a_document_leaves_nothing_of_it(two: TwoGenerations) -> None:
    gate = {"worst": [{"query": "secret", "documents": ["a.md"]}, {"query": "other", "documents": ["b.md"]}]}
    with two.pool.connection() as connection:
        both = GoldenQuery("both", (GoldenSpan("a.md"), GoldenSpan("b.md")))
        golden.save(connection, two.collection, [GoldenQuery("secret", (GoldenSpan("a.md", 0, 5),)), both])
        connection.execute(
            "insert into ragworks.generation (collection_id, spec, spec_hash, embedder, dimension, storage, gate)"
            " values (%s, '{}', 'x', 'x', 4, 'vector', %s)",
            (two.collection, json.dumps(gate)),
        )
        assert golden.forget_document(connection, two.collection, "a.md") == 2
        assert list(golden.golden_queries(connection, two.collection)) == [GoldenQuery("both", (GoldenSpan("b.md"),))]
        assert connection.execute("select gate -> 'worst' from ragworks.generation").fetchone() == (gate["worst"][1:],)
        assert golden.forget_document(connection, two.collection, "a.md") == 0


def test_the_name_of_a_forgotten_document_goes_out_of_other_queries(two: TwoGenerations) -> None:
    """Question, answer and metadata; the hash is that of the new question, and of two that are one now one stays."""
    b = (GoldenSpan("b.md"),)
    with two.pool.connection() as connection:
        golden.save(
            connection,
            two.collection,
            [
                GoldenQuery("What says a.md?", b, {"from": "a.md", "team": "x"}, answer="As a.md says."),
                GoldenQuery("What says [forgotten]?", b, {"team": "y"}),
                GoldenQuery("What says data.md?", b, {"from": ["a.md", "b.md"]}),
                GoldenQuery("Whence a.md?", b),
            ],
        )
        forget(connection, two.collection, "a.md")
        found = list(golden.golden_queries(connection, two.collection))
        again = golden.save(connection, two.collection, found)
        assert list(golden.golden_queries(connection, two.collection)) == found
    assert again == 3
    assert found == [
        GoldenQuery("What says [forgotten]?", b, {"team": "y"}),
        GoldenQuery("What says data.md?", b, {"from": ["b.md"]}),
        GoldenQuery("Whence [forgotten]?", b),
    ]


def _hit(document: str, start: int, end: int) -> Hit:
    return Hit(document, 0, start, end, "", 0.0, {})


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(0, 200, True), (110, 120, True), (0, 124, False), (0, 125, True), (95, 105, True), (95, 104, False), (150, 300, False)],
)
def test_a_chunk_covers_a_span_by_half_of_the_shorter(start: int, end: int, expected: bool) -> None:
    assert covers(_hit("a", start, end), GoldenSpan("a", 100, 150)) is expected
    assert not covers(_hit("b", start, end), GoldenSpan("a", 100, 150))


@pytest.mark.parametrize("size", [1, 7, 50, 99, 1000])
def test_chunks_that_tile_a_document_always_hold_one_that_covers(size: int) -> None:
    for start in range(0, 200, 3):
        for length in (1, 8, 60):
            span = GoldenSpan("a", start, start + length)
            assert any(covers(_hit("a", s, s + size), span) for s in range(0, 300, size))


def test_gains_by_hand() -> None:
    spans = GoldenQuery("q", (GoldenSpan("a", 0, 10, 2.0), GoldenSpan("a", 20, 30, 1.0), GoldenSpan("b")))
    hits = [_hit("c", 0, 9), _hit("a", 0, 5), _hit("a", 5, 10), _hit("a", 40, 50), _hit("b", 0, 5), _hit("c", 0, 9)]
    gained = gains(hits, spans, 10)
    assert gained == [0.0, 2.0, 0.0, 1.0, 0.0], "a second chunk of a span that is found takes no place"
    ideal = 2 + 1 / math.log2(3) + 1 / math.log2(4)
    assert ndcg(gained, spans, 10) == pytest.approx((2 / math.log2(3) + 1 / math.log2(5)) / ideal)
    assert recall(gained, spans) == pytest.approx(2 / 3)
    assert gains([_hit("a", 0, 30)], spans, 10) == [2.0, 1.0], "a chunk of two answers stands for both"
    assert gains(hits, spans, 2) == [0.0, 2.0]


def test_the_interval_is_that_of_the_normal_law() -> None:
    import numpy as np

    values = np.random.default_rng(1).normal(0.1, 1.0, size=400)
    interval = paired_interval(values.tolist())
    assert interval == paired_interval(values.tolist())
    half = 1.96 * values.std() / 20
    assert interval == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)
    assert paired_interval([0.5]) is None
    assert paired_interval([0.0] * 9) == (0.0, 0.0)


def test_headings_become_questions_about_what_stands_under_them() -> None:
    page = "# The guide\n\nIntro.\n\n## How to start\n\nPress the button.\n\n### Overview\n\nWords.\n\n## Next\n\nMore.\n"
    other = "# The guide\n\n## How to stop it\n\n## Overview of all\n\nText.\n"
    plain = "Kangaroos live in Australia. They jump.\n\nFar."
    made = sanity_queries([("a", page), ("b", other), ("c", plain), ("d", "One line"), ("e", "# The guide\n\nShort.")])
    found = {q.spans[0].document: (q.query, q.spans[0]) for q in made}
    assert {uri: query for uri, (query, _) in found.items()} == {
        "a": "How to start", "b": "Overview of all", "c": "Kangaroos live in Australia."
    }  # fmt: skip
    span = found["a"][1]
    assert page[span.start : span.end] == "Press the button.\n\n### Overview\n\nWords."
    span = found["c"][1]
    assert plain[span.start : span.end] == "They jump.\n\nFar."


def _golden(settings: Settings, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    args = build_parser().parse_args(["golden", "handbook", "--json", *arguments])
    args.run(args, settings, Output(as_json=True))
    return dict(json.loads(capsys.readouterr().out))


def test_the_command(two: TwoGenerations, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "golden.jsonl"
    path.write_text(
        '{"query": "one", "relevant": [{"document": "a.md", "start": 4, "end": 9}]}\n'
        '{"query": "two", "relevant": [{"document": "gone.md"}], "metadata": {"team": "x"}}\n'
    )
    done = _golden(settings, capsys, "--import", str(path), "--list")
    assert {k: v for k, v in done.items() if k != "golden"} == {
        "collection": "handbook", "imported": 2, "removed": 0, "queries": 2, "spans": 2, "documents": 2, "missing": 1,
        "unanswerable": 0,
    }  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in done["golden"]))
    again = _golden(settings, capsys, "--clear", "--import", str(path), "--list")
    assert (again["golden"], again["removed"]) == (done["golden"], 2), "what is listed can be imported"
    path.write_text(GOOD + "\n{\n")
    with pytest.raises(BadData, match="line 2"):
        _golden(settings, capsys, "--clear", "--import", str(path))
    assert _golden(settings, capsys)["queries"] == 2, "a refused file changes nothing"
    with pytest.raises(BadConfiguration, match="belong together"):
        _golden(settings, capsys, "--qrels", str(path))


def test_the_command_warns_a_person(
    two: TwoGenerations, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "golden.jsonl"
    path.write_text(GOOD.replace("a.md", "gone.md"))
    args = build_parser().parse_args(["golden", "handbook", "--import", str(path), "--list"])
    args.run(args, settings, Output(as_json=False))
    shown = capsys.readouterr().out
    assert "warning: 1 of these documents are not in the collection" in shown
    assert "gone.md" in shown
