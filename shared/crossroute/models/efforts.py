"""Reasoning efforts: each effort of a model is a candidate of its own, an arm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from crossroute.models.descriptor import ModelDescriptor
from crossroute.models.provider_arguments import effort_arguments, effort_in


class Arm(NamedTuple):
    """A model at one reasoning effort.

    Attributes:
        model: Id of the model.
        effort: The effort.
    """

    model: str
    effort: str

    @property
    def id(self) -> str:
        """Its id in a pool."""
        return f"{self.model}@{self.effort}"


def arm_of(descriptor: ModelDescriptor) -> Arm | None:
    """The model and the effort that a descriptor is of; None for a model without an effort.

    Its id ends with `@effort`, and so says its `effort`, or `provider.arguments`: what follows an
    `@` may be a date or a version as well.
    """
    model, _, effort = descriptor.id.rpartition("@")
    told = descriptor.effort
    if told is None and descriptor.provider is not None:
        told = effort_in(descriptor.provider.arguments)
    return Arm(model, effort) if model and told == effort else None


def model_of(descriptor: ModelDescriptor) -> str:
    """Id of the model that a descriptor is of, be it at an effort or not."""
    arm = arm_of(descriptor)
    return descriptor.id if arm is None else arm.model


def at_effort(descriptor: ModelDescriptor, effort: str) -> ModelDescriptor:
    """The arm of a model that lists its efforts: without an embedding, which is of no effort."""
    provider = descriptor.provider
    if provider is not None:
        own = effort_arguments(provider.chat_model.partition(":")[0], effort)
        if isinstance(within := provider.arguments.get("reasoning"), dict):
            # What else stands there, such as a summary, stays; no other argument is taken beside.
            own = {"reasoning": {**within, "effort": effort}}
        arguments = {**provider.arguments, **own}
        # It says how long to think, too.
        arguments.pop("thinking_budget", None)
        provider = provider.model_copy(update={"arguments": arguments})
    return descriptor.model_copy(
        update={
            "id": Arm(descriptor.id, effort).id,
            "provider": provider,
            "efforts": (),
            # The arguments of a provider say it.
            "effort": effort if provider is None else None,
            "learned": None,
        }
    )


def expanded(descriptors: Iterable[ModelDescriptor]) -> list[ModelDescriptor]:
    """Models with an arm in the place of each that lists efforts, for each effort.

    A descriptor of its own, with the id of an arm, is that arm.
    """
    listed = list(descriptors)
    own = {descriptor.id for descriptor in listed}
    found = [descriptor for descriptor in listed if not descriptor.efforts]
    found += [
        at_effort(descriptor, effort)
        for descriptor in listed
        for effort in descriptor.efforts
        if Arm(descriptor.id, effort).id not in own
    ]
    return found
