"""The bill of a call: what each ask cost, drafts and failed ones too."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NotRequired, TypedDict

from crossroute.models.price import Price
from crossroute.query import Message, Query, estimate_tokens
from crossroute.strategies.base import Ask, Reply, Role, Usage

UNSHORTENED: Mapping[str, int] = {}


class Charge(TypedDict):
    """What one ask cost.

    Attributes:
        model: Id of the model.
        role: What it was asked for.
        input_tokens: All input tokens.
        output_tokens: Output tokens.
        cached_tokens: Those of the input that came from the provider's prompt cache.
        cost_usd: Cost in USD; None for a model without a price.
        estimated: Whether nobody has counted the tokens, so that they are estimated from the texts.
        effort: The reasoning effort, where the ask named one; else it is the model's own.
        stated: There, and true, where the cost is what the descriptor of an agent states.
    """

    model: str
    role: Role
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_usd: float | None
    estimated: bool
    effort: NotRequired[str]
    stated: NotRequired[bool]


def charge(
    ask: Ask,
    reply: Reply,
    price: Price | None,
    query: Query,
    *,
    cost_usd_a_call: float | None = None,
    shortened: Mapping[str, int] = UNSHORTENED,
) -> Charge:
    """What an ask cost.

    Where the provider has not counted, as of a stream that was left, the tokens are estimated; an
    ask that failed before anything came is taken to be free, and marked as estimated, too. One that
    was left before its end, as its time was over, say, is not: it was sent.

    Args:
        ask: What was asked.
        reply: What has come back so far.
        price: Of the model.
        query: What was routed; its tokens stand for those of the caller's messages where nobody
            counts.
        cost_usd_a_call: What a call of an agent or a tool costs, in USD, unless its tokens are
            counted and have a price: as soon as it is asked, whatever comes of it. None for models.
        shortened: To how many input tokens the conversation is shortened, by the ids of models.
    """
    usage, cost = reply.usage, reply.cost_usd
    is_stated = cost is None and cost_usd_a_call is not None
    # Each token that came had its log-probability, where there are any.
    said = max(round(made_tokens(reply)), len(reply.logprobs))
    if cost is None and cost_usd_a_call is not None:
        usage, estimated = usage or Usage(0, 0), False
        cost = cost_usd_a_call if reply.was_asked else 0.0
    elif usage is None:
        is_free = not reply.was_asked if reply.left else reply.failed and not reply.text
        kept = query.input_tokens if ask.keep is None else shortened.get(ask.model, math.inf)
        sent = 0 if is_free else round(min(kept, query.input_tokens) + more_input(ask))
        usage, estimated = Usage(sent, said), True
    elif estimated := reply.left:
        # Counted up to somewhere, as by a provider that counts the input first.
        usage, cost = usage._replace(output_tokens=max(usage.output_tokens, said)), None
    if cost is None and price is not None:
        cost = float(price.cost_usd(*usage))
    found: Charge = {
        "model": ask.model,
        "role": ask.role,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cached_tokens": usage.cached_tokens,
        "cost_usd": cost,
        "estimated": estimated,
    }
    if ask.effort is not None:
        found["effort"] = ask.effort
    if is_stated:
        found["stated"] = True
    return found


def made_tokens(reply: Reply) -> float:
    """Estimated tokens of what a reply says, and of the calls of tools in it."""
    calls = (json.dumps([call.name, call.arguments], default=str) for call in reply.tool_calls)
    return sum(map(estimate_tokens, (reply.text, *calls)))


def more_input(ask: Ask) -> float:
    """Estimated tokens of the messages and tools that an ask adds to the caller's."""
    tools = (json.dumps(tool, default=str) for tool in ask.tools)
    return message_tokens(ask.then) + sum(map(estimate_tokens, tools))


def message_tokens(messages: Iterable[Message]) -> float:
    """Estimated tokens of what messages in OpenAI's dict form say, and of their tool calls."""
    found = 0.0
    for message in messages:
        found += estimate_tokens(str(message.get("content") or ""))
        calls = message.get("tool_calls") or ()
        found += sum(estimate_tokens(json.dumps(call, default=str)) for call in calls)
    return found


def bill(charges: Iterable[Charge]) -> dict[str, Any]:
    """The charges of a call and their sum, as plain values.

    Returns:
        `asks`, `cost_usd` (None if one of them is not known), and whether it is `estimated`.
    """
    asks = list(charges)
    costs = [ask["cost_usd"] for ask in asks]
    known = [cost for cost in costs if cost is not None]
    return {
        "asks": asks,
        "cost_usd": sum(known) if len(known) == len(costs) else None,
        "estimated": any(ask["estimated"] for ask in asks),
    }
