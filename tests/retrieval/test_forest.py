"""The light reranker as search uses it: a real forest of scikit-learn, saved and read without it."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from include.collection_file import Retrieval
from include.errors import BadData
from include.lexical.bm25 import BM25
from include.lexical.terms import TERMS_VERSION
from include.lexical.vocabulary import vocabulary_of
from include.registry import artifacts
from include.retrieval.forest import SETTINGS, WEIGHTS, ForestReranker, Trees
from include.retrieval.pair_features import FEATURES, FIRST_STAGE, pair_features
from include.retrieval.rerank import first_stage_of, open_reranker
from include.retrieval.stage import second_stage
from include.store.pool import open_pool
from include.store.search import Hit
from include.training import forest
from include.training.arguments import RerankerArguments

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from include.config import Settings

QUESTION = "where do river otters sleep?"
TEXTS = [
    "# Otters\nRiver otters sleep afloat, or in a holt by the water.",
    "Otters eat fish. They sleep little. The river is long; otters play in it, and otters swim.",
    "Badgers dig setts in dry ground.",
    "",
    "RIVER OTTERS SLEEP",
] * 4
VOCABULARY = vocabulary_of("english", TEXTS)


def _hits() -> list[Hit]:
    return [Hit(str(n), 0, 0, 1, text, 1 - n / 40, {}, scores={"dense": 0.9 - n / 50}) for n, text in enumerate(TEXTS)]


def _examples(seed: int = 1) -> forest.Examples:
    """Right is what has the question's words together and a good similarity; a tenth of the features is not known."""
    draw = np.random.default_rng(seed)
    rows = draw.random((3000, len(FEATURES))).astype(np.float32)
    labels = (rows[:, FEATURES.index("pairs")] + rows[:, FEATURES.index("dense")] > 1.2).astype(np.float64)
    rows[draw.random(rows.shape) < 0.1] = np.nan
    return forest.Examples(rows, labels, np.ones(len(rows)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("forest")
    trees = forest.grow(_examples(), RerankerArguments(kind="forest", trees=40), jobs=1)
    forest.save(trees, VOCABULARY, place)
    (place / "ragworks.json").write_text(json.dumps({"kind": "forest", "settings": {"rerank_weight": 0.7}}))
    return place


def test_the_same_scores_as_scikit_learn(folder: Path) -> None:
    """Also for rows with features that are not known."""
    from sklearn.ensemble import RandomForestRegressor

    learned = _examples()
    theirs = RandomForestRegressor(40, max_depth=20, min_samples_leaf=5, max_features="sqrt", random_state=0)
    theirs.fit(learned.rows, learned.labels, sample_weight=learned.weights)
    rows = _examples(seed=2).rows[:300]
    rows[0] = np.nan
    expected = theirs.predict(rows)
    assert forest.trees_of(theirs).score(rows) == pytest.approx(expected, abs=1e-12)
    assert ForestReranker(folder)._model[0].score(rows) == pytest.approx(expected, abs=1e-12)
    assert np.ptp(expected) > 0.5


def test_the_seed_decides(folder: Path) -> None:
    saved = (folder / WEIGHTS).read_bytes()
    again, other = folder.parent / "again", folder.parent / "other"
    forest.save(forest.grow(_examples(), RerankerArguments(kind="forest", trees=40), jobs=2), VOCABULARY, again)
    forest.save(forest.grow(_examples(), RerankerArguments(kind="forest", trees=40, seed=1), jobs=1), VOCABULARY, other)
    assert (again / WEIGHTS).read_bytes() == saved
    assert (other / WEIGHTS).read_bytes() != saved
    prints = [ForestReranker(place).fingerprint for place in (folder, again, other)]
    assert [one == prints[0] for one in prints] == [True, True, False]
    assert prints[0].startswith("forest:")


def test_features_say_how_the_words_meet() -> None:
    rows = pair_features(VOCABULARY, QUESTION, TEXTS[:5], first_stage_of(_hits())[:5])
    assert rows.shape == (5, len(FEATURES))
    by_name = {name: rows[:, n] for n, name in enumerate(FEATURES)}
    assert by_name["rank"].tolist() == [1, 2, 3, 4, 5]
    assert by_name["dense"][:2] == pytest.approx([0.9, 0.88])
    assert by_name["dense_gap"][:2] == pytest.approx([0, 0.02], abs=1e-6)
    assert np.isnan(by_name["lexical"]).all()
    assert by_name["question_terms"].tolist() == [3] * 5  # river, otter, sleep
    assert by_name["covered"].tolist() == [1, 1, 0, 0, 1]
    assert by_name["covered_in_first_line"][0] == pytest.approx(1 / 3)
    assert by_name["pairs"].tolist() == [1, 0, 0, 0, 1]
    assert by_name["longest_run"] == pytest.approx([1, 1 / 3, 0, 0, 1], abs=1e-6)
    assert by_name["first_place"][:3].tolist() == [0, 0, 1]
    assert by_name["closest"].tolist()[2:] == [0, 0, 1]
    assert by_name["most_frequent"][1] == pytest.approx(math.log1p(3))
    assert by_name["characters"][3] == 0
    assert by_name["bm25_share"] == pytest.approx(by_name["bm25"] / by_name["weight"], abs=1e-6)
    named = pair_features(VOCABULARY, "Does run_dag of DagRun v2.1 fail?", ["run_dag in v2.1", "RUN_DAG", "nothing"])
    assert named[:, FEATURES.index("written_alike")] == pytest.approx([2 / 3, 0, 0])
    assert np.isnan(pair_features(VOCABULARY, "?", ["text"])[0, : len(FIRST_STAGE)]).all()
    assert pair_features(VOCABULARY, "?", []).shape == (0, len(FEATURES))


def test_a_rare_word_tells_more_than_a_frequent_one() -> None:
    """`bm25` is that of the index, over the passages that were counted; each distinct one counts once."""
    texts = ["the harbour pump", "the harbour gate", "the harbour wall by the pump", "a zebra in the harbour"]
    counted = vocabulary_of("english", [*texts, texts[0]])
    question = "zebra of the harbour"
    by_name = dict(zip(FEATURES, pair_features(counted, question, texts).T, strict=True))
    assert by_name["covered"].tolist() == [0.5, 0.5, 0.5, 1]
    assert by_name["covered_weight"][0] < 0.1  # all have the harbour
    assert by_name["covered_weight"][3] == 1
    assert by_name["first_line_weight"].tolist() == by_name["covered_weight"].tolist()  # they have one line
    assert counted.weight(12_345) == counted.unseen > max(counted.weights.values())

    index = BM25("english", 0.9, 0.4, 1)
    counts = {term: sum(term in index.analyzer.terms(text) for text in texts) for term in counted.weights}
    asked = index.query(index.analyzer.terms(question), counts, len(texts))
    lengths = [len(index.analyzer.sequence(text)) for text in texts]
    assert counted.average == sum(lengths) / 4
    for text, length, value in zip(texts, lengths, by_name["bm25"], strict=True):
        norm = 0.9 * (1 - 0.4 + 0.4 * length / counted.average)
        found = index.analyzer.terms(text)
        assert value == pytest.approx(sum(w * found[t] / (found[t] + norm) for t, w in asked.items() if t in found), abs=1e-6)


def test_a_folder_opens_with_its_weight(folder: Path, settings: Settings) -> None:
    """By path and as an artifact; both give the same scores, whatever is read at once."""
    reference = artifacts.save_folder(settings, folder, "models/reranker/handbook/0123456789abcdef")
    by_path, by_reference = (open_reranker(name, settings) for name in (str(folder), reference))
    assert by_path is not None
    assert by_reference is not None
    assert (by_path.name, by_reference.name) == (str(folder), reference)
    assert by_path.weight == by_reference.weight == 0.7
    assert by_path.fingerprint == by_reference.fingerprint
    found = first_stage_of(_hits())
    scores = by_path.score(QUESTION, TEXTS, found)
    assert by_reference.score(QUESTION, TEXTS, found) == scores
    assert by_path.score(QUESTION, TEXTS[7:9], found[7:9]) == scores[7:9]
    assert by_path.score(QUESTION, []) == []
    assert open_reranker(reference, settings) is by_reference


def test_without_a_first_stage(folder: Path) -> None:
    """As /v1/rerank asks: by the words alone, and still a number each."""
    scores = ForestReranker(folder).score(QUESTION, TEXTS[:5])
    assert all(0 <= score <= 1 for score in scores)
    assert scores[0] > scores[2]
    assert scores != ForestReranker(folder).score(QUESTION, TEXTS[:5], first_stage_of(_hits())[:5])


def test_threads_get_what_one_gets(folder: Path) -> None:
    reranker, found = ForestReranker(folder), first_stage_of(_hits())
    expected = ForestReranker(folder).score(QUESTION, TEXTS, found)
    with ThreadPoolExecutor(8) as threads:
        scored = threads.map(lambda n: reranker.score(QUESTION, TEXTS[n % 5 :], found[n % 5 :]), range(64), timeout=60)
        assert all(scores == expected[-len(scores) :] for scores in scored)


def test_the_second_stage_tells_it_of_the_first(folder: Path, settings: Settings) -> None:
    """The same order whether the candidates are read at once or in two pieces; blended by the fitted weight."""
    reranker = open_reranker(str(folder), settings)
    assert reranker is not None
    orders = []
    with open_pool(settings) as pool:
        for _ in range(2):  # the first search reads four candidates to learn how fast that is
            hits, passport, _ = second_stage(
                QUESTION, _hits(), Retrieval(latency_budget_ms=60_000), reranker, pool, 0.0, 20, demanded=True
            )
            orders.append([(hit.document, hit.scores["rerank"]) for hit in hits])
            assert passport["reranker"]["weight"] == 0.7
            assert passport["reranker"]["candidates"] == len(TEXTS)
    assert orders[0] == orders[1]
    scores = reranker.score(QUESTION, TEXTS, first_stage_of(_hits()))
    assert dict(orders[0]) == {str(n): score for n, score in enumerate(scores)}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"children": [[-1, 1]]}, "a child that is none"),
        ({"children": [[1, 10**6]]}, "a child that is none"),
        ({"feature": [len(FEATURES)]}, "a feature that there is not"),
        ({"value": [math.nan]}, "a value is no number"),
        ({"roots": [10**6]}, "they begin outside"),
        ({"term_weights": [math.nan]}, "no number above 0"),
    ],
)
def test_trees_that_are_none(folder: Path, tmp_path: Path, change: dict[str, list[Any]], problem: str) -> None:
    """A damaged file must neither crash a search nor walk for ever."""
    from safetensors.numpy import load_file, save_file

    copy = _copy(folder, tmp_path)
    arrays = load_file(copy / WEIGHTS)
    for name, values in change.items():
        arrays[name][: len(values)] = values
    save_file(arrays, copy / WEIGHTS)
    with pytest.raises(BadData, match=problem):
        ForestReranker(copy).score(QUESTION, TEXTS)


def test_a_walk_cannot_turn_back() -> None:
    """A node whose child is itself on one side only, or lies before it, would be walked for ever."""
    root, plain = np.zeros(1, np.intp), np.zeros(3)

    def tree(*children: tuple[int, int]) -> Trees:
        return Trees(root, np.array(children), np.zeros(3, np.intp), plain, np.zeros(3, bool), plain)

    assert tree((1, 2), (1, 0), (2, 2)).problem(1)
    assert tree((0, 2), (1, 1), (2, 2)).problem(1)
    assert not tree((1, 2), (1, 1), (2, 2)).problem(1)


def test_files_that_are_not_as_they_were_saved(folder: Path, tmp_path: Path, settings: Settings) -> None:
    copy = _copy(folder, tmp_path / "a")
    (copy / WEIGHTS).write_bytes((copy / WEIGHTS).read_bytes()[:-100])
    with pytest.raises(BadData, match=r"forest.safetensors is damaged"):
        ForestReranker(copy).score(QUESTION, TEXTS)
    (copy / WEIGHTS).unlink()
    with pytest.raises(BadData, match=r"forest.safetensors cannot be read"):
        ForestReranker(copy).score(QUESTION, TEXTS)
    manifest = {"kind": "forest", "files": artifacts.hashes(folder)}
    copy = _copy(folder, tmp_path / "b")
    (copy / "ragworks.json").write_text(json.dumps(manifest))
    (copy / WEIGHTS).write_bytes((copy / WEIGHTS).read_bytes()[:-1] + b"\x01")
    with pytest.raises(BadData, match=r"forest.safetensors is not as it was saved"):
        open_reranker(str(copy), settings)
    for wrong, problem in (({"features": ["age"]}, "other features"), ({"terms_version": TERMS_VERSION + 1}, "other features")):
        (copy / SETTINGS).write_text(json.dumps(json.loads((folder / SETTINGS).read_text()) | wrong))
        with pytest.raises(BadData, match=problem):
            ForestReranker(copy)
    (copy / SETTINGS).unlink()
    with pytest.raises(BadData, match=f"{SETTINGS} is missing"):
        ForestReranker(copy)


@pytest.mark.parametrize("weight", [1.5, -0.1, "0.5", True])
def test_a_weight_that_is_none(folder: Path, tmp_path: Path, settings: Settings, weight: Any) -> None:
    copy = _copy(folder, tmp_path)
    (copy / "ragworks.json").write_text(json.dumps({"kind": "forest", "settings": {"rerank_weight": weight}}))
    with pytest.raises(BadData, match="rerank_weight"):
        open_reranker(str(copy), settings)


def test_scikit_learn_is_not_imported_to_serve(folder: Path) -> None:
    """Nor torch: a process that searches with a forest starts at once."""
    code = (
        "import sys; from pathlib import Path; from include.retrieval.forest import ForestReranker;"
        f"ForestReranker(Path({str(folder)!r})).score('a', ['b']);"
        "print([name for name in ('sklearn', 'torch', 'transformers', 'pandas') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert ran.stdout.strip() == "[]"


def _copy(folder: Path, place: Path) -> Path:
    return shutil.copytree(folder, place / "copy")
