"""Says what is wrong in a file that a person wrote, and what would be right."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel


def explain_mistake(error: dict[str, Any], key: str, section: type[BaseModel]) -> str:
    """One pydantic error as 'key: what is wrong, what would be right'.

    :param error: as ``ValidationError.errors`` gives it.
    :param key: where it stands, as its writer would say it.
    :param section: the model of which an unknown key is no field.
    """
    if error["type"] == "extra_forbidden":
        known = list(section.model_fields)
        close = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        return f"{key}: unknown key, " + (f"perhaps {close[0]} is meant" if close else f"known keys are {', '.join(known)}")
    if error["type"] == "missing":
        return f"{key}: missing, it is required"
    got = error.get("input")
    value = f" (got {got!r})" if isinstance(got, str | int | float | bool | type(None)) else ""
    return f"{key}: {error['msg'].removeprefix('Value error, ')}{value}"
