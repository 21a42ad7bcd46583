"""What collecting needs of whatever asks the models: one call, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from crossroute.query import Message


class Answer(NamedTuple):
    """What a model answered.

    Attributes:
        text: Its text; the JSON of a structured answer.
        tokens: As `Price.cost_usd` takes them; None where nobody counts.
        cut: Whether it was cut off at the longest answer of the call.
    """

    text: str
    tokens: tuple[int, int, int, int] | None
    cut: bool = False


class AskModel(Protocol):
    """Asks a model; raises what its client raises."""

    async def __call__(
        self,
        model: str,
        messages: str | Sequence[Message],
        *,
        max_tokens: int,
        schema: Mapping[str, Any] | None,
    ) -> Answer:
        """Ask once, without trying again: each call is paid for.

        Args:
            model: Id of the model.
            messages: A prompt, or a conversation in OpenAI's dict form.
            max_tokens: The longest answer, in output tokens; the client must keep to it.
            schema: JSON schema of a structured answer, where the model can give one; None for text.
        """
        ...
