"""What is read from YAML or kept as JSON."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticSerializationError

# How JSON writes a byte of a file name that is no UTF-8, where it is no half of another character.
_BYTE = re.compile(r"(?<!\\ud[89ab][0-9a-f]{2})\\udc([89a-f][0-9a-f])")


class Record(BaseModel):
    """A frozen value in which every key is known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def model_dump_json(self, *, indent: int | None = None, **options: Any) -> str:
        """As pydantic does; bytes of file names that are no UTF-8 become the text `\\xff`."""
        try:
            return super().model_dump_json(indent=indent, **options)
        except PydanticSerializationError:
            text = json.dumps(self.model_dump(**options), indent=indent, default=str)
            return _BYTE.sub(r"\\\\x\1", text)
