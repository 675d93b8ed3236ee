"""Training data that must not be trained on is refused, with each reason and what to do; all of it over real GX."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from include.config import PROJECT_ROOT
from include.datasets.check import check_dataset
from include.datasets.options import DatasetOptions
from include.errors import BadData
from include.quality.training_data import FIXES, Limits, pair_rules, set_rules
from include.store import collections, datasets
from include.store.datasets import Negative
from include.store.pool import open_pool
from tests.datasets.zoo import pair
from tests.support import query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from include.config import Settings
    from include.store.datasets import Pair
    from include.store.pool import Pool


@pytest.fixture
def pool(settings: Settings) -> Iterator[Pool]:
    with open_pool(settings) as pool:
        with pool.connection() as connection:
            collections.ensure_collection(connection, "handbook")
        yield pool


@pytest.fixture
def check(pool: Pool) -> Callable[..., dict[str, Any]]:
    """Saves rows, and checks them."""

    def run(rows: Sequence[Pair], **options: Any) -> dict[str, Any]:
        chosen = DatasetOptions(**options).model_dump(mode="json")
        with pool.connection() as connection:
            made = datasets.save(connection, 1, "training", rows, arguments=chosen, statistics={})
        return check_dataset(pool, 1, made)

    return run


def _enough(**changes: Any) -> list[Pair]:
    return [pair(n, split="dev" if n < 20 else "train", **changes) for n in range(70)]


def test_enough_and_sound(check: Callable[..., dict[str, Any]], settings: Settings) -> None:
    report = check(_enough())
    assert (report["sound"], report["failed"], report["rows"]) == (True, [], {"train": 50, "dev": 20})
    assert query(settings, "select state, checks from ragworks.dataset") == [("ready", report)]


def test_twelve_pairs_are_too_few(check: Callable[..., dict[str, Any]], settings: Settings) -> None:
    rows = [pair(n, split="dev" if n < 2 else "train") for n in range(14)]
    with pytest.raises(BadData) as error:
        check(rows)
    assert "is refused: enough_train: fewer than 50 training pairs (min_train): 12" in str(error.value)
    assert "enough_dev: fewer than 20 development pairs (min_dev): 2" in str(error.value)
    assert FIXES["enough_train"] in error.value.fix
    ((state, checks),) = query(settings, "select state, checks from ragworks.dataset")
    assert (state, checks["failed"], checks["sound"]) == ("refused", ["enough_train", "enough_dev"], False)
    assert check(rows, min_train=10, min_dev=2)["sound"]  # the same rows under other limits
    assert query(settings, "select state from ragworks.dataset") == [("ready",)]


def test_labels_that_are_all_alike(check: Callable[..., dict[str, Any]]) -> None:
    right, wrong = _enough(negatives=()), _enough(label=0.0)
    with pytest.raises(BadData, match="labels_differ: all labels are alike"):
        check(right)
    with pytest.raises(BadData, match=r"enough_train.*labels_differ"):
        check(wrong, min_train=1)
    assert check(right, negatives=0)["sound"]  # asked for without: a batch brings its own wrong passages
    assert check([*right, pair(99, label=0.0, negatives=())])["sound"]  # one judged wrong


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        (pair(300, query="x" * 4001), "query_length"),
        (pair(301, positive="  "), "positive_length"),
        (pair(200, negatives=()), ""),
        (pair(201, label=1.5), "label_range"),
        (pair(66, query="what is THING 66"), "pair_unique"),
    ],
)
def test_each_pair(bad: Pair, rule: str, check: Callable[..., dict[str, Any]], settings: Settings) -> None:
    rows = [*_enough(), bad]
    if not rule:
        assert check(rows)["sound"]
        return
    with pytest.raises(BadData, match=rf"{rule}: 1 pairs \(row 71\)") as error:
        check(rows)
    assert FIXES[rule] in error.value.fix
    kept = str(query(settings, "select checks from ragworks.dataset"))
    assert "thing-" not in kept  # rows by number: no document and no text is kept with the result
    assert "row 71" in kept


def test_negatives_are_other_passages(check: Callable[..., dict[str, Any]]) -> None:
    rows = _enough()
    same = (Negative("other.md", 0, 5, rows[60].positive.upper(), 0.5), Negative("other.md", 0, 5, " ", 0.5))
    rows[60] = replace(rows[60], negatives=same)
    with pytest.raises(BadData, match=r"negative_length: 1 pairs \(row 61\); negatives_differ: 1 pairs \(row 61\)"):
        check(rows)


def test_no_style_rules_what_an_llm_asked(check: Callable[..., dict[str, Any]]) -> None:
    rows = [
        pair(n, split="dev" if n < 20 else "train", origin="llm", style="keyword" if n % 20 else "question") for n in range(80)
    ]
    with pytest.raises(BadData, match=r"styles_balanced: one style has more than 90% .*: 0\.95"):
        check(rows)
    assert check(rows, max_style_share=0.96)["sound"]
    assert check(rows, styles=("keyword",))["sound"]


def test_every_expectation_is_documented() -> None:
    page = (PROJECT_ROOT / "docs" / "datasets.md").read_text()
    rules = [*pair_rules(), *set_rules(Limits(1, 1, 1.0))]
    assert {rule.name for rule in rules} == set(FIXES)
    for rule in rules:
        assert f"`{rule.name}`" in page


def test_every_option_and_reason_is_documented() -> None:
    page = (PROJECT_ROOT / "docs" / "datasets.md").read_text()
    reasons = (
        "too_short", "too_long", "broken_characters", "other_script", "copied", "duplicate", "ambiguous", "not_found_again",
        "golden_question", "golden_document", "near_duplicate_in_dev", "negative_of_other_side",
        "unknown_document", "unknown_query", "over_max_rows",
        "unreadable_reply", "failed_request", "forgotten",
    )  # fmt: skip
    for name in (*DatasetOptions.model_fields, *reasons):
        assert f"`{name}`" in page, name
