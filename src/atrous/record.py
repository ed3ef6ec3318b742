"""What is read from YAML or kept as JSON."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A frozen value in which every key is known."""

    model_config = ConfigDict(frozen=True, extra="forbid")
