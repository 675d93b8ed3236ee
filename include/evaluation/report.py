"""What an evaluation found, as JSON: kept in the database, printed by the command, drawn by the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.evaluation.asking import columns
from include.evaluation.bootstrap import intervals
from include.evaluation.comparison import Rule, compare, verdict
from include.evaluation.measures import measure_names
from include.hashing import text_hash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from include.evaluation.asking import Asked
    from include.evaluation.cases import Cases
    from include.store.golden import GoldenQuery

WORST = 20
SHOWN = 300  # characters of a question in a report
BINS = 21  # of the histogram of differences: odd, so that one bin is about nothing


def measures(asked: Sequence[Asked], top_k: int) -> dict[str, dict[str, float | None]]:
    """measure → value with the interval of its mean."""
    values = columns(asked, top_k)
    bounds = intervals(list(values.values()))
    return {
        name: {
            "value": _mean(column),
            "low": _rounded(bound[0]) if bound else None,
            "high": _rounded(bound[1]) if bound else None,
        }
        for (name, column), bound in zip(values.items(), bounds, strict=True)
    }


def slice_tables(asked: Sequence[Asked], slices: Mapping[str, Mapping[str, Sequence[int]]], top_k: int) -> dict[str, Any]:
    """key → value → number of queries, each measure, and the interval of the first measure."""
    tables: dict[str, Any] = {}
    for key, values in slices.items():
        tables[key] = {}
        for value, positions in sorted(values.items()):
            of_slice = columns([asked[p] for p in positions], top_k)
            ((low, high),) = [bound or (None, None) for bound in intervals([next(iter(of_slice.values()))])]
            tables[key][value] = {
                "queries": len(positions),
                **{name: _mean(column) for name, column in of_slice.items()},
                "low": _rounded(low),
                "high": _rounded(high),
            }
    return tables


def worst(asked: Sequence[Asked], queries: Sequence[GoldenQuery], top_k: int) -> list[dict[str, Any]]:
    """The questions that are answered worst, with what was expected and what was found.

    ``documents`` names every document of the entry, by which ``forget`` finds it.
    """
    first = measure_names(top_k)[0]
    order = sorted(range(len(asked)), key=lambda n: (asked[n].scores[first], asked[n].scores[measure_names(top_k)[1]], n))
    bad = [n for n in order if asked[n].scores[first] < 1][:WORST]
    return [_entry(asked[n], queries[n], first) for n in bad]


def _entry(one: Asked, query: GoldenQuery, measure: str) -> dict[str, Any]:
    expected = [{"document": s.document, "start": s.start, "end": s.end} for s in query.spans[:5]]
    found = [
        {"document": p.document, "start": p.start, "end": p.end, "score": _rounded(p.score), "text": p.text} for p in one.shown
    ]
    documents = dict.fromkeys([*(s.document for s in query.spans), *(p.document for p in one.shown)])
    return {
        "query": query.query[:SHOWN],
        "score": _rounded(one.scores[measure]),
        "expected": expected,
        "found": found,
        "documents": list(documents),
    }


def comparison(
    champion: Sequence[Asked],
    challenger: Sequence[Asked],
    slices: Mapping[str, Mapping[str, Sequence[int]]],
    top_k: int,
    rule: Rule | None = None,
) -> dict[str, Any]:
    """Both on the same questions: a verdict for each measure, for each slice, and how the differences are spread."""
    old, new = columns(champion, top_k), columns(challenger, top_k)
    verdicts = compare(old, new, rule)
    first = measure_names(top_k)[0]
    differences = [b - a for a, b in zip(old[first], new[first], strict=True)]
    return {
        "measures": {
            name: {"champion": _mean(old[name]), "challenger": _mean(new[name]), **found.as_dict()}
            for name, found in verdicts.items()
        },
        "slices": {
            key: {value: verdict([differences[p] for p in positions], rule).as_dict() for value, positions in values.items()}
            for key, values in slices.items()
        },
        "histogram": histogram(differences),
        "verdict": verdicts[first].outcome,
        "promotes": verdicts[first].promotes,
        "summary": f"{first}: {verdicts[first].reason}",
    }


def control(one: Sequence[Asked], again: Sequence[Asked], top_k: int) -> dict[str, Any]:
    """The A/A control: one configuration asked twice must be found no different, else no verdict here means anything."""
    found = comparison(one, again, {}, top_k)["measures"]
    outcomes = {name: entry["outcome"] for name, entry in found.items()}
    first = next(iter(found))
    differing = max(entry["differing"] for entry in found.values())
    passed = all(outcome not in ("better", "worse") for outcome in outcomes.values())
    return {
        "passed": passed,
        "verdict": outcomes[first],
        "outcomes": outcomes,
        "differing": differing,
        "reason": found[first]["reason"]
        if passed
        else "one configuration asked twice is not the same: search is not repeatable here, and no difference can be believed",
    }


def histogram(differences: Sequence[float]) -> dict[str, Any]:
    """Counts of differences from -1 to 1."""
    import numpy as np

    counts, edges = np.histogram(differences, bins=BINS, range=(-1, 1))
    return {
        "edges": [round(float(edge), 4) for edge in edges],
        "counts": [int(count) for count in counts],
        "better": sum(d > 0 for d in differences),
        "worse": sum(d < 0 for d in differences),
        "same": sum(d == 0 for d in differences),
    }


def scores_of_queries(cases: Cases, asked: Sequence[Asked], top_k: int) -> dict[str, Any]:
    """The scores of every query, by the hash of its text: a later evaluation can be paired with this one."""
    names = measure_names(top_k)
    rows = [
        [text_hash(query.query).hex, *(_rounded(one.scores[name]) for name in names)]
        for query, one in zip(cases.queries, asked, strict=True)
    ]
    return {"columns": ["query_hash", *names], "rows": rows}


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)
