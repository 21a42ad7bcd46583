"""What a strategy says, as single steps of input and output, which the loops of `drive` do."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from sys import float_info
from typing import Any, Generic, NamedTuple

from crossroute.errors import AskTimeoutError, StrategyError, shortened
from crossroute.failures import (
    REFUSED,
    WRONG_STATUSES,
    Failure,
    decision_after,
    describe,
    note,
    status_of,
)
from crossroute.strategies.base import (
    Ask,
    Drop,
    Flow,
    GoOn,
    Limit,
    Reply,
    Show,
    Task,
    Together,
)
from crossroute.strategies.exchange import Ended, EndedAsk, Exchange, Part, Transport
from crossroute.strategies.limit import limited, lowered
from crossroute.strategies.readers import END, Came


class Held(NamedTuple):
    """A part that nobody was shown yet, and which of the reply's text it brought."""

    part: Any
    start: int
    end: int


@dataclass(slots=True, eq=False)
class Asked(Generic[Part]):
    """An ask under way.

    Attributes:
        ask: What was asked.
        exchange: What comes back.
        parts: Those to come.
        until: When its strategy looks at it; None is at its end.
        seconds: Time limit, up to there.
        held: Those that nobody was shown yet.
        is_dropped: Whether nothing of it is to be shown any more.
        failure: Its failure in a line of text, where another model may not share it.
        error: What its stream raised.
        reader: What reads its parts beside the call; nobody else may, as long as there is one.
    """

    ask: Ask
    exchange: Exchange[Part]
    parts: Any
    until: Any = None
    seconds: float = math.inf
    held: list[Held] = field(default_factory=list)
    is_dropped: bool = False
    failure: str | None = None
    error: Exception | None = None
    reader: Any = None

    @property
    def reply(self) -> Reply:
        """What the strategy sees of it."""
        return self.exchange.reply

    @property
    def position(self) -> int:
        """Where in the text of the reply what is held begins."""
        return self.held[0].start if self.held else len(self.reply.text)


class Shown(NamedTuple):
    """A part of an answer that was handed on: of whose text, from where to where."""

    asked: Asked[Any]
    start: int
    end: int | None

    @property
    def text(self) -> str:
        """What was handed on; without an end, all that has come."""
        return self.asked.reply.text[self.start : self.end]


@dataclass(slots=True, eq=False)
class Call(Generic[Part]):
    """A call under way: its asks, and what was handed on."""

    began: float
    asked: list[Asked[Part]] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    error: BaseException | None = None

    def ended(self, task: Task) -> Ended:
        """What is told of it in the end."""
        showed = [one.asked for one in self.shown]
        return Ended(
            task,
            [
                EndedAsk(
                    one.exchange.charge,
                    one.error or one.reply.error,
                    one.reply.refused and one not in showed,
                    one.ask,
                    one.reply,
                    one in showed,
                )
                for one in self.asked
            ],
            showed[-1].ask.model if showed else None,
            "".join(one.text for one in self.shown),
            self.error,
            time.monotonic() - self.began,
        )


# What the loops do for a course; each is sent back what came of it, or thrown what it raised.


@dataclass(frozen=True, slots=True)
class Pull:
    """Give the next part, `END` after the last."""

    asked: Asked[Any]


@dataclass(frozen=True, slots=True)
class Close:
    """Close the stream."""

    asked: Asked[Any]


@dataclass(frozen=True, slots=True)
class Emit:
    """Hand on a part to the caller."""

    part: Any


@dataclass(frozen=True, slots=True)
class Tell:
    """Report a failure."""

    failure: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Want:
    """Begin to read the next part of each, beside the call."""

    asked: Sequence[Asked[Any]]


@dataclass(frozen=True, slots=True)
class Wait:
    """Give what has come of those, and up to when, as soon as something has or time is over."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Release:
    """Read no more of it beside the call."""

    asked: Asked[Any]


@dataclass(frozen=True, slots=True)
class Leave:
    """Stop reading them, wherever they are, and close them."""

    asked: Sequence[Asked[Any]]


Step = Pull | Close | Emit | Tell | Want | Wait | Release | Leave
Course = Generator[Step, Any, None]


def course(
    task: Task, flow: Flow, transport: Transport[Any], call: Call[Any], *, is_async: bool
) -> Course:
    """What a strategy says, as single steps."""
    asked = call.asked
    failures: list[Failure] = []
    ceiling = task.ceiling
    candidates = [candidate.model for candidate in task.decision.candidates]

    def check(ask: object) -> Ask:
        if not isinstance(ask, Ask):
            raise StrategyError(
                f"A strategy yielded or returned {shortened(ask)}; it yields Ask, GoOn, Drop, "
                "Show, Limit, or a Together or tuple of at least one Ask, and returns one of the "
                "replies that it was sent."
            )
        if not (ask.seconds is None or _is_limit(ask.seconds)):
            raise StrategyError(
                f"A strategy asks {shortened(ask.model)} with seconds={shortened(ask.seconds)}; "
                "give a finite number above 0, or None for no time limit."
            )
        removed = () if task.watch is None else task.watch.removed
        if ask.model not in candidates and ask.model not in removed:
            why = task.decision.removed.get(ask.model, "it is not in the pool")
            raise StrategyError(
                f"A strategy asks {shortened(ask.model)}, which is no candidate of this call: "
                f"{why}. The candidates are {', '.join(candidates)}."
            )
        return ask

    def begin(ask: Ask, at_once: int = 1) -> Asked[Any]:
        decided, refused = task.decision, None
        if task.watch is not None and ask.model in task.watch.removed:
            # No error of the strategy's: it cannot know who rests.
            decided, refused = task.watch.decision, task.watch.removed[ask.model]
        decision = decision_after(decided, ask.model, failures, ask.reason)
        if refused is None and ceiling is not None:
            ask, refused = limited(ceiling, ask, asked, at_once)
            decision["max_tokens"] = ask.max_tokens
        exchange = transport.exchange(ask, decision)
        parts = exchange.aopen() if is_async else exchange.open()
        seconds = math.inf if ask.seconds is None else ask.seconds
        one = Asked(ask, exchange, parts, ask.until, seconds)
        if refused is None and task.watch is not None:
            refused = task.watch.begin(ask.model)
        if refused is not None:
            one.reply.error, one.reply.done, one.failure = refused, True, str(refused)
            one.reply.was_asked = False
        asked.append(one)
        return one

    def given_up(ones: Sequence[Asked[Any]], step: object) -> Iterator[Tell]:
        """What to tell of those that failed or refused, now that it is known what comes next."""
        then = step.model if isinstance(step, Ask) else None
        for one in ones:
            text = one.failure or (REFUSED if one.reply.refused and then else None)
            if text is not None:
                failures.append({"model": one.ask.model, "error": text})
                yield Tell({**failures[-1], "next": then})

    sent: Any = None
    latest: list[Asked[Any]] = []
    while True:
        try:
            step = flow.send(sent)
        except StopIteration as end:
            step = end.value
        yield from given_up(latest, step)
        latest = []
        if isinstance(step, Reply):
            break
        if isinstance(step, Show):
            one = _of(step.reply, asked)
            yield from (Emit(part) for part in _shown(one, step, call))
            if step.close:
                # How it ended is handed on if it is the answer.
                one.held = [held for held in one.held if held.start >= len(one.reply.text)]
                one.reply.done = True
                yield Close(one)
            sent = one.reply
        elif isinstance(step, Limit):
            ceiling, sent = lowered(task, ceiling, step), None
        elif isinstance(step, GoOn):
            ones, again = _again(step, asked)
            for one in ones:
                seconds = one.ask.seconds if step.seconds is None else step.seconds
                one.until, one.seconds = step.until, math.inf if seconds is None else seconds
            # What was told of the others already is not told again.
            latest = [one for one in ones if not (one.reply.done or one.reply.refused)]
            yield from _listen_to_all(ones, again, task, failures)
            sent = tuple(one.reply for one in ones)
        elif isinstance(step, Drop):
            ones = _all_of(step, asked)
            for one in ones:
                one.held, one.is_dropped = [], True
                yield Close(one)
            sent = tuple(one.reply for one in ones)
        elif together := _together(step):
            # All of them, before one is asked for nothing.
            asks = [check(ask) for ask in together.asks]
            latest = [begin(ask, len(asks) - place) for place, ask in enumerate(asks)]
            yield from _listen_to_all(latest, together, task, failures)
            sent = tuple(one.reply for one in latest)
        else:
            ask = check(step)
            latest = [begin(ask)]
            yield from _listen_to_all(latest, Together((ask,)), task, failures)
            sent = latest[0].reply

    answer = _of(step, asked)
    if answer.reply.error is not None:
        note(answer.reply.error, failures)
        raise answer.reply.error
    call.shown.append(Shown(answer, answer.position, None))
    for one in asked:
        if one is not answer:
            yield Close(one)
    exchange = answer.exchange
    for held in answer.held:
        yield Emit(exchange.with_metadata(held.part))
    while not answer.reply.done:
        try:
            part = yield Pull(answer)
        except Exception as error:
            _note_failure(answer, task, error)
            raise
        if part is END:
            answer.reply.done = True
        else:
            exchange.read(part)
            yield Emit(exchange.with_metadata(part))
    yield from (Emit(part) for part in exchange.rest())


def note_ends(task: Task, asked: Sequence[Asked[Any]]) -> None:
    """Tell who watches a call what became of its asks, which have all ended."""
    for one in asked:
        reply = one.reply
        # One that was left may be asked yet, once its client is built.
        if task.watch is not None and (reply.was_asked or reply.left):
            # A request that is wrong itself is done, too, but was not answered.
            ended_well = reply.done and (one.error or reply.error) is None
            came = ended_well or reply.has_words or reply.refused
            task.watch.ended(
                one.ask.model,
                answered=came and one.failure is None,
                cost_usd=one.exchange.charge["cost_usd"],
            )
    if task.watch is not None:
        task.watch.over()


def _shown(one: Asked[Any], show: Show, call: Call[Any]) -> list[Any]:
    """What a `Show` hands on; it is not held any more."""
    given: list[Any] = []
    rest: list[Held] = []
    span = Shown(one, max(one.position, show.start), show.end)
    # How a stream ended is said by its last parts, after all of its text.
    last = len(one.reply.text) if one.reply.done else math.inf
    end = last if show.end is None else min(show.end, last)
    for part, begins, ends in one.held:
        if begins >= end:
            rest.append(Held(part, begins, ends))
            continue
        start = min(max(show.start, begins), ends) - begins
        if ends >= end:
            stop = int(end) - begins
            given.append(one.exchange.cut(part, start, stop))
            if (tail := one.exchange.cut(part, stop, None)) is not None:
                rest.append(Held(tail, int(end), ends))
        else:
            given.append(one.exchange.cut(part, start, None) if start else part)
    one.held = rest
    given = [part for part in given if part is not None]
    if given:
        call.shown.append(span._replace(end=one.position))
    return given


def _again(step: GoOn, asked: Sequence[Asked[Any]]) -> tuple[list[Asked[Any]], Together]:
    """What is gone on with, and until when.

    Raises:
        StrategyError: If there is nothing of it, or it cannot be gone on with.
    """
    ones = _all_of(step, asked)
    if step.enough is not None and not callable(step.enough):
        raise StrategyError(
            f"enough of GoOn is {shortened(step.enough)}; give a function of the replies, or "
            "None to wait for all."
        )
    if not (step.seconds is None or step.seconds == math.inf or _is_limit(step.seconds)):
        raise StrategyError(
            f"seconds of GoOn is {shortened(step.seconds)}; give a number above 0, or None for "
            "that of the asks."
        )
    return ones, Together(tuple(one.ask for one in ones), step.enough)


def _all_of(step: GoOn | Drop, asked: Sequence[Asked[Any]]) -> list[Asked[Any]]:
    """What the replies of a step are of.

    Raises:
        StrategyError: If there are none, one was not sent, or one is there twice.
    """
    if not isinstance(step.replies, (tuple, list)) or not step.replies:
        raise StrategyError(
            f"replies of {type(step).__name__} is {shortened(step.replies)}; give a tuple of at "
            "least one Reply."
        )
    found = [_of(reply, asked) for reply in step.replies]
    if len({id(one) for one in found}) < len(found):
        raise StrategyError(f"replies of {type(step).__name__} has a reply twice; give each once.")
    return found


def _is_limit(seconds: object) -> bool:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        return False
    return 0 < seconds <= float_info.max


def _together(step: object) -> Together | None:
    """What is asked at once, if it is something.

    Raises:
        StrategyError: If it is a `Together` that cannot be asked.
    """
    if isinstance(step, tuple) and step:
        return Together(step)
    if not isinstance(step, Together) or step.asks == ():
        return None
    if not isinstance(step.asks, (tuple, list)):
        raise StrategyError(f"asks of Together is {shortened(step.asks)}; give a tuple of Ask.")
    if step.enough is not None and not callable(step.enough):
        raise StrategyError(
            f"enough of Together is {shortened(step.enough)}; give a function of the replies, or "
            "None to wait for all."
        )
    return step if step.asks else None


def _of(reply: Reply, asked: Sequence[Asked[Any]]) -> Asked[Any]:
    """What a reply is of, which is shown or returned."""
    for one in asked:
        if one.reply is reply:
            if (reply.left or one.is_dropped) and not reply.failed:
                raise StrategyError(
                    f"A strategy gives a reply of {shortened(reply.model)} that was left, as "
                    "others were enough, or was dropped; it shows and returns one that was neither."
                )
            return one
    of = shortened(getattr(reply, "model", reply))
    raise StrategyError(
        f"A strategy gives a reply of {of} that it was not sent; it shows and "
        "returns those that it was."
    )


def _note_failure(one: Asked[Any], task: Task, error: Exception) -> None:
    """Note whether another model may not share a failure; if so, tell who watches the call."""
    one.failure = one.exchange.failure(error)
    if one.failure is None and isinstance(error, AskTimeoutError):
        one.failure = describe(error)
    if task.watch is None or one.failure is None or not one.reply.was_asked:
        return
    # That a request of the strategy's own is wrong is no fault of the model.
    if not (one.ask.is_own and status_of(error) in WRONG_STATUSES):
        task.watch.failed(one.ask.model, error)


def _listen(one: Asked[Any], task: Task, failures: list[Failure]) -> Course:
    """Read a reply up to where its strategy looks at it."""
    while not one.reply.done:
        try:
            part = yield Pull(one)
        except Exception as error:
            yield from _fail(one, task, failures, error)
            return
        if _read(one, part):
            return


def _listen_to_all(
    ones: Sequence[Asked[Any]], together: Together, task: Task, failures: list[Failure]
) -> Course:
    """Read replies at once, each up to where its strategy looks at it, until enough is known.

    Here everything is done that the strategy sees, so that no two threads do it at once.
    """
    if len(ones) == 1 and together.enough is None and ones[0].seconds == math.inf:
        # Nothing else goes on meanwhile.
        yield from _listen(ones[0], task, failures)
        return
    replies, enough = [one.reply for one in ones], together.enough
    under_way = [one for one in ones if not one.reply.done]
    began = time.monotonic()
    # When the time of each is over.
    ends = {one: began + one.seconds for one in under_way}
    yield Want(under_way)
    # Those that could not be asked have ended already.
    is_enough = len(ends) < len(ones) and enough is not None and enough(replies)
    while ends and not is_enough:
        found, now = yield Wait(max(min(ends.values()) - time.monotonic(), 0.0))
        # Of those that were left, something may come yet.
        came: dict[Asked[Any], Came | None] = {one.key: one for one in found if one.key in ends}
        came |= {one: None for one, end in ends.items() if end <= now and one not in came}
        for one, what in came.items():
            if what is None or what.at > ends[one]:
                yield Leave([one])
                yield from _fail(one, task, failures, _too_late(one))
            elif isinstance(what.error, Exception):  # Any other is raised by the loop.
                yield Release(one)
                yield from _fail(one, task, failures, what.error)
            elif _read(one, what.part):
                yield Release(one)
            else:
                yield Want([one])
                continue
            del ends[one]
            if enough is not None and enough(replies):
                is_enough = True
                break
    if ends:
        yield Leave(list(ends))


def _read(one: Asked[Any], part: Any) -> bool:  # noqa: ANN401  # Of whatever kind the framework's are.
    """Read a part; whether the strategy is to look at the reply now."""
    if part is END:
        one.reply.done = True
        return True
    before = len(one.reply.text)
    one.exchange.read(part)
    one.held.append(Held(part, before, max(len(one.reply.text), before)))
    until = one.until
    return until is not None and bool(until(one.reply))


def _fail(one: Asked[Any], task: Task, failures: list[Failure], error: Exception) -> Course:
    """Note a failure in the reply, or raise it if it is for no strategy."""
    _note_failure(one, task, error)
    one.reply.error, one.reply.done = error, True
    if one.failure is not None and one.exchange.shown:
        failures.append({"model": one.ask.model, "error": one.failure})
        yield Tell({**failures[-1], "next": None})
    if one.failure is None or one.exchange.shown:
        note(error, failures)
        raise error


def _too_late(one: Asked[Any]) -> AskTimeoutError:
    return AskTimeoutError(
        f"{one.ask.model} gave no answer within {one.seconds:g} s, the time limit that the "
        "strategy set. Raise the seconds of its Ask or GoOn, or ask a faster model."
    )
