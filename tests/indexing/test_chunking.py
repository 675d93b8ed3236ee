"""The chunker: exact spans, nothing lost, limits for any input, structure, and calm under edits."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from include.collection_file import Chunking
from include.embedding.local import LocalEmbedder
from include.errors import Terminal
from include.indexing.chunking import Chunk, chunk_document
from include.indexing.structure import Level, markdown_outline, plain_outline

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
TOKENIZER = LocalEmbedder("all-MiniLM-L6-v2").tokenizer
WORDS = [
    "index", "vector", "document", "chunk", "query", "model", "search", "table", "column", "server", "client", "request",
    "answer", "filter", "token", "window", "batch", "latency", "recall", "cost", "report", "plan", "stage", "commit",
]  # fmt: skip


def count(text: str, tokenizer: Tokenizer = TOKENIZER) -> int:
    return len(tokenizer.encode(text, add_special_tokens=False).ids)


def checked(text: str, settings: Chunking, tokenizer: Tokenizer = TOKENIZER) -> list[Chunk]:
    """The chunks of ``text``, after checking everything that must hold for any input."""
    chunks = chunk_document(text, tokenizer, settings)
    assert [c.ordinal for c in chunks] == list(range(len(chunks)))
    covered = 0
    for chunk in chunks:
        assert text[chunk.start : chunk.end] == chunk.text
        assert chunk.text
        assert chunk.text == chunk.text.strip()
        assert chunk.tokens == count(chunk.text, tokenizer) <= settings.max_tokens
        assert not text[covered : chunk.start].strip(), "characters between chunks are lost"
        assert settings.overlap or chunk.start >= covered
        assert chunk.end > covered
        covered = chunk.end
    assert not text[covered:].strip()
    return chunks


def prose(paragraphs: int, seed: int = 0, words: tuple[int, int] = (15, 90)) -> list[str]:
    chance = random.Random(seed)
    return [
        " ".join(
            " ".join(chance.choices(WORDS, k=chance.randint(6, 14))).capitalize() + "."
            for _ in range(max(1, chance.randint(*words) // 10))
        )
        for _ in range(paragraphs)
    ]


def new_texts(before: str, after: str, settings: Chunking) -> int:
    known = Counter(c.text for c in chunk_document(before, TOKENIZER, settings))
    return (Counter(c.text for c in chunk_document(after, TOKENIZER, settings)) - known).total()


# --- any input ---

PIECES = st.sampled_from([
    "# Title\n", "## Sub\n\n", "- item\n", "  - deep\n", "```\n", "~~~py\n", "| a | b |\n|---|---|\n", "---\n", "> quote\n",
    "\n", "\n\n", "\r\n", "\r", "\t", "    code\n", "word ", "A sentence. ", "你好世界。", "naïve café ", "e\u0301",
    "👩‍👩‍👧‍👦", "x" * 70, "<div>\n", "[a]: b\n", "1. one\n", "\u2028", "\x1c", "[SEP]", "ﷺ", "a_b-c/d=", "title: x\n",
    "שלום ", "한국어 ",
])  # fmt: skip
DOCUMENTS = st.one_of(
    st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=400),
    st.lists(PIECES, max_size=120).map("".join),
)


@given(text=DOCUMENTS, limit=st.integers(8, 40), overlap=st.integers(0, 20), markdown=st.booleans())
@hypothesis_settings(max_examples=400, deadline=None)
def test_spans_are_exact_complete_and_within_the_limit(text: str, limit: int, overlap: int, markdown: bool) -> None:
    chunks_settings = Chunking(max_tokens=limit, overlap=min(overlap, limit // 2), markdown=markdown)
    assert checked(text, chunks_settings) == chunk_document(text, TOKENIZER, chunks_settings)


@pytest.fixture(scope="module")
def byte_level() -> Tokenizer:
    """A tokenizer for which a part may count more than it does inside the whole, as in GPT-2."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False, special_tokens=[]
    )
    tokenizer.train_from_iterator(prose(200), trainer)
    return tokenizer


def test_a_byte_level_tokenizer_keeps_the_limit_too(byte_level: Tokenizer) -> None:
    text = "\n\n".join([*prose(60, seed=3), "日本語のテキスト" * 50, "émoji 👩‍👩‍👧‍👦 " * 40])
    assert len(checked(text, Chunking(max_tokens=40), byte_level)) > 60


@pytest.mark.parametrize("markdown", [True, False])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("one word", "a" * 100_000),
        ("base64", "".join(random.Random(1).choices("ABCDEFabcdef0123456789+/", k=40_000))),
        ("chinese", "".join(random.Random(2).choices("的一是不了人我在有他这中大来上个国", k=20_000))),
        ("spaces between words", ("word." + " " * 50_000 + "b\n") * 20),
        ("identical paragraphs", "Same paragraph here.\n\n" * 10_000),
        ("lines", "x\n" * 50_000),
        ("headings only", "# A\n" * 20_000),
        ("fences", "```\n" * 20_000),
        ("quotes", ">" * 20_000),
        ("brackets", "[" * 50_000),
        ("deep list", "".join("  " * i + "- a\n" for i in range(500))),
        ("hashes", "#" * 50_000),
    ],
)
@pytest.mark.timeout(60)
def test_odd_and_huge_inputs(name: str, text: str, markdown: bool) -> None:
    chunks = checked(text, Chunking(markdown=markdown))
    if name not in ("one word", "deep list", "spaces between words"):
        assert len(chunks) > 1
    assert max(len(c.text) for c in chunks) < 1_100_000


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_five_megabytes() -> None:
    text = "\n\n".join(prose(12_000, words=(60, 90)))
    assert len(text) > 5_000_000
    chunks = chunk_document(text, TOKENIZER, Chunking())
    assert "".join("".join(c.text.split()) for c in chunks) == "".join(text.split())


def test_a_character_the_tokenizer_drops_does_not_separate_words() -> None:
    chance = random.Random(4)
    words = ["\x1c".join("".join(chance.choices("bcdfghjklmnpqrtvwxz", k=4)) for _ in range(9)) for _ in range(60)]
    assert len(checked(" ".join(words), Chunking(max_tokens=8))) > 60  # \x1c: white space to Python, nothing to BERT


def test_a_text_of_nothing_has_no_chunks() -> None:
    assert chunk_document("", TOKENIZER, Chunking()) == []
    assert chunk_document(" \n\t\r\n ", TOKENIZER, Chunking()) == []


def test_a_truncating_tokenizer_is_refused() -> None:
    cutting = Tokenizer.from_str(TOKENIZER.to_str())
    cutting.enable_truncation(128)
    with pytest.raises(Terminal, match="no_truncation"):
        chunk_document("text", cutting, Chunking())


# --- structure ---


def test_blocks_that_fit_stay_whole() -> None:
    table = "| name | value |\n|---|---|\n" + "".join(f"| row {i} | {i * 7} |\n" for i in range(15))
    fence = "```python\n" + "".join(f"value_{i} = {i}\n\n" for i in range(12)) + "```\n"
    listing = "".join(f"- item {i} of the list\n" for i in range(14))
    blocks = [table, fence, listing]
    parts = prose(40, seed=5)
    for position, block in zip((5, 17, 29), blocks, strict=True):
        parts.insert(position, block)
    chunks = checked("\n\n".join(parts), Chunking(max_tokens=150))
    for block in (table, fence):
        assert count(block) <= 150
        assert any(block.strip() in c.text for c in chunks), block
    assert all(not c.text.endswith("of the") for c in chunks)


def test_a_long_table_is_cut_between_rows_and_long_prose_between_sentences() -> None:
    table = "| name | value |\n|---|---|\n" + "".join(f"| row. {i} | {i * 7} text. here |\n" for i in range(60))
    for chunk in checked(table, Chunking(max_tokens=100)):
        assert chunk.text.endswith("|")
    paragraph = " ".join(prose(30))
    assert all(c.text.endswith(".") for c in checked(paragraph, Chunking(max_tokens=100)))


def test_headings_are_kept_with_what_follows_and_named_in_the_metadata() -> None:
    parts = ["# Guide", *prose(4), "## Install", *prose(4, 1), "### On Linux", *prose(4, 2), "## Use", *prose(4, 3)]
    chunks = checked("\n\n".join(parts), Chunking(max_tokens=90))
    for heading, path in (
        ("# Guide", ["Guide"]),
        ("## Install", ["Guide", "Install"]),
        ("### On Linux", ["Guide", "Install", "On Linux"]),
        ("## Use", ["Guide", "Use"]),
    ):
        (owner,) = [c for c in chunks if heading in c.text.splitlines()]
        assert not owner.text.endswith(heading)
        if owner.text.startswith(heading):
            assert owner.metadata == {"headings": path}
    assert any(c.metadata == {"headings": ["Guide", "Install", "On Linux"]} for c in chunks)
    assert chunks[-1].metadata == {"headings": ["Guide", "Use"]}


def test_no_heading_is_left_alone_before_a_block_that_just_fits() -> None:
    for seed in range(8):
        paragraphs = [p for p in prose(80, seed, words=(60, 99)) if 95 <= count(p) <= 100]
        assert paragraphs
        chunks = checked("\n\n".join(f"## Part {i} of it\n\n{p}" for i, p in enumerate(paragraphs)), Chunking(max_tokens=100))
        assert [c.text for c in chunks if c.text.splitlines()[-1].startswith("##")] == []


@pytest.mark.parametrize("fence", ["```", "~~~~"])
def test_a_heading_inside_a_fence_or_front_matter_is_not_one(fence: str) -> None:
    code = f"{fence}\n# comment\n\nSetext\n===\n{fence}\n"
    text = f"---\ntitle: x\nauthor: y\n---\n\n# Real\n\n{code}\n> # quoted\n\n    # code\n"
    assert [h.title for h in markdown_outline(text).headings] == ["Real"]
    assert "headings" not in chunk_document("# Title\n\nbody", TOKENIZER, Chunking(markdown=False))[0].metadata


def test_line_ends_of_every_kind_give_the_same_structure() -> None:
    text = "# A\n\npara one\nstill\n\n- x\n- y\n\n```\n# no\n```\n\nEnd\n===\n\nlast"
    for end in ("\r\n", "\r"):
        other = text.replace("\n", end)
        for outline in (markdown_outline, plain_outline):
            cuts = [(text.count("\n", 0, c.start), c.level) for c in outline(text).cuts]
            assert [(other.count(end, 0, c.start), c.level) for c in outline(other).cuts] == cuts
    assert [c.level for c in plain_outline("one\r\ntwo\r\n\r\nthree").cuts] == [Level.BLOCK, Level.BLOCK]


def test_overlap_repeats_whole_words_from_before() -> None:
    text = "\n\n".join(prose(60))
    plain = chunk_document(text, TOKENIZER, Chunking(max_tokens=80))
    chunks = checked(text, Chunking(max_tokens=100, overlap=20))
    assert [c.end for c in chunks] == [c.end for c in plain]
    for before, first, second in zip(plain, plain[1:], chunks[1:], strict=False):
        shared = text[second.start : before.end]
        assert 10 <= count(shared) <= 20, "paragraphs are longer than the overlap, words far shorter"
        assert text[second.start - 1].isspace()
        assert first.start > second.start


def test_chunks_are_well_filled() -> None:
    chunks = chunk_document("\n\n".join(prose(600)), TOKENIZER, Chunking())
    assert sum(c.tokens for c in chunks) / len(chunks) / 200 >= 0.6
    for first, second in pairwise(chunks):
        assert first.tokens + second.tokens > 200, "two neighbours would fit in one chunk"


# --- edits ---


def edits(paragraph: str, chance: random.Random) -> list[str]:
    words = paragraph.split(" ")
    middle = len(words) // 2
    return [
        " ".join([*words[:middle], "zebra", *words[middle + 1 :]]),
        paragraph + " A sentence that an editor had the time to add.",
        f"Paragraph {chance.randrange(10**9)} is new. " + " ".join(chance.sample(words, len(words))),
    ]


def edit_counts(paragraphs: list[str], settings: Chunking, sample: int) -> Counter[int]:
    chance = random.Random(9)
    text, counts = "\n\n".join(paragraphs), Counter[int]()
    sizes = range(5, settings.max_tokens * 4 // 5)
    editable = [i for i, p in enumerate(paragraphs) if p[:1].isalnum() and p[-1] in ".:!?" and count(p) in sizes]
    for i in chance.sample(editable, min(sample, len(editable))):
        for edited in edits(paragraphs[i], chance):
            counts[new_texts(text, "\n\n".join([*paragraphs[:i], edited, *paragraphs[i + 1 :]]), settings)] += 1
    return counts


def check_edit_counts(counts: Counter[int]) -> None:
    """One or two as a rule, four now and then for a paragraph written anew; packing from the top gives dozens."""
    assert sum(k * n for k, n in counts.items()) / counts.total() < 1.7
    assert max(counts) <= 5
    assert sum(n for k, n in counts.items() if k > 3) <= counts.total() / 20


@pytest.mark.parametrize("heading_every", [0, 12])
def test_an_edited_paragraph_changes_the_chunks_around_it(heading_every: int) -> None:
    paragraphs = prose(420, seed=11, words=(5, 40))
    if heading_every:
        paragraphs = [f"## Part {i}\n\n{p}" if i % heading_every == 0 else p for i, p in enumerate(paragraphs)]
    assert len(chunk_document("\n\n".join(paragraphs), TOKENIZER, Chunking(max_tokens=64))) > 190
    check_edit_counts(edit_counts(paragraphs, Chunking(max_tokens=64), sample=10))


@pytest.mark.parametrize("markdown", [True, False])
@pytest.mark.parametrize("seed", range(2))
def test_an_insertion_at_the_top_shifts_nothing(seed: int, markdown: bool) -> None:
    text = "\n\n".join(prose(300, seed=seed))
    assert new_texts(text, prose(1, seed=99)[0] + "\n\n" + text, Chunking(markdown=markdown)) <= 3
    inserted = "\n\n".join(prose(40, seed=98))
    alone = len(chunk_document(inserted, TOKENIZER, Chunking()))
    assert new_texts(text, inserted + "\n\n" + text, Chunking(markdown=markdown)) <= alone + 3


def test_paragraphs_that_begin_alike_are_told_apart_by_the_rest() -> None:
    opening = "Every record of this register begins with the same long opening, and then it says: "
    paragraphs = [opening + p for p in prose(300, words=(5, 60))]
    text = "\n\n".join(paragraphs)
    for extra in prose(6, seed=97, words=(5, 60)):
        assert new_texts(text, extra + "\n\n" + text, Chunking()) <= 4


@pytest.mark.parametrize("unit", [["All say this."], ["One says this.", "Another that.", "A third has more to say."]])
def test_repeated_paragraphs_do_not_cascade(unit: list[str]) -> None:
    paragraphs = unit * (600 // len(unit))
    known = {c.text for c in chunk_document("\n\n".join(paragraphs), TOKENIZER, Chunking(max_tokens=100))}
    for at in (0, 1, 7, 300, 599):
        edited = [*paragraphs[:at], "Something else stands here.", *paragraphs[at + 1 :]]
        removed = [*paragraphs[:at], *paragraphs[at + 1 :]]
        for after in (edited, removed):
            found = {c.text for c in chunk_document("\n\n".join(after), TOKENIZER, Chunking(max_tokens=100))}
            assert len(found - known) <= 3


def test_an_edit_in_real_text_changes_the_chunks_around_it() -> None:
    path = DATA / "chunking-eval" / "documents.jsonl.gz"
    if not path.exists():
        pytest.skip("../shared/data/chunking-eval is absent")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        texts = {row["id"]: row["text"] for row in map(json.loads, lines)}
    for name in ("pubmed", "state_of_the_union"):
        chunks = chunk_document(texts[name], TOKENIZER, Chunking())[:100]
        check_edit_counts(edit_counts(texts[name][: chunks[-1].end].split("\n\n"), Chunking(markdown=False), sample=10))
