"""Random strategies over random streams: what is handed on is what was said, once and in order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from random import Random

import pytest
from fakes_strategies import QUESTION, Ended, Gated, answered, let_go

from crossroute import CrossRouter, Query
from crossroute.strategies import Ask, Flow, GoOn, Reply, Show, Task

MODELS = ("sage", "clerk", "poet")
LETTERS = {"sage": "abcdefghij", "clerk": "klmnopqrst", "poet": "0123456789"}


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    let_go()


@pytest.fixture(scope="module")
def task(toy_router: CrossRouter) -> Task:
    query = Query.of(QUESTION)
    return Task(toy_router.route(query, math.inf), query, [], pool=toy_router.pool)


def chunks(random: Random, text: str) -> list[str]:
    """A text in parts of any length, also of none."""
    found = []
    while text:
        length = random.choice([0, 1, 1, 2, 3, 5, 10])
        found.append(text[:length])
        text = text[length:]
    return found + [""] * random.randrange(2)


class Reckoning:
    """What a strategy should have handed on, by what its steps say."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.text = ""
        self.at: dict[str, int] = {}

    def show(self, reply: Reply) -> Show:
        at, length = self.at.get(reply.model, 0), len(reply.text)
        start = self.random.choice([0, at, self.random.randrange(length + 3)])
        end = self.random.choice([None, self.random.randrange(length + 3), length])
        upto = length if end is None else min(end, length)
        if upto > at:
            self.text += reply.text[max(at, start) : upto]
            self.at[reply.model] = upto
        return Show(reply, start, end, close=False)

    def flow(self, task: Task) -> Flow:
        random = self.random
        asks = tuple(
            Ask(model, role="draft", until=longer(random.randrange(8)))
            for model in random.sample(MODELS, random.randrange(1, 4))
        )
        replies: tuple[Reply, ...] = yield asks
        for _ in range(random.randrange(6)):
            if random.random() < 0.5:
                some = tuple(random.sample(replies, random.randrange(1, len(replies) + 1)))
                found = yield GoOn(some, longer(random.randrange(12)))
                assert found == some
            else:
                yield self.show(random.choice(replies))
        answer = random.choice(replies)
        self.text += LETTERS[answer.model][self.at.get(answer.model, 0) :]
        return answer


def longer(length: int) -> Callable[[Reply], bool]:
    return lambda reply: len(reply.text) >= length


@pytest.mark.parametrize("seed", range(150))
def test_what_is_handed_on_is_what_was_said(seed: int, task: Task) -> None:
    said = {model: chunks(Random(f"{seed} {model}"), LETTERS[model]) for model in MODELS}
    texts = []
    for way in ("sync", "async"):
        reckoning, told = Reckoning(Random(seed)), list[Ended]()
        transport = Gated({model: [*parts] for model, parts in said.items()})
        parts = answered(way, task, reckoning.flow, transport, told.append)
        # The answer's own parts are marked with its model.
        text = "".join(part.partition(": ")[2] if ": " in part else part for part in parts)
        assert text == reckoning.text
        assert told[0].text == text
        assert sorted(transport.closed) == sorted(ask.model for ask in transport.asked)
        texts.append(text)
    assert texts[0] == texts[1]
