"""Which tests of a peer fail only with our classes in between, and which of these cannot hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

FAILED = "failed"

Outcomes = Mapping[str, tuple[str, str]]
"""For each test's node id its outcome, as pytest has it, and the text of its error, if any."""


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Tests that cannot hold for a router.

    Attributes:
        reason: Why.
        tests: Node ids without parameters; `*` stands for anything.
    """

    reason: str
    tests: tuple[str, ...]

    def names(self, test: str) -> bool:
        """Whether it is about the test of that node id."""
        return any(matches(pattern, test) for pattern in self.tests)


def matches(pattern: str, test: str) -> bool:
    """Whether a test of that node id is meant; its parameters do not matter."""
    return fnmatchcase(test.partition("[")[0], pattern)


@dataclass(slots=True)
class Comparison:
    """What came of a suite with our classes in between.

    Attributes:
        tests: How many tests ran bare, and were not skipped.
        bare: The tests that fail bare, whatever they do wrapped.
        excluded: Those that fail only wrapped and cannot hold, by the reason.
        ours: Those that fail only wrapped and are not excluded, with the text of the error.
        stale: What the exclusions name and no failing test is.
    """

    tests: int = 0
    bare: list[str] = field(default_factory=list)
    excluded: dict[str, list[str]] = field(default_factory=dict)
    ours: dict[str, str] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)

    @property
    def only_wrapped(self) -> int:
        """How many tests fail only wrapped."""
        return len(self.ours) + sum(map(len, self.excluded.values()))


def only_wrapped(bare: Outcomes, wrapped: Outcomes) -> dict[str, str]:
    """The tests that fail wrapped and not bare, with the error; one that did not run has failed."""
    lost = (FAILED, "It did not run.")
    return {
        test: wrapped.get(test, lost)[1]
        for test, (outcome, _) in bare.items()
        if outcome != FAILED and wrapped.get(test, lost)[0] == FAILED
    }


def compare(
    bare: Outcomes, failing: Mapping[str, str], excluded: Iterable[Exclusion]
) -> Comparison:
    """Sort the tests that fail only wrapped.

    Args:
        bare: The outcomes without our classes.
        failing: What `only_wrapped` found.
        excluded: What cannot hold; the first that names a test gives the reason.
    """
    excluded = list(excluded)
    found = Comparison(
        tests=sum(outcome != "skipped" for outcome, _ in bare.values()),
        bare=[test for test, (outcome, _) in bare.items() if outcome == FAILED],
        stale=[
            pattern
            for exclusion in excluded
            for pattern in exclusion.tests
            if not any(matches(pattern, test) for test in failing)
        ],
    )
    for test, error in failing.items():
        reason = next((exclusion.reason for exclusion in excluded if exclusion.names(test)), None)
        if reason is None:
            found.ours[test] = error
        else:
            found.excluded.setdefault(reason, []).append(test)
    return found
