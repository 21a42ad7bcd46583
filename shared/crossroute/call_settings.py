"""What a single call may set: the one list from which both integrations make their own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, NamedTuple, TypedDict, get_type_hints

from crossroute.constraints import UNLIMITED, Constraints


class CallSettings(TypedDict, total=False):
    """Settings of a call, each of them optional; None is as good as not given."""

    willingness_to_pay: Annotated[float | None, "USD a unit of quality; the router's own if None."]
    model: Annotated[str | None, "Id of the one model that may answer; it is not left if it fails."]
    allowed: Annotated[Collection[str] | None, "Ids of the models that may answer."]
    excluded: Annotated[Collection[str] | None, "Ids of the models that may not answer."]
    max_cost_usd: Annotated[float | None, "The most that the call may cost, as predicted, in USD."]
    hard_max_cost_usd: Annotated[
        float | None, "The most that the call may cost at all, in USD: answers are cut off there."
    ]
    regions: Annotated[Collection[str] | None, "Where the model may run, by its descriptor."]
    languages: Annotated[Collection[str] | None, "What the model must know, by its descriptor."]
    max_data_retention_days: Annotated[int | None, "How long its vendor may keep the call."]
    max_latency_seconds: Annotated[float | None, "How long its answers usually may take."]
    shorten: Annotated[
        bool | None, "Whether a model without room for the conversation gets a shorter one."
    ]


class Setting(NamedTuple):
    """One of them.

    Attributes:
        name: As in `CallSettings`.
        kind: Its type.
        text: What it means.
    """

    name: str
    kind: Any
    text: str


SETTINGS = [
    Setting(name, hint.__origin__, hint.__metadata__[0])
    for name, hint in get_type_hints(CallSettings, include_extras=True).items()
]


def limits_of(settings: Mapping[str, Any]) -> Constraints:
    """What limits the candidates of a call with these settings.

    Raises:
        ConstraintError: If one makes no sense.
    """
    given = {
        name: value
        for name, value in settings.items()
        if value is not None and name != "willingness_to_pay"
    }
    return Constraints(**given) if given else UNLIMITED
