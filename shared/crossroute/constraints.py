"""Who may serve a call at all, and who should go on serving a conversation."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from crossroute.errors import ConstraintError, Reason, UnknownModelError, did_you_mean, shortened
from crossroute.models.descriptor import DISABLED, ModelDescriptor
from crossroute.models.pool import ModelPool
from crossroute.query import Query
from crossroute.ranking import amount, check_willingness_to_pay


@dataclass(frozen=True, slots=True)
class Constraints:
    """What a call demands of its candidates beside what its query shows.

    Attributes:
        model: The one model that may serve it; None leaves the choice to the router. Here and in
            the next two, the id of a model stands for all its efforts, where those are the
            candidates.
        allowed: Ids of the models that may serve it; None are all.
        excluded: Ids of the models that may not.
        max_cost_usd: The most that a candidate's predicted cost may be, in USD.
        hard_max_cost_usd: The most that the call may cost at all, in USD: a model that cannot
            answer for that is removed, and who is asked gets as many `max_tokens` as it buys.
        regions: Where requests may be processed, such as `eu`; None is anywhere.
        languages: BCP 47 tags of the languages that the model must know: `pt` in its descriptor
            covers `pt-BR`, not the other way round.
        max_data_retention_days: For how long the provider may keep requests; 0 is not at all.
        max_latency_seconds: The most that a whole answer may be expected to take.
        shorten: Whether a model that has no room for the conversation gets a shorter one
            (`crossroute.context.fit_context`) instead of being removed.

    Regions, languages, retention and latency go by the descriptor, and a model whose descriptor
    does not say is removed.

    Raises:
        ConstraintError: If a limit is no number from 0 up, or a list is a string or bytes.
    """

    model: str | None = None
    allowed: Collection[str] | None = None
    excluded: Collection[str] = ()
    max_cost_usd: float | None = None
    hard_max_cost_usd: float | None = None
    regions: Collection[str] | None = None
    languages: Collection[str] = ()
    max_data_retention_days: float | None = None
    max_latency_seconds: float | None = None
    shorten: bool = False

    def __post_init__(self) -> None:
        _check_model(self.model, optional=True)
        for name, items in _LISTS.items():
            value = getattr(self, name)
            if value is None and name in ("allowed", "regions"):
                continue
            # Bytes are a collection of numbers, an empty one of nothing at all.
            if (
                isinstance(value, (str, bytes, bytearray, memoryview))
                or not isinstance(value, Collection)
                or not all(isinstance(item, str) for item in value)
            ):
                raise ConstraintError(f"{name} is {shortened(value)}; give a list of {items}.")
        for name, unit in _LIMITS.items():
            value = getattr(self, name)
            if value is None:
                continue
            limit = amount(value)
            if limit is None:
                raise ConstraintError(
                    f"{name} is {shortened(value)}; give a number of {unit} from 0 up."
                )
            # An integer that no float holds can hardly be compared or printed.
            object.__setattr__(self, name, limit)
        if not isinstance(self.shorten, bool):
            raise ConstraintError(f"shorten is {shortened(self.shorten)}; give True or False.")

    @classmethod
    def of(cls, constraints: ConstraintsLike) -> Constraints:
        """Read what a caller gives: None is no limit, a mapping names the limits.

        Raises:
            ConstraintError: If it is nothing of that kind, or names a limit that there is not.
        """
        if constraints is None:
            return UNLIMITED
        if isinstance(constraints, Constraints):
            return constraints
        known = [field.name for field in fields(cls)]
        if not isinstance(constraints, Mapping):
            raise ConstraintError(
                f"constraints is {shortened(constraints)}; give Constraints(...), or a mapping "
                f"with some of {', '.join(known)}."
            )
        for name in constraints:
            if name not in known:
                raise ConstraintError(
                    f"constraints: there is no {shortened(name)}{did_you_mean(name, known)} "
                    f"The limits are {', '.join(known)}."
                )
        return cls(**constraints)

    def over(self, pool: ModelPool) -> Constraints:
        """The constraints by the ids of a pool: one of a model stands for all of its efforts.

        Raises:
            UnknownModelError: If the pool has neither.
        """
        forced = () if self.model is None else (self.model,)
        named = {*(self.allowed or ()), *self.excluded, *forced}
        if named <= pool.keys():
            return self
        allowed = None if self.allowed is None else _arms(self.allowed, pool)
        if self.model is None or self.model in pool:
            model = self.model
        else:
            model, own = None, _arms([self.model], pool)
            allowed = own if allowed is None else own & allowed
        excluded = _arms(self.excluded, pool)
        return replace(self, model=model, allowed=allowed, excluded=excluded)

    def forbids(self, model: str) -> Reason | None:
        """Why the model may not be chosen, or None if it may."""
        if self.model is not None and model != self.model:
            return Reason(f"the call forces {self.model}", "force no model")
        if self.allowed is not None and model not in self.allowed:
            return Reason("not among the models that the call allows", "allow more models")
        if model in self.excluded:
            return Reason("excluded by the call", "exclude fewer models")
        return None

    def unmet(self, descriptor: ModelDescriptor) -> Iterator[Reason]:
        """Which demands the model's descriptor does not meet; what it does not say is unmet."""
        region, days = descriptor.region, descriptor.data_retention_days
        seconds = descriptor.expected_latency_seconds
        if self.regions is not None and (
            region is None or region.lower() not in map(str.lower, self.regions)
        ):
            yield Reason(
                f"its region is {region or 'not known'}, the call allows "
                f"{', '.join(self.regions) or 'none'}",
                "allow more regions, or write the region of a model into its descriptor",
            )
        for language in self.languages:
            if not any(_covers(known, language) for known in descriptor.languages):
                yield Reason(
                    f"{language} is not among the languages in its descriptor",
                    "write the languages that a model knows into its descriptor",
                )
        limit = self.max_data_retention_days
        if limit is not None and (days is None or days > limit):
            kept = "for an unknown time" if days is None else f"for {days} days"
            yield Reason(
                f"its provider keeps requests {kept}, the call allows {limit:g} days",
                "raise max_data_retention_days, or write data_retention_days into a descriptor",
            )
        most = self.max_latency_seconds
        if most is not None and (seconds is None or seconds > most):
            time = "is not known" if seconds is None else f"is {seconds:g} s"
            yield Reason(
                f"its expected latency {time}, the call's limit is {most:g} s",
                "raise max_latency_seconds, or write expected_latency_seconds into a descriptor",
            )


ConstraintsLike = Constraints | Mapping[str, Any] | None
"""What callers may limit a call by: None limits nothing."""

_LISTS = {
    "allowed": "model ids",
    "excluded": "model ids",
    "regions": "regions",
    "languages": "language tags",
}
_LIMITS = {
    "max_cost_usd": "USD",
    "hard_max_cost_usd": "USD",
    "max_data_retention_days": "days",
    "max_latency_seconds": "s",
}


def _arms(models: Collection[str], pool: ModelPool) -> frozenset[str]:
    if unknown := [model for model in models if not pool.arms(model)]:
        raise UnknownModelError(unknown[0], pool)
    return frozenset(arm for model in models for arm in pool.arms(model))


def _covers(known: str, wanted: str) -> bool:
    """Whether a language tag is another one or more general: `pt` covers `pt-BR` (RFC 4647)."""
    return f"{wanted}-".lower().startswith(f"{known}-".lower())


@dataclass(frozen=True, slots=True)
class Stay:
    """Keep a conversation on its model, unless another one is better by a margin.

    Changing the model loses the prompt cache of its provider. Where the price table has a price
    for cached input, the present model's cost is counted with it for the tokens before the last
    turn.

    Attributes:
        model: Id of the model that answered before; an id outside the pool is ignored.
        margin: What the change must gain, in units of the reward's utility at the call's
            willingness to pay: 0.05 is about five points of quality; `math.inf` keeps the model
            wherever it may serve.

    Raises:
        ConstraintError: If the margin is not a number from 0 up.
    """

    model: str
    margin: float = 0.05

    def __post_init__(self) -> None:
        _check_model(self.model)
        margin = amount(self.margin)
        if margin is None:
            raise ConstraintError(f"margin is {shortened(self.margin)}; give a number from 0 up.")
        object.__setattr__(self, "margin", margin)


def check_settings(
    willingness_to_pay: object, attempts: object, stay_margin: float | None = None
) -> float:
    """See that the settings of a router that asks models make sense.

    Args:
        willingness_to_pay: lambda, USD a unit of quality.
        attempts: How many candidates are tried at most.
        stay_margin: Margin of `Stay`; None is none.

    Returns:
        The willingness to pay as a float.

    Raises:
        WillingnessToPayError: If the willingness to pay is NaN, negative or no number.
        ConstraintError: If fewer than one attempt is allowed, or the margin is no margin.
    """
    if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
        raise ConstraintError(
            f"attempts is {shortened(attempts)}; give a whole number from 1 up: at least one "
            "model has to be tried."
        )
    if stay_margin is not None:
        Stay("", stay_margin)
    return check_willingness_to_pay(willingness_to_pay)


def _check_model(model: object, *, optional: bool = False) -> None:
    if not isinstance(model, str) and not (optional and model is None):
        raise ConstraintError(f"model is {shortened(model)}; give a model id.")


def shortcomings(descriptor: ModelDescriptor, query: Query) -> list[Reason]:
    """Why the model cannot serve the query: disabled, not capable, no room for its tokens."""
    # No generator: a decision asks this of every model, and nearly always there is nothing.
    found: list[Reason] = []
    if descriptor.disabled:
        found.append(Reason(DISABLED, "enable a model that is disabled in its descriptor"))
    for need in query.needs and sorted(query.needs.difference(descriptor.capabilities)):
        text = f"{need} is not among the capabilities in its descriptor"
        mend = f"write capabilities: [{need}] into the descriptor of a model that has it"
        found.append(Reason(text, mend))
    window, longest = descriptor.context_window_tokens, descriptor.max_output_tokens
    asked = query.output_tokens or 0
    if window is not None and query.input_tokens + asked > window:
        text = (
            f"its context window of {window} tokens is less than the "
            f"{query.input_tokens + asked:.0f} of the request"
        )
        mend = "shorten the request, or add a model with a larger context_window_tokens"
        found.append(Reason(text, mend))
    if longest is not None and asked > longest:
        text = f"answers with {longest} tokens at most, {asked} are asked for"
        mend = "ask for a shorter answer, or add a model with larger max_output_tokens"
        found.append(Reason(text, mend))
    return found


def shortened_to(model: ModelDescriptor, query: Query) -> int | None:
    """The input tokens to which a request has to be shortened for a model.

    Returns:
        None where it fits as it is, or not even what always stays of it does.
    """
    window, least, asked = model.context_window_tokens, query.least_tokens, query.output_tokens or 0
    if window is None or least is None or query.input_tokens + asked <= window:
        return None
    if least + asked > window:
        return None
    return max(window - (asked or model.room_for_answer), math.ceil(least))


def retirement(descriptor: ModelDescriptor) -> Reason:
    """Why a model that is no longer served is no candidate."""
    return Reason(
        f"retired {descriptor.retired}",
        "add a model that is still served, or correct the date where it is wrong",
    )


def tightest(descriptors: Collection[ModelDescriptor]) -> ModelDescriptor:
    """One descriptor with the least of all: a query that it can serve, each of them can."""
    any_of, *_ = descriptors
    windows = [one.context_window_tokens for one in descriptors if one.context_window_tokens]
    longest = [one.max_output_tokens for one in descriptors if one.max_output_tokens]
    common = set.intersection(*(set(one.capabilities) for one in descriptors))
    return any_of.model_copy(
        update={
            "disabled": any(one.disabled for one in descriptors),
            "capabilities": tuple(common),
            "context_window_tokens": min(windows, default=None),
            "max_output_tokens": min(longest, default=None),
        }
    )


UNLIMITED = Constraints()
"""What limits nothing."""
