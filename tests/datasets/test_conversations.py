"""Conversations of a real index with the real small model: made, split, checked, taken out, brought back, forgotten."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from include.answering.prompts import load_prompt
from include.cli.main import main
from include.datasets.conversations.build import build_conversations
from include.datasets.conversations.check import check_conversations
from include.datasets.conversations.imported import export_conversations, import_conversations
from include.datasets.conversations.options import LlmDataOptions
from include.errors import BadConfiguration, BadData
from include.indexing.erasing import erase_document
from include.progress import Silent
from include.store import conversations, datasets, golden
from include.store.feedback import Feedback, save_feedback
from include.store.golden import GoldenQuery, GoldenSpan
from tests.answering.llm_server import serve_llm
from tests.conftest import SHARED_DATA
from tests.datasets.zoo import write_judgements

if TYPE_CHECKING:
    from pathlib import Path

    from include.store.conversations import Conversation
    from include.store.datasets import Dataset
    from tests.datasets.conftest import Zoo

PROMPT = load_prompt("grounded")
ASKED = 14  # animals that are asked about, three times each


def _options(zoo: Zoo, **options: Any) -> LlmDataOptions:
    queries, qrels = write_judgements(zoo.folder.parent, ASKED)
    return LlmDataOptions(**{"queries": queries, "qrels": qrels, "min_train": 5, "min_dev": 2, "passages": 3, **options})


def _build(zoo: Zoo, options: LlmDataOptions) -> Dataset:
    return build_conversations(zoo.settings, zoo.pool, "handbook", options, progress=Silent())


def _rows(zoo: Zoo, made: Dataset) -> list[Conversation]:
    with zoo.pool.connection() as connection:
        return list(conversations.conversations(connection, made.id))


def test_grounded(zoo: Zoo, tmp_path: Path) -> None:
    """Answers cite the passage they are of, one in five has none to cite, sides share no document; out and in again."""
    options = _options(zoo, test_share=0.2, dev_share=0.2)
    made = _build(zoo, options)
    rows = _rows(zoo, made)
    assert (made.kind, made.name, len(rows)) == ("conversations", "conversations", 3 * ASKED)
    assert made.statistics["answers"] == "extractive"
    assert made.statistics["rows"].keys() == {"train", "dev", "test"}
    unanswerable = [row for row in rows if row.task == "unanswerable"]
    assert 3 <= len(unanswerable) <= 16
    for row in rows:
        system, user, answer = row.messages
        passages = dict(re.findall(r'number="(\d)" document="([^"]+)">', user["content"]))
        assert [system["role"], user["role"], answer["role"]] == ["system", "user", "assistant"]
        assert user["content"].endswith(f"Question: {row.question}")
        assert tuple(dict.fromkeys(passages.values())) == row.documents
        assert row.uri
        assert row.uri.removesuffix(".md") in row.question
        if row in unanswerable:
            assert answer["content"] == PROMPT.abstention
            assert row.uri not in row.documents
        else:
            cited = {passages[number] for number in re.findall(r"\[(\d)\]", answer["content"])}
            assert cited == {row.uri}
            assert re.sub(r" \[\d\]", "", answer["content"]).split(". ")[0] in " ".join(user["content"].split())
    places = [list(row.documents).index(row.uri) for row in rows if row.uri in row.documents]
    assert len(set(places)) == 3  # the right passage stands anywhere
    later = {row.uri for row in rows if row.split != "train"}
    assert not later & {uri for row in rows if row.split == "train" for uri in row.named}
    assert check_conversations(zoo.pool, zoo.id, made)["sound"]
    assert _build(zoo, options).id == made.id
    path = tmp_path / "out.jsonl.gz"
    assert export_conversations(zoo.pool, made, str(path)) == len(rows)
    again = import_conversations(zoo.pool, zoo.id, str(path), "conversations", progress=Silent())
    assert (again.id, again.content_hash) == (made.id, made.content_hash)
    with pytest.raises(BadData, match="42 of 42 conversations are malformed: line 1: rejected is missing"):
        import_conversations(zoo.pool, zoo.id, str(path), "preferences", progress=Silent())
    _contaminated(zoo, made, rows)
    _forgotten(zoo, made, rows)


def _contaminated(zoo: Zoo, made: Dataset, rows: list[Conversation]) -> None:
    """A golden query that came later, with other words around the same ones, fails the check; and so does its document."""
    learned = next(row for row in rows if row.split == "train")
    with zoo.pool.connection() as connection:
        golden.save(connection, zoo.id, [GoldenQuery(f"{learned.question.upper()}!", (), answerable=False)])
    with pytest.raises(BadData, match="1 × question in train and golden, such as row"):
        check_conversations(zoo.pool, zoo.id, made)
    with zoo.pool.connection() as connection:
        golden.delete_all(connection, zoo.id)
        golden.save(connection, zoo.id, [GoldenQuery("Anything else?", (GoldenSpan(learned.uri or ""),))])
    with pytest.raises(BadData, match="× document in train and golden"):
        check_conversations(zoo.pool, zoo.id, made)
    with zoo.pool.connection() as connection:
        golden.delete_all(connection, zoo.id)
        assert datasets.dataset(connection, made.id).state == "refused"
    assert check_conversations(zoo.pool, zoo.id, made)["sound"]


def _forgotten(zoo: Zoo, made: Dataset, rows: list[Conversation]) -> None:
    """With a document go all conversations in which it stands, also beside the one that answers."""
    gone = next(uri for row in rows for uri in row.documents if uri != row.uri)
    assert erase_document(zoo.pool, zoo.id, gone).erased["dataset_conversation"] > 0
    left = _rows(zoo, made)
    assert 0 < len(left) == sum(gone not in row.named for row in rows)
    assert gone not in repr(left)


def test_an_llm_answers(zoo: Zoo) -> None:
    """What is borne out and cites the right passage is learned; what is made up, uncited or abstains is counted."""

    def said(prompt: str) -> str:
        name = (re.search(r"(?:find a|does a|a) (\w+)(?: need| rest)?\?$", prompt) or ["", ""])[1]
        number = (re.search(rf'number="(\d)" document="{name}.md"', prompt) or ["", "1"])[1]
        sentence = re.search(rf'document="{name}.md">\n(?:#[^\n]+\n+)*([^\n.]+\.)', prompt)
        kind = sum(map(ord, name)) % 4
        answers = [
            f"{sentence[1] if sentence else ''} [{number}]",
            "It weighs 4711 pounds [1].",
            "Nobody knows.",
            PROMPT.abstention,
        ]
        return answers[kind]

    with serve_llm() as fake:
        fake.answers = said
        zoo.settings = zoo.settings.model_copy(update={"llm_base_url": fake.url, "llm_model": "tiny"})
        made = _build(zoo, _options(zoo, unanswerable_share=0.0, kind="conversations"))
        assert fake.requests[0]["messages"][0]["content"].startswith("You answer questions from the passages")
    assert made.statistics["answers"] == "tiny"
    dropped = made.statistics["dropped"]
    assert dropped.keys() <= {"ungrounded", "no_citation", "llm_abstained", "other_passage"}
    assert min(dropped["no_citation"], dropped["llm_abstained"]) > 0
    rows = _rows(zoo, made)
    assert len(rows) + sum(dropped.values()) == 3 * ASKED
    assert not [row for row in rows if "4711" in row.answer]


def _answered(zoo: Zoo, question: str, text: str, sources: list[str], **feedback: Any) -> None:
    """An answer as the service keeps it, and accepted feedback about it."""
    key = uuid4()
    with zoo.pool.connection() as connection:
        connection.execute(
            "insert into ragworks.query_log (id, collection_id, kind, query) values (%s, %s, 'chat', %s)",
            (key, zoo.id, question),
        )
        if text:
            connection.execute(
                "insert into ragworks.answer (id, question, text, abstained, extractive, citations)"
                " values (%s, %s, %s, false, false, '[]')",
                (key, question, text),
            )
        for number, uri in enumerate(sources if text else [], 1):
            connection.execute(
                "insert into ragworks.answer_source (answer_id, number, uri, ordinal, start_char, end_char, text, score)"
                " select %s, %s, d.uri, 0, 0, length(t.text), t.text, 0.5 from ragworks.document d"
                " join ragworks.document_text t using (collection_id, content_hash) where d.uri = %s",
                (key, number, uri),
            )
        save_feedback(connection, Feedback(key, **feedback))
        connection.execute("update ragworks.feedback set state = 'accepted' where query_id = %s", (key,))


def test_reviewed_feedback(zoo: Zoo) -> None:
    """Liked answers and corrections are learned; a correction is preferred to what it corrects; each cites its passage."""
    yak, mole = "The yak lives in cold plateaus of Tibet [1].", "It eats worms kept alive in a larder."
    gnats = "Gnats and midges."
    _answered(zoo, "where are yaks at home", yak, ["yak.md", "mole.md"], thumb=1)
    _answered(zoo, "and what do moles eat", "Grass [1].", ["yak.md", "mole.md"], thumb=-1, answer=mole, document="mole.md")
    _answered(zoo, "what is it that bats eat", "Fruit [1].", ["yak.md"], thumb=-1, answer=gnats, document="bat.md")
    _answered(zoo, "how do storks sleep", "", [], answer="Standing in the nest.", document="stork.md")
    _answered(zoo, "what weighs an otter", "Ten [1].", ["otter.md"], thumb=-1, answer="About 4711 pounds of gold.")
    options = LlmDataOptions(sources=("feedback",), min_train=1, min_dev=1, passages=2, dev_share=0.3, test_share=0)
    made = _build(zoo, options)
    rows = {row.question: row for row in _rows(zoo, made)}
    assert made.statistics["dropped"] == {"not_in_passages": 1}
    expected = {
        "where are yaks at home": (yak.removesuffix(" [1]."), "yak.md"), "and what do moles eat": (mole, "mole.md"),
        "what is it that bats eat": (gnats, "bat.md"), "how do storks sleep": ("Standing in the nest.", "stork.md"),
    }  # fmt: skip
    assert rows.keys() == expected.keys()
    for question, (said, document) in expected.items():  # by the number that the passage has when others were left out
        assert rows[question].answer.rstrip(".") == f"{said} [{rows[question].documents.index(document) + 1}]"
    assert {row.task for row in rows.values()} == {row.origin for row in rows.values()} == {"feedback"}
    preferred = _build(zoo, options.model_copy(update={"kind": "preferences", "name": "preferences"}))
    pairs = {row.question: (row.answer, row.rejected) for row in _rows(zoo, preferred)}
    assert pairs.keys() == {"and what do moles eat", "what is it that bats eat"}
    right, wrong = pairs["and what do moles eat"]
    assert (right[: len(mole)], (wrong or "")[:5]) == (mole, "Grass")
    assert check_conversations(zoo.pool, zoo.id, preferred)["rows"] == {"train": 1, "dev": 1, "test": 0}
    with pytest.raises(BadData, match="'preferences' holds preferences"):
        _build(zoo, options.model_copy(update={"name": "preferences"}))


def test_the_command(zoo: Zoo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A file of chats, twins in it, without sides: imported as it is, refused, built; shown, written, checked."""
    monkeypatch.setenv("RAGWORKS_DATABASE_URL", zoo.settings.database_url or "")
    monkeypatch.setenv("RAGWORKS_HOME", str(zoo.settings.home))
    monkeypatch.setenv("RAGWORKS_COLLECTIONS_DIR", str(zoo.settings.collections_dir))

    def run(*arguments: str, code: int = 0, as_json: bool = True) -> Any:
        capsys.readouterr()
        assert main(["dataset", "handbook", *arguments, *(["--json"] if as_json else [])]) == code
        told = capsys.readouterr()
        return json.loads(told.out) if as_json and code == 0 else told.out + told.err

    said = [(f"How many legs has the animal number {n} in the house?", f"Number {n} has {n} legs.") for n in range(40)]
    lines = [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in said]
    path = tmp_path / "chats.jsonl"
    path.write_text("\n".join(map(json.dumps, [*lines, lines[0]])))
    assert "enough_train: fewer than 50 conversations in train (min_train): 18" in run("--import", str(path), code=65)
    limits = ("--min-train", "10", "--min-dev", "2")
    made = run("--build", "--kind", "conversations", "--file", str(path), *limits)
    assert (made["kind"], made["state"], made["statistics"]["dropped"]) == ("conversations", "ready", {"duplicate": 1})
    assert sum(made["rows"].values()) == 40
    assert "animal number" in run("--show", str(made["dataset"]), as_json=False)
    out = str(tmp_path / "out.jsonl")
    assert run("--export", out, "--id", str(made["dataset"]))["rows"] == 40
    assert run("--import", out)["dataset"] == made["dataset"]
    assert run("--check", str(made["dataset"]))["checked"]
    assert "has no such option" in run("--build", "--kind", "conversations", "--negatives", "3", code=65)
    assert "has no such option" in run("--build", "--passages", "3", code=65)
    _training_takes_its_kind(zoo, made["dataset"])


def _training_takes_its_kind(zoo: Zoo, dataset: int) -> None:
    from include.datasets.options import DatasetOptions
    from include.training.arguments import ARGUMENTS
    from include.training.pipeline import Request, prepare

    request = Request("embedder", "handbook", ARGUMENTS["embedder"](), DatasetOptions(), dataset=dataset)
    with pytest.raises(BadConfiguration, match="conversations, and a training of embedder learns from pairs"):
        prepare(zoo.settings, zoo.pool, "key", request, progress=Silent())


@pytest.mark.parametrize(
    ("name", "rows", "task"),
    [
        ("gsm8k-train", 7473, "exact"), ("medquad-qa", 5000, "imported"), ("squad-a-grounded", 3000, "imported"),
        ("so-airflow-qa", 442, "imported"),
    ],
)  # fmt: skip
def test_shared_conversations(zoo: Zoo, name: str, rows: int, task: str) -> None:
    path = SHARED_DATA / "sft" / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    made = import_conversations(zoo.pool, zoo.id, str(path), "conversations", name=name, progress=Silent())
    assert made.statistics["tasks"] == {task: rows - sum(made.statistics["dropped"].values())}
    assert min(made.statistics["rows"].values()) >= 0.08 * rows
    report = check_conversations(zoo.pool, zoo.id, made)
    assert (report["sound"], report["leakage"]["found"]) == (True, 0)
