"""The support desk of a tea shop that does not exist: what it is asked, and what is right.

Four kinds of requests. Who knows the kind of a request can tell a right answer from its words
alone, which `add_checks.py`, the simulated models and their judge all do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import NamedTuple

# What customers ask: the words in which the answer is, and ways to ask.
FAQ = {
    "3 working days": ("How long does {tea} take to {town}?", "When will {tea} reach {town}?"),
    "4.90 euros": ("What does it cost to send {tea} to {town}?", "Postage for {tea} to {town}?"),
    "within 30 days": (
        "Can I return {tea} that I opened in {town}?",
        "{tea} is not for me. Till \
when may I send it back from {town}?",
    ),
    "PayPal": ("How can I pay for {tea} from {town}?", "Do you take cards for {tea} in {town}?"),
    "dry and dark": ("How do I keep {tea} fresh in {town}?", "Does {tea} go off in {town}'s heat?"),
    "from 40 euros": (
        "Is there free delivery of {tea} to {town}?",
        "How much {tea} must I buy for \
free postage to {town}?",
    ),
}
PROBLEMS = {
    "torn": "the bag of {tea} was torn and half of it was in the box",
    "late": "my {tea} came nine days late, after the birthday that it was for",
    "wrong": "I got the wrong tea, a fruit infusion in place of {tea}",
    "stale": "the {tea} smells stale and tastes of cardboard",
}
WISHES = {
    "refund": "I would like a refund to my card.",
    "replacement": "Please send a replacement as soon as you can.",
    "voucher": "A voucher for the next order would be fine with me.",
}

FAQ_PROMPT = """\
You answer customers of Larkfield Teas in a sentence or two. Parcels take 3 working days and cost \
4.90 euros; from 40 euros on they are free. Tea can be returned within 30 days. We take cards, \
PayPal and bank transfer. Tea is kept dry and dark."""
SUMMARY_PROMPT = """\
Summarise the ticket in one sentence for a colleague: the order, what is wrong, what is wanted."""
EXTRACT_PROMPT = """\
Reply with JSON alone: {"order": the order's number, "grams": grams of tea, "town": the town}."""
INVOICE_PROMPT = """\
You check suppliers' invoices. Work out the total with discount and VAT, and end with it alone in \
the last line, in euros."""


class Kind(NamedTuple):
    """A kind of request.

    Attributes:
        system: Its system prompt.
        facts: What a right answer holds, by the user's text.
        answer: A right answer, by the user's text.
        wrong: A wrong one.
    """

    system: str
    facts: Callable[[str], tuple[str, ...]]
    answer: Callable[[str], str]
    wrong: Callable[[str], str]


def fact_of(text: str) -> str:
    """The words in which the answer to a customer's question is."""
    for fact, wordings in FAQ.items():
        for wording in wordings:
            pattern = re.escape(wording).replace(r"\{tea\}", ".+").replace(r"\{town\}", ".+")
            if re.search(pattern, text):
                return fact
    raise ValueError(f"not a question that the shop knows: {text!r}")


def ticket_of(text: str) -> tuple[str, str, str]:
    """Order, problem and wish of a ticket."""
    problem = next(key for key, said in PROBLEMS.items() if said.split("{tea}")[-1] in text)
    wish = next(key for key, said in WISHES.items() if said in text)
    return order_of(text), problem, wish


def order_of(text: str) -> str:
    """The number of the order in a text."""
    return re.search(r"LT-\d+", text)[0]


def fields_of(text: str) -> dict[str, object]:
    """What is to be extracted."""
    found = re.search(r"(\d+) g .* to (\w+)[.,]", text)
    return {"order": order_of(text), "grams": int(found[1]), "town": found[2]}


def total_of(text: str) -> float:
    """The total of an invoice."""
    lines = re.findall(r"(\d+) x .* at ([\d.]+)", text)
    net = sum(int(count) * float(price) for count, price in lines)
    discount, vat = (float(number) for number in re.findall(r"(\d+) %", text))
    return round(net * (1 - discount / 100) * (1 + vat / 100), 2)


def _invoice(text: str, total: float) -> str:
    sums = (
        f"{count} x {price} = {int(count) * float(price):.2f}"
        for count, price in re.findall(r"(\d+) x .* at ([\d.]+)", text)
    )
    return "\n".join((*sums, "With discount and VAT:", f"{total:.2f}"))


KINDS = {
    "faq": Kind(
        FAQ_PROMPT,
        lambda text: (fact_of(text),),
        lambda text: f"Thank you for asking. What you need to know: {fact_of(text)}.",
        lambda _: "Thank you for asking. Please see the page on this in our shop.",
    ),
    "summary": Kind(
        SUMMARY_PROMPT,
        ticket_of,
        lambda text: "Order {}: the tea was {}; the customer wants a {}.".format(*ticket_of(text)),
        lambda text: f"A customer is not happy with order {order_of(text)}.",
    ),
    "extract": Kind(
        EXTRACT_PROMPT,
        lambda text: (json.dumps(fields_of(text)),),
        lambda text: json.dumps(fields_of(text)),
        lambda text: json.dumps({**fields_of(text), "town": None}),
    ),
    "invoice": Kind(
        INVOICE_PROMPT,
        lambda text: (f"{total_of(text):.2f}",),
        lambda text: _invoice(text, total_of(text)),
        # The VAT was forgotten.
        lambda text: _invoice(text, total_of(text) * 0.93),
    ),
}


def kind_of(system: str) -> str | None:
    """The kind of a request, by its system prompt; None where the shop has no such prompt."""
    return next((name for name, kind in KINDS.items() if kind.system == system), None)


def tokens(text: str) -> int:
    """How many tokens the simulated models count in a text: its words and signs."""
    return len(re.findall(r"\w+|[^\w\s]", text))
