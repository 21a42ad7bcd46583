"""A cascade, calibrated and measured, in LangChain and in LlamaIndex. Needs no key.

    python examples/cascade.py     # needs the extra [train], to calibrate

A cheap model drafts, and what is likely wrong goes to a dear one (`docs/strategies/cascade.md`).
The models are simulated by a server on this machine: the questions are sums, the cheap model gets
many of them wrong, and is less sure of its words where it does. What it prints is measured on these
models, and says nothing about others: measure yours.
"""

import re
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_openai import ChatOpenAI
from llama_index.llms.openai_like import OpenAILike
from openai_server import OpenAIServer, Reply
from pydantic import SecretStr

from crossroute.strategies import (
    Ask,
    Calibrations,
    Cascade,
    Flow,
    MeanLogprob,
    Task,
    cross_check,
    final_number,
)
from crossroute.strategies import Reply as Heard
from langchain_crossroute import ChatCrossRoute
from llamaindex_crossroute import CrossRouteLLM, call_settings

CHEAP, STRONG = MODELS = "gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06"
RIGHT_SHARE = {CHEAP: 0.65, STRONG: 0.97}
WILLINGNESS_TO_PAY = 0.02
CALIBRATED_ON, MEASURED_ON = 200, 100


def questions(number: int, seed: int) -> list[str]:
    random = Random(seed)  # noqa: S311
    return [
        f"What is {random.randint(12, 99)} * {random.randint(12, 99)} + {random.randint(1, 999)}?"
        for _ in range(number)
    ]


def truth(question: str) -> int:
    a, b, c = map(int, re.findall(r"\d+", question))
    return a * b + c


def simulated(body: dict[str, Any]) -> Reply:
    """An answer that is right as often as the model is, with log-probabilities that know of it."""
    model = body["model"]
    question = str(body["messages"][-1]["content"])
    random = Random(f"{model}: {question}")  # noqa: S311
    is_right = random.random() < RIGHT_SHARE[model]
    wrong_by = 0 if is_right else random.choice([-100, -10, 10, 100])
    text = f"(simulated) Step by step, that is {truth(question) + wrong_by}."
    # The two overlap: no signal is perfect.
    sureness = random.gauss(-0.15 if is_right else -0.45, 0.15)
    logprobs = [min(random.gauss(sureness, 0.05), 0.0) for _ in text.split()]
    made = random.randint(40, 80)
    return Reply(text, input_tokens=30, output_tokens=made, logprobs=logprobs)


def is_right(question: str, answer: str) -> bool:
    return final_number(answer) == str(truth(question))


class Measure:
    """Answers by one model, and notes what the signal says of each answer."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.rows: list[dict[str, Any]] = []

    def answer(self, task: Task) -> Flow:
        signal, ask = MeanLogprob(), Ask(self.model, role="draft")
        draft: Heard = yield signal.prepared(task, ask) or ask
        value = yield from signal.read(task, draft)
        if value is not None:
            quality = {one.model: one.quality for one in task.decision.candidates}
            self.rows.append(
                {
                    "model": self.model,
                    "signal": signal.name,
                    "value": value,
                    "right": is_right(task.query.text, draft.text),
                    "predicted": quality[self.model],
                }
            )
        return draft


def chats(url: str) -> dict[str, Any]:
    key = SecretStr("none")
    return {m: ChatOpenAI(model=m, base_url=url, api_key=key, max_retries=0) for m in MODELS}


def llms(url: str) -> dict[str, Any]:
    given: dict[str, Any] = {"api_key": "none", "is_chat_model": True, "max_retries": 0}
    return {m: OpenAILike(model=m, api_base=url, **given) for m in MODELS}


def calibrate(url: str, path: Path) -> None:
    """Score some drafts, and save what their log-probabilities say."""
    measure = Measure(CHEAP)
    chat = ChatCrossRoute(models=chats(url), strategy=measure)
    for question in questions(CALIBRATED_ON, seed=1):
        chat.invoke(question)
    values, right, predicted = (
        [row[name] for row in measure.rows] for name in ("value", "right", "predicted")
    )
    found = cross_check(values, right, predicted)
    print(f"{len(values)} scored drafts of {CHEAP}: AUROC of the signal {found.auroc:.2f}")
    Calibrations.fit(measure.rows).save(path)


def report(name: str, answers: list[tuple[str, dict[str, Any]]]) -> None:
    """How many answers are right, and what they cost."""
    asked = questions(MEASURED_ON, seed=2)
    right = [is_right(question, text) for question, (text, _) in zip(asked, answers, strict=True)]
    usd = sum(decision["bill"]["cost_usd"] for _, decision in answers)
    escalated = sum(len(decision["bill"]["asks"]) > 1 for _, decision in answers)
    more = f", {escalated} of {len(answers)} escalated" if escalated else ""
    print(f"  {name:13} {sum(right) / len(right):4.0%} right for ${usd:.4f}{more}")


def in_langchain(url: str, cascade: Cascade) -> None:
    chat = ChatCrossRoute(
        models=chats(url), strategy=cascade, willingness_to_pay=WILLINGNESS_TO_PAY
    )

    def answers(config: RunnableConfig | None = None) -> list[tuple[str, dict[str, Any]]]:
        found = [chat.invoke(one, config) for one in questions(MEASURED_ON, seed=2)]
        return [(one.text, one.response_metadata["crossroute"]) for one in found]

    print("LangChain")
    report("cheap alone", answers({"configurable": {"crossroute_model": CHEAP}}))
    report("strong alone", answers({"configurable": {"crossroute_model": STRONG}}))
    measured = answers()
    report("cascade", measured)
    print("  the last one:", measured[-1][1]["reason"])


def in_llamaindex(url: str, cascade: Cascade) -> None:
    llm = CrossRouteLLM(models=llms(url), strategy=cascade, willingness_to_pay=WILLINGNESS_TO_PAY)

    def answers() -> list[tuple[str, dict[str, Any]]]:
        found = [llm.complete(one) for one in questions(MEASURED_ON, seed=2)]
        return [(one.text, one.additional_kwargs["crossroute"]) for one in found]

    print("LlamaIndex")
    for name, model in (("cheap alone", CHEAP), ("strong alone", STRONG)):
        with call_settings(model=model):
            report(name, answers())
    report("cascade", answers())


def main() -> None:
    with (
        OpenAIServer(dict.fromkeys(MODELS, simulated)) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        print("All answers are simulated.")
        path = Path(folder) / "calibrations.json"
        calibrate(server.url, path)
        cascade = Cascade(Calibrations.load(path), cheap=CHEAP)
        in_langchain(server.url, cascade)
        in_llamaindex(server.url, cascade)


if __name__ == "__main__":
    main()
