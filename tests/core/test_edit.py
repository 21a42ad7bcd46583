"""Changing fields of a descriptor file: what was not changed stays as it was written."""

from __future__ import annotations

import datetime
import re
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
import yaml

from crossroute import DescriptorError, ModelDescriptor, Price
from crossroute.models import edit
from crossroute.models.descriptor import Learned, dump_yaml
from crossroute.models.edit import update_file

PRICE = Price(
    input_usd_per_1m=2.0,
    output_usd_per_1m=1e-05,
    cached_input_usd_per_1m=0.1,
    date=datetime.date(2026, 7, 1),
    source="2026",
)
LEARNED = Learned(
    checkpoint="abc",
    cost_target="usd",
    examples=30,
    source="scores",
    scores_file="s.jsonl",
    mean_quality=0.5,
    quality_error=0.25,
    embedding=tuple(n / 8 for n in range(40)),
)
FORMS = {
    "comments": """\
# The workhorse.
id: a     # ours
note: "a: \\"b\\""   # quoted
languages: [ en,de ]

# What it costs.
price:   # in USD
    # As of
    input_usd_per_1m: 0.50   # was 5
    output_usd_per_1m: 1_0
    # The day.
    date: 2024-08-06

capabilities:
    - tools
    -   structured_output   # strict
region: 'eu'
""",
    "lists at the margin": """\
id: a
capabilities:
- tools
- structured_output
languages:
-   'no'
price: {input_usd_per_1m: .5, output_usd_per_1m: 10.00}
region: "eu"
""",
    "block texts": """\
id: a
note: |
  Two lines,
    the second one indented.

description: >-
  Folded
  over lines
price:
  output_usd_per_1m: 3
  input_usd_per_1m: 2.0
  source: a long text that is
    written on two lines
region: eu
""",
    "anchors": """\
id: a
provider:
  chat_model: openai:x
  arguments: &some
    top_p: 0.50
    seed: 1
price: {input_usd_per_1m: &p 2.50, output_usd_per_1m: *p}
region: eu
""",
    "document marks": "---\nid: a\nregion: 'eu'  # here\nlanguages: [en,de]\n",
    "a long line": f"id: a\nregion: eu\nnote: {'many words ' * 30}\n",
    "a null": "id: a\nregion: eu\nprice:   # none yet\nlearned: ~\nlanguages: [en,de]\n",
    "learned in the midst": """\
id: a
learned:
  checkpoint: x   # the first
  cost_target: usd
  examples: 1
  embedding:
  - 1.0
  - 2.0   # the last
# After it.
region: eu
""",
    "learned with a score less": """\
id: a
learned:
  checkpoint: x
  cost_target: usd
  examples: 1
  source: scores
  scores_file: s.jsonl
  # The numbers.
  embedding: [1.0,
     2.0]
# After it.
region: eu
""",
}


def write(folder: Path, text: str) -> Path:
    path = folder / "model.yaml"
    path.write_bytes(text.encode())
    return path


def changed(path: Path, **fields: object) -> ModelDescriptor:
    return ModelDescriptor.load(path).model_copy(update=fields)


def outside(text: str, *sections: str) -> str:
    """A descriptor's text without these sections."""
    names = "|".join(sections)
    return re.sub(rf"^(?:{names}):.*\n(?:[ -].*\n)*", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("windows", [False, True], ids=["", "CRLF"])
@pytest.mark.parametrize("end", ["\n", ""], ids=["", "no newline"])
@pytest.mark.parametrize("form", FORMS)
def test_only_the_sections_that_changed_change(
    form: str, end: str, windows: bool, tmp_path: Path
) -> None:
    newline = "\r\n" if windows else "\n"
    text = FORMS[form]
    for fields in ({"price": PRICE}, {"learned": LEARNED}, {"price": PRICE, "learned": LEARNED}):
        path = write(tmp_path, (text.removesuffix("\n") + end).replace("\n", newline))
        new = changed(path, **fields)
        update_file(path, new)
        assert ModelDescriptor.load(path) == new
        written = path.read_bytes().decode()
        assert written.count("\n") == written.count(newline)
        written = written.replace("\r\n", "\n")
        assert outside(written, *fields) == outside(text, *fields)
        assert not re.search(" $", written.replace(text, ""), re.MULTILINE)
        assert re.findall(r"#.*", written) == re.findall(r"#.*", text)


def test_a_file_in_braces_stays_in_braces(tmp_path: Path) -> None:
    path = write(tmp_path, "{id: a, region: 'eu'}\n")
    new = changed(path, price=PRICE, learned=LEARNED)
    update_file(path, new)
    assert ModelDescriptor.load(path) == new
    assert path.read_text("utf-8").startswith("{id: a, region: 'eu', price: {input_usd_per_1m: 2.0")


def test_a_section_is_indented_as_the_others_are(tmp_path: Path) -> None:
    path = write(tmp_path, "id: a\nprice:\n    input_usd_per_1m: 1\n    output_usd_per_1m: 2\n")
    update_file(path, changed(path, learned=LEARNED))
    assert "\nlearned:\n    checkpoint: abc\n    cost_target: usd\n" in path.read_text("utf-8")


def test_what_is_no_more_is_written_as_none(tmp_path: Path) -> None:
    path = write(tmp_path, f"id: a\n{dump_yaml({'learned': LEARNED.model_dump()})}# The end.\n")
    new = changed(
        path, learned=LEARNED.model_copy(update={"scores_file": None, "source": "training"})
    )
    update_file(path, new)
    text = path.read_text("utf-8")
    assert ModelDescriptor.load(path) == new
    assert "  source: training\n  scores_file: null\n" in text
    assert text.endswith("# The end.\n")


def test_it_may_be_written_elsewhere(tmp_path: Path) -> None:
    path, target = write(tmp_path, FORMS["comments"]), tmp_path / "other.yaml"
    new = changed(path, price=PRICE)
    update_file(path, new, target)
    assert path.read_text("utf-8") == FORMS["comments"]
    assert ModelDescriptor.load(target) == new


def test_a_number_of_the_file_keeps_its_digits(tmp_path: Path) -> None:
    text = (
        "id: a\nlearned: {checkpoint: x, cost_target: usd, examples: 0x1f, "
        "embedding: [0.100, 1.0e-3]}\n"
    )
    path = write(tmp_path, text)
    learned = ModelDescriptor.load(path).learned
    assert learned is not None
    update_file(path, changed(path, learned=learned.model_copy(update={"checkpoint": "1.0"})))
    assert path.read_text("utf-8") == text.replace("checkpoint: x", "checkpoint: '1.0'")


LEVELS = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 9))


@pytest.mark.parametrize(
    "text",
    [
        f"id: a\nl0: &l0 [x]\n{LEVELS}",
        "id: a\nid: b\n",
        "id: !!python/name:os.system ''\n",
        "id: [",
    ],
    ids=["aliases", "twice", "tag", "open"],
)
def test_nothing_is_edited_that_cannot_be_read(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edit, "_round_trip", lambda: pytest.fail("the editor saw the file"))
    path = write(tmp_path, text)
    with pytest.raises(DescriptorError, match=r"model\.yaml: not valid YAML"):
        update_file(path, ModelDescriptor(id="a", price=PRICE))
    assert path.read_text("utf-8") == text


def test_what_cannot_be_edited_is_said_with_what_to_write(tmp_path: Path) -> None:
    # A line separator breaks lines in YAML 1.1, which we read, and not in 1.2, which is edited.
    path = write(tmp_path, "id: sk-a\u2028region: eu\n")
    before = path.read_bytes()
    with pytest.raises(DescriptorError, match=r"model\.yaml: price: cannot be changed") as caught:
        update_file(path, changed(path, price=PRICE))
    assert "sk-a" not in "".join(traceback.format_exception(caught.value))
    by_hand = yaml.safe_load(str(caught.value).partition("write by hand:\n")[2])
    assert Price.model_validate(by_hand["price"]) == PRICE
    assert path.read_bytes() == before


def test_the_editor_is_loaded_where_a_file_is_edited_only() -> None:
    code = "import sys, crossroute.cli.app; print([n for n in sys.modules if 'ruamel' in n])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
