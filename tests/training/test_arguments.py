"""Arguments: bounds, names, and the same values from a form, a command line and a row."""

from __future__ import annotations

import json
from typing import Any

import pytest

from include.errors import BadConfiguration
from include.training.arguments import ARGUMENTS, EmbedderArguments, arguments_of, checked


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"epoch": 1}, "epoch: unknown, perhaps epochs is meant"),
        ({"epochs": "3"}, "epochs: Input should be a valid integer (got '3')"),
        ({"epochs": 0}, "epochs: Input should be greater than or equal to 1 (got 0)"),
        ({"learning_rate": 2.0}, "learning_rate: Input should be less than or equal to 1 (got 2.0)"),
        ({"learning_rate": float("nan")}, "learning_rate: "),
        ({"batch_size": 1}, "batch_size: "),
        ({"warmup": 1.0}, "warmup: "),
        ({"seed": -1}, "seed: "),
        ({"precision": "int4"}, "precision: Input should be 'auto', 'bf16' or 'fp32'"),
        ({"matryoshka": [64, 64]}, "matryoshka: dimensions are whole numbers above 0, each once"),
        ({"matryoshka": [0]}, "matryoshka: "),
        ({"matryoshka": "64"}, "matryoshka: "),
        ({"lora_rank": True}, "lora_rank: "),
    ],
)
def test_an_impossible_value_is_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(BadConfiguration) as caught:
        checked(EmbedderArguments, values)
    assert said in str(caught.value)
    assert "See docs/training.md" in str(caught.value)


def test_an_unknown_family() -> None:
    with pytest.raises(BadConfiguration, match="family 'translator': it is not trained here"):
        arguments_of("translator", {})


@pytest.mark.parametrize("family", ["embedder", "reranker"])
def test_a_row_gives_back_what_was_asked_for(family: str) -> None:
    asked = checked(ARGUMENTS[family], {"epochs": 2, "learning_rate": 1e-5})
    assert arguments_of(family, json.loads(json.dumps(asked.model_dump(mode="json")))) == asked


@pytest.mark.parametrize("family", sorted(ARGUMENTS))
def test_every_field_says_what_it_is(family: str) -> None:
    for name, field in ARGUMENTS[family].model_fields.items():
        assert field.description, name
        assert not field.is_required(), name


def test_dimensions_fall() -> None:
    assert checked(EmbedderArguments, {"matryoshka": [64, 256, 128]}).matryoshka == (256, 128, 64)
