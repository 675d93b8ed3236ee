"""A person looks at a dataset, corrects it in a file and brings it back: by the command line, mistakes named by line."""

from __future__ import annotations

import gzip
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from include.cli.main import main
from include.datasets.lines import read_lines
from include.errors import BadData
from include.store import datasets
from include.store.pool import open_pool
from tests.datasets.zoo import pair, write_judgements, write_pages
from tests.support import HashEmbedder, index, query

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.config import Settings

GOOD = '{"query": "q?", "document": "a.md", "positive": "A text.", "split": "train"}'


@pytest.fixture
def run(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The command `dataset handbook`: (exit code, JSON or text, errors)."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def call(*arguments: str, as_json: bool = True) -> tuple[int, Any, str]:
        capsys.readouterr()
        code = main(["dataset", "handbook", *arguments, *(["--json"] if as_json else [])])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, json.loads(captured.out) if as_json else captured.out, captured.err

    return call


def test_make_look_correct(
    run: Any, documents: Path, settings: Settings, collection: Callable[..., str], tmp_path: Path
) -> None:
    """Everything a person does, with the real model."""
    write_pages(documents)
    index(settings, collection(chunking={"max_tokens": 48}))
    assert run()[1] == {"collection": "handbook", "datasets": []}
    queries, qrels = write_judgements(tmp_path)
    options = ("--queries", queries, "--qrels", qrels, "--dev-share", "0.3", "--negatives", "2")
    code, refused, error = run("--build", *options, "--max-rows", "30")
    assert code == 65
    assert re.search(r"enough_train: fewer than 50 training pairs \(min_train\): \d\d; enough_dev: .* 20 .*: \d\d", error)
    assert "Add questions" in refused["error"]
    code, made, _ = run("--build", *options)
    assert (code, made["state"], made["version"], made["rows"]) == (0, "ready", 2, {"dev": 27, "train": 63})
    assert made["statistics"]["dropped"] == {}
    assert run("--build", *options)[1]["dataset"] == made["dataset"]

    code, shown, _ = run("--show", str(made["dataset"]))
    assert shown["checks"]["sound"]
    assert shown["arguments"]["negatives"] == 2
    code, text, _ = run("--show", str(made["dataset"]), as_json=False)
    assert "train: 63" in text
    assert "otter" in run("--show", str(made["dataset"]), as_json=False)[1] or "md" in text
    code, text, _ = run("--list", as_json=False)
    table = [line.split() for line in text.splitlines() if "training" in line]
    assert [row[:5] for row in table] == [["2", "training", "2", "pairs", "qrels"], ["1", "training", "1", "pairs", "qrels"]]
    assert table[0][5:7] == ["63", "27"]
    assert ("sound" in table[0], "refused" in table[1]) == (True, True)

    path = tmp_path / "rows.jsonl.gz"
    assert run("--export", str(path))[1] == {
        "collection": "handbook", "dataset": made["dataset"], "file": str(path), "rows": 90,
    }  # fmt: skip
    assert run("--import", str(path))[1]["dataset"] == made["dataset"]  # nothing was corrected: the same version
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    lines[0]["query"] = "A question that a person wrote?"
    del lines[1]
    lines[1]["positive"] = None
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    code, corrected, _ = run("--import", str(path))
    assert (code, corrected["version"], corrected["origin"], corrected["parent"]) == (0, 3, "imported", made["dataset"])
    assert sum(corrected["rows"].values()) == 89
    with open_pool(settings) as pool, pool.connection() as connection:
        rows = list(datasets.pairs(connection, corrected["dataset"]))
    assert rows[0].query == "A question that a person wrote?"
    assert rows[1].positive.startswith("#")  # read from the document, by its characters
    lines.append(lines[0])
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    code, _, error = run("--import", str(path))
    assert (code, "pair_unique: 1 pairs (row 90)" in error) == (65, True)
    assert run("--check", str(corrected["dataset"]))[0] == 0
    assert run("--list")[1]["datasets"][0]["state"] == "refused"
    assert run("--export", str(tmp_path / "newest.jsonl"))[1]["dataset"] == corrected["dataset"]


@pytest.fixture
def pages(documents: Path, settings: Settings, collection: Callable[..., str]) -> None:
    (documents / "a.md").write_text("A text of a page.")
    index(settings, collection(), embedder=HashEmbedder())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"document": "a"}', "query is missing"),
        ('{"query": "q"}', "document is missing"),
        ('{"query": "q", "document": "a", "positve": "x"}', "unknown key 'positve'"),
        ('{"query": "q", "document": "a", "positive": 3}', "positive is missing or no text"),
        ('{"query": "q\\u0000", "document": "a"}', "cannot store"),
        ('{"query": "q", "document": "a", "start": 5, "end": 2}', "it goes from 5 to 2"),
        ('{"query": "q", "document": "a", "label": 2}', "label is 2"),
        ('{"query": "q", "document": "a", "label": true}', "label is True"),
        ('{"query": "q", "document": "a", "split": "valid"}', "split is 'valid'.*train, dev, test"),
        ('{"query": "q", "document": "a", "origin": "guess"}', "origin is 'guess'"),
        ('{"query": "q", "document": "a", "style": 3}', "style is 3"),
        ('{"query": "q", "document": "a", "dataset": "x"}', "dataset is 'x'"),
        ('{"query": "q", "document": "a", "metadata": []}', "metadata is not a JSON object"),
        ('{"query": "q", "document": "a", "metadata": {"x": NaN}}', "number that is none"),
        ('{"query": "q", "document": "a", "negatives": {}}', "negatives is not a list"),
        ('{"query": "q", "document": "a", "negatives": ["b"]}', r"negatives\[0\] is not a JSON object"),
        ('{"query": "q", "document": "a", "negatives": [{"document": "b"}]}', r"negatives\[0\].text is missing"),
        ('{"query": "q", "document": "a", "negatives": [{"document": "b", "text": "t", "score": "x"}]}', "score is 'x'"),
        ('{"query": "q", "document": "a", "negatives": [{"document": "b", "text": "t", "uri": "x"}]}', "unknown key 'uri'"),
    ],
)
def test_a_wrong_line_is_named_with_what_is_right(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{GOOD}\n\n{line}\n")
    with pytest.raises(BadData, match=message) as error:
        list(read_lines(str(path)))
    assert error.value.what.endswith("rows.jsonl line 3")
    assert error.value.fix


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it holds no rows"),
        (b"\n\n", "it holds no rows"),
        ("ä".encode("latin-1"), "utf-8"),
        (b'{"query": "q?", "document": "a.md", "positive": "A text."}', "line 1: split is missing"),
        (b'{"query": "q?", "document": "a.md", "split": "train"}', "line 1: positive is missing"),
        (b'{"query": "q?", "document": "a.md", "split": "train", "start": 3, "end": 99}', "has no text from 3 to 99"),
        (b'{"query": "q?", "document": "no.md", "split": "train", "start": 3, "end": 9}', "no.md has no text from 3 to 9"),
        (GOOD.encode() + b"\n" + GOOD.replace('"split"', '"dataset": 4, "split"').encode(), "line 2: dataset is 4, and None"),
        (GOOD.replace('"split"', '"dataset": 4, "split"').encode(), "there is no dataset 4"),
    ],
)
def test_a_refused_file_changes_nothing(
    content: bytes, message: str, run: Any, pages: None, settings: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    code, _, error = run("--import", str(path))
    assert code == 65
    assert message in error
    assert query(settings, "select count(*) from ragworks.dataset") == [(0,)]


def test_files_that_cannot_be(run: Any, pages: None, settings: Settings, tmp_path: Path) -> None:
    assert run("--import", str(tmp_path / "none.jsonl"))[0] == 65
    code, _, error = run("--export", str(tmp_path / "rows.jsonl"))
    assert (code, "has no sound dataset 'training'" in error) == (65, True)
    with open_pool(settings) as pool, pool.connection() as connection:
        made = datasets.save(connection, 1, "training", [pair(1)], arguments={}, statistics={})
    code, _, error = run("--export", str(tmp_path / "nowhere" / "rows.jsonl"))
    assert (code, "No such file" in error) == (65, True)
    assert run("--export", str(tmp_path / "rows.jsonl"), "--id", str(made.id))[0] == 0
    assert list(tmp_path.glob("*.part")) == []
    for action in ("--show", "--check"):
        code, _, error = run(action, "77")
        assert (code, "there is no dataset 77" in error) == (65, True)
    code, _, error = run("--build", "--qrels", "x.tsv")
    assert (code, "queries and qrels belong together" in error) == (65, True)
    code, _, error = run("--build", "--margin", "1.5")
    assert (code, "margin: Input should be less than or equal to 1" in error) == (65, True)
    code, _, error = run("--build", "--sources", "books")
    assert (code, "sources" in error) == (65, True)


def test_a_dataset_of_another_collection(
    run: Any, pages: None, settings: Settings, collection: Callable[..., str], tmp_path: Path
) -> None:
    index(settings, collection("other"), embedder=HashEmbedder())
    with open_pool(settings) as pool, pool.connection() as connection:
        made = datasets.save(connection, 2, "training", [pair(1)], arguments={}, statistics={})
    code, _, error = run("--show", str(made.id))
    assert (code, "is of another collection" in error) == (65, True)
    path = tmp_path / "rows.jsonl"
    path.write_text(GOOD.replace('"split"', f'"dataset": {made.id}, "split"'))
    code, _, error = run("--import", str(path))
    assert (code, "is of another collection" in error) == (65, True)
