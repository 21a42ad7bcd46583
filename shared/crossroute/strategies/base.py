"""What a strategy sees and says: tasks, asks, replies."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from crossroute.ceiling import Ceiling
from crossroute.constraints import UNLIMITED, Constraints
from crossroute.decision import CandidateScore, Decision
from crossroute.errors import ConstraintError, shortened
from crossroute.guard import Watch
from crossroute.models.descriptor import Kind, ModelDescriptor
from crossroute.models.efforts import model_of
from crossroute.query import Capability, Message, Query

Role = Literal["answer", "draft", "probe", "judge", "control"]
"""What an ask is for. Only an `answer` may show its tokens while they are made."""


class Usage(NamedTuple):
    """Tokens of one ask, as `Price.cost_usd` takes them.

    Attributes:
        input_tokens: All input tokens.
        output_tokens: All output tokens.
        cached_tokens: Those of the input that came from the provider's prompt cache.
        reasoning_tokens: Those of the output that are reasoning.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class ToolCall(NamedTuple):
    """A call of a tool that a model wants.

    Attributes:
        name: Name of the tool.
        arguments: Its arguments; empty where what the model wrote is no JSON object.
        id: By which its result is told from others.
    """

    name: str
    arguments: Mapping[str, Any]
    id: str

    @classmethod
    def of(cls, name: object, arguments: object, id_: object) -> ToolCall:
        """A call as a provider tells it.

        Args:
            name: Of the tool; None is an empty one, as is no id.
            arguments: A mapping, or a text in JSON.
            id_: By which its result is told from others.
        """
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments, strict=False)
            except (ValueError, RecursionError):
                arguments = {}
        found = arguments if isinstance(arguments, Mapping) else {}
        return cls(str(name or ""), found, str(id_ or ""))


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be answered.

    Attributes:
        decision: Its candidates stand in the order in which the router prefers them.
        query: What was routed.
        messages: The conversation in OpenAI's dict form, to read only.
        ceiling: The hard limit on what the call costs, which the driver keeps; None is none.
        watch: Is told by the driver what becomes of each ask; None if nobody is.
        pool: Descriptors of the candidates by their ids; empty where nobody knows them.
        limits: What the call demands of each candidate; several together have to keep to its most
            predicted cost and latency, too, if a strategy chooses them for the call.
        is_whole: Whether the caller gets the answer in one part, and nothing of it before its end.
        tools: Gives the tools that the caller lets the model call, in OpenAI's dict form.
    """

    decision: Decision
    query: Query
    messages: Sequence[Message]
    ceiling: Ceiling | None = None
    watch: Watch | None = None
    pool: Mapping[str, ModelDescriptor] = field(default_factory=dict)
    limits: Constraints = UNLIMITED
    is_whole: bool = False
    # Made when somebody asks for them.
    tools: Callable[[], Sequence[Mapping[str, Any]]] = tuple

    @property
    def kind(self) -> Kind:
        """Of the candidate that is asked first."""
        model = self.decision.model
        return self.pool[model].kind if model in self.pool else "model"

    def can(self, model: str, capability: Capability) -> bool:
        """Whether a model's descriptor lists a capability."""
        return model in self.pool and capability in self.pool[model].capabilities

    def going_on_after(
        self, failed: str, candidates: Iterable[CandidateScore]
    ) -> list[CandidateScore]:
        """Candidates in their order, but other efforts of the model that has failed last.

        What has hit it most likely hits them, too.
        """

        def is_it(one: CandidateScore) -> bool:
            known = one.model in self.pool and failed in self.pool
            return known and model_of(self.pool[one.model]) == model_of(self.pool[failed])

        return sorted(candidates, key=is_it)


@dataclass(slots=True, eq=False)
class Reply:
    """What has come back of an ask so far.

    Attributes:
        model: Id of the model that was asked.
        text: Its text so far.
        has_words: Whether there is something of an answer: words, a tool call, reasoning.
        refused: Whether it refuses to answer.
        was_asked: Whether the model was asked, which it is not if its client cannot be built.
        error: The failure that ended it, which another model may not share; None if it goes well.
        done: Whether nothing more will come.
        left: Whether nobody waited for its end: others were enough, its time was over, or its
            stream was closed where it was looked at.
        usage: Its tokens, None as long as nobody has counted them.
        cost_usd: What it cost in USD; None as long as it is not known.
        logprobs: Log-probabilities of its tokens so far, where they were asked for and are given.
        tool_calls: Which tools it wants called, of its ask or of the caller, as soon as it is done.
        messages: Of what is no model but an agent, the messages of its run in OpenAI's dict form,
            as soon as it is done; empty where the text and the tool calls are all.
    """

    model: str
    text: str = ""
    has_words: bool = False
    refused: bool = False
    was_asked: bool = True
    error: Exception | None = None
    done: bool = False
    left: bool = False
    usage: Usage | None = None
    cost_usd: float | None = None
    logprobs: list[float] = field(default_factory=list)
    tool_calls: list[ToolCall] = field(default_factory=list)
    messages: Sequence[Message] = ()

    @property
    def failed(self) -> bool:
        """Whether it ended with a failure that another model may not share."""
        return self.error is not None


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask a model.

    Attributes:
        model: Id of a candidate.
        keep: Positions of the caller's messages that it gets; None are all, untouched.
        then: Messages after them, in OpenAI's dict form: a question of a judge, say.
        settings: Settings of the call beside the caller's own: `temperature`, `max_tokens`...
        tools: What it may call, as tools in OpenAI's dict form.
        until: When to look at a stream; None is at its end.
        role: What it is for.
        seconds: Time limit, up to where it is looked at: then it is left, and its error is an
            `AskTimeoutError`. None is the client's own.
        fresh: Whether it is to be a sample of its own, from no cache of the framework.
        effort: The reasoning effort, in the place of the model's own and of the caller's; a client
            that is not known to take one is asked without.
        reason: Why it is asked, in a line of text for whoever reads the decision.
        reserve_usd: What of a hard limit on cost it leaves for asks that are to come.
        max_tokens: The most output tokens that a hard limit leaves; the driver sets it.
    """

    model: str
    keep: Sequence[int] | None = None
    then: Sequence[Message] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    tools: Sequence[Mapping[str, Any]] = ()
    until: Callable[[Reply], bool] | None = None
    role: Role = "answer"
    seconds: float | None = None
    fresh: bool = False
    effort: str | None = None
    reason: str = ""
    reserve_usd: float = 0.0
    max_tokens: int | None = None

    @property
    def is_own(self) -> bool:
        """Whether it has nothing of the caller's: it may be wrong where the call is not."""
        return self.keep is not None and not self.keep


@dataclass(frozen=True, slots=True)
class Together:
    """Ask several at once, until enough is known.

    Attributes:
        asks: What is asked.
        enough: Of their replies in the order of the asks, whenever one of them has ended; as soon
            as it is true the others are left, and their replies are not done. None waits for all.
    """

    asks: tuple[Ask, ...]
    enough: Callable[[Sequence[Reply]], bool] | None = None


@dataclass(frozen=True, slots=True)
class GoOn:
    """Read on, at once, in streams that were looked at.

    Attributes:
        replies: What has come of them so far; one that is done stays as it is.
        until: When to look at one of them again; None is at its end.
        enough: As that of `Together`.
        seconds: Time limit of each, from now on; infinite is the client's own. None is once more
            that of its ask.
    """

    replies: tuple[Reply, ...]
    until: Callable[[Reply], bool] | None = None
    enough: Callable[[Sequence[Reply]], bool] | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Drop:
    """Close streams that were looked at, and show nothing of them.

    Attributes:
        replies: Of which nothing more is read; those that were not done are left.
    """

    replies: tuple[Reply, ...]


@dataclass(frozen=True, slots=True)
class Show:
    """Hand on what is held of a reply.

    What an earlier `Show` has handed on or dropped is not held any more. How the stream ended is
    handed on if the reply is returned, and not before.

    Attributes:
        reply: Of a stream, as a rule.
        start: Position in its text; what is held before it is dropped.
        end: Position in its text; what comes after it stays held. None is all.
        close: Whether nothing more is read of it, and no text is held any more. If not, it may be
            gone on with, shown further, and returned.
    """

    reply: Reply
    start: int = 0
    end: int | None = None
    close: bool = True


@dataclass(frozen=True, slots=True)
class Limit:
    """Set a hard limit on what the call costs from now on, all asks of it together.

    Attributes:
        usd: The most in USD; a lower limit of the call stays.
        name: What it is called, in the error of an ask that it does not pay for.
    """

    usd: float
    name: str


Step = Ask | Together | tuple[Ask, ...] | GoOn | Drop | Show | Limit

Flow = Generator[Step, Any, Reply]
"""Yields an `Ask` and is sent its `Reply`; a `Together` is asked at once, and gives as many replies
in its order; a tuple of asks is one that waits for all; a `GoOn` and a `Drop` are sent their
replies again, a `Show` its reply. The reply that it returns is the answer: what is held of it is
handed on, and what is still to come."""


@runtime_checkable
class Strategy(Protocol):
    """A way of answering.

    One that can take tools and schemas, which are bound to the models that are asked, has an
    attribute `takes_tools` that is true.
    """

    def answer(self, task: Task) -> Flow:
        """Say what to ask, one thing after the other, and return the reply that is the answer.

        What is sent is a reply that is done, or one at which `until` is true. A failure is sent
        only where another model may not share it, or where a provider refuses an ask that has
        nothing of the caller's (`Ask.is_own`); any other is raised past the strategy.
        """
        ...


def check_strategy(strategy: object) -> Strategy | None:
    """See that something is a strategy, or None.

    Raises:
        ConstraintError: If it is neither.
    """
    if strategy is None or (isinstance(strategy, Strategy) and not isinstance(strategy, type)):
        return strategy
    raise ConstraintError(
        f"strategy is {shortened(strategy)}; give an object with the method answer(task), such as "
        "crossroute.strategies.PickOne()."
    )


def has_words(reply: Reply) -> bool:
    """Whether there is something of an answer: until then another model may give it."""
    return reply.has_words


def begun(reply: Reply) -> bool:
    """Whether there is something of an answer or of a refusal."""
    return reply.has_words or reply.refused
