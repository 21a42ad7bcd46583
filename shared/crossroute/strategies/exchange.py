"""What the driver needs of a framework, and what it tells of a call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from crossroute.strategies.base import Ask, Reply, Task
from crossroute.strategies.bill import Charge

Part = TypeVar("Part")


class Exchange(Protocol[Part]):
    """One ask of a framework's model, and what comes back: the framework's half.

    Attributes:
        reply: What the strategy sees of it.
    """

    reply: Reply

    def open(self) -> Iterator[Part]:
        """Ask; the parts of the answer as they come, one part where it is not streamed."""
        ...

    def aopen(self) -> AsyncIterator[Part]:
        """`open` without blocking the event loop."""
        ...

    def read(self, part: Part) -> None:
        """Note in the reply what a part says."""
        ...

    @property
    def charge(self) -> Charge:
        """What it has cost so far."""
        ...

    @property
    def shown(self) -> bool:
        """Whether something of the answer was shown within the call, which is not taken back."""
        ...

    def failure(self, error: Exception) -> str | None:
        """A failure in a line of text, where another model may not share it; else None."""
        ...

    def cut(self, part: Part, start: int, end: int | None) -> Part | None:
        """A part with some of its text only.

        Args:
            part: What was read already.
            start: Position in the text that it has added to the reply's.
            end: Position there; then it says nothing of how its stream ended. None is all.

        Returns:
            The part; None if there is nothing in it any more.
        """
        ...

    def with_metadata(self, part: Part) -> Part:
        """A part as the caller gets it: with the decision and the bill on it."""
        ...

    def rest(self) -> Iterator[Part]:
        """What the caller gets after the last part."""
        ...


class Transport(Protocol[Part]):
    """How a framework asks its models."""

    def exchange(self, ask: Ask, decision: dict[str, Any]) -> Exchange[Part]:
        """An exchange that is not opened yet.

        Args:
            ask: What to ask.
            decision: The decision as plain values, with the model of the ask as its model.
        """
        ...

    def report(self, failure: dict[str, Any]) -> None:
        """Tell whoever listens that a candidate failed: `model`, `error`, and the `next` one."""
        ...

    async def areport(self, failure: dict[str, Any]) -> None:
        """`report` without blocking the event loop."""
        ...


class EndedAsk(NamedTuple):
    """An ask of a call that has ended.

    Attributes:
        charge: What it cost.
        error: What ended it, None if it went well or was left.
        refused: Whether it was a refusal that another ask was to mend.
        ask: What was asked; None where nobody says.
        reply: What had come back; None where nobody says.
        shown: Whether the answer, or a part of it, is of it.
    """

    charge: Charge
    error: BaseException | None
    refused: bool
    ask: Ask | None = None
    reply: Reply | None = None
    shown: bool = False


class Ended(NamedTuple):
    """A call that has ended, however it did.

    Attributes:
        task: What was to be answered.
        asks: Every ask, in their order, those too whose model could not be built.
        model: Id of the model that answered, or had begun to; None if none had.
        text: What was handed on of the answer.
        error: What was raised; a `GeneratorExit` or a `CancelledError` where the caller has left.
        seconds: From the decision to the end of the answer.
    """

    task: Task
    asks: Sequence[EndedAsk]
    model: str | None
    text: str
    error: BaseException | None
    seconds: float


Listener = Callable[[Ended], None]
"""Is told of a call when it has ended, in a worker thread where the call is async; it does not
raise."""
