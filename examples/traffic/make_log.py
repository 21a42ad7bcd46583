"""Writes requests.jsonl, the example log: a month of a tea shop's requests, all of them made up.

    python make_log.py

The same file comes out on every machine.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from shop import FAQ, KINDS, PROBLEMS, WISHES, kind_of, tokens

OUT = Path(__file__).parent / "requests.jsonl"
COUNTS = {"faq": 130, "summary": 80, "extract": 80, "invoice": 70}
REPEATED = 14
MODEL = "large"
TEAS = ("Sencha", "Darjeeling", "Earl Grey", "Assam", "Oolong", "Rooibos", "Jasmine", "Gunpowder")
TOWNS = ("Delft", "Graz", "Bruges", "Lucerne", "Aarhus", "Siena", "Kiel", "Tartu", "Porto", "Cork")
GREETINGS = ("Hello!", "Hi there,", "Good morning.", "Dear team,", "A question:", "Hey,")
THANKS = ("Thanks!", "Kind regards, {name}", "Thank you, {name}", "Best, {name}", "")
NAMES = ("Ada", "Bram", "Chiara", "Dimitri", "Eefje", "Farid", "Greta", "Hanno", "Imke", "Jonas")


def main() -> None:
    chance = random.Random(7)  # noqa: S311  # A log, no secret.
    requests = list(_distinct(chance))
    chance.shuffle(requests)
    # People ask again, and press twice.
    requests += chance.sample(requests, REPEATED)
    at = datetime(2026, 11, 2, 8, tzinfo=UTC)
    lines = []
    for body in requests:
        at += timedelta(minutes=chance.randint(20, 180))
        response = {"usage": _usage(*(message["content"] for message in body["messages"]))}
        lines.append(json.dumps({"at": at.isoformat(), "request": body, "response": response}))
    embedding = {"model": "embed-1", "input": "Sencha, 100 g"}
    lines.insert(120, json.dumps({"at": at.isoformat(), "request": embedding}))
    # Where the disk was full.
    lines[200] = lines[200][: len(lines[200]) // 2]
    OUT.write_text("\n".join(lines) + "\n", "utf-8", newline="\n")


def _distinct(chance: random.Random) -> Iterator[dict[str, Any]]:
    seen = set()
    for kind, count in COUNTS.items():
        while count:
            text = _text(kind, chance)
            if text in seen:
                continue
            seen.add(text)
            count -= 1
            messages = [
                {"role": "system", "content": KINDS[kind].system},
                {"role": "user", "content": text},
            ]
            yield {"model": MODEL, "messages": messages, "metadata": {"topic": kind}}


def _usage(system: str, user: str) -> dict[str, int]:
    answer = KINDS[kind_of(system)].answer(user)
    return {
        "prompt_tokens": tokens(system) + tokens(user),
        "completion_tokens": tokens(answer),
    }


def _text(kind: str, chance: random.Random) -> str:
    tea, town, name = chance.choice(TEAS), chance.choice(TOWNS), chance.choice(NAMES)
    hello, thanks = chance.choice(GREETINGS), chance.choice(THANKS).format(name=name)
    order = f"LT-{chance.randint(10_000, 99_999)}"
    if kind == "faq":
        wording = chance.choice(FAQ[chance.choice(list(FAQ))])
        return f"{hello} {wording.format(tea=tea, town=town)} {thanks}".strip()
    if kind == "summary":
        problem = PROBLEMS[chance.choice(list(PROBLEMS))].format(tea=tea)
        wish = WISHES[chance.choice(list(WISHES))]
        return (
            f"{hello} this is about order {order}, which I placed two weeks ago for my sister in "
            f"{town}. When it came, {problem}. I have bought from you for years and was never let "
            f"down. {wish} {thanks}"
        ).strip()
    if kind == "extract":
        grams = chance.choice((50, 100, 250, 500, 1000))
        return f"{hello} my order {order} was {grams} g of {tea}, sent to {town}. {thanks}".strip()
    lines = "\n".join(
        f"{chance.randint(2, 60)} x {one} at {chance.randint(200, 1900) / 100:.2f}"
        for one in chance.sample(TEAS, chance.randint(2, 5))
    )
    vat = chance.choice((7, 9, 19, 21))
    return (
        f"Invoice {chance.randint(100, 999)} of a supplier in {town}\n{lines}\n"
        f"Discount {chance.randint(2, 12)} %, then VAT {vat} %. What is the total?"
    )


if __name__ == "__main__":
    main()
