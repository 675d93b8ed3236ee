"""Options of a command made of the fields of a frozen model, so that no field is written twice."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

    from pydantic import BaseModel


def add_fields(group: Any, model: type[BaseModel], *, prefix: str = "", dest: str = "", but: Collection[str] = ()) -> None:
    """One option a field; what a value may be is checked with the other fields (:func:`include.training.arguments.checked`).

    :param prefix: before the option's name; ``dest`` before the argument's.
    :param but: fields that have their option already.
    """
    for name, schema in model.model_json_schema()["properties"].items():
        if name in but:
            continue
        option = "--" + (prefix + name).replace("_", "-")
        default = schema.get("default")
        shown = f" (default {json.dumps(default)})" if default not in (None, "", []) else ""
        text = (schema.get("description", "") + shown).replace("%", "%%")
        kinds = {one.get("type") for one in schema.get("anyOf", [schema])} - {"null"}
        if kinds == {"boolean"}:
            group.add_argument(option, action=argparse.BooleanOptionalAction, default=None, help=text, dest=dest + name)
        else:
            group.add_argument(option, default=None, type=_value, metavar="VALUE", help=text, dest=dest + name)


def given_fields(args: argparse.Namespace, model: type[BaseModel], *, dest: str = "") -> dict[str, Any]:
    """The fields that the command line names."""
    values = {name: getattr(args, dest + name) for name in model.model_fields}
    return {name: value for name, value in values.items() if value is not None}


def _value(text: str) -> Any:
    """A number, a list as JSON, or a word."""
    try:
        return json.loads(text)
    except ValueError:
        return text
