"""Reading YAML that anybody may have written: plain values of bounded size, or one typed error.

Nothing is built of a file before the whole of it was looked at. Errors give line and column and do
not quote the file: a key may stand there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from crossroute.errors import CrossRouteError
from crossroute.files import read_file

MOST_BYTES = 1_000_000
MOST_NODES = 50_000
"""Texts, numbers, lists and mappings in a file; reading as many takes PyYAML a second or two."""
MOST_BY_ALIAS = 300
"""How many of them may be there by alias only: a few aliases of aliases stand for billions."""
MOST_DEPTH = 40
MOST_DIGITS = 100
"""Characters of a number: very long ones take PyYAML time without end, and cannot be printed."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_TAG = "tag:yaml.org,2002:"
_NUMBERS = {_TAG + "int", _TAG + "float"}
_PLAIN: Mapping[type[yaml.Node], set[str]] = {
    yaml.ScalarNode: {_TAG + n for n in ("str", "null", "bool", "timestamp", "merge")} | _NUMBERS,
    yaml.SequenceNode: {_TAG + "seq"},
    yaml.MappingNode: {_TAG + "map"},
}
_NO_VALUE = "a value is no text, number or date; put it in quotes, without a tag."


def read_yaml(path: Path, error: type[CrossRouteError]) -> object:
    """What a YAML file holds, as plain values.

    Args:
        path: A regular file in UTF-8.
        error: What is raised where it cannot be read; the message names the file.
    """
    return parse_yaml(read_text(path, error), path, error)


def parse_yaml(text: str, path: Path, error: type[CrossRouteError]) -> object:
    """What a YAML text holds, as plain values; `path` is the file that errors name."""
    try:
        # A subclass of SafeLoader: it constructs plain values only.
        return yaml.load(_bounded(text), _Loader)  # noqa: S506
    except (yaml.YAMLError, RecursionError) as problem:
        # Without its own words, nor as its cause: it quotes the file.
        raise error(f"{path}: not valid YAML: {_said(problem, text)}") from None


def read_text(path: Path, error: type[CrossRouteError]) -> str:
    """The text of a file in UTF-8 of bounded size; `error` is raised where it cannot be read."""
    try:
        return read_file(path, MOST_BYTES).decode("utf-8")
    except UnicodeDecodeError:
        raise error(f"{path}: cannot be read: it is not in UTF-8; save it so.") from None
    except (OSError, ValueError) as problem:  # ValueError: no system has such a path.
        raise error(f"{path}: cannot be read: {problem}") from problem


class _RefusedError(yaml.MarkedYAMLError):
    """YAML that is not taken, for a reason that quotes nothing of it."""

    def __init__(self, reason: str, mark: yaml.Mark | None = None) -> None:
        super().__init__(problem=reason, problem_mark=mark)


def _bounded(text: str) -> str:
    if len(text) > MOST_BYTES:
        raise _RefusedError(f"more than {MOST_BYTES:,} characters.")
    return text


def _said(problem: Exception, text: str) -> str:
    """What is wrong and where, without a word of what stands there."""
    if isinstance(problem, yaml.reader.ReaderError):
        before = text[: problem.position]
        line, column = before.count("\n"), len(before) - before.rfind("\n") - 1
        return f"line {line + 1}, column {column + 1}: a character that YAML does not allow."
    mark = getattr(problem, "problem_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    if isinstance(problem, _RefusedError):
        return f"{place}: {problem.problem}" if mark else str(problem.problem)
    return (
        f"{place or 'it'} cannot be read; look at the quotes, brackets, colons and indentation "
        "there and in the line before."
    )


class _Loader(yaml.SafeLoader):
    """Refuses what is out of bounds, and a field twice, of which PyYAML would take the last."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = self._nodes = self._by_alias = 0
        self._sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        mark, before = event.start_mark, self._nodes
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise _RefusedError(f"nested more than {MOST_DEPTH} deep.", mark)
        node = super().compose_node(parent, index)
        assert node is not None  # noqa: S101  # There is an event, so there is a node.
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent):
            # What is still being composed has no size yet.
            if node not in self._sizes:
                raise _RefusedError("an alias within what it stands for.", mark)
            self._nodes += self._sizes[node]
            self._by_alias += self._sizes[node]
            if self._by_alias > MOST_BY_ALIAS:
                raise _RefusedError(
                    f"with this alias, more than {MOST_BY_ALIAS} values are there by alias; "
                    "write them out.",
                    mark,
                )
        else:
            _check(node)
            self._nodes += 1
            self._sizes[node] = self._nodes - before
        if self._nodes > MOST_NODES:
            raise _RefusedError(f"more than {MOST_NODES:,} values.", mark)
        return node

    def fetch_more_tokens(self) -> None:
        try:
            super().fetch_more_tokens()
        except (ValueError, OverflowError) as error:
            # PyYAML makes a character of whatever number an escape has.
            mark = self.get_mark()
            raise _RefusedError("an escape that stands for no character.", mark) from error

    def construct_object(self, node: yaml.Node, deep: bool = False) -> object:
        try:
            return super().construct_object(node, deep)
        except (yaml.YAMLError, RecursionError):
            raise
        except Exception as error:
            # PyYAML's constructors raise what happens to them: KeyError, IndexError, OverflowError.
            raise _RefusedError(_NO_VALUE, node.start_mark) from error


def _check(node: yaml.Node) -> None:
    """Refuse a node that is no plain value, or has one field twice."""
    if node.tag not in _PLAIN[type(node)]:
        raise _RefusedError(_NO_VALUE, node.start_mark)
    if isinstance(node, yaml.ScalarNode) and _SURROGATE.search(node.value):
        raise _RefusedError("half of a surrogate pair, which is no character.", node.start_mark)
    if node.tag in _NUMBERS and len(node.value) > MOST_DIGITS:
        raise _RefusedError(
            f"a number of more than {MOST_DIGITS} characters; put it in quotes if it is a text.",
            node.start_mark,
        )
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                if key.value in lines:
                    raise _RefusedError(
                        f"the field of line {line} stands in line {lines[key.value]} already; "
                        "remove one of them."
                    )
                lines[key.value] = line
