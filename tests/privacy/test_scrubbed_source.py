"""A collection with privacy.scrub: raw values reach no table, and a changed setting reads everything again."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from include.collection_file import Privacy, load_collection
from include.privacy import ScrubbedSource, open_scrubber, scrubbed
from include.sources import open_source
from include.store import conversations, datasets, evaluations, feedback, golden
from include.store.pool import open_pool
from tests.conftest import write_rows
from tests.support import HashEmbedder, export, index, query

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from include.config import Settings

KINDS = ["EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD"]
SECRETS = ["jane.doe@example.com", "+49 30 901820", "4111 1111 1111 1111", "4012888888881881", "5500005555555559"]
TEXT = f"# About {SECRETS[0]}\n\nCall {SECRETS[1]}, pay with {SECRETS[2]}.\n\n## {SECRETS[0]}\n\nNothing else.\n"


def run(settings: Settings, name: str, **options: Any) -> dict[str, Any]:
    return index(settings, name, embedder=HashEmbedder(), **options)


def tables_holding(settings: Settings, value: str) -> list[str]:
    """Every table of the schema with a row that holds the value in any column."""
    with psycopg.connect(settings.database_url or "") as connection:
        names = connection.execute("select tablename from pg_tables where schemaname = 'ragworks'").fetchall()
        assert len(names) > 12
        held = sql.SQL("select exists (select from ragworks.{} t where to_jsonb(t)::text like %s)")
        pattern = f"%{value}%"
        return sorted(
            n for (n,) in names if connection.execute(held.format(sql.Identifier(n)), (pattern,)).fetchone() == (True,)
        )


def test_the_search_of_the_tables_finds_what_is_there(
    settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    (documents / "a.md").write_text(TEXT)
    run(settings, collection())
    assert tables_holding(settings, SECRETS[0]) == ["document", "document_text", "generation_document", "spans_1"]
    assert tables_holding(settings, SECRETS[1]) == ["document_text"]


def test_raw_values_are_in_no_table_and_counted_in_the_run(
    settings: Settings, tmp_path: Path, collection: Callable[..., str]
) -> None:
    rows: list[dict[str, Any]] = [
        {
            "id": "1",
            "title": "Jane",
            "text": TEXT,
            "metadata": {"by": SECRETS[0], "cards": [{"n": int(SECRETS[3])}, float(SECRETS[4])], "n": 7},
        },
        {"id": "2", "text": "", "metadata": {"by": SECRETS[0]}},
        {"id": "3", "text": f"a\u0007 {SECRETS[0]}"},
        {"id": "4", "text": "fine", "metadata": {"card": SECRETS[4]}, "acl": ["team"]},
    ]
    write_rows(tmp_path / "rows.jsonl", list(rows))
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write(f'{{"id": "5", "text": {SECRETS[3]}}}\n{{"id": "6", "{SECRETS[0]}\n')
    name = collection(
        source={"type": "jsonl", "path": str(tmp_path / "rows.jsonl")},
        privacy={"scrub": KINDS},
        validation={"max_rejected": 1.0},
    )
    result = run(settings, name)
    assert result["quarantined"] == 4
    assert {secret: tables_holding(settings, secret) for secret in SECRETS} == {secret: [] for secret in SECRETS}
    chunks = export(settings, name)
    assert "Call <PHONE_NUMBER>, pay with <CREDIT_CARD>." in " ".join(c["text"] for c in chunks)
    first = next(c["metadata"] for c in chunks if c["document"] == "1")
    assert (first["by"], first["cards"], first["n"]) == ("<EMAIL_ADDRESS>", [{"n": "<CREDIT_CARD>"}, "<CREDIT_CARD>"], 7)
    assert query(settings, "select scrubbed from ragworks.run where id = %s", result["run"]) == [
        ({"EMAIL_ADDRESS": 5, "PHONE_NUMBER": 1, "CREDIT_CARD": 4},)
    ]


def test_a_value_counts_once(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    """A title is a part of the text, or of the path; the path is the uri, which stays as it is."""
    (documents / "a.md").write_text(f"#  Ask   {SECRETS[0]}\n\nBody.")
    (documents / f"{SECRETS[0]}.txt").write_text("Nothing.")
    (documents / "c.html").write_text(f"<title>Of {SECRETS[0]}</title><p>Body.")  # in the title alone
    name = collection(privacy={"scrub": KINDS})
    assert run(settings, name)["scrubbed"] == {"EMAIL_ADDRESS": 2}
    metadata = {row["document"]: row["metadata"] for row in export(settings, name)}
    assert metadata["a.md"]["title"] == "Ask <EMAIL_ADDRESS>"
    assert (metadata[f"{SECRETS[0]}.txt"]["title"], metadata["c.html"]["title"]) == ("<EMAIL_ADDRESS>", "Of <EMAIL_ADDRESS>")


def test_switching_it_on_reads_all_again_and_leaves_no_raw_text(
    settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    (documents / "a.md").write_text(TEXT)
    (documents / "b.md").write_text("# B\n\nNobody is named here.\n")
    name = collection()
    run(settings, name)
    run(settings, name, mode="rebuild")  # so that a retired generation holds the text too
    collection(privacy={"scrub": KINDS})
    switched = run(settings, name)
    assert switched["plan"]["changed"] == 1
    assert switched["plan"]["unchanged"] == 1
    assert {secret: tables_holding(settings, secret) for secret in SECRETS[:3]} == {secret: [] for secret in SECRETS[:3]}
    again = run(settings, name)
    assert again["plan"]["unchanged"] == 2
    assert again["chunks"]["embedded"] == 0


def test_the_fingerprint_is_the_sources_with_the_scrubbers(
    settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    (documents / "a.md").write_text(TEXT)
    os.utime(documents / "a.md", (1_700_000_000, 1_700_000_000))  # one just written is read again whatever it says
    loaded = load_collection(settings, collection())
    source = open_source(loaded)
    scrubber = open_scrubber(Privacy(scrub=("EMAIL_ADDRESS",)))
    assert scrubber
    (plain,), (marked,) = source.listing(), ScrubbedSource(source, scrubber).listing()
    assert marked == replace(plain, fingerprint=f"{plain.fingerprint}|scrub:{scrubber.fingerprint}")
    assert scrubbed(source, Privacy()) is source


def test_read_many_gives_back_the_objects_that_were_asked_for(
    settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    for name in ("a.md", "b.md"):
        (documents / name).write_text(TEXT)
    source = scrubbed(open_source(load_collection(settings, collection())), Privacy(scrub=("EMAIL_ADDRESS",)))
    objects = list(source.listing())
    read = [(obj, list(found)) for obj, found in source.read_many(objects)]
    assert [obj for obj, _ in read] == objects
    assert [d.scrubbed for _, found in read for d in found] == [{"EMAIL_ADDRESS": 2}] * 2
    assert SECRETS[0] not in json.dumps([[d.text, d.metadata] for _, found in read for d in found])
    assert [list(source.read(obj)) for obj in objects] == [found for _, found in read]


def _keep_texts(settings: Settings, pairs: str, text: str) -> None:
    """What a collection keeps of its documents beside the index, in every table that does."""
    with open_pool(settings) as pool, pool.connection() as connection:
        asked = uuid4()
        connection.execute(
            "insert into ragworks.query_log (id, collection_id, generation_id, kind, query) values (%s, 1, 1, 'chat', 'how?')",
            (asked,),
        )
        connection.execute(
            "insert into ragworks.answer (id, question, text, abstained, extractive, citations)"
            " values (%s, 'how?', %s, false, true, %s)",
            (asked, text, Jsonb([{"number": 1, "document": "a.md", "start": 0, "end": 9, "quote": text}])),
        )
        connection.execute(
            "insert into ragworks.answer_source (answer_id, number, uri, ordinal, start_char, end_char, text, score)"
            " values (%s, 1, 'a.md', 0, 0, 9, %s, 1)",
            (asked, text),
        )
        feedback.save_feedback(connection, feedback.Feedback(asked, thumb=1, answer=text, comment=text))
        golden.save(connection, 1, [golden.GoldenQuery("where?", (golden.GoldenSpan("a.md", 0, len(text)),), answer=text)])
        negative = datasets.Negative("a.md", 0, 9, text)
        rows = [datasets.Pair(f"About {text}", "b.md", 0, 9, "B", split="train", negatives=(negative,))]
        datasets.save(connection, 1, pairs, rows, arguments={}, statistics={"example": text})
        clean = [datasets.Pair("clean?", "b.md", 0, 9, "B", split="train")]
        datasets.save(connection, 1, "clean", clean, arguments={}, statistics={})
        talk = conversations.Conversation(
            ({"role": "user", "content": text}, {"role": "assistant", "content": text}), rejected=text, expected=text,
            split="train", task="answer", uri="a.md", origin="llm", documents=("a.md",),
        )  # fmt: skip
        conversations.save_conversations(connection, 1, "talks", [talk], kind="preferences", arguments={}, statistics={})
        report = {
            "serving": {"embedder": SECRETS[0]},
            "worst": [{"query": text, "documents": ["a.md"], "found": [{"text": text}]}],
        }
        evaluations.save(connection, 1, generation=1, run=None, name="x", configuration={}, report=report)
        connection.execute("update ragworks.generation set gate = %s", (Jsonb({"worst": report["worst"]}),))
        connection.execute(
            "insert into ragworks.model_run (run_key, family, collection_id, arguments, work_hash, state, base,"
            " base_fingerprint, code_version, evaluation, gate, error)"
            " values ('k', 'reranker', 1, '{}', 'w', 'evaluated', 'b', 'f', 'c', %s, %s, %s)",
            (Jsonb(report), Jsonb({"reasons": [text]}), text),
        )


@pytest.mark.parametrize("rebuilt", [False, True])
def test_texts_outside_of_the_index_are_scrubbed_with_the_publication(
    settings: Settings, documents: Path, collection: Callable[..., str], rebuilt: bool
) -> None:
    """Answers, feedback, golden quotes, datasets and reports, whether the live generation is cleaned or replaced."""
    (documents / "a.md").write_text(TEXT)
    (documents / "b.md").write_text("# B\n\nNobody is named here.\n")
    name = collection()
    run(settings, name)
    _keep_texts(settings, "raw", TEXT)
    before = dict(query(settings, "select name, content_hash from ragworks.dataset"))
    kept = {"answer", "answer_source", "feedback", "golden_span", "dataset_row", "dataset_negative", "dataset_conversation",
            "dataset", "evaluation", "generation", "model_run"}  # fmt: skip
    assert kept <= set(tables_holding(settings, SECRETS[0]))
    privacy = {"privacy": {"scrub": KINDS}, **({"chunking": {"max_tokens": 100}} if rebuilt else {})}
    collection(**privacy)
    run(settings, name)
    assert {secret: tables_holding(settings, secret) for secret in SECRETS[1:3]} == {secret: [] for secret in SECRETS[1:3]}
    # What a report says of the model that served is compared with what serves: it stays.
    query_ = "select report #>> '{serving,embedder}' from ragworks.evaluation"
    assert query(settings, query_) == [(SECRETS[0],)]
    assert tables_holding(settings, SECRETS[0]) == ["evaluation", "model_run"]
    after = dict(query(settings, "select name, content_hash from ragworks.dataset"))
    assert after["clean"] == before["clean"]
    assert {key for key in after if after[key] != before[key]} == {"raw", "talks"}
    (message, rejected) = query(settings, "select messages -> 1 ->> 'content', rejected from ragworks.dataset_conversation")[0]
    assert "Call <PHONE_NUMBER>, pay with <CREDIT_CARD>." in message
    assert rejected == message
    again = run(settings, name)
    assert dict(query(settings, "select name, content_hash from ragworks.dataset")) == after
    assert again["chunks"]["written"] == 0


def test_a_quote_that_ends_in_a_value_is_cut_before_it_and_still_found(
    settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    """Of a span 200 characters are kept, and no pattern knows the first half of a value."""
    text = "# A\n\n" + "Words before. " * 13 + f"{SECRETS[0]} writes. More words."
    assert SECRETS[0][:8] in text[:200]
    assert SECRETS[0] not in text[:200]
    (documents / "a.md").write_text(text)
    name = collection()
    run(settings, name)
    with open_pool(settings) as pool, pool.connection() as connection:
        golden.save(connection, 1, [golden.GoldenQuery("where?", (golden.GoldenSpan("a.md", 0, len(text)),))])
    assert "jane.doe" in query(settings, "select quote from ragworks.golden_span")[0][0]
    collection(privacy={"scrub": KINDS})
    run(settings, name)
    ((quote, stored),) = query(settings, "select s.quote, t.text from ragworks.golden_span s, ragworks.document_text t")
    assert "jane" not in quote
    assert len(quote) > 100
    assert stored.startswith(quote)


def test_switched_on_over_documents_without_any_value_the_rest_is_scrubbed_too(
    settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    """Such a run has nothing to embed, and publishes all the same."""
    (documents / "a.md").write_text(TEXT)
    name = collection()
    run(settings, name)
    _keep_texts(settings, "raw", TEXT)
    (documents / "a.md").write_text("# A\n\nNothing.")
    run(settings, name)
    collection(privacy={"scrub": KINDS})
    switched = run(settings, name)
    assert switched["chunks"]["embedded"] == 0
    assert tables_holding(settings, SECRETS[1]) == []


class _Refuses(HashEmbedder):
    """Makes an unusable vector of every text that holds "poison"."""

    def embed_documents(self, texts: Sequence[str], progress: object = None) -> NDArray[np.float32]:
        vectors = super().embed_documents(texts)
        vectors[[i for i, text in enumerate(texts) if "poison" in text]] = np.nan
        return vectors


def test_no_earlier_version_with_raw_text_stays_live(
    settings: Settings, documents: Path, collection: Callable[..., str]
) -> None:
    """What is refused in the run that switches scrubbing on would else keep its last good version."""
    for name in ("unreadable", "refused", *"abcdefghij"):
        (documents / f"{name}.md").write_text(TEXT)
    limits = {"max_rejected": 0.5, "max_deleted": 0.5}
    name = collection(validation=limits)
    index(settings, name, embedder=_Refuses())
    collection(validation=limits, privacy={"scrub": KINDS})
    (documents / "unreadable.md").write_text("")
    (documents / "refused.md").write_text(f"poison {SECRETS[0]}")
    result = index(settings, name, embedder=_Refuses())
    assert result["quarantined"] == 2
    assert {secret: tables_holding(settings, secret) for secret in SECRETS} == {secret: [] for secret in SECRETS}
    assert {row["document"] for row in export(settings, name)} == {f"{letter}.md" for letter in "abcdefghij"}
    (documents / "unreadable.md").write_text("Readable.")
    index(settings, name, embedder=_Refuses())
    assert "unreadable.md" in {row["document"] for row in export(settings, name)}
