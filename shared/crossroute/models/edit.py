"""Changing fields of a descriptor file; its comments, order, quotes and other lines stay.

To be imported where a file is edited: ruamel.yaml takes longer to import than a folder to read.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.resolver import VersionedResolver

from crossroute.errors import DescriptorError
from crossroute.files import replace_file
from crossroute.models.descriptor import LINE_WIDTH, ModelDescriptor, dump_yaml
from crossroute.yaml_file import read_text


class _Untyped(VersionedResolver):
    """Takes every value for a text, so that those that stay keep their digits."""

    versioned_resolver: ClassVar[dict[str, Any]] = {}


def update_file(path: Path, new: ModelDescriptor, target: Path | None = None) -> None:
    """Make a descriptor file say what `new` says, by changing the fields that differ.

    Args:
        path: The file.
        new: What it is to say.
        target: Where it is written, whole or not at all; `path` if None.

    Raises:
        DescriptorError: If the file is not valid, or has a form in which those fields cannot be
            changed alone; says what to write by hand.

    Comments between the items of a list that is changed may be lost.
    """
    text = read_text(path, DescriptorError)
    # Before ruamel.yaml, which has no bounds, sees the file.
    old, new = ModelDescriptor.parse(text, path).as_written, new.as_written
    for candidate in _edited(text, old, new):
        if _says(candidate, new):
            replace_file(target or path, candidate)
            return
    fields = [name for name in type(new).model_fields if getattr(new, name) != getattr(old, name)]
    by_hand = dump_yaml(new.model_dump(include={*fields}))
    raise DescriptorError(
        f"{path}: {', '.join(fields)}: cannot be changed alone in a file of this form; write by "
        f"hand:\n{by_hand}"
    )


def _says(text: str, model: ModelDescriptor) -> bool:
    try:
        return ModelDescriptor.parse(text, Path()).as_written == model
    except DescriptorError:
        return False


def _edited(text: str, old: ModelDescriptor, new: ModelDescriptor) -> list[str]:
    """The file's text with other values, the one that keeps more of its form first."""
    newline = "\r\n" if "\r\n" in text else "\n"
    text = text.replace("\r\n", "\n")
    text += "" if text.endswith("\n") else "\n"
    yaml = _round_trip()

    def dumped(content: CommentedMap) -> str:
        stream = io.StringIO()
        yaml.dump(content, stream)
        # It leaves a space wherever it breaks a line.
        return re.sub(" +$", "", stream.getvalue(), flags=re.MULTILINE)

    try:
        content = yaml.load(text)
        sections = [part for part in content.values() if isinstance(part, CommentedMap)]
        indents = [part.lc.col for part in sections if not part.fa.flow_style()]
        yaml.map_indent = indents[0] if indents else 2
        again = dumped(content)
        _change(content, old, new, lambda value: yaml.load(dump_yaml({"value": value}))["value"])
        edited = dumped(content)
    except Exception:
        # It raises what happens to it, and says what stands in the file.
        return []
    return [one.replace("\n", newline) for one in (_kept(text, again, edited), edited)]


def _round_trip() -> YAML:
    yaml = YAML(typ="rt", pure=True)
    yaml.Resolver = _Untyped
    yaml.preserve_quotes = True
    yaml.width = LINE_WIDTH
    return yaml


def _change(
    section: CommentedMap, old: BaseModel, new: BaseModel, made: Callable[[object], Any]
) -> None:
    """Change the values of a section that differ; `made` makes what a section holds of one."""
    names = list(type(new).model_fields)
    for name in names:
        before, after, there = getattr(old, name), getattr(new, name), section.get(name)
        if before == after:
            continue
        if isinstance(before, BaseModel) and isinstance(after, BaseModel) and there:
            _change(there, before, after, made)
            continue
        # A default is written, not left out: the comments that follow a field would go with it.
        value = made(new.model_dump(include={name}, exclude_defaults=True).get(name, after))
        if isinstance(there, CommentedSeq) and isinstance(value, CommentedSeq):
            # In its place: what follows a list is a comment of its last item.
            following = there.ca.items.pop(len(there) - 1, None)
            there[:] = value
            if following is not None:
                there.ca.items[len(there) - 1] = following
        elif name in section or isinstance(new, ModelDescriptor):
            section[name] = value
        else:
            # Never as the last one: what follows the section is a comment of that.
            later = [n for n in names[names.index(name) :] if n in section] or list(section)[-1:]
            section.insert(list(section).index(later[0]), name, value)


def _kept(old: str, again: str, new: str) -> str:
    """`new`, but with the lines of `old` for those that were only written `again` in other form."""
    lines, written, edited = (text.splitlines(keepends=True) for text in (old, again, new))
    same = SequenceMatcher(None, written, edited).get_matching_blocks()
    for _, start, end, first, last in reversed(SequenceMatcher(None, written, lines).get_opcodes()):
        block = next((b for b in same if b.a <= start and end <= b.a + b.size), None)
        if block is not None:
            moved = block.b - block.a
            edited[start + moved : end + moved] = lines[first:last]
    return "".join(edited)
