"""What the fields of a descriptor are made of."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StringConstraints,
    model_validator,
)

from crossroute.errors import plain
from crossroute.secret_text import find_secret


def printable(text: str) -> str:
    """The text, if all of it can be seen."""
    if not text.isprintable():
        raise ValueError("holds control characters, line breaks or invisible ones; remove them")
    return text


def _without_control(text: str) -> str:
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text):
        raise ValueError("holds control characters; remove them")
    return text


NonEmpty = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Text = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=10_000),
    AfterValidator(_without_control),
]
LONGEST_ID = 200
"""Of a model, in characters."""
ModelId = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_ID),
    AfterValidator(printable),
]
Count = Annotated[int, Field(ge=0, lt=10**15)]
PositiveCount = Annotated[int, Field(gt=0, lt=10**15)]
Usd = Annotated[FiniteFloat, Field(ge=0, le=1e6)]


class Strict(BaseModel):
    """Unchangeable, of known fields only, and without secrets."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _no_secrets(cls, content: object) -> object:
        place = find_secret(content)
        if place is not None:
            raise ValueError(
                f"{plain(place) or 'a name'} looks like a secret, which no descriptor may hold; "
                "put it in an environment variable and write that variable's name as "
                "provider.api_key_env"
            )
        return content
