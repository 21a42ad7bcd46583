"""Agents, chains, retrievers and tools of a pool: which queries are theirs, and what they cost.

Which agent a query is for is told from the agents' texts alone, by the attention of the query to
them (`crossroute.network.text_attention`), without training. The fit of agent a to query x is how
much more of its attention x gives to a than to a text on what any model does, as a logarithm:

    fit_a(x) = max_t s(x, t) - log mean_g exp s(x, g)

t are the texts of the agent, g those of `GENERAL`, s is scaled dot-product attention. With the
static encoder that ships, s is that of its taught vectors, which know better what texts are about,
and g has the centres of prompts that models were trained to route beside the texts
(`crossroute.network.encoders.taught`). An agent serves what it fits by the margin or more; a query
that fits no agent is for the models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from crossroute.errors import ConstraintError, Reason, shortened
from crossroute.models.descriptor import ModelDescriptor
from crossroute.models.pool import ModelPool
from crossroute.network.encoders import QueryEncoder, StaticEncoder
from crossroute.network.encoders.taught import taught_encoder
from crossroute.network.text_attention import TextAttention
from crossroute.query import Query

FloatArray = NDArray[np.float64]

DEFAULT_MARGIN = 1.25
"""An agent gets 3.5 times the attention of a general text; `docs/agents.md` says what it was
measured to do."""

CLOSE = math.log(2)
"""Agents that fit a query nearly as well as the best one, at least half of its attention, are
chosen from by quality and cost; the others could win by their price alone."""

DECIMALS = 6
"""A fit is rounded to so many: its last digits depend on the processor, and must not decide."""

UNKNOWN_QUALITY = 0.5
"""Where nothing at all is known of any candidate: it decides nothing, as it is that of all."""

GENERAL = (
    "Explains how something works, what it is and why.",
    "Questions about history, geography, science and famous people.",
    "Writes and rewrites texts: essays, e-mails, letters and summaries.",
    "Writes poems, stories, jokes and songs.",
    "Translates and corrects sentences, and says what words mean.",
    "Solves problems of mathematics and logic, calculates and proves.",
    "Writes, explains and corrects program code.",
    "Compares, argues and gives opinions.",
    "Greetings, thanks and small talk.",
    "Recipes, health, sports and advice for everyday life.",
    "Gives ideas, names and lists.",
    "Which of the following statements is correct: A, B, C or D?",
    "Exam questions about physics, chemistry, biology, medicine, law, economics and psychology.",
    "Functions, loops, errors, recursion and algorithms in Python, Java, C or JavaScript.",
    "What is the difference between two concepts, and who invented them?",
    "Explain step by step how this works, in simple words.",
    "Who was the first to discover it, and in which year?",
    "What is the capital, the population and the language of the country?",
    "Summarise the following article in three sentences.",
    "Rewrite this text so that it sounds more polite.",
    "Draft a letter of complaint to my neighbour.",
    "Write a short speech, a slogan or a description of a product.",
    "Write a blog post about the advantages of remote work.",
    "Tell me a story about a dragon, a princess and a forest.",
    "Translate the following sentence into German, French or Spanish.",
    "What does this word mean, and where does it come from?",
    "Solve the equation for x and show that the function has a minimum.",
    "How many ways are there to arrange the letters, and with what probability?",
    "A car travels at 60 km per hour; how long does it take?",
    "A shop sells apples for 2 dollars each; how much does she pay in all?",
    "Write a function in Python that sorts a list of numbers.",
    "Write a SQL query that joins two tables.",
    "Why does my code throw an exception, and how do I fix it?",
    "Design the architecture and the database schema of a web application.",
    "Is it legal, and who is liable if it breaks?",
    "What are the symptoms, causes and side effects of the disease?",
    "Should I invest my savings in shares, bonds or funds?",
    "Plan a weekend for a family with children.",
    "Suggest a healthy dinner with chicken, rice and vegetables.",
    "Give me tips to learn a language, sleep better and stay fit.",
    "Discuss the causes and consequences of the war and the revolution.",
    "Why is the sea salty, and why do birds sing?",
    "How do engines, batteries and computers work?",
    "Who wrote the novel, painted the picture and composed the opera?",
    "Who won the match, the race and the championship?",
    "I feel sad and lonely today.",
    "What do you think about God, freedom and artificial intelligence?",
)
"""What any model does: a query that is like one of these is for no agent."""


class Agents:
    """The candidates of a pool that are no models.

    Where nothing was learned of one, its quality and cost are what its descriptor says. An unknown
    quality is the mean of those agents' that is known, else that of the best model; an unknown cost
    is that of the dearest candidate, because unknown is not free.

    Args:
        pool: All candidates.
        encoder: The router's; the texts are compared by it.
        margin: The least fit of an agent that serves.
    """

    def __init__(self, pool: ModelPool, encoder: QueryEncoder, margin: float) -> None:
        texts = {one.id: texts_of(one) for one in pool.values() if one.kind != "model"}
        self._ids = tuple(texts)
        # Where the texts of each begin.
        self._starts = np.cumsum([0, *map(len, texts.values())])[:-1]
        taught = taught_encoder() if texts and encoder.name == StaticEncoder.name else None
        self._attention = TextAttention(taught or encoder)
        general = self._attention.keys(GENERAL)
        if taught:
            general = np.vstack([general, taught.prompts * math.sqrt(taught.dimension)])
        self._general = len(general)
        own = self._attention.keys([text for own in texts.values() for text in own])
        self._keys = np.vstack([general, own])
        self._margin = margin
        self._columns = [
            j for j, one in enumerate(pool.values()) if one.kind != "model" and not one.learned
        ]
        stated = [one for one in pool.values() if one.kind != "model" and not one.learned]
        self._quality = np.array([_number(one.expected_quality) for one in stated])
        self._cost_usd = np.array([_number(one.cost_usd_a_call) for one in stated])
        self.of_unknown_cost = frozenset(one.id for one in stated if one.cost_usd_a_call is None)

    def complete(self, quality: FloatArray, cost_usd: FloatArray) -> None:
        """Write what descriptors say of agents into what is predicted of the others.

        Args:
            quality: [n, m] in the order of the pool; NaN in the columns of those agents.
            cost_usd: [n, m] in USD, likewise.
        """
        for found, stated, extreme, default in (
            (quality, self._quality, _mean_or_most, UNKNOWN_QUALITY),
            (cost_usd, self._cost_usd, _most, 0.0),
        ):
            known = np.broadcast_to(stated, (len(found), len(stated)))
            other = np.where(np.isnan(known), extreme(found, stated, default)[:, None], known)
            found[:, self._columns] = other

    def fits(self, query: Query) -> dict[str, float]:
        """How well each agent fits a query, by their ids; nothing for a query without text."""
        if query.is_blank:
            return {}
        scores = self._attention.scores_of(query.text, self._keys)
        general = scores[: self._general]
        usual = general.max() + math.log(np.exp(general - general.max()).mean())
        best = np.maximum.reduceat(scores[self._general :], self._starts)
        return dict(zip(self._ids, (best - usual).round(DECIMALS).tolist(), strict=True))

    def unfit(self, fits: Mapping[str, float]) -> dict[str, Reason]:
        """Why agents do not serve a query, by their ids.

        Args:
            fits: Of the query, from `fits`.
        """
        if not fits:
            return {
                agent: Reason("nothing says that the query is for it", "send a query with text")
                for agent in self._ids
            }
        return {
            agent: Reason(
                f"fits the query by {fit:.2f}, the margin is {self._margin:.2f}",
                "add such a query to the examples of the agent that serves it, or lower the margin",
            )
            for agent, fit in fits.items()
            if fit < self._margin
        }


def texts_of(agent: ModelDescriptor) -> list[str]:
    """The texts that say what an agent serves. Its id counts: it is often the best word for it."""
    name = " ".join(agent.id.replace("_", " ").replace("-", " ").split())
    first = f"{name}: {agent.description}" if agent.description else name
    return [first, *agent.skills, *agent.examples]


def shares(fits: Mapping[str, float]) -> dict[str, float]:
    """The share of attention of each of some agents, which add up to 1."""
    best = max(fits.values())
    weights = {agent: math.exp(fit - best) for agent, fit in fits.items()}
    total = sum(weights.values())
    return {agent: weight / total for agent, weight in weights.items()}


def check_margin(value: object) -> float:
    """Return a margin as a float.

    Raises:
        ConstraintError: If it is no number; infinity is one: no agent serves then.
    """
    number = isinstance(value, (int, float, np.floating, np.integer))
    if not number or isinstance(value, bool) or value != value:
        raise ConstraintError(
            f"margin is {shortened(value)}; give a number, such as {DEFAULT_MARGIN}: the least fit "
            "of an agent that serves a query."
        )
    try:
        return float(value)  # type: ignore[arg-type]
    except OverflowError:
        return math.inf


def _mean_or_most(found: FloatArray, stated: FloatArray, default: float) -> FloatArray:
    """[n]: the mean of what agents state, else the most that is predicted of a model."""
    if not np.isnan(stated).all():
        return np.full(len(found), np.nanmean(stated))
    return _most(found, stated, default)


def _most(found: FloatArray, stated: FloatArray, default: float) -> FloatArray:
    """[n]: the most of what agents state and is predicted of models."""
    most = np.fmax.reduce(found, axis=1, initial=np.nan)
    most = np.fmax(most, np.fmax.reduce(stated, initial=np.nan))
    return np.where(np.isnan(most), default, most)


def _number(value: float | None) -> float:
    return np.nan if value is None else value
