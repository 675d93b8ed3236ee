"""Fits the confidence that passages hold an answer, and says honestly how well it tells.

    python -m bench.abstention --data ../shared/data --cache bench/results/abstention.npz

Questions of squad-a, answerable ones and those that only look so (about the same topics), half of the articles to fit and
half to judge; and questions about other things altogether. Passages are the best five of hybrid search over the whole
collection, so an answerable question whose paragraph was not found has no answer in them, and counts as such when fitting.
Prints the table of docs/answers.md and the constants of include/answering/confidence.py. Three minutes on two cores, less
with the cache.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from include.answering.features import NAMES, best_sentence, features
from include.answering.reading import read
from include.answering.sentences import sentences
from include.embedding.local import LocalEmbedder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

PASSAGES = 5
MODEL = "all-MiniLM-L6-v2"
MIX = {"answerable": 0.7, "unanswerable": 0.2, "off-topic": 0.1}  # what users are taken to ask: confidence is calibrated to it
WITHOUT_EMBEDDER = ("cosine", "lead")  # features that it lacks


@dataclass(frozen=True, slots=True)
class Question:
    """One question with what is known of it.

    :param kind: answerable, unanswerable or off-topic.
    :param document: that holds the answer, or seems to.
    """

    text: str
    kind: str
    article: str = ""
    document: str = ""
    answers: tuple[str, ...] = ()


class Remembered:
    """An embedder that knows every text beforehand."""

    def __init__(self, vectors: dict[str, NDArray[np.float32]]) -> None:
        self.vectors = vectors

    def embed_documents(self, texts: Sequence[str], progress: Any = None) -> NDArray[np.float32]:
        """Shape (len(texts), dimension)."""
        return np.stack([self.vectors[text] for text in texts])

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Shape (dimension,)."""
        return self.vectors[text]


def rows(path: Path) -> list[dict[str, Any]]:
    """Lines of a gzipped JSON lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def squad(data: Path) -> tuple[list[Question], dict[str, str]]:
    """Questions, and the paragraphs by id."""
    corpus = {r["id"]: f"{r['title']}\n\n{r['text']}" for r in rows(data / "squad-a" / "corpus.jsonl.gz")}
    qrels = dict(line.split("\t")[:2] for line in (data / "squad-a" / "qrels.tsv").read_text().splitlines()[1:])
    questions = [
        Question(r["text"], "answerable", r["metadata"]["article"], qrels[r["id"]], tuple(r["metadata"]["answers"]))
        for r in rows(data / "squad-a" / "queries.jsonl.gz")
    ] + [
        Question(r["text"], "unanswerable", r["article"], r["context_id"])
        for r in rows(data / "squad-a" / "unanswerable.jsonl.gz")
    ]
    return questions, corpus


def other_topics(data: Path) -> list[Question]:
    """Questions about Airflow and ZenML, and about illnesses: none is answered in squad-a."""
    names = (("so-airflow", "fit"), ("medquad", "held"), ("zenml-docs-qa", "held"))
    asked = [(half, row) for name, half in names for row in rows(data / name / "queries.jsonl.gz")[:1000]]
    return [Question(row["text"], "off-topic", half) for half, row in asked]


def held_out(article: str) -> bool:
    """Half of the articles, by a hash of their name; of other topics as :func:`other_topics` says."""
    return article == "held" or (article != "fit" and hashlib.sha256(article.encode()).digest()[0] % 2 == 0)


def remember(texts: Sequence[str], cache: Path | None) -> dict[str, NDArray[np.float32]]:
    """Vectors of texts, from the cache if it has all of them."""
    wanted = sorted(set(texts), key=lambda text: (len(text), text))
    digest = hashlib.sha256("\0".join(wanted).encode()).hexdigest()
    if cache and cache.exists():
        held = np.load(cache)
        if str(held["digest"]) == digest:
            return dict(zip(wanted, held["vectors"], strict=True))
    vectors = LocalEmbedder(MODEL).embed_documents(wanted)
    if cache:
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.savez(cache, digest=digest, vectors=vectors)
    return dict(zip(wanted, vectors, strict=True))


def searcher(corpus: dict[str, str], embedder: Remembered) -> Callable[[str], list[str]]:
    """Hybrid search over paragraphs, as the product's: BM25 and exact cosine, each from 0 to 1, half and half."""
    import bm25s
    import Stemmer

    ids = list(corpus)
    matrix = embedder.embed_documents([corpus[i] for i in ids])
    stemmer, index = Stemmer.Stemmer("english"), bm25s.BM25(k1=0.9, b=0.4)
    index.index(bm25s.tokenize(list(corpus.values()), stemmer=stemmer, show_progress=False), show_progress=False)

    def find(question: str) -> list[str]:
        tokens = bm25s.tokenize([question], stemmer=stemmer, show_progress=False, return_ids=False)[0]
        total = np.zeros(len(ids))
        for scores in (matrix @ embedder.embed_query(question), index.get_scores(tokens)):
            span = float(scores.max() - scores.min())
            total += (scores - scores.min()) / span if span else 0.0
        return [ids[i] for i in np.argsort(-total, kind="stable")[:PASSAGES]]

    return find


def mix(kinds: NDArray[np.str_]) -> NDArray[np.float64]:
    """Weights that give each kind its share in :data:`MIX`; they sum up to the number of questions."""
    weight = np.zeros(len(kinds))
    for kind, share in MIX.items():
        weight[kinds == kind] = share * len(kinds) / (kinds == kind).sum()
    return weight


def fit(
    x: NDArray[np.float64], y: NDArray[np.bool_], columns: Sequence[int], mixed: NDArray[np.float64]
) -> tuple[dict[str, float], float]:
    """Logistic regression on some of the features."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1.0, max_iter=1000).fit(x[:, columns], y, sample_weight=mixed)
    weights = {NAMES[c]: round(float(w), 3) for c, w in zip(columns, model.coef_[0], strict=True)}
    return weights, round(float(model.intercept_[0]), 3)


def apply(x: NDArray[np.float64], coefficients: dict[str, float], intercept: float) -> NDArray[np.float64]:
    """Confidence of each row."""
    weights = np.array([coefficients.get(name, 0.0) for name in NAMES])
    result: NDArray[np.float64] = 1 / (1 + np.exp(-(x @ weights + intercept)))
    return result


def report(name: str, kinds: NDArray[np.str_], p: NDArray[np.float64], correct: NDArray[np.bool_]) -> list[str]:
    """Rows of the table: abstention judged as a retrieval of unanswerable questions, at some thresholds."""
    from sklearn.metrics import roc_auc_score

    lines = []
    for negatives in ("unanswerable", "off-topic"):
        chosen = (kinds == "answerable") | (kinds == negatives)
        auc = roc_auc_score(kinds[chosen] == "answerable", p[chosen])
        for threshold in (0.3, 0.5, 0.6, 0.7, 0.8):
            refused, bad = p[chosen] < threshold, kinds[chosen] == negatives
            precision = (refused & bad).sum() / max(refused.sum(), 1)
            kept = refused[~bad]
            right = correct[kinds == "answerable"][~kept].mean() if (~kept).any() else 0.0
            lines.append(
                f"| {name} | {negatives} | {auc:.3f} | {threshold} | {precision:.3f} | {refused[bad].mean():.3f}"
                f" | {kept.mean():.3f} | {right:.3f} |"
            )
    return lines


def main() -> None:
    """Read, embed, find, measure, fit, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path)
    args = parser.parse_args()
    questions, corpus = squad(args.data)
    questions += other_topics(args.data)
    pieces = [text[s.start : s.end] for text in corpus.values() for s in sentences(text)]
    embedder = Remembered(remember([q.text for q in questions] + list(corpus.values()) + pieces, args.cache))
    find = searcher(corpus, embedder)
    x, holds, correct = [], [], []
    for question in questions:
        found = find(question.text)
        reading = read(question.text, [corpus[i] for i in found], "english", embedder)  # type: ignore[arg-type]
        values = features(reading)
        x.append([values[name] for name in NAMES])
        holds.append(question.kind == "answerable" and question.document in found)
        correct.append(any(a.casefold() in best_sentence(reading).text.casefold() for a in question.answers))
    matrix, y, right = np.array(x), np.array(holds), np.array(correct)
    kinds = np.array([q.kind for q in questions])
    held = np.array([held_out(q.article) for q in questions])
    print(f"{len(questions)} questions, {int(held.sum())} of them held out; paragraph among the {PASSAGES} passages:"
          f" {y[kinds == 'answerable'].mean():.3f}")  # fmt: skip
    print("| formula | against | ROC AUC | threshold | precision | recall | answerable refused | right when answered |")
    print("|---|---|---|---|---|---|---|---|")
    for name, columns in ((MODEL, range(len(NAMES))), ("words", [i for i, n in enumerate(NAMES) if n not in WITHOUT_EMBEDDER])):
        coefficients, intercept = fit(matrix[~held], y[~held], list(columns), mix(kinds[~held]))
        p = apply(matrix[held], coefficients, intercept)
        print(*report(name, kinds[held], p, right[held]), sep="\n")
        print(*_calibration(p, y[held], mix(kinds[held])), sep="\n")
        print(name, coefficients, intercept)


def _calibration(p: NDArray[np.float64], y: NDArray[np.bool_], mixed: NDArray[np.float64]) -> list[str]:
    """What a confidence was worth, in the mix."""
    edges = np.linspace(0, 1, 6)
    bands = [(p >= a) & (p < b + (b == 1)) for a, b in pairwise(edges)]
    return [
        f"  confidence {np.average(p[c], weights=mixed[c]):.2f}: answer was there in {np.average(y[c], weights=mixed[c]):.2f}"
        f" of {int(c.sum())}"
        for c in bands
        if c.any()
    ]


if __name__ == "__main__":
    main()
