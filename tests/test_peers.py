"""How the peers' own tests, bare and with our classes in between, are compared."""

import re
import tomllib
from pathlib import Path

import pytest
from comparison import Exclusion, compare, only_wrapped

ROOT = Path(__file__).parent.parent
PEERS = ROOT / "scripts" / "peers"

BARE = {
    "tests/test_a.py::test_holds": ("passed", ""),
    "tests/test_a.py::test_broken": ("failed", "AssertionError: assert 1 == 2"),
    "tests/test_a.py::test_state[1]": ("passed", ""),
    "tests/test_a.py::test_state[2]": ("passed", ""),
    "tests/test_a.py::test_lost": ("passed", ""),
    "tests/test_b.py::test_left_out": ("skipped", ""),
}
WRAPPED = {
    "tests/test_a.py::test_holds": ("passed", ""),
    "tests/test_a.py::test_broken": ("failed", "AssertionError: assert 1 == 2"),
    "tests/test_a.py::test_state[1]": ("failed", "AttributeError: 'Wrapped' has no 'seen'"),
    "tests/test_a.py::test_state[2]": ("failed", "TypeError: no"),
    "tests/test_b.py::test_left_out": ("skipped", ""),
}


def test_what_fails_bare_or_not_at_all_is_no_difference() -> None:
    assert only_wrapped(BARE, WRAPPED) == {
        "tests/test_a.py::test_state[1]": "AttributeError: 'Wrapped' has no 'seen'",
        "tests/test_a.py::test_state[2]": "TypeError: no",
        "tests/test_a.py::test_lost": "It did not run.",
    }
    assert only_wrapped(WRAPPED, WRAPPED) == {}


def test_what_is_excluded_is_counted_by_its_reason_and_the_rest_is_ours() -> None:
    excluded = [
        Exclusion("State of the fake.", ("*/test_a.py::test_state",)),
        Exclusion("Never reached.", ("*::test_state", "tests/test_c.py::*")),
    ]
    found = compare(BARE, only_wrapped(BARE, WRAPPED), excluded)

    assert found.tests == 5
    assert found.bare == ["tests/test_a.py::test_broken"]
    assert found.excluded == {
        "State of the fake.": ["tests/test_a.py::test_state[1]", "tests/test_a.py::test_state[2]"]
    }
    assert found.ours == {"tests/test_a.py::test_lost": "It did not run."}
    assert found.only_wrapped == 3
    assert found.stale == ["tests/test_c.py::*"]


@pytest.mark.parametrize(
    ("pattern", "test", "named"),
    [
        ("*/test_a.py::test_state", "tests/unit/test_a.py::test_state[a/b::c]", True),
        ("*/test_a.py::test_state", "tests/unit/test_a.py::test_state_too", False),
        ("*/test_a.py::TestIt::*", "tests/unit/test_a.py::TestIt::test_x", True),
        ("tests/test_a.py::test_*_state", "tests/test_a.py::test_state", False),
    ],
)
def test_an_exclusion_names_tests_without_their_parameters(
    pattern: str, test: str, named: bool
) -> None:
    assert Exclusion("Why.", (pattern,)).names(test) is named


def test_each_exclusion_has_a_reason_and_each_test_is_excluded_once() -> None:
    suites = tomllib.loads((PEERS / "exclusions.toml").read_text("utf-8"))
    for modes in suites.values():
        for entries in modes.values():
            patterns = [pattern for entry in entries for pattern in entry["tests"]]
            assert len(set(patterns)) == len(patterns)
            # A folder or a whole file is never excluded.
            assert all("::test" in pattern.lower() for pattern in patterns)
            assert all(len(entry["reason"]) > 20 for entry in entries)


def test_the_page_gives_no_reason_that_is_not_in_the_list() -> None:
    listed = {
        entry["reason"]
        for modes in tomllib.loads((PEERS / "exclusions.toml").read_text("utf-8")).values()
        for entries in modes.values()
        for entry in entries
    }
    page = (ROOT / "docs" / "compatibility.md").read_text("utf-8")
    told = re.findall(r"^- (.+) \(\d+\)$", page, re.MULTILINE)
    assert told
    assert set(told) <= listed
