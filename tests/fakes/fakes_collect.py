"""What the tests of `collect` share: candidates, prompts, and models that are asked without I/O."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from crossroute import CrossRouter, ModelDescriptor, ModelPool
from crossroute.models.descriptor import Provider
from crossroute.models.price import Price
from crossroute.traffic.asking import Answer
from crossroute.traffic.cases import Case
from crossroute.traffic.judge import as_text

MODELS = ("acme/large", "acme/small", "bravo/medium")
PRICES = {"acme/large": 10.0, "acme/small": 1.0, "bravo/medium": 4.0, "carat/judge": 5.0}


def descriptor(model: str, **more: Any) -> ModelDescriptor:  # noqa: ANN401
    price = PRICES.get(model, 2.0)
    fields: dict[str, Any] = {
        "provider": Provider(chat_model=f"openai:{model}"),
        "price": Price(input_usd_per_1m=price / 4, output_usd_per_1m=price),
        "context_window_tokens": 100_000,
    }
    return ModelDescriptor(id=model, **{**fields, **more})


JUDGE = descriptor("carat/judge")


def make_router(*models: ModelDescriptor) -> CrossRouter:
    pool = models or tuple(descriptor(model) for model in MODELS)
    return CrossRouter.default().over(ModelPool(pool))


def sums(count: int) -> list[Case]:
    """Sums with a check and a reference."""
    return [
        Case.model_validate(
            {
                "prompt": f"What is {n} + {n}?",
                "task": "sums",
                "reference": str(2 * n),
                "check": {"kind": "number", "answer": 2 * n},
            }
        )
        for n in range(count)
    ]


def verdict(messages: Sequence[Mapping[str, Any]], grade: Callable[[str], float]) -> str:
    """What a judge says that grades each answer by its text."""
    parts = re.findall(r"<answer (\w+) \w+>\n(.*?)\n</answer", messages[1]["content"], re.DOTALL)
    return json.dumps({label: {"reason": "So.", "grade": grade(text)} for label, text in parts})


class Models:
    """Models that answer without I/O, and note what they are asked and how much they are paid.

    Attributes:
        answers: By id of the model: gives the text of an answer to a prompt, or raises.
        tokens: Input and output tokens of every answer; None makes answers as long as they may be,
            to prompts as long as they can be thought.
        asked: The ids and the prompts, as they came.
        usd: What a vendor would bill.
    """

    def __init__(self, answers: Mapping[str, Callable[[str], str]] | None = None) -> None:
        self.answers = dict(answers or {})
        self.tokens: tuple[int, int] | None = (10, 5)
        self.asked: list[tuple[str, str]] = []
        self.messages: list[Any] = []
        self.schemas: list[Any] = []
        self.usd = 0.0
        self.under_way = self.most_at_once = 0

    async def __call__(
        self,
        model: str,
        messages: str | Sequence[Mapping[str, Any]],
        *,
        max_tokens: int,
        schema: Mapping[str, Any] | None,
    ) -> Answer:
        self.asked.append((model, as_text(messages)))
        self.messages.append(messages)
        self.schemas.append(schema)
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            await asyncio.sleep(0)
            answer = self.answers.get(model)
            if model == JUDGE.id:
                grade = answer or (lambda text: "10")
                assert not isinstance(messages, str)
                text = verdict(messages, lambda text: float(grade(text)))
            else:
                text = f"{model} says so." if answer is None else answer(as_text(messages))
        finally:
            self.under_way -= 1
        sent, given = self.tokens or (25, max_tokens)
        price = PRICES[model]
        self.usd += (sent * price / 4 + given * price) / 1e6
        return Answer(text, (sent, given, 0, 0))

    def count(self, model: str) -> int:
        return sum(asked == model for asked, _ in self.asked)


def right(prompt: str) -> str:
    """The answer to a sum."""
    return f"It is **{2 * int(prompt.split()[2])}**."
