"""CrossRouteTextSelector: of the tools of a router query engine, the one the query is about."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from llama_index.core.base.base_selector import BaseSelector, SelectorResult, SingleSelection
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.schema import QueryBundle
from llama_index.core.tools.types import ToolMetadata

from crossroute import PoolError, Query, QueryEncoder
from crossroute.network.text_attention import FloatArray, TextAttention

DECIMALS = 9
"""Shares that differ less are equal."""


class CrossRouteTextSelectorResult(SelectorResult):
    """A selection, and how the query's attention was shared out among the choices.

    A `RouterQueryEngine` puts it in `response.metadata["selector_result"]`.

    Attributes:
        selections: Exactly one selection.
        attention: The share of each choice, in their order; the shares add up to 1.
    """

    attention: list[float]


class CrossRouteTextSelector(BaseSelector):
    """Select the one tool whose name and description the query attends to most.

    For query engines that differ by their data; `CrossRouteSelector` is for those that differ by
    their model. Stands as `selector` in a `RouterQueryEngine` or a `RouterRetriever`. No LLM is
    asked. The choices are encoded when they are first offered, and never again.

    The attention is scaled dot-product attention of the query over the choices, with vectors of
    length sqrt(d) that are projected so that what all texts share weighs less.

    Args:
        encoder: Makes the vectors; the router's own static encoder if None, which is fast and
            knows words, not sentences. Vectors of another encoder are compared as they are.

    Raises:
        PoolError: When selecting, if there is no choice.
        QueryError: When selecting, if the query is no text.

    Example:
        >>> from llama_index.core.tools import ToolMetadata
        >>> from llamaindex_crossroute import CrossRouteTextSelector
        >>> tools = [
        ...     ToolMetadata(name="leave", description="Holidays, sick leave, parental leave"),
        ...     ToolMetadata(name="payroll", description="Salaries, bonuses and taxes"),
        ... ]
        >>> result = CrossRouteTextSelector().select(tools, "When is my salary paid?")
        >>> result.ind
        1
    """

    def __init__(self, encoder: QueryEncoder | None = None) -> None:
        self._attention = TextAttention(encoder)

    def _select(
        self, choices: Sequence[ToolMetadata], query: QueryBundle
    ) -> CrossRouteTextSelectorResult:
        if not choices:
            raise PoolError("There is nothing to select from: offer at least one tool.")
        scores = self._scores(choices, Query.of(query.query_str))
        weights = np.exp(scores - scores.max())
        attention = (weights / weights.sum()).round(DECIMALS).tolist()
        # Stable: of equal ones the first is chosen.
        order = sorted(range(len(choices)), key=lambda position: -attention[position])
        reason = _reason([(_label(choices[i], i), attention[i]) for i in order[:2]])
        return CrossRouteTextSelectorResult(
            selections=[SingleSelection(index=order[0], reason=reason)], attention=attention
        )

    async def _aselect(
        self, choices: Sequence[ToolMetadata], query: QueryBundle
    ) -> CrossRouteTextSelectorResult:
        return await asyncio.to_thread(self._select, choices, query)

    def _scores(self, choices: Sequence[ToolMetadata], query: Query) -> FloatArray:
        """How well each choice fits the query; a query without text fits all alike."""
        if query.is_blank:
            return np.zeros(len(choices))
        return self._attention.scores(query.text, [_text(choice) for choice in choices])

    def _get_prompts(self) -> PromptDictType:
        return {}

    def _update_prompts(self, prompts_dict: PromptDictType) -> None:
        """There is no prompt to update: no LLM is asked."""


def _text(choice: ToolMetadata) -> str:
    """What is read of a choice. Its name counts: it is often the best word for it."""
    if choice.name is None:
        return choice.description
    return f"{choice.name.replace('_', ' ')}: {choice.description}"


def _label(choice: ToolMetadata, position: int) -> str:
    return repr(choice.name) if choice.name is not None else f"choice {position}"


def _reason(best: Sequence[tuple[str, float]]) -> str:
    """Why, in one line without a full stop: LlamaIndex logs it with one after it."""
    (label, share), *others = best
    rest = f"the next is {others[0][0]} with {others[0][1]:.0%}" if others else "the only choice"
    return f"the query attends most to {label}, with {share:.0%} of its attention; {rest}"
