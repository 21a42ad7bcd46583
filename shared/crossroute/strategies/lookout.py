"""A look-out on a stream of tokens: up to where the text is sure, and where it becomes unsure."""

from __future__ import annotations

import math
import sys
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from crossroute.strategies.base import Reply
from crossroute.strategies.boundaries import Boundaries
from crossroute.strategies.calibration import ROUNDING
from crossroute.strategies.signals import LEAST_LOGPROB


class Token(NamedTuple):
    """A token that came.

    Attributes:
        logprob: Its log-probability.
        start: Where in the text it begins, or before that: with other tokens in one part of the
            stream it is taken to begin where the part does.
    """

    logprob: float
    start: int


class Fall(NamedTuple):
    """Tokens whose mean log-probability is too low.

    Attributes:
        mean: That mean.
        tokens: How many they are.
        start: Where the first of them begins that is too low by itself.
    """

    mean: float
    tokens: int
    start: int


@dataclass(slots=True)
class Lookout:
    """Watches how sure a model is of the text that it streams.

    Attributes:
        window: How many tokens in a row count.
        tau: The lowest mean log-probability of theirs that is sure enough.
        shows: Whether what is sure is to be shown at once.
        shown: Up to where the text was shown to somebody.
        fall: The first tokens that are not sure enough, once there are some.
        parts: In how many parts the text has come.
    """

    window: int
    tau: float
    shows: bool = True
    shown: int = 0
    fall: Fall | None = None
    parts: int = 0
    _recent: deque[Token] = field(init=False)
    _boundaries: Boundaries = field(default_factory=Boundaries)
    _count: int = 0
    _length: int = 0

    def __post_init__(self) -> None:
        self._recent = deque(maxlen=min(self.window, sys.maxsize))

    def until(self, reply: Reply) -> bool:
        """Read on; whether there is something to do: to show, to cut, or to ask another one."""
        self._read(reply)
        is_mute = bool(reply.text.strip()) and not reply.logprobs
        is_more = self.shows and self.sure > self.shown
        return self.fall is not None or reply.refused or is_mute or is_more

    def end(self) -> None:
        """Look at a text that was shorter than the window, as a whole."""
        if self.fall is None and 0 < len(self._recent) < self.window:
            self._look()

    @property
    def sure(self) -> int:
        """The last boundary before which nothing will be cut, whatever comes."""
        # The oldest token of a full window is in no later one.
        later = islice(self._recent, len(self._recent) == self.window, None)
        lows = (token.start for token in later if self._is_low(token.logprob))
        return self._boundaries.last(next(lows, self._length))

    @property
    def cut(self) -> int:
        """The last boundary before the text becomes unsure; what was shown is before it."""
        return self.shown if self.fall is None else self._boundaries.last(self.fall.start)

    def _read(self, reply: Reply) -> None:
        self._boundaries.read(reply.text)
        if len(reply.logprobs) < self._count:
            # Of a chain, whose last model begins anew.
            self._count = 0
            self._recent.clear()
        for logprob in reply.logprobs[self._count :]:
            if math.isnan(logprob):
                continue
            self._recent.append(Token(max(logprob, LEAST_LOGPROB), self._length))
            if self.fall is None and len(self._recent) == self.window:
                self._look()
        self.parts += len(reply.text) > self._length
        self._count, self._length = len(reply.logprobs), len(reply.text)

    def _look(self) -> None:
        mean = math.fsum(token.logprob for token in self._recent) / len(self._recent)
        lows = [token.start for token in self._recent if self._is_low(token.logprob)]
        if lows and self._is_low(mean):
            self.fall = Fall(mean, len(self._recent), lows[0])

    def _is_low(self, logprob: float) -> bool:
        return logprob < self.tau - ROUNDING
