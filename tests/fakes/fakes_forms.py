"""Strategies with what a server on this machine says to them, for every form of a call.

Both integrations take the same table: which strategy, what each model answers, and what must come
of it. Nothing hangs on the clock: what is to come late is held until the test lets it go.
"""

# ruff: noqa: ANN401  # Bodies in JSON.

from __future__ import annotations

import asyncio
import math
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from fakes_answers import calibrated, calibrations
from fakes_strategies import PATIENCE, let_go
from openai_server import Answer, OpenAIServer, Reply

from crossroute.strategies import (
    Arms,
    Cascade,
    Controller,
    Handoff,
    MeanLogprob,
    Mixture,
    Panels,
    PickOne,
    Probe,
    StatedConfidence,
    Strategy,
    Vote,
)
from crossroute.strategies.numbered import ANEW
from crossroute.strategies.signals import CONFIDENCE_QUESTION

# From the cheapest to the best; the descriptor of SMALL lists no log-probabilities.
SMALL = "Meta-Llama-3.1-8B-Instruct"
MINI = "gpt-4o-mini-2024-07-18"
LARGE = "gpt-4o-2024-08-06"
MODELS = [LARGE, SMALL, MINI]

QUESTION = "What is 17 * 23?"
RIGHT = "Let me see: it is 391."
ALSO_RIGHT = "17 times 23 is surely 391."
SURELY_RIGHT = "Obviously it is 391, and nothing else."
WRONG = "I guess it is 371."
SURE, UNSURE = -0.01, -0.97
"""Log-probabilities of tokens; the calibration says .99 of the mean at 0, and .01 at -1."""

TOKENS = {SMALL: (31, 7), MINI: (37, 11), LARGE: (41, 13)}
"""What the server counts of each model: input and output tokens."""


def says(model: str, text: str, logprob: float = SURE, **more: Any) -> Reply:
    """A reply of a model, each token as likely."""
    given, made = TOKENS[model]
    found = [logprob] * len((more.get("refusal") or text).split())
    return Reply(text, input_tokens=given, output_tokens=made, logprobs=found, **more)


@dataclass(frozen=True)
class Case:
    """A strategy, and what comes of it.

    Attributes:
        strategy: Of the call.
        answers: Of the models.
        text: The answer.
        asks: Model and role of each ask, in the order of the bill.
        reason: A pattern of why the one that answers was asked; None says nothing.
        logprobs: Models that are asked for log-probabilities.
        left: Models whose answer nobody waits for.
        cut: Models whose streams are closed where they are looked at; whole answers are not.
        at_once: Whether several are asked at once, whose requests come in any order.
        willingness_to_pay: Of the router.
        last: Who gives the last words, if not one model gives all.
        joins: Whether a draft is shown while it is made, and perhaps another one behind it.
        whole: What comes of it where answers come in one part, if it is something else.
    """

    strategy: Strategy
    answers: dict[str, Answer]
    text: str
    asks: Sequence[tuple[str, str]]
    reason: str | None
    logprobs: Sequence[str] = ()
    left: Sequence[str] = ()
    cut: Sequence[str] = ()
    at_once: bool = False
    willingness_to_pay: float = math.inf
    last: str | None = None
    joins: bool = False
    whole: Case | None = None

    @property
    def models(self) -> list[str]:
        """Who is asked."""
        return [model for model, _ in self.asks]

    @property
    def model(self) -> str:
        """Who answers: in this table whose words are the answer."""
        answered = [m for m, _ in self.asks if getattr(self.answers[m], "text", "") == self.text]
        return self.last or answered[-1]

    @property
    def is_live(self) -> bool:
        """Whether the answer is shown while it is made; a draft is not."""
        return dict(self.asks)[self.model] == "answer"

    @property
    def asked_first(self) -> list[str]:
        """Who has been asked when the first words of a stream come."""
        return self.models[:1] if self.joins else self.models

    @property
    def conversing(self) -> bool:
        """Whether messages are added, which chains that take a dict cannot be asked."""
        roles = {role for _, role in self.asks}
        return bool({"judge", "control"} & roles) or self.last is not None

    @property
    def in_one_part(self) -> Case:
        """What comes of it where answers come whole."""
        return self.whole or self

    @property
    def is_probed(self) -> bool:
        """Whether drafts are streamed, too, as the strategy looks into them."""
        return "probe" in dict(self.asks).values() or isinstance(self.strategy, Handoff)


def panel(*models: str) -> Panels:
    """One panel that any willingness to pay for quality prefers, and that takes two who agree."""
    flat = [0.0] * len(models)
    curve = {"intercept": 4.0, "slopes": flat}
    return Panels.model_validate(
        {
            "panels": [
                {
                    "models": models,
                    "jury": {
                        "jurors": {model: {"weight": 2.0, "slope": 0.0} for model in models},
                        "doubt": 0.0,
                        "doubt_by_number": 0.0,
                        "doubt_by_quality": 0.0,
                    },
                    "stops": [{"at": 0.95, "quality": curve, "asked": [curve] * len(models[1:])}],
                }
            ]
        }
    )


@dataclass(frozen=True)
class Member:
    """What a member of a mixture says to what it is asked.

    Attributes:
        model: Its id.
        text: Its latest answer.
        own: Its score of its own answer.
        scores: Its scores of all.
        first: Its answer in the first of several rounds.
    """

    model: str
    text: str
    own: str = "0.9"
    scores: str = ""
    first: str | None = None

    def __call__(self, body: dict[str, Any]) -> Reply:
        asked = body["messages"][-1]["content"]
        if asked == CONFIDENCE_QUESTION:
            return says(self.model, self.own)
        if "one line for each" in asked:
            return says(self.model, self.scores)
        is_first = self.first is not None and ANEW not in asked
        return says(self.model, self.first or "" if is_first else self.text)


@dataclass(frozen=True)
class Directing:
    """What a controller says: while it has tools it calls one, then it answers.

    Attributes:
        model: Its id.
        text: Its answer.
        asks: Its question to the model LARGE.
        hold_after: Of its answer, as that of a `Reply`.
    """

    model: str
    text: str
    asks: str
    hold_after: int | None = None

    def __call__(self, body: dict[str, Any]) -> Reply:
        if "tools" not in body:
            assert ALSO_RIGHT in body["messages"][-1]["content"]
            return says(self.model, self.text, hold_after=self.hold_after)
        (tool,) = [one["function"]["name"] for one in body["tools"]]
        calls = ((tool, {"question": self.asks}),)
        return says(self.model, "Let me ask.", tool_calls=calls)


@dataclass(frozen=True)
class Asked:
    """What an expert says, who is asked nothing but one question."""

    model: str
    text: str
    question: str

    def __call__(self, body: dict[str, Any]) -> Reply:
        (message,) = body["messages"]
        assert (message["role"], message["content"]) == ("user", self.question)
        return says(self.model, self.text)


def _unsure(body: dict[str, Any]) -> Reply:
    """A wrong draft, and that one is not sure of it."""
    is_asked_on = body["messages"][-1]["content"] == CONFIDENCE_QUESTION
    return says(SMALL, "0.1" if is_asked_on else WRONG)


CASCADE = Cascade(calibrations(calibrated(MINI)), cheap=MINI)
VOTE = Vote((MINI, LARGE, SMALL), weights="equal")
PROBE = Probe((MINI, SMALL), tokens=2, judge=LARGE)
AGREED: dict[str, Answer] = {
    MINI: says(MINI, RIGHT),
    LARGE: says(LARGE, ALSO_RIGHT),
    SMALL: says(SMALL, WRONG),
}

CASES = {
    "one": Case(
        PickOne(),
        {SMALL: says(SMALL, RIGHT)},
        RIGHT,
        [(SMALL, "answer")],
        None,
        willingness_to_pay=0,
    ),
    "a draft is kept": Case(
        CASCADE,
        {MINI: says(MINI, RIGHT, SURE)},
        RIGHT,
        [(MINI, "draft")],
        "draft, judged by mean_logprob",
        [MINI],
    ),
    "a draft is escalated": Case(
        CASCADE,
        {MINI: says(MINI, WRONG, UNSURE), LARGE: says(LARGE, RIGHT)},
        RIGHT,
        [(MINI, "draft"), (LARGE, "answer")],
        rf"escalated: p\(right\) 0\.04 by mean_logprob; {LARGE} is worth more",
        [MINI],
    ),
    "a draft without log-probabilities": Case(
        Cascade(
            calibrations(
                calibrated(SMALL), calibrated(SMALL, "stated_confidence", low=0.0, high=1.0)
            ),
            (MeanLogprob(), StatedConfidence()),
            cheap=SMALL,
        ),
        {SMALL: _unsure, LARGE: says(LARGE, RIGHT)},
        RIGHT,
        [(SMALL, "draft"), (SMALL, "judge"), (LARGE, "answer")],
        r"escalated: p\(right\) 0\.11 by stated_confidence",
    ),
    "a vote at once": Case(
        VOTE,
        {**AGREED, SMALL: says(SMALL, WRONG, hold_after=0)},
        RIGHT,
        [(MINI, "draft"), (LARGE, "draft"), (SMALL, "draft")],
        "draft, for a vote",
        left=[SMALL],
        at_once=True,
    ),
    "a vote in turn": Case(
        replace(VOTE, in_turn=True),
        AGREED,
        RIGHT,
        [(MINI, "draft"), (LARGE, "draft")],
        "draft, for a vote",
    ),
    "a vote that is escalated": Case(
        Vote((SMALL, MINI), weights="equal", in_turn=True, escalate_below=0.9),
        {SMALL: says(SMALL, WRONG), MINI: says(MINI, "391"), LARGE: says(LARGE, RIGHT)},
        RIGHT,
        [(SMALL, "draft"), (MINI, "draft"), (LARGE, "answer")],
        r"escalated: the winner has 0\.50 of the votes, which is below 0\.9",
    ),
    "a panel": Case(
        Arms(panel(MINI, LARGE, SMALL)),
        AGREED,
        RIGHT,
        [(MINI, "draft"), (LARGE, "draft")],
        rf"asked in turn: {MINI}, {LARGE}, {SMALL}, until an answer is right with 0\.95",
    ),
    "a mixture that stops early": Case(
        Mixture(width=2, stop_above=0.5),
        {LARGE: Member(LARGE, RIGHT), MINI: Member(MINI, WRONG)},
        RIGHT,
        [(LARGE, "draft"), (MINI, "draft"), (LARGE, "judge"), (MINI, "judge")],
        "draft, in round 1 of a mixture",
        at_once=True,
    ),
    "a mixture with an aggregator": Case(
        Mixture(width=2, rounds=1, stop_above=1, aggregator=SMALL),
        {LARGE: Member(LARGE, ALSO_RIGHT), MINI: Member(MINI, WRONG), SMALL: says(SMALL, RIGHT)},
        RIGHT,
        [
            *((LARGE, "draft"), (MINI, "draft"), (LARGE, "judge"), (MINI, "judge")),
            (SMALL, "answer"),
        ],
        r"writes the answer of 2 drafts; the best, with a score of 0\.\d\d, stands if all fail",
        at_once=True,
    ),
    "a mixture of two rounds": Case(
        Mixture(width=2, rounds=2, stop_above=0.9),
        {
            LARGE: Member(LARGE, RIGHT, "1", "1: 1\n2: 1", first=WRONG),
            MINI: Member(MINI, WRONG, "0.1"),
        },
        RIGHT,
        [
            *((LARGE, "draft"), (MINI, "draft"), (LARGE, "judge"), (MINI, "judge")) * 2,
            (LARGE, "judge"),
        ],
        "draft, in round 2 of a mixture",
        at_once=True,
    ),
    "a probe": Case(
        PROBE,
        {MINI: says(MINI, RIGHT), SMALL: says(SMALL, WRONG), LARGE: says(LARGE, "1: 0.9\n2: 0.2")},
        RIGHT,
        [(MINI, "probe"), (SMALL, "probe"), (LARGE, "judge")],
        "probe, judged by about 2 tokens",
        cut=[SMALL],
        at_once=True,
    ),
    "a probe that a function judges": Case(
        replace(PROBE, judge=lambda _, probes: [len(one.text) for one in probes]),
        {MINI: says(MINI, "Well, maybe it is 371."), SMALL: says(SMALL, SURELY_RIGHT)},
        SURELY_RIGHT,
        [(MINI, "probe"), (SMALL, "probe")],
        "probe, judged by about 2 tokens",
        cut=[MINI],
        at_once=True,
    ),
    "a probe that is fused": Case(
        Probe((MINI, LARGE), tokens=2, fuse=True, fuser=SMALL),
        {MINI: says(MINI, WRONG), LARGE: says(LARGE, ALSO_RIGHT), SMALL: says(SMALL, RIGHT)},
        RIGHT,
        [(MINI, "probe"), (LARGE, "probe"), (SMALL, "answer")],
        f"writes the answer of {LARGE} and {MINI}; the first stands if all fail",
        at_once=True,
        last=SMALL,
    ),
    "a controller that asks an expert": Case(
        Controller(MINI, experts=(LARGE,), rounds=1),
        {MINI: Directing(MINI, RIGHT, "17 * 23?"), LARGE: Asked(LARGE, ALSO_RIGHT, "17 * 23?")},
        RIGHT,
        [(MINI, "control"), (LARGE, "draft"), (MINI, "answer")],
        rf"answers, after 1 of experts; that of {LARGE} stands if all fail",
    ),
    "a controller that answers itself": Case(
        Controller(MINI, budget="low"),
        {MINI: says(MINI, RIGHT)},
        RIGHT,
        [(MINI, "control")],
        "controls with a low budget, round 1 of 3",
    ),
}

HANDOFF = Handoff(tau=-0.5, window=2, cheap=MINI)
BEGUN = "Let me see."
GUESS = Reply(
    f"{BEGUN} {WRONG}",
    input_tokens=TOKENS[MINI][0],
    output_tokens=TOKENS[MINI][1],
    logprobs=[SURE] * 3 + [UNSURE] * 5,
)
"""It becomes unsure behind its first sentence."""
FROM_THE_START = Case(
    HANDOFF,
    {MINI: GUESS, LARGE: says(LARGE, RIGHT)},
    RIGHT,
    [(MINI, "draft"), (LARGE, "answer")],
    r"handed over after 0 characters: the mean log-probability of 2 tokens is -0\.97, below -0\.50",
    [MINI],
)

CASES |= {
    "a handoff": Case(
        HANDOFF,
        {MINI: GUESS, LARGE: says(LARGE, "It is 391.")},
        f"{BEGUN} It is 391.",
        [(MINI, "draft"), (LARGE, "draft")],
        "handed over after 11 characters: the mean log-probability of 2 tokens is -0.97, below",
        [MINI],
        [MINI],
        last=LARGE,
        joins=True,
        whole=replace(
            FROM_THE_START,
            answers={MINI: GUESS, LARGE: says(LARGE, "It is 391.")},
            text="It is 391.",
        ),
    ),
    "a handoff that repeats": Case(
        HANDOFF,
        {MINI: GUESS, LARGE: says(LARGE, f"{BEGUN}\n\nIt is 391.")},
        f"{BEGUN} \n\nIt is 391.",
        [(MINI, "draft"), (LARGE, "draft")],
        "handed over after 11 characters: the mean log-probability of 2 tokens is -0.97, below",
        [MINI],
        [MINI],
        last=LARGE,
        joins=True,
        whole=replace(
            FROM_THE_START,
            answers={MINI: GUESS, LARGE: says(LARGE, f"{BEGUN}\n\nIt is 391.")},
            text=f"{BEGUN}\n\nIt is 391.",
        ),
    ),
    "a handoff that is not needed": Case(
        HANDOFF,
        {MINI: says(MINI, f"{BEGUN} It is 391.", SURE)},
        f"{BEGUN} It is 391.",
        [(MINI, "draft")],
        "writes as long as 2 tokens have a mean log-probability of -0.50 or more",
        [MINI],
        joins=True,
    ),
    "a handoff from the start": replace(
        FROM_THE_START,
        answers={MINI: says(MINI, WRONG, UNSURE), LARGE: says(LARGE, RIGHT)},
        left=[MINI],
        whole=FROM_THE_START,
    ),
}

CONVERSING = [name for name, case in CASES.items() if case.conversing]
"""Those with messages of their own, which chains that take a dict cannot be asked."""


class Seen(NamedTuple):
    """What a caller got, in one form of a call.

    Attributes:
        text: The answer.
        decision: What the answer carries; None where the form has no place for it.
        parts: The words of the answer as they came; empty where it is not streamed.
        asked: Who had been asked when the first of them came.
    """

    text: str
    decision: dict[str, Any] | None
    parts: Sequence[str] = ()
    asked: Sequence[str] = ()


class Reader:
    """Reads a stream: notes who was asked when its first words came, and lets the rest come."""

    def __init__(self, server: OpenAIServer) -> None:
        self._server = server
        self.parts: list[str] = []
        self.asked: list[str] = []

    def take(self, text: str | None) -> None:
        """What came next."""
        if not text:
            return
        if not self.parts:
            self.asked = [request.body["model"] for request in self._server.requests]
            self._server.release.set()
        self.parts.append(text)

    def seen(self, decision: dict[str, Any] | None) -> Seen:
        """All that came."""
        return Seen("".join(self.parts), decision, self.parts, self.asked)


@contextmanager
def told(
    server: OpenAIServer, case: Case, *, live: bool, joins: bool | None = None
) -> Iterator[None]:
    """A server that answers as a case wants, whose answers nobody waits for are let go at the end.

    Args:
        server: It runs already.
        case: Of the table.
        live: Whether the form shows an answer while it is made. Then the server holds it after its
            first words, so that nobody hears the rest who waits for the whole first.
        joins: Whether it shows a draft so; None is as an answer.
    """
    answers = dict(case.answers)
    if case.joins and (live if joins is None else joins):
        first = answers[case.models[0]]
        assert isinstance(first, Reply)
        # The role, the first sentence, and what tells that it ends.
        answers[case.models[0]] = replace(first, hold_after=2 + len(BEGUN.split()))
    if live and case.is_live:
        answer = answers[case.model]
        assert isinstance(answer, (Reply, Directing))
        answers[case.model] = replace(answer, hold_after=3)
    if case.at_once and case.left:
        # For others it is not decided whether who is left was asked at all.
        barrier = threading.Barrier(len(case.models), timeout=PATIENCE)
        answers = {m: _after(barrier, a) for m, a in answers.items()}
    with told_of(server, answers):
        yield


def _after(barrier: threading.Barrier, answer: Answer) -> Answer:
    """An answer that is given as soon as all have been asked."""

    def reply(_: dict[str, Any]) -> Reply:
        barrier.wait()
        assert isinstance(answer, Reply)
        return answer

    return reply


def check(seen: Seen, case: Case, server: OpenAIServer) -> None:
    """What holds in every form of a call."""
    assert seen.text == case.text
    asked = [request.body["model"] for request in server.requests]
    assert (sorted if case.at_once else list)(asked) == (sorted if case.at_once else list)(
        case.models
    )
    wished = [r.body["model"] for r in server.requests if r.body.get("logprobs")]
    assert wished == list(case.logprobs)
    if seen.decision is not None:
        check_decision(seen.decision, case)
    if seen.parts:
        # It was decided who answers before anything was shown, or nobody else was asked yet.
        asked = case.asked_first if len(seen.parts) > 1 else case.models
        assert sorted(seen.asked) == sorted(asked)
        assert len(seen.parts) > 1 or not case.is_live


def check_decision(decision: dict[str, Any], case: Case) -> None:
    """Who answered and why, and that the bill is what the server counted."""
    assert decision["model"] == case.model
    assert "attempts" not in decision
    found = decision.get("reason", "")
    assert found == "" if case.reason is None else re.match(case.reason, found), found
    check_bill(decision["bill"], case)


def check_bill(bill: dict[str, Any], case: Case) -> None:
    """That the bill is what the server counted, to the token."""
    assert [(ask["model"], ask["role"]) for ask in bill["asks"]] == list(case.asks)
    for ask in bill["asks"]:
        assert ask["estimated"] is (ask["model"] in case.left) or ask["model"] in case.cut
        assert ask["cost_usd"] > 0
        if not ask["estimated"]:
            assert (ask["input_tokens"], ask["output_tokens"]) == TOKENS[ask["model"]]
    assert math.isclose(bill["cost_usd"], sum(ask["cost_usd"] for ask in bill["asks"]))
    assert bill["estimated"] is any(ask["estimated"] for ask in bill["asks"])


# What may go wrong


class Fault(NamedTuple):
    """A draft that is no answer, so that another model is asked.

    Attributes:
        draft: What the server says to it.
        reason: A pattern of why another model was asked.
        strategy: By which it was drafted.
        failed: What stands of it in the attempts; None if it is no failure.
    """

    draft: Reply
    reason: str
    strategy: Cascade = CASCADE
    failed: str | None = None


TIMED = replace(CASCADE, seconds=0.3)
WITH_WORD = Cascade(cheap=MINI, word="UNSURE")

FAULTS = {
    # LangChain's streams drop what OpenAI marks a refusal with.
    "a refusal": Fault(
        says(MINI, "", refusal="I will not."), "escalated: the draft is (a refusal|empty)"
    ),
    "a filter": Fault(
        says(MINI, "", finish_reason="content_filter"), "escalated: the draft is a refusal"
    ),
    "nothing": Fault(says(MINI, ""), "escalated: the draft is empty"),
    "the word": Fault(
        says(MINI, "UNSURE, since I am small."),
        "escalated: the draft says UNSURE$",
        WITH_WORD,
    ),
    "too late": Fault(
        says(MINI, RIGHT, hold_after=0),
        r"escalated: the draft failed \(AskTimeoutError\)$",
        TIMED,
        "gave no answer within 0.3 s",
    ),
    "a rate limit": Fault(
        Reply("slow down", status=429),
        r"escalated: the draft failed \(\w*RateLimitError\)$",
        failed="slow down",
    ),
    "a server error": Fault(
        Reply("oops", status=500), r"escalated: the draft failed \(\w+\)$", failed="oops"
    ),
    "garbage": Fault(
        Reply(raw="<html>Bad gateway</html>", status=502),
        r"escalated: the draft failed \(\w+\)$",
        failed="Bad gateway",
    ),
}

STRATEGIES: dict[str, Strategy] = {
    "cascade": CASCADE,
    "vote": VOTE,
    "in turn": replace(VOTE, in_turn=True),
    "arms": Arms(panel(MINI, LARGE, SMALL)),
    "mixture": Mixture(width=3),
    "probe": Probe(),
    "controller": Controller(),
    "handoff": HANDOFF,
}
"""Some of each kind, for what may go wrong with whichever."""
AT_ONCE = dict.fromkeys(STRATEGIES, 1) | dict.fromkeys(("vote", "mixture", "probe"), 3)
"""How many they ask at once, first of all."""

FAILING: dict[str, Answer] = {
    MINI: Reply("slow down", status=429),
    LARGE: Reply("oops", status=500),
    SMALL: Reply("busy", status=503),
}

HELD: dict[str, Answer] = {model: Reply("Never.", hold_after=0) for model in MODELS}


@contextmanager
def told_of(server: OpenAIServer, answers: Mapping[str, Answer]) -> Iterator[None]:
    """A server that answers so, whose answers nobody waits for are let go at the end."""
    server.requests.clear()
    server.left.clear()
    server.release.clear()
    server.answers = dict(answers)
    try:
        yield
    finally:
        server.release.set()
        let_go()


def check_fault(seen: Seen, fault: Fault) -> None:
    """What holds of every draft that is no answer."""
    assert seen.text == RIGHT
    decision = seen.decision
    assert decision is not None
    assert decision["model"] == LARGE
    assert re.match(fault.reason, decision["reason"]), decision["reason"]
    tried = decision.get("attempts", [])
    if fault.failed is not None:
        assert [one["model"] for one in tried] == [MINI]
        assert fault.failed in tried[0]["error"]
    *drafts, answer = decision["bill"]["asks"]
    # On a slow machine time may be over before the draft is asked for.
    assert len(drafts) == 1 or fault.strategy is TIMED
    assert (answer["model"], answer["role"]) == (LARGE, "answer")
    assert (answer["input_tokens"], answer["output_tokens"]) == TOKENS[LARGE]
    for draft in drafts:
        assert (draft["model"], draft["role"]) == (MINI, "draft")
        # A server that answers with an error bills nothing; what was left was sent.
        assert (draft["cost_usd"] == 0) is (fault.draft.status >= 400)


def spends_all(limit: str, longest: int | None = None) -> Callable[[dict[str, Any]], Reply]:
    """Answers that are as long as they may be, and say so.

    Args:
        limit: What the client calls the most output tokens.
        longest: What they would be without it; None is without end.
    """

    def reply(body: dict[str, Any]) -> Reply:
        return Reply(
            WRONG,
            input_tokens=25,
            output_tokens=min(body[limit], longest or body[limit]),
            logprobs=[UNSURE] * len(WRONG.split()),
        )

    return reply


async def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for what another thread or task does."""
    async with asyncio.timeout(PATIENCE):
        while not is_so():
            await asyncio.sleep(0.005)


def tasks() -> list[asyncio.Task[Any]]:
    """Those that read streams."""
    return [task for task in asyncio.all_tasks() if task.get_name() == "crossroute-ask"]
