"""A hard limit on what a call costs: who can keep it, and how long they may answer.

`Constraints.max_cost_usd` goes by a prediction, which may be wrong. A ceiling goes by the price
table, the length of the request, and the `max_tokens` that the provider is given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from crossroute.constraints import Constraints, shortened_to
from crossroute.decision import usd
from crossroute.errors import Reason
from crossroute.models.descriptor import ModelDescriptor
from crossroute.models.price import Price
from crossroute.query import LONGEST_ANSWER, Query

LEAST_ANSWER_TOKENS = 100
"""A candidate that could answer with fewer tokens than these is not asked: it would be cut off
before it has said anything. A caller who asks for a shorter answer still gets it."""

INPUT_MARGIN = 2.5
"""Input tokens are taken to be so many times the estimate, which is one of OpenAI's tokenizers: of
recorded prompts of a product in several languages, Anthropic's newest models counted 1.8 to 1.9
times as many in the median, and up to 2.5 times in 99 of 100."""

FRAME_TOKENS = 50
"""What providers put around the messages, in input tokens."""

TOOLS_FRAME_TOKENS = 600
"""What they put around tools and schemas, beside these themselves."""

UNCOUNTED = frozenset({"image_input", "audio_input", "file_input"})
"""Of these nobody knows the tokens before the provider has counted them."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The hard limit of one call.

    Attributes:
        usd: The most that the call may cost, all asks together, in USD.
        pool: The candidates by their ids.
        query: What was routed.
        name: What the limit is called.
        shorten: Whether a model that has no room for the conversation gets a shorter one.
    """

    usd: float
    pool: Mapping[str, ModelDescriptor]
    query: Query
    name: str = "hard_max_cost_usd"
    shorten: bool = False

    @classmethod
    def of(
        cls, limits: Constraints, pool: Mapping[str, ModelDescriptor], query: Query
    ) -> Ceiling | None:
        """The ceiling of a call, None where it has none."""
        most = limits.hard_max_cost_usd
        if most is None or math.isinf(most):
            return None
        return cls(most, pool, query, shorten=limits.shorten)

    def longest_answer(
        self,
        model: str,
        *,
        spent_usd: float = 0.0,
        more_input: float = 0.0,
        asked: int | None = None,
    ) -> int | Reason:
        """The most output tokens that a model may answer with, or why it may not be asked.

        Args:
            model: Id of the model.
            spent_usd: What the call has cost before, or must keep for others.
            more_input: Estimated tokens that are sent beside the query's own.
            asked: The longest answer that this ask is content with, if less than the query's.

        Returns:
            No more than the descriptor's longest answer, and than fits into the context window;
            `LONGEST_ANSWER` where nothing limits it, as of a model that is free.
        """
        descriptor, left = self.pool[model], self.usd - spent_usd
        if descriptor.kind != "model":
            return Reason(
                f"nobody can limit what {descriptor.kind}s spend, so it cannot keep {self.name}",
                "use max_cost_usd, which goes by a prediction",
            )
        if descriptor.price is None:
            return Reason(
                f"no price is known, so it cannot keep {self.name}",
                "write the price of a model into its descriptor",
            )
        if uncounted := sorted(self.query.needs & UNCOUNTED):
            return Reason(
                f"the cost of {' and '.join(uncounted)} is not known beforehand, so it cannot keep "
                f"{self.name}",
                "send no images, audio or files, or use max_cost_usd, which goes by a prediction",
            )
        shorter = shortened_to(descriptor, self.query) if self.shorten else None
        sent = self._input_tokens(more_input, shorter)
        bought = _tokens_for(left, descriptor.price, sent)
        wanted = [n for n in (asked, self.query.output_tokens) if n is not None]
        least = min([LEAST_ANSWER_TOKENS, *wanted])
        if bought < max(least, 1):
            return Reason(
                f"{usd(max(left, 0.0))} of {self.name} are left, which does not buy "
                f"its input of up to {sent:.0f} tokens and an answer of {max(least, 1)}",
                f"raise {self.name}, or shorten the request",
            )
        # A provider refuses to promise more than its model can say.
        room = [bought, *wanted]
        if descriptor.max_output_tokens is not None:
            room.append(descriptor.max_output_tokens)
        if (window := descriptor.context_window_tokens) is not None:
            rest = window - math.ceil(sent) if shorter is None else window - shorter
            room.append(max(rest, least, 1))
        return max(min(room), 1)

    def most_usd(self, model: str, output_tokens: float, *, more_input: float = 0.0) -> float:
        """What an ask with so many output tokens costs at most, in USD."""
        descriptor = self.pool[model]
        if descriptor.price is None:
            return 0.0
        shorter = shortened_to(descriptor, self.query) if self.shorten else None
        return _most(descriptor.price, self._input_tokens(more_input, shorter), output_tokens)

    def _input_tokens(self, more: float, shorter: int | None) -> float:
        bound = self.query.needs & {"tools", "structured_output"}
        frame = TOOLS_FRAME_TOKENS if bound else FRAME_TOKENS
        own = self.query.input_tokens if shorter is None else shorter
        return INPUT_MARGIN * (own + more) + frame


def _most(price: Price, input_tokens: float, output_tokens: float) -> float:
    """Cost in USD if nothing is cached, and all of the answer is reasoning if that is dearer."""
    plain = price.cost_usd(input_tokens, output_tokens)
    return max(plain, price.cost_usd(input_tokens, output_tokens, 0, output_tokens))


def _tokens_for(left_usd: float, price: Price, input_tokens: float) -> int:
    """The most output tokens that so much buys, after the input."""
    left = left_usd - _most(price, input_tokens, 0.0)
    each = (_most(price, input_tokens, 1e6) - _most(price, input_tokens, 0.0)) / 1e6
    if left < 0:
        return 0
    return LONGEST_ANSWER if left >= each * LONGEST_ANSWER else math.floor(left / each)
