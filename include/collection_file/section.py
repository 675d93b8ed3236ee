"""What the sections of a collection file have in common: frozen, no unknown key, no silent conversion."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One mapping of a collection file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
