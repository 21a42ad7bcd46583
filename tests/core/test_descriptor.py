from __future__ import annotations

import datetime
import json
import re
import traceback
from pathlib import Path

import pytest
import yaml

from crossroute import (
    DescriptorError,
    ModelDescriptor,
    ModelPool,
    PoolError,
    Price,
    UnknownModelError,
)
from crossroute.models.descriptor import json_schema

DOCS = Path(__file__).parents[2] / "docs"

GOOD = """\
id: acme/small
description: Acme Small.
provider:
  chat_model: openai:acme-small
  api_key_env: ACME_KEY
price:
  input_usd_per_1m: 0.5
  output_usd_per_1m: 1.5
  date: 2026-01-31
  source: acme.example/prices
context_window_tokens: 8192
capabilities: [tools]
languages: [en, pt-BR]
region: eu
data_retention_days: 0
expected_latency_seconds: 2.5
learned:
  checkpoint: abc
  cost_target: output_tokens
  examples: 12
  embedding: [0.5, -1.25, 3.0]
"""


def write(folder: Path, text: str, name: str = "model.yaml") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_a_descriptor_survives_saving(tmp_path: Path) -> None:
    loaded = ModelDescriptor.load(write(tmp_path, GOOD))
    saved = loaded.save(tmp_path)
    assert saved.name == "acme_small.yaml"
    assert ModelDescriptor.load(saved) == loaded
    assert "embedding: [0.5, -1.25, 3.0]" in saved.read_text("utf-8")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("context_window_tokens", "context_windw_tokens", "did you mean 'context_window_tokens'"),
        ("  input_usd_per_1m", "  input_usd_per_M", r"price\.input_usd_per_M: unknown field"),
        ("  input_usd_per_1m: 0.5\n", "", r"price\.input_usd_per_1m: missing"),
        ("1.5", "-1.5", r"price\.output_usd_per_1m: .*greater than or equal to 0, got -1\.5"),
        ("1.5", ".nan", r"price\.output_usd_per_1m: .*finite"),
        ("8192", "0", "context_window_tokens: .*greater than 0"),
        ("[tools]", "[telepathy]", "capabilities.*got 'telepathy'"),
        ("id: acme/small", "id: ''", "id: .*at least 1 character"),
        ("openai:acme-small", "acme-small", r"provider\.chat_model: .*should match pattern"),
        ("  api_key_env: ACME_KEY", "  api_key: sk-1", r"provider\.api_key: unknown field"),
        ("2026-01-31", "someday", r"price\.date"),
        ("  api_key_env: ACME_KEY", "  base_url: http://x/v1", r"provider: .*needs api_key_env"),
        ("[0.5, -1.25, 3.0]", "[]", r"learned\.embedding"),
        ("[en, pt-BR]", "[english]", r"languages\.0: .*got 'english'"),
        ("[en, pt-BR]", "[no]", r"languages\.0: is read as False, not as text; put it in quotes"),
        ("region: eu", "region: no", "region: is read as False, not as text; put it in quotes"),
        ("region: eu", "region: the EU", "region: .*got 'the EU'"),
        ("region: eu", "regoin: eu", "did you mean 'region'"),
        ("data_retention_days: 0", "data_retention_days: -1", "data_retention_days: .*got -1"),
        ("data_retention_days: 0", "data_retention: 0", "did you mean 'data_retention_days'"),
        ("seconds: 2.5", "seconds: 0", "expected_latency_seconds: .*got 0"),
        ("capabilities:", "disabled: maybe\ncapabilities:", "disabled: .*got 'maybe'"),
        (
            "  date:",
            "  reasoning_usd_per_1m: 3\n  date:",
            "unknown field; did you mean 'reasoning_output_usd_per_1m'",
        ),
        ("[0.5, -1.25, 3.0]", "[.inf]", r"learned\.embedding\.0"),
    ],
)
def test_a_mistake_is_named_with_file_and_field(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(DescriptorError, match=said) as caught:
        ModelDescriptor.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("region: eu", "region: eu\nid: other", "the field of line 15 stands in line 1 already"),
        ("  date:", "  output_usd_per_1m: 9\n  date:", "the field of line 9 stands in line 8"),
        ("  source:", "  'date': 2026-02-01\n  source:", "the field of line 10 stands in line 9"),
        (
            "  api_key_env: ACME_KEY",
            "  arguments: {stop: [a], top_p: 1, stop: [b]}",
            "the field of line 5 stands in line 5 already",
        ),
    ],
)
def test_a_field_that_stands_twice_is_refused(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(DescriptorError, match=said) as caught:
        ModelDescriptor.load(path)
    assert str(path) in str(caught.value)


def test_a_disabled_model_is_not_reachable(tmp_path: Path) -> None:
    today = datetime.date(2026, 6, 1)
    model = ModelDescriptor.load(write(tmp_path, GOOD))
    assert model.unreachable(today) is None
    disabled = ModelDescriptor.load(write(tmp_path, GOOD + "disabled: true\n"))
    assert disabled.unreachable(today) == "disabled in its descriptor"
    assert ModelPool([model]).reachable() == [model.id]
    assert ModelPool([disabled]).reachable() == []


def test_reasoning_has_its_own_price_where_it_is_billed_apart() -> None:
    price = Price(
        input_usd_per_1m=1, output_usd_per_1m=4, date=datetime.date(2026, 1, 1), source="test"
    )
    apart = price.model_copy(update={"reasoning_output_usd_per_1m": 6.0})
    assert price.cost_usd(1e6, 2e6, reasoning_tokens=5e5) == pytest.approx(1 + 2 * 4)
    assert apart.cost_usd(1e6, 2e6, reasoning_tokens=5e5) == pytest.approx(1 + 1.5 * 4 + 0.5 * 6)
    assert apart.cost_usd(1e6, 2e6) == pytest.approx(1 + 2 * 4)


def test_an_interrupted_save_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ModelDescriptor.load(write(tmp_path, GOOD))
    saved = model.save(tmp_path)
    before = saved.read_text("utf-8")

    write_bytes = Path.write_bytes

    def broken(path: Path, content: bytes) -> None:
        write_bytes(path, content[:10])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", broken)
    with pytest.raises(OSError, match="disk full"):
        model.model_copy(update={"note": "new"}).save(tmp_path)
    assert saved.read_text("utf-8") == before


def fields(schema: dict[str, object], part: dict[str, object], prefix: str = "") -> dict[str, str]:
    """Every field of a schema by its dotted name, with its description."""
    found: dict[str, str] = {}
    for name, field in part["properties"].items():  # type: ignore[attr-defined]
        found[prefix + name] = field.get("description", "")
        for inner in (field, *field.get("anyOf", ())):
            if "$ref" in inner:
                section = schema["$defs"][inner["$ref"].rpartition("/")[2]]  # type: ignore[index]
                found |= fields(schema, section, f"{prefix}{name}.")
    return found


def test_the_published_schema_is_that_of_the_model() -> None:
    assert json.loads((DOCS / "descriptor.schema.json").read_text("utf-8")) == json_schema(), (
        "write it again: crossroute models schema > docs/descriptor.schema.json"
    )


def test_the_schema_describes_every_field() -> None:
    schema = json_schema()
    found = fields(schema, schema)
    assert {"id", "price.date", "learned.embedding", "behaves_like.model"} < set(found)
    assert [name for name, description in found.items() if not description.endswith(".")] == []
    assert found["price.date"] == "The day from which the price held."


def test_the_page_has_every_field_and_a_valid_example() -> None:
    page = (DOCS / "descriptor.md").read_text("utf-8")
    table = re.findall(r"^\| `([\w.]+)` \|", page, re.MULTILINE)
    schema = json_schema()
    assert table == list(dict.fromkeys(table))
    assert set(table) == set(fields(schema, schema))
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert ModelDescriptor.parse(example, Path("example")).region == "eu"
    # All that a person writes of a model is in it.
    by_hand = set(ModelDescriptor.model_fields) - {"learned", "retired", "disabled", "note"}
    by_hand -= {"effort", "kind", "skills", "examples", "cost_usd_a_call", "expected_quality"}
    assert set(yaml.safe_load(example)) == by_hand - {"parameters_in_billions"}


def test_a_secret_is_refused_and_not_repeated(tmp_path: Path) -> None:
    secret = "sk-very-secret-0123456789"
    text = GOOD.replace(
        "  api_key_env: ACME_KEY", f"  arguments: {{openai_api_key: {secret}, temperature: 0}}"
    )
    with pytest.raises(DescriptorError, match="api_key_env") as caught:
        ModelDescriptor.load(write(tmp_path, text))
    assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id: a\nretired: 2024-13-45\n", "not valid YAML: line 2, column 10: a value is no text"),
        ("id: " + "[" * 5000, "not valid YAML"),
        ("", "mapping"),
        ("- a\n- b\n", "mapping"),
        ("id: [unclosed", "not valid YAML"),
        ("id: !!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_what_is_no_descriptor_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DescriptorError, match=said):
        ModelDescriptor.load(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DescriptorError, match=r"nothing\.yaml: cannot be read"):
        ModelDescriptor.load(tmp_path / "nothing.yaml")


def test_a_pool_is_a_folder(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "a.yaml")
    write(tmp_path, "id: other\n", "b.yml")
    write(tmp_path, "not read", "notes.txt")
    pool = ModelPool.load(tmp_path)
    assert list(pool) == ["acme/small", "other"]
    assert "other" in pool
    assert pool.get("nobody") is None


def test_one_id_in_two_files_is_refused(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "a.yaml")
    write(tmp_path, GOOD, "b.yaml")
    with pytest.raises(PoolError, match=r"b\.yaml.*taken by.*a\.yaml"):
        ModelPool.load(tmp_path)


def test_an_empty_or_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="holds no model descriptor"):
        ModelPool.load(tmp_path)
    with pytest.raises(PoolError, match="no such folder"):
        ModelPool.load(tmp_path / "missing")


def test_ids_that_would_share_a_file_are_refused() -> None:
    with pytest.raises(PoolError, match="both be saved"):
        ModelPool([ModelDescriptor(id="a/b"), ModelDescriptor(id="a_B")])


def test_an_unknown_model_comes_with_a_suggestion() -> None:
    pool = ModelPool([ModelDescriptor(id="gpt-large"), ModelDescriptor(id="gpt-small")])
    with pytest.raises(UnknownModelError, match="did you mean 'gpt-large'"):
        pool["gpt-larg"]
    with pytest.raises(UnknownModelError):
        pool.subset(["gpt-small", "elsewhere"])


@pytest.mark.parametrize(
    "text",
    [
        "id: x\nprovider:\n  chat_model: openai:x\n  api_key_env: sk-very-secret\n",
        "id: x\nprovider:\n  chat_model: sk-very-secret\n",
        "id: x\nprovider: {chat_model: openai:x, api_key: sk-very-secret: x]\n",
        "id: x\nprovider:\n  chat_model: openai:x\n  api_key: sk-very-secret\n",
        "sk-very-secret: [",
        '"sk-very-secret": 1\n"sk-very-secret": 2',
        "*sk-very-secret",
    ],
)
def test_an_error_never_quotes_what_may_be_a_key(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(DescriptorError, match=re.escape(str(path))) as caught:
        ModelDescriptor.load(path)
    shown = "".join(traceback.format_exception(caught.value))
    assert "sk-very-secret" not in shown.replace(text, "")


def test_an_agent_says_what_it_serves() -> None:
    text = "id: flights\nkind: agent\nskills: [Books flights.]\ncost_usd_a_call: 0.02\n"
    agent = ModelDescriptor.parse(text, Path("flights.yaml"))
    assert (agent.kind, agent.skills, agent.cost_usd_a_call) == ("agent", ("Books flights.",), 0.02)


def test_a_vendor_may_have_efforts_of_its_own() -> None:
    text = "id: one\nefforts: [low, high, ultra, deep]\n"
    assert ModelDescriptor.parse(text, Path("one.yaml")).efforts[2:] == ("ultra", "deep")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: agent", "of kind agent needs a description, skills or examples"),
        ("kind: tool\ndescription: A tool.\nefforts: [low]", "efforts are of a model"),
        ("skills: [Books flights.]", "skills is of an agent"),
        ("expected_quality: 0.5", "expected_quality is of an agent"),
        ("efforts: [low, low]", "efforts names one twice"),
        ("efforts: [Very High]", "efforts"),
        ("efforts: [high, low]", r"the least first: \[low, high\]"),
        ("efforts: [low, hihg]", "did you mean 'high'"),
        ("kind: agent\nskills: text", r"skills: give a list, such as \[...\], got 'text'"),
        ("kind: oracle", "kind"),
    ],
)
def test_what_is_not_of_its_kind_is_refused(text: str, said: str) -> None:
    with pytest.raises(DescriptorError, match=said):
        ModelDescriptor.parse(f"id: one\n{text}\n", Path("one.yaml"))
