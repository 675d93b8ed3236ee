"""The form of a training DAG, made of the dataclasses that the training itself checks: no field is written twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Param

from include.collection_file import collection_names
from include.datasets.families import data_options
from include.training.arguments import ARGUMENTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from include.config import Settings
    from include.training.pipeline import Request

DATA = "data_"  # before the fields of the dataset, which may be called as those of the training
_KEPT = ("type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "enum", "minLength", "items")


def training_params(family: str, settings: Settings) -> dict[str, Param]:
    """The form: which collection, what data, how it is trained."""
    names = collection_names(settings)
    return {
        "collection": Param(
            names[0] if len(names) == 1 else None,
            type=["null", "string"],
            enum=[None, *names],
            title="Collection",
            description_md="Whose questions and documents the model is trained on and judged by. None: all, a run each.",
        ),
        "dataset": Param(
            None,
            type=["null", "integer"],
            title="Dataset",
            section="Data",
            description_md="The id of a dataset that is there (`ragworks dataset NAME`). None: one is made, as below.",
        ),
        **_fields(data_options(family), "Data", DATA),
        **_fields(ARGUMENTS[family], "Training"),
        "force": Param(
            False,
            type="boolean",
            title="Train again",
            section="Training",
            description_md="Also when the same data, arguments and base were trained and judged before.",
        ),
    }


def request_of(family: str, collection: str, params: Mapping[str, Any], *, usual: Mapping[str, Any] | None = None) -> Request:
    """What a filled-in form asks for.

    :param usual: the collection's own arguments, of a run that nobody filled a form for.
    :raises BadConfiguration: a field is impossible.
    """
    from include.training.arguments import checked
    from include.training.pipeline import Request

    arguments = {name: params[name] for name in ARGUMENTS[family].model_fields if name in params} | dict(usual or {})
    options = data_options(family)
    data = {name: params[DATA + name] for name in options.model_fields if DATA + name in params}
    return Request(
        family,
        collection,
        checked(ARGUMENTS[family], arguments),
        checked(options, data),
        dataset=params.get("dataset") or None,
        force=bool(params.get("force")),
    )


def _fields(model: type[BaseModel], section: str, prefix: str = "") -> dict[str, Param]:
    properties = model.model_json_schema()["properties"]
    return {prefix + name: _param(name, schema, section) for name, schema in properties.items()}


def _param(name: str, schema: Mapping[str, Any], section: str) -> Param:
    """A field's JSON schema as Airflow takes it: one type, or a list of types where null is allowed."""
    default = schema.get("default")
    options = list(schema.get("anyOf", [schema]))
    merged: dict[str, Any] = {}
    types: list[str] = []
    for option in options:
        merged |= {key: value for key, value in option.items() if key in _KEPT and key != "type"}
        types += [option["type"]] if "type" in option else []
    if "enum" in merged and "null" in types:
        merged["enum"] = [*merged["enum"], None]
    if "const" in schema:
        merged["enum"] = [schema["const"]]
    return Param(
        default,
        type=types[0] if len(types) == 1 else types,
        title=name.replace("_", " ").capitalize(),
        section=section,
        description_md=schema.get("description", ""),
        **merged,
    )
