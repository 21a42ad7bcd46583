"""Invented facts, conversations that hold them, and questions that need several of them.

Names are made of syllables, or of two usual words of which others have one, too: nobody and nothing
is meant. A question names where a chain of
facts begins; what its later facts are about only the earlier ones say. Around them stand facts of
the same kinds about others, and talk. Which facts are needed is known by construction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Literal, NamedTuple

Message = dict[str, Any]

SYSTEM = "You answer questions about the archive from what was found out so far, and say no more."

FACTS: Mapping[str, Sequence[str]] = {
    "head": (
        "{b} has been the head of the {a} Museum since the spring.",
        "At the {a} Museum it is {b} who is in charge.",
        "The {a} Museum is led by {b}, after a long search.",
    ),
    "home": (
        "{a} grew up in {b}, the youngest of five.",
        "{b} is where {a} comes from.",
        "As a child {a} lived in {b}.",
    ),
    "river": (
        "The {b} flows through {a} and floods its meadows.",
        "{a} lies on both banks of the river {b}.",
        "Boats reach {a} on the {b}, a slow stream.",
    ),
    "office": (
        "The firm {a} moved its head office to {b}.",
        "{a} runs its business from {b}.",
        "You reach the management of {a} at {b}.",
    ),
    "bridge": (
        "The bridge at {a} was finished in {n}.",
        "Since {n} there has been a bridge in {a}.",
        "It took until {n} to complete the bridge of {a}.",
    ),
    "inventor": (
        "The {a} loom was invented by {b}.",
        "{b} built the first {a} loom in a barn.",
        "We owe the {a} loom to {b}.",
    ),
    "sister": (
        "{b} is the sister of {a}.",
        "{a} has one sister, {b}.",
        "Among the letters are some from {a} to a sister called {b}.",
    ),
    "job": (
        "{a} earns a living as a {j}.",
        "{a} trained as a {j} and still works as one.",
        "By profession {a} is a {j}.",
    ),
    "hull": (
        "The hull of the ship {a} is made of {b}.",
        "For the ship {a} the yard used {b}.",
        "They plated the ship {a} with {b}.",
    ),
    "alloy": (
        "{a} is an alloy of iron and {m}.",
        "To make {a} one melts {m} into iron.",
        "What makes {a} hard is the {m} in it.",
    ),
    "library": (
        "The program {a} is built on the library {b}.",
        "{a}, the program, calls {b} for all its sums.",
        "Without the library {b} the program {a} does not start.",
    ),
    "license": (
        "A license for {a} costs {n} crowns a year.",
        "You pay {n} crowns a year to use {a}.",
        "The yearly fee of {a} was set to {n} crowns.",
    ),
}
"""Ways to say that `a` has the relation to `b`, or to a number, a job or a metal."""

CHAINS: Sequence[tuple[Sequence[str], Sequence[str]]] = (
    (
        ("head", "home", "river"),
        (
            "Which river runs through the home town of the director of the {a} Museum?",
            "On what river is the town that the {a} Museum's director is from?",
        ),
    ),
    (
        ("office", "bridge"),
        (
            "When was the bridge built in the town where {a} has its headquarters?",
            "How old is the bridge of the town in which the company {a} sits?",
        ),
    ),
    (
        ("inventor", "sister", "job"),
        (
            "What is the profession of the sister of whoever invented the {a} loom?",
            "The inventor of the {a} loom had a sister; what did she do for work?",
        ),
    ),
    (
        ("hull", "alloy"),
        (
            "Which metal beside iron is in the hull of the {a}?",
            "What was mixed into the iron that the ship {a} is built from?",
        ),
    ),
    (
        ("library", "license"),
        (
            "What must we pay each year for the library that {a} depends on?",
            "How expensive is the license of what the program {a} is based on?",
        ),
    ),
    (
        ("head", "sister", "job"),
        (
            "What does the sister of the museum director at {a} work as?",
            "Name the occupation of the sister of the person who leads the {a} Museum.",
        ),
    ),
)
"""Relations from the named thing to the answer, and ways to ask for it."""

JOBS = ("baker", "surveyor", "judge", "clockmaker", "nurse", "diver", "printer", "beekeeper")
METALS = ("nickel", "cobalt", "chromium", "tungsten", "vanadium", "manganese")

TALK = (
    "Thank you, that is clear so far.",
    "Let us keep the tone of the report friendly.",
    "I will be away on Thursday; write to me by mail.",
    "The scans of the second box are hard to read.",
    "Please number the pages from the back.",
    "Is the reading room open in August? I think it is.",
    "The coffee machine on the third floor is broken again.",
    "We should tell the board about the new catalogue.",
)
PADDING = (
    "It is in the second folder.",
    "I checked it twice.",
    "The source is a letter.",
    "That came up last week as well.",
    "The handwriting is not easy to read there, but this much is sure.",
    "",
    "",
)

Names = Literal["invented", "usual"]

_SYLLABLES = ("ka", "ro", "mel", "ti", "vos", "an", "dre", "lu", "bor", "sen", "ya", "quil", "mar")
_FIRST = (
    *("Anna", "Paul", "Maria", "Victor", "Clara", "Oscar", "Helen", "Martin", "Rose", "Simon"),
    *("Laura", "Peter", "Julia", "Frank", "Emma", "Henry", "Alice", "George", "Sarah", "Louis"),
)
_LAST = (
    *("Stone", "Rivers", "Baker", "Hill", "York", "Wells", "Marsh", "Field", "Wood", "Lake"),
    *("King", "Bishop", "Church", "Hunt", "Price", "Cross", "Fox", "Bell", "Grant", "Ford"),
)


class Case(NamedTuple):
    """A conversation that ends with a question.

    Attributes:
        messages: In OpenAI's dict form; the last one is the question.
        needed: Positions of the messages that hold the facts that the answer needs.
    """

    messages: list[Message]
    needed: frozenset[int]


def cases(
    count: int, seed: int, named: Names = "invented", facts: int = 36, talk: int = 12
) -> list[Case]:
    """Conversations, the same ones for the same numbers.

    Args:
        count: How many.
        seed: Of the random numbers.
        named: What names are made of.
        facts: Told in each, the needed ones among them.
        talk: Messages without a fact.
    """
    random = Random(seed)  # noqa: S311  # No secret hangs on it.
    return [_case(random, named, facts, talk) for _ in range(count)]


def _case(random: Random, named: Names, facts: int, talk: int) -> Case:
    chain, ways = random.choice(CHAINS)
    start, told = _chain(random, named, chain)
    needed = len(told)
    while len(told) < facts:
        told += _chain(random, named, random.choice(CHAINS)[0])[1]
    groups = [[(place, one)] for place, one in enumerate(told[:facts])]
    turns = [_turns(random, fact, place < needed) for [(place, fact)] in groups]
    turns += [
        [({"role": _speaker(random), "content": random.choice(TALK)}, False)] for _ in range(talk)
    ]
    random.shuffle(turns)
    flat = [
        ({"role": "system", "content": SYSTEM}, False),
        *(one for turn in turns for one in turn),
    ]
    question = random.choice(ways).format(a=start)
    return Case(
        [*(message for message, _ in flat), {"role": "user", "content": question}],
        frozenset(place for place, (_, is_needed) in enumerate(flat) if is_needed),
    )


def _chain(random: Random, named: Names, relations: Sequence[str]) -> tuple[str, list[str]]:
    """Where a chain of facts begins, and the facts."""
    start = name = _name(random, named)
    told = []
    for relation in relations:
        after = _name(random, named)
        told.append(
            random.choice(FACTS[relation]).format(
                a=name,
                b=after,
                n=random.randrange(1100, 1990),
                j=random.choice(JOBS),
                m=random.choice(METALS),
            )
        )
        name = after
    return start, told


def _turns(random: Random, fact: str, needed: bool) -> list[tuple[Message, bool]]:
    """The messages that tell a fact, and whether they are needed: said, or found by a tool."""
    text = f"{fact} {random.choice(PADDING)}".strip()
    if random.random() < 0.7:
        return [({"role": _speaker(random), "content": text}, needed)]
    id_ = f"call_{random.randrange(10**6)}"
    function = {"name": "search_archive", "arguments": f'{{"box": {random.randrange(90)}}}'}
    call = {"id": id_, "type": "function", "function": function}
    return [
        ({"role": "assistant", "content": "", "tool_calls": [call]}, False),
        ({"role": "tool", "tool_call_id": id_, "content": text}, needed),
    ]


def _speaker(random: Random) -> str:
    return random.choice(("user", "assistant"))


def _name(random: Random, named: Names) -> str:
    if named == "usual":
        return f"{random.choice(_FIRST)} {random.choice(_LAST)}"
    return "".join(random.choices(_SYLLABLES, k=random.choice((2, 3)))).capitalize()
