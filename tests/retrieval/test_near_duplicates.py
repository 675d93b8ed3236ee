"""Copies: signed when they are stored, folded when they are found, listed when somebody asks."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from include.cli.main import main
from include.errors import BadData
from include.indexing.near_duplicates import signature
from include.retrieval.collapse import collapse
from include.retrieval.first_stage import SPARE_HITS
from include.retrieval.searcher import Searcher
from include.store.pool import open_pool
from include.store.search import Hit
from tests.conftest import write_rows
from tests.support import HashEmbedder, export, index, query

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from include.config import Settings

ANIMALS = [
    *("kangaroo", "walrus", "otter", "badger", "heron", "falcon", "lynx", "moose", "beaver", "salmon", "turtle", "gecko"),
    *("python", "camel", "giraffe", "zebra", "hippo", "rhino", "cheetah", "hyena", "baboon", "lemur", "sloth", "tapir"),
    *("jaguar", "condor", "penguin", "seal", "whale", "bear"),
]
FACTS = ("home", "diet", "age", "enemies", "voice", "young", "travels", "sleep")
PLAIN = [
    *("river", "stone", "apple", "winter", "green", "small", "night", "house", "water", "bread", "light", "cold", "field"),
    *("paper", "road", "sun", "hill", "sand", "rain", "leaf"),
]


def _paragraph(number: int) -> str:
    """About 70 words in an order that is in no other paragraph, short enough for one chunk."""
    animal, rng = ANIMALS[number], random.Random(number)
    return " ".join(f"The {fact} of the {animal}: {' '.join(rng.choices(PLAIN, k=5))}." for fact in FACTS)


def _page(number: int) -> str:
    return f"# {ANIMALS[number].title()}\n\n{_paragraph(number)}"


def _search(settings: Settings, question: str, **options: Any) -> list[Hit]:
    embedder = options.pop("embedder", None)
    with open_pool(settings) as pool:
        return Searcher(settings, pool, "handbook", embedder=embedder).search(question, **options)[0]


def test_an_archive_does_not_crowd_the_results(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    """30 pages and their copies, each edited a little, with the real model."""
    (documents / "archive").mkdir()
    for number, animal in enumerate(ANIMALS):
        (documents / f"{animal}.md").write_text(_page(number))
        (documents / "archive" / f"{animal}.md").write_text(_page(number).replace(" diet ", " old diet "))
    index(settings, collection(embedding={"model": "all-MiniLM-L6-v2"}))
    for question in ("what does a badger eat", "how long does a turtle live", "young penguins"):
        crowded = _search(settings, question, copies=True)
        assert len({hit.document.removeprefix("archive/") for hit in crowded}) < 8
        assert not any(hit.duplicates for hit in crowded)
        hits = _search(settings, question)
        pages = [hit.document.removeprefix("archive/") for hit in hits]
        assert len(set(pages)) == len(hits) == 10
        named = [[d.document.removeprefix("archive/") for d in hit.duplicates] for hit in hits]
        assert sum(len(n) for n in named) >= 8
        assert all(set(n) <= {page} for n, page in zip(named, pages, strict=True))
        assert all(d.score <= hit.score for hit in hits for d in hit.duplicates)


def test_as_many_as_asked_for_behind_many_copies(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    """More copies than the first look fetches, and all of them nearer than anything else."""
    copies, others = 3 * (10 + SPARE_HITS), 12
    for number in range(copies):
        (documents / f"copy{number:03}.md").write_text("The office opens at nine.")
    for number in range(others):
        (documents / f"other{number}.md").write_text(f"Another page, number {number}.")
    index(settings, collection(), embedder=HashEmbedder())
    hits = _search(settings, "The office opens at nine.", embedder=HashEmbedder())
    assert len({hit.text for hit in hits}) == len(hits) == 10
    assert hits[0].document == "copy000.md"
    assert [d.document for d in hits[0].duplicates] == [f"copy{n:03}.md" for n in range(1, copies)]
    hits = _search(settings, "The office opens at nine.", embedder=HashEmbedder(), top_k=50)
    assert len(hits) == 1 + others


def test_what_one_version_wrote_anew_stays(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    """Two versions of a page that differ in one paragraph: both paragraphs are found, and what they share once."""
    for name, number in (("old", 20), ("new", 21)):
        paragraphs = [*map(_paragraph, range(10)), _paragraph(number), *map(_paragraph, range(10, 20))]
        (documents / f"{name}.txt").write_text("\n\n".join(paragraphs))
    index(settings, collection(chunking={"max_tokens": 130}), embedder=HashEmbedder())
    every = _search(settings, "x", embedder=HashEmbedder(), top_k=100, copies=True)
    assert len(every) == 42
    hits = _search(settings, "x", embedder=HashEmbedder(), top_k=100)
    assert sorted(hit.text for hit in hits) == sorted(map(_paragraph, range(22)))
    assert sum(len(hit.duplicates) for hit in hits) == 20


def test_a_hidden_copy_is_not_named(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    rows = [{"id": team, "text": _page(3), "metadata": {"team": team}} for team in ("red", "blue")]
    write_rows(documents / "rows.jsonl", rows)
    index(settings, collection(source={"type": "jsonl", "path": str(documents / "rows.jsonl")}), embedder=HashEmbedder())
    hits = _search(settings, "x", embedder=HashEmbedder(), filters={"team": "red"})
    assert {hit.document for hit in hits} == {"red"}
    assert not any(hit.duplicates for hit in hits)
    assert any(hit.duplicates for hit in _search(settings, "x", embedder=HashEmbedder()))


def test_documents_are_ranked_with_their_copies(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    for number in range(5):
        (documents / f"{number}.md").write_text("The office opens at nine.")
    index(settings, collection(), embedder=HashEmbedder())
    with open_pool(settings) as pool:
        ranked = Searcher(settings, pool, "handbook", embedder=HashEmbedder()).documents("office", top_k=5)
    assert [uri for uri, _ in ranked] == [f"{n}.md" for n in range(5)]


def _hit(document: str, text: str, score: float = 0.5) -> Hit:
    return Hit(document, 0, 0, len(text), text, score, {})


def test_similar_passages_of_different_documents_stay() -> None:
    """Products that share a template: only documents that are near-duplicates as a whole are folded."""
    form = "Warranty: the maker repairs or replaces within two years what fails in fair use, at no cost, except worn parts of"
    hits = [_hit("drill", f"{form} the drill."), _hit("saw", f"{form} the saw.")]
    apart = {h.document: signature(h.text + _page(i)) for i, h in enumerate(hits)}
    assert collapse(hits, lambda: apart, 0.8, top_k=10) == hits
    together = dict.fromkeys(apart, signature(_page(0)))
    (shown,) = collapse(hits, lambda: together, 0.8, top_k=10)
    assert [d.document for d in shown.duplicates] == ["saw"]
    assert len(collapse(hits, lambda: together, 0.95, top_k=10)) == 2
    assert len(collapse(hits, lambda: {}, 0.8, top_k=10)) == 2  # too short for a signature, or not signed


def test_passages_of_one_document_are_folded_only_when_identical() -> None:
    text = _page(0)
    hits = [_hit("a", text), _hit("a", text + " More."), _hit("a", text)]
    shown = collapse(hits, lambda: {"a": signature(text)}, 0.8, top_k=10)
    assert [len(hit.duplicates) for hit in shown] == [1, 0]


def test_folding_finds_what_comparing_all_finds() -> None:
    """The prefix filter leaves nothing out: passages around the threshold, each against those shown before it."""
    rng = random.Random(2)
    base = [f"w{i}" for i in range(60)]
    hits = []
    for number in range(120):
        words = list(base)
        for _ in range(rng.randint(0, 6)):
            words[rng.randrange(60)] = f"x{rng.randrange(10**6)}"
        hits.append(_hit(str(number), " ".join(words), 1 - number / 1000))
    signed = dict.fromkeys((hit.document for hit in hits), signature(_page(0)))
    shown = collapse(hits, lambda: signed, 0.8, top_k=1000)
    slow: list[Hit] = []
    for hit in hits:
        if not any(_alike(hit.text, other.text) for other in slow):
            slow.append(hit)
    assert [h.document for h in shown] == [h.document for h in slow]
    assert 1 < len(slow) < 120


def _alike(one: str, other: str) -> bool:
    sets: Sequence[set[tuple[str, ...]]] = [set(zip(*(t.split()[i:] for i in range(3)), strict=False)) for t in (one, other)]
    return len(sets[0] & sets[1]) >= 0.8 * len(sets[0] | sets[1])


def test_signatures_are_read_only_when_needed() -> None:
    def never() -> dict[str, bytes]:
        raise AssertionError

    assert len(collapse([_hit("a", _page(0)), _hit("b", _page(1)), _hit("c", _page(1))], never, 0.8, top_k=10)) == 2


@pytest.mark.parametrize("text", ["", " ", "\n", "one", "one two"])
def test_passages_of_next_to_no_words(text: str) -> None:
    assert len(collapse([_hit("a", text), _hit("b", text), _hit("c", "another")], dict, 0.8, top_k=10)) == 2


def test_signatures_equal_those_of_a_rebuild(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    """After adds, edits, renames and deletes; a text that is gone leaves no signature behind."""
    collection("incremental", validation={"max_deleted": 1.0})
    rng = random.Random(4)
    for number in range(12):
        (documents / f"{number}.md").write_text(_page(number))
    (documents / "short.md").write_text("Short.")
    for step in range(4):
        index(settings, "incremental", embedder=HashEmbedder())
        (documents / f"added{step}.md").write_text(_page(12 + step))
        path = rng.choice(sorted(documents.glob("*.md")))
        path.write_text(path.read_text() + " Edited.")
        rng.choice(sorted(documents.glob("*.md"))).unlink()
        path = rng.choice(sorted(documents.glob("*.md")))
        path.rename(documents / f"renamed{step}.md")
    index(settings, "incremental", embedder=HashEmbedder())
    collection("scratch")
    index(settings, "scratch", embedder=HashEmbedder())
    assert _signed(settings, "incremental") == _signed(settings, "scratch")
    assert len(_signed(settings, "scratch")) >= 10
    texts = query(settings, "select text, signature from ragworks.document_text")
    assert all(signature(text) == stored for text, stored in texts)


def _signed(settings: Settings, name: str) -> dict[Any, bytes]:
    rows = query(
        settings,
        "select t.content_hash, t.signature from ragworks.document_text t join ragworks.collection c on c.id = t.collection_id"
        " where c.name = %s",
        name,
    )
    return dict(rows)


def test_switched_off_and_on(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    """Off: nothing is signed, nothing folded. Switched on: the next run signs what is there, and embeds nothing."""
    for name in ("a", "b"):
        (documents / f"{name}.md").write_text(_page(0))
    index(settings, collection(near_duplicates={"threshold": None}), embedder=HashEmbedder())
    assert set(_signed(settings, "handbook").values()) == {None}
    assert len(_search(settings, "x", embedder=HashEmbedder())) == len(export(settings, "handbook"))
    index(settings, collection(), embedder=HashEmbedder(), mode="plan")
    assert set(_signed(settings, "handbook").values()) == {None}
    result = index(settings, "handbook", embedder=HashEmbedder())
    assert result["chunks"]["embedded"] == result["chunks"]["written"] == 0
    assert set(_signed(settings, "handbook").values()) == {signature(_page(0))}
    assert len(_search(settings, "x", embedder=HashEmbedder())) * 2 == len(export(settings, "handbook"))


def test_a_collection_file_that_is_gone(settings: Settings, documents: Path, collection: Callable[..., str]) -> None:
    for name in ("a", "b"):
        (documents / f"{name}.md").write_text("The office opens at nine.")
    index(settings, collection(), embedder=HashEmbedder())
    (settings.collections_dir / "handbook.yaml").unlink()
    (hit,) = _search(settings, "x", embedder=HashEmbedder())
    assert [d.document for d in hit.duplicates] == ["b.md"]


@pytest.fixture
def ragworks(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The command line; returns what it prints."""
    monkeypatch.setenv("RAGWORKS_DATABASE_URL", settings.database_url or "")
    monkeypatch.setenv("RAGWORKS_HOME", str(settings.home))
    monkeypatch.setenv("RAGWORKS_COLLECTIONS_DIR", str(settings.collections_dir))

    def call(*arguments: str) -> str:
        capsys.readouterr()
        assert main(arguments) == 0
        return capsys.readouterr().out

    return call


def test_the_commands(
    settings: Settings, documents: Path, collection: Callable[..., str], ragworks: Callable[..., str]
) -> None:
    (documents / "page.md").write_text(_page(0))
    (documents / "copy.md").write_text(_page(0).replace(" diet ", " old diet "))
    (documents / "other.md").write_text(_page(1))
    for number in range(3):
        (documents / f"note{number}.txt").write_text("Closed on Sundays.")
    index(settings, collection())
    listed = json.loads(ragworks("duplicates", "handbook", "--json"))
    assert set(listed) == {"collection", "generation", "threshold", "documents", "not_compared", "clusters"}
    assert (listed["documents"], listed["not_compared"], listed["threshold"]) == (5, 0, 0.8)
    assert [[d["document"] for d in c["documents"]] for c in listed["clusters"]] == [
        ["note0.txt", "note1.txt", "note2.txt"],
        ["copy.md", "page.md"],
    ]
    assert [c["size"] for c in listed["clusters"]] == [3, 2]
    assert listed["clusters"][0]["documents"][0]["similarity"] == 1.0
    assert 0.8 <= listed["clusters"][1]["documents"][0]["similarity"] < 1
    strict = json.loads(ragworks("duplicates", "handbook", "--threshold", "1", "--json"))
    assert [c["size"] for c in strict["clusters"]] == [3]
    assert "5 documents in 2 clusters" in ragworks("duplicates", "handbook")
    found = json.loads(ragworks("search", "handbook", "is it closed on sundays?", "--top-k", "2", "--json"))["results"]
    assert [(d["document"], d["start"], d["end"]) for d in found[0]["duplicates"]] == [
        ("note1.txt", 0, 18),
        ("note2.txt", 0, 18),
    ]
    assert set(found[0]["duplicates"][0]) == {"document", "ordinal", "start", "end", "score"}
    every = json.loads(ragworks("search", "handbook", "is it closed on sundays?", "--all", "--json"))["results"]
    assert sum("duplicates" in hit for hit in every) == 0
    assert [hit["document"] for hit in every[:3]] == ["note0.txt", "note1.txt", "note2.txt"]
    assert "also in: note1.txt [0:18], note2.txt [0:18]" in ragworks("search", "handbook", "is it closed on sundays?")


@pytest.mark.parametrize("threshold", ["0.2", "1.5", "much"])
def test_impossible_thresholds(threshold: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["duplicates", "handbook", "--threshold", threshold])
    assert stopped.value.code == 2


def test_no_live_index(settings: Settings, collection: Callable[..., str], documents: Path) -> None:
    (documents / "a.md").write_text("Text.")
    index(settings, collection(), embedder=HashEmbedder(), mode="plan")
    with open_pool(settings) as pool, pytest.raises(BadData, match="no live index"):
        Searcher(settings, pool, "handbook").search("x")
