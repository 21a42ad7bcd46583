"""Strategies that look at answers, driven as integrations drive them: over a scripted transport."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest
from fakes_answers import calibrated, calibrations, task_of

from crossroute import ModelDescriptor, Price
from crossroute.ceiling import Ceiling
from crossroute.failures import may_pass_elsewhere
from crossroute.strategies import (
    Ask,
    Cascade,
    Charge,
    Mixture,
    Probe,
    Reply,
    StatedConfidence,
    Strategy,
    Task,
    Vote,
    adrive,
    charge,
    drive,
)

WAYS = ["sync", "async"]
MODELS = {"small": (0.6, 1e-4), "middle": (0.7, 1e-3), "big": (0.9, 2e-3)}
TASK = task_of(MODELS, 0.01, logprobs=["small"])
Part = tuple[str, float] | str | Exception
"""A token, perhaps with its log-probability, or what is raised."""


@dataclass
class Wire:
    """A transport whose models say what a script says, one list of tokens after the other."""

    says: Mapping[str, Sequence[Sequence[Part]]]
    asked: list[Ask] = field(default_factory=list)
    closed: list[Ask] = field(default_factory=list)
    pulled: list[str] = field(default_factory=list)

    def exchange(self, ask: Ask, decision: dict[str, Any]) -> Exchange:
        before = sum(one.model == ask.model for one in self.asked)
        self.asked.append(ask)
        return Exchange(self, ask, self.says[ask.model][before], Reply(ask.model))

    def report(self, failure: dict[str, Any]) -> None:
        pass

    async def areport(self, failure: dict[str, Any]) -> None:
        pass


@dataclass
class Exchange:
    wire: Wire
    ask: Ask
    parts: Sequence[Part]
    reply: Reply
    shown: bool = False

    def open(self) -> Iterator[Part]:
        try:
            for part in self.parts:
                if isinstance(part, Exception):
                    raise part
                self.wire.pulled.append(part if isinstance(part, str) else part[0])
                yield part
        finally:
            self.wire.closed.append(self.ask)

    async def aopen(self) -> AsyncIterator[Part]:
        for part in self.open():
            await asyncio.sleep(0)
            yield part

    def read(self, part: Part) -> None:
        assert not isinstance(part, Exception)
        text, *logprobs = (part,) if isinstance(part, str) else part
        assert isinstance(text, str)
        self.reply.text += text
        self.reply.has_words = self.reply.has_words or bool(text.strip())
        if self.ask.settings.get("logprobs"):
            self.reply.logprobs += [one for one in logprobs if isinstance(one, float)]

    def failure(self, error: Exception) -> str | None:
        return str(error) if may_pass_elsewhere(error) else None

    def with_metadata(self, part: Part) -> Part:
        return part if isinstance(part, str) else part[0] if isinstance(part, tuple) else part

    @property
    def charge(self) -> Charge:
        return charge(self.ask, self.reply, None, TASK.query)

    def rest(self) -> Iterator[Part]:
        return iter(())


def answered(way: str, strategy: Strategy, wire: Wire, task: Task = TASK) -> str:
    async def collect() -> list[Part]:
        return [part async for part in adrive(task, strategy.answer(task), wire)]

    if way == "async":
        parts = asyncio.run(collect())
    else:
        parts = list(drive(task, strategy.answer(task), wire))
    return "".join(str(part) for part in parts)


@pytest.mark.parametrize("way", WAYS)
def test_a_good_draft_is_handed_on_and_a_bad_one_is_not(way: str) -> None:
    cascade = Cascade(calibrations())
    good = Wire({"small": [[("39", -0.1), ("1", -0.1)]]})
    assert answered(way, cascade, good) == "391"
    bad = Wire({"small": [[("39", -0.1), ("2", -1.5)]], "big": [["It is ", "391"]]})
    assert answered(way, cascade, bad) == "It is 391"
    assert [ask.role for ask in bad.asked] == ["draft", "answer"]


@pytest.mark.parametrize("way", WAYS)
def test_a_question_on_the_draft_is_no_answer(way: str) -> None:
    stated = calibrated(signal="stated_confidence", low=0.0, high=1.0)
    cascade = Cascade(calibrations(stated), (StatedConfidence(),), cheap="small")
    wire = Wire({"small": [["391"], ["0", ".9"]]})
    assert answered(way, cascade, wire) == "391"
    assert [ask.role for ask in wire.asked] == ["draft", "judge"]


@pytest.mark.parametrize("way", WAYS)
def test_a_draft_that_says_the_word_is_closed(way: str) -> None:
    cascade = Cascade(cheap="small", word="UNSURE")
    wire = Wire({"small": [["UN", "SURE", ", ", "since"]], "big": [["391"]]})
    assert answered(way, cascade, wire) == "391"
    assert wire.pulled == ["UN", "SURE", ", ", "391"]
    assert len(wire.closed) == 2
    wire = Wire({"small": [["UN", "IQUE"]]})
    assert answered(way, cascade, wire) == "UNIQUE"
    wire = Wire({"small": [["UNSURE", "NESS"]]})
    assert answered(way, cascade, wire) == "UNSURENESS"


@pytest.mark.parametrize("way", WAYS)
def test_a_draft_is_better_than_an_error(way: str) -> None:
    gone = [ConnectionError("gone")]
    wire = Wire({"small": [[("392", -1.0)]], "big": [gone], "middle": [gone]})
    assert answered(way, Cascade(calibrations()), wire) == "392"
    assert [ask.model for ask in wire.asked] == ["small", "big", "middle"]
    wire = Wire({model: [gone] for model in MODELS})
    with pytest.raises(ConnectionError, match="gone") as caught:
        answered(way, Cascade(calibrations()), wire)
    assert "small: gone; big: gone; middle: gone" in caught.value.__notes__[0]


@pytest.mark.parametrize("way", WAYS)
def test_votes_are_asked_no_longer_than_it_takes(way: str) -> None:
    vote = Vote(("small", "middle", "big"), weights="equal", in_turn=True)
    wire = Wire({"small": [["It is 391."]], "middle": [["39", "1"]]})
    assert answered(way, vote, wire) == "It is 391."
    assert [ask.model for ask in wire.asked] == ["small", "middle"]


@pytest.mark.parametrize("way", WAYS)
def test_votes_are_asked_at_once(way: str) -> None:
    vote = Vote(("small", "middle", "big"), weights="equal", word="UNSURE", early_stop=False)
    wire = Wire(
        {"small": [["It is 391."]], "middle": [["UN", "SURE", ".", " As"]], "big": [["391"]]}
    )
    assert answered(way, vote, wire) == "It is 391."
    assert sorted(ask.model for ask in wire.asked) == ["big", "middle", "small"]
    assert " As" not in wire.pulled
    early = replace(vote, early_stop=True)
    wire = Wire({"small": [["391"]], "middle": [["391"]], "big": [["391"]]})
    assert answered(way, early, wire) == "391"
    gone = [TimeoutError("slow")]
    with_word = Wire({"small": [gone], "middle": [["UNSURE"], ["7"]], "big": [gone]})
    assert answered(way, vote, with_word) == "7"


MIXTURE = Mixture(width=2, rounds=1, stop_above=0.99)


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_of_several_drafts_comes_as_it_is_written(way: str) -> None:
    wire = Wire(
        {"big": [["39", "2"], ["0", ".9"], ["3", "91"]], "middle": [["391"], ["0.8"]]},
    )
    assert answered(way, MIXTURE, wire) == "391"
    assert [ask.role for ask in wire.asked] == ["draft", "draft", "judge", "judge", "answer"]
    assert wire.pulled[-2:] == ["3", "91"]
    assert len(wire.closed) == 5


@pytest.mark.parametrize("way", WAYS)
def test_a_good_draft_of_several_is_handed_on(way: str) -> None:
    wire = Wire({"big": [["39", "1"], ["1"]], "middle": [["392"], ["1"]]})
    assert answered(way, replace(MIXTURE, stop_above=0.9), wire) == "391"
    assert [ask.role for ask in wire.asked] == ["draft", "draft", "judge", "judge"]


@pytest.mark.parametrize("way", WAYS)
def test_a_mixture_does_without_who_fails(way: str) -> None:
    gone = [ConnectionError("gone")]
    wire = Wire({"big": [gone], "middle": [["391"], gone]})
    assert answered(way, MIXTURE, wire) == "391"
    # Whoever fails to write the answer, the best draft is there.
    wire = Wire({m: [[m], ["0.5"], gone] for m in ("big", "middle")} | {"small": [gone]})
    assert answered(way, MIXTURE, wire) == "big"
    wire = Wire({"big": [gone], "middle": [gone], "small": [["39", "1"]]})
    assert answered(way, MIXTURE, wire) == "391"
    wire = Wire({model: [gone] for model in MODELS})
    with pytest.raises(ConnectionError, match="gone") as caught:
        answered(way, MIXTURE, wire)
    assert "big: gone; middle: gone; small: gone" in caught.value.__notes__[0]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("most_usd", "roles"),
    [
        (1.0, ["draft", "draft", "judge", "judge", "answer"]),
        # A half does not buy an answer, the whole does: the second draft is the only one.
        (0.015, ["draft", "judge"]),
    ],
)
def test_a_mixture_keeps_to_the_hard_limit(way: str, most_usd: float, roles: list[str]) -> None:
    price = Price(input_usd_per_1m=0, output_usd_per_1m=100)
    pool = {model: ModelDescriptor(id=model, price=price) for model in MODELS}
    task = replace(TASK, pool=pool, ceiling=Ceiling(most_usd, pool, TASK.query))
    wire = Wire({"big": [["392"], ["0.9"], ["391"]], "middle": [["391"], ["0.8"]]})
    assert answered(way, MIXTURE, wire, task) == "391"
    # Who may not be asked has no limit either.
    assert [ask.role for ask in wire.asked if ask.max_tokens is not None] == roles
    assert len(wire.closed) == len(roles)


PROBE = Probe(("small", "middle"), tokens=2, judge="big")


@pytest.mark.parametrize("way", WAYS)
def test_the_best_probe_goes_on_as_it_is_written(way: str) -> None:
    wire = Wire(
        {
            "small": [["So it", " is", " 391"]],
            "middle": [["Well it", " may", " be"]],
            "big": [["1: 0.9", "\n2: 0.1"]],
        }
    )
    assert answered(way, PROBE, wire) == "So it is 391"
    assert [ask.role for ask in wire.asked] == ["probe", "probe", "judge"]
    # The other one is closed before any more is read.
    assert [ask.model for ask in wire.closed] == ["big", "middle", "small"]
    assert " may" not in wire.pulled


@pytest.mark.parametrize("way", WAYS)
def test_two_probes_are_fused(way: str) -> None:
    wire = Wire(
        {
            "small": [["So it", " is", " 391"]],
            "middle": [["Well it", " is", " 391"]],
            "big": [["39", "1"]],
        }
    )
    assert answered(way, replace(PROBE, fuse=True), wire) == "391"
    assert [ask.role for ask in wire.asked] == ["probe", "probe", "answer"]
    assert "So it is 391" in wire.asked[-1].then[0]["content"]
    gone = [ConnectionError("gone")]
    wire = Wire(
        {
            "small": [["So it"], gone],
            "middle": [["Well it"], gone],
            "big": [gone],
        }
    )
    assert answered(way, replace(PROBE, fuse=True), wire) == "Well it"


@pytest.mark.parametrize("way", WAYS)
def test_probes_keep_to_the_hard_limit(way: str) -> None:
    price = Price(input_usd_per_1m=0, output_usd_per_1m=100)
    pool = {model: ModelDescriptor(id=model, price=price) for model in MODELS}
    task = replace(TASK, pool=pool, ceiling=Ceiling(0.1, pool, TASK.query))
    said = {"small": [["So it", " is"]], "middle": [["Well it", " is"]], "big": [["1: 1\n2: 0"]]}
    wire = Wire(said)
    # Equal shares of what the judge's 32 tokens leave.
    assert answered(way, PROBE, wire, task) == "So it is"
    *shares, judged = [ask.max_tokens or 0 for ask in wire.asked]
    assert min(shares) >= 480
    assert sum(shares) <= 1000 - 32
    assert judged == 32
    assert len(wire.closed) == 3


def stream(random: Random) -> list[Part]:
    """What a model may say, or fail to."""
    parts: list[Part] = [
        random.choice(
            ["a", " b", "\n", "", "1: 0.5", "2: 1", "\u4f60\u597d", " 3: .1", "long " * 40]
        )
        for _ in range(random.randrange(6))
    ]
    if random.random() < 0.3:
        parts.append(ConnectionError("gone"))
    return parts


@pytest.mark.parametrize("seed", range(150))
def test_whatever_comes_a_probe_gives_one_answer_or_an_error(seed: int) -> None:
    random = Random(seed)
    probe = Probe(
        width=random.randrange(2, 4),
        tokens=random.choice([1, 3, 30]),
        judge=random.choice([None, "small", lambda _, probes: [len(one.text) for one in probes]]),
        fuse=random.random() < 0.5,
        seconds=random.choice([None, 600.0]),
        pass_refusals=random.random() < 0.5,
    )
    says = {model: [stream(random) for _ in range(9)] for model in MODELS}
    task = replace(TASK, is_whole=random.random() < 0.5)
    whole = {"".join(map(str, parts)) for one in says.values() for parts in one}
    outcomes = []
    for way in WAYS:
        wire = Wire(says)
        try:
            outcomes.append(answered(way, probe, wire, task))
        except ConnectionError as error:
            outcomes.append(f"error: {error}")
        else:
            assert outcomes[-1] in whole
        assert len(wire.closed) == len(wire.asked)
    assert outcomes[0] == outcomes[1]
