"""`crossroute demo`: prompts of every kind through an LCEL chain, at three willingnesses to pay."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from crossroute import CrossRouter, ModelPool
from crossroute.decision import usd
from langchain_crossroute.runnable import DECISION, CrossRouteRunnable

WILLINGNESS_TO_PAY = (0.003, 0.03, 0.3)
"""USD a unit of quality: a thrifty, a middling and a generous user."""

POOL = (
    "claude-haiku-4-5",
    "claude-opus-4-8",
    "gemini-3.1-flash-lite",
    "gemini-3.5-flash",
    "gpt-5.4",
    "gpt-5.6-luna",
)
"""Some that can be called today and were measured for the checkpoint, cheap ones and dear ones."""

PROMPTS = (
    # Everyday questions.
    "What is the capital of Australia?",
    "Translate 'Where is the nearest pharmacy?' into Spanish.",
    "Give me three synonyms for 'happy'.",
    "Summarise in one sentence why leaves turn red in autumn.",
    # Sums, from easy to hard.
    "What is 17 * 23? Answer with the number only.",
    "A train leaves at 14:05 and arrives at 17:50. How long is the journey?",
    "Tom buys 4 pens at $1.20 each and pays with a $20 note. How much change does he get?",
    "A tank fills in 6 hours by one pipe and in 4 by another; a leak empties it in 12. "
    "With both pipes open and the leak, how long does filling it take?",
    "How many positive integers below 1000 have digits that sum to 15 and are divisible by 7?",
    "Let $f(x) = x^3 - 3x + 1$. Find the sum of the cubes of the reciprocals of its roots.",
    "Prove that for every prime p > 3, p^2 - 1 is divisible by 24.",
    # Knowledge, from common to special.
    "Which planet is the largest?\nA. Mars\nB. Jupiter\nC. Venus\nD. Saturn",
    "Which enzyme unwinds the DNA double helix during replication?\n"
    "A. Ligase\nB. Helicase\nC. Primase\nD. Topoisomerase",
    "Under the common-law rule against perpetuities, which of these interests is void?\n"
    "A. A vested remainder\nB. A reversion\nC. An option unlimited in time\nD. A life estate",
    "In a two-good economy with Leontief preferences, how large is the substitution effect of a "
    "price change? Explain with the Slutsky equation.",
    "A patient on lithium starts a thiazide and becomes confused. What happened, and why?",
    # Code.
    "Write a Python function that reverses a string.",
    "What does this print?\n```python\nx = [1, 2, 3]\ny = x\ny.append(4)\nprint(len(x))\n```",
    "What does f('abca') return?\n```python\ndef f(s):\n    d = {}\n    for i, c in enumerate(s):\n"
    "        d[c] = d.get(c, 0) * 2 + i\n    return sorted(d.items(), key=lambda p: -p[1])\n```",
    "Find the race condition in a lazily initialised singleton with double-checked locking in "
    "Java without volatile, and explain a correct fix.",
    # Logic.
    "Ann is taller than Bo, Bo is taller than Cy. Who is the shortest?",
    "Five houses in a row have five colours, owners, drinks, pets and instruments. Ada lives in "
    "the red house. The tea drinker lives left of the flautist. The cat owner lives next to the "
    "blue house. Bea plays the cello and drinks milk. The green house is at an end. Who keeps the "
    "parrot? Reason step by step.",
    # Writing.
    "Write a two-line birthday greeting for a colleague.",
    "Write a 1,500-word essay on whether cities should ban private cars, with the strongest "
    "objection to each point and a reply to it.",
)


def run(console: Console, *, live: bool = False) -> None:
    """Route `PROMPTS` and print who got what, for how much, beside the best single model.

    Args:
        console: Where to print.
        live: Ask the providers of the shipped descriptors; their packages and keys are needed.
            Otherwise the answers are simulated, and the routing is real.

    Raises:
        PoolError: If live and fewer than two models can be reached.
    """
    if live:
        routed = CrossRouteRunnable.from_yaml()
    else:
        routed = CrossRouteRunnable(
            router=CrossRouter.default(), models={model: _simulated(model) for model in POOL}
        )
    chain = ChatPromptTemplate.from_messages([("human", "{prompt}")]) | routed
    console.print(
        f"{len(PROMPTS)} prompts, {len(routed.models)} models, one LangChain chain: "
        "[bold]prompt | CrossRouteRunnable[/]. The routing is real; "
        + ("the answers come from the providers." if live else "the answers are simulated.")
        + "\n"
    )
    answers = {value: _answers(chain, value, console) for value in WILLINGNESS_TO_PAY}
    decisions = {
        value: [message.response_metadata[DECISION] for message in messages]
        for value, messages in answers.items()
    }
    console.print(_choices(decisions))
    console.print(_summary(routed.router, decisions, answers if live else None))
    guessed = [
        m.id for m in routed.router.pool.values() if m.learned and m.learned.source == "guess"
    ]
    if guessed:
        console.print(
            f"{len(guessed)} of the {len(routed.models)} models are guesses: the checkpoint has no "
            "scores of them, so quality and saving are guesses, too, and nothing was measured."
        )
    hardest = max(PROMPTS, key=len)
    middling = WILLINGNESS_TO_PAY[1]
    console.print("\n[bold]Why?[/] Every decision explains itself:\n")
    console.print(escape(routed.router.route(hardest, middling).explain(top=4)), highlight=False)


def _simulated(model: str) -> Runnable[Any, AIMessage]:
    """Stands for a chat model without a key, and says so in every answer."""
    return RunnableLambda(lambda _: AIMessage(f"(simulated answer of {model})"), name=model)


def _answers(
    chain: Runnable[dict[str, str], Any], willingness_to_pay: float, console: Console
) -> list[AIMessage]:
    label = f"Willing to pay {usd(willingness_to_pay)}"
    config: Any = {"configurable": {"willingness_to_pay": willingness_to_pay}}
    return [
        chain.invoke({"prompt": prompt}, config)
        for prompt in track(
            PROMPTS,
            label,
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
    ]


def _choices(decisions: dict[float, list[dict[str, Any]]]) -> Table:
    headings = [f"at {usd(value)}" for value in decisions]
    table = Table("prompt", *headings, title="Who answers, by willingness to pay a unit of quality")
    for row, prompt in enumerate(PROMPTS):
        first = prompt.replace("\n", " ")
        table.add_row(
            escape(first if len(first) <= 48 else f"{first[:47]}…"),
            *(_short(found[row]["model"]) for found in decisions.values()),
        )
    return table


def _summary(
    router: CrossRouter,
    decisions: dict[float, list[dict[str, Any]]],
    answers: dict[float, list[AIMessage]] | None,
) -> Table:
    found = router.predict(PROMPTS)
    best = int(found.quality.mean(axis=0).argmax())
    single_cost = float(found.cost_usd[:, best].sum())
    realised = ["paid"] if answers else []
    table = Table(
        "",
        "predicted quality",
        "predicted cost",
        "predicted saving",
        *realised,
        "mix of models",
        title="All prompts together",
    )
    for value, chosen in decisions.items():
        cost = sum(decision["cost_usd"] for decision in chosen)
        mix = Counter(_short(decision["model"]) for decision in chosen)
        paid = [usd(_paid(router.pool, chosen, answers[value]))] if answers else []
        table.add_row(
            f"at {usd(value)}",
            f"{statistics.mean(decision['quality'] for decision in chosen):.3f}",
            usd(cost),
            f"{1 - cost / single_cost:.0%}",
            *paid,
            ", ".join(f"{count} {model}" for model, count in mix.most_common()),
        )
    table.add_row(
        "best single",
        f"{found.quality[:, best].mean():.3f}",
        usd(single_cost),
        "-",
        *["-" for _ in realised],
        f"{len(PROMPTS)} {_short(found.models[best])}",
    )
    return table


def _paid(
    pool: ModelPool, chosen: Sequence[dict[str, Any]], messages: Sequence[AIMessage]
) -> float:
    """USD for the tokens that the providers counted, by the price tables."""
    total = 0.0
    for decision, message in zip(chosen, messages, strict=True):
        price, usage = pool[decision["model"]].price, message.usage_metadata
        if price and usage:
            total += float(price.cost_usd(usage["input_tokens"], usage["output_tokens"]))
    return total


def _short(model: str) -> str:
    """A model id without its vendor and date, for a table."""
    name = model.rsplit("/", 1)[-1].removeprefix("Meta-").removesuffix("-Instruct")
    head, _, tail = name.partition("-20")
    return head if tail[:1].isdigit() else name
