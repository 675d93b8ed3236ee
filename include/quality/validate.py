"""Runs a suite over a batch with Great Expectations and says which rows failed, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include.quality import gx

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from include.quality.suites import Rule


@dataclass(frozen=True, slots=True)
class Failure:
    """The first rule that a row broke."""

    rule: str
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a suite found: failing rows by position, and the result to store."""

    failures: Mapping[int, Failure]
    result: Mapping[str, Any]


def validate(suite: str, rules: Sequence[Rule], columns: Mapping[str, Sequence[Any]], names: Sequence[str]) -> Verdict:
    """Validate one batch.

    :param columns: equally long columns, as the suite's docstring lists them.
    :param names: how each row is called in the stored result (its uri, or uri#ordinal).
    """
    import pandas as pd

    great_expectations = gx.load()
    frame = pd.DataFrame({name: pd.Series(values, dtype=_dtype(values)) for name, values in columns.items()})
    batch = gx.batch_definition().get_batch({"dataframe": frame})
    checked = batch.validate(
        great_expectations.ExpectationSuite(name=suite, expectations=[rule.expectation for rule in rules]),
        result_format="COMPLETE",
    )
    found = checked.to_json_dict()
    outcomes = {_signature(o["expectation_config"]): o for o in found["results"]}
    failures: dict[int, Failure] = {}
    stored: list[dict[str, Any]] = []
    for rule in rules:
        outcome = outcomes[_signature(rule.expectation.configuration.to_json_dict())]
        _raise_if_broken(rule, outcome)
        positions = [int(i) for i in outcome["result"].get("unexpected_index_list") or []]
        for position in positions:
            failures.setdefault(position, Failure(rule.name, _detail(rule, columns, position)))
        stored.append(_stored(rule, outcome, [names[i] for i in positions]))
    result = {
        "suite": suite,
        "great_expectations": great_expectations.__version__,
        "statistics": found["statistics"],
        "expectations": stored,
    }
    return Verdict(failures, result)


def _dtype(values: Sequence[Any]) -> str | None:
    """Objects stay objects, so that None means missing and True is not 1."""
    return "object" if any(v is None or isinstance(v, str | bool) for v in values) or not len(values) else None


def _signature(config: Mapping[str, Any]) -> str:
    kwargs = {k: v for k, v in config["kwargs"].items() if k != "batch_id"}
    return f"{config['type']} {sorted((k, str(v)) for k, v in kwargs.items())}"


def _raise_if_broken(rule: Rule, outcome: Mapping[str, Any]) -> None:
    """An expectation that could not be computed is a defect of the suite, never a pass."""
    if "element_count" not in outcome["result"]:
        raise RuntimeError(f"expectation {rule.name} could not be computed: {outcome['exception_info']}")


def _detail(rule: Rule, columns: Mapping[str, Sequence[Any]], position: int) -> str:
    value = columns[rule.explain][position] if rule.explain else ""
    return f"{rule.sentence}: {value}" if rule.sentence and rule.explain else rule.sentence or str(value)


def _stored(rule: Rule, outcome: Mapping[str, Any], failing: Sequence[str]) -> dict[str, Any]:
    """Great Expectations' result of one expectation; lists of values, which may be texts, give way to the rows' names."""
    config = outcome["expectation_config"]
    return {
        "name": rule.name,
        "type": config["type"],
        "kwargs": {k: v for k, v in config["kwargs"].items() if k != "batch_id"},
        "severity": config.get("severity"),
        "success": outcome["success"],
        "result": {k: v for k, v in outcome["result"].items() if not isinstance(v, list | str)},
        "rows": list(failing),
    }
