"""Price tables against a price file in LiteLLM's or tokencost's format."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from crossroute import DataError, DescriptorError, ModelDescriptor, ModelPool, Price
from crossroute.models.prices import PriceCheck, check_prices, write_price

TODAY = datetime.date(2026, 7, 1)
LISTED: dict[str, Any] = {
    "sample_spec": {"input_cost_per_token": 0.0, "mode": "one of: chat, ..."},
    "gpt-4o": {
        "input_cost_per_token": 2e-06,
        "output_cost_per_token": 8e-06,
        "cache_read_input_token_cost": 1e-06,
        "output_cost_per_reasoning_token": None,
        "litellm_provider": "openai",
        "mode": "chat",
        "max_input_tokens": 128000,
    },
    "gemini/gemini-pro": {
        "input_cost_per_token": 1.25e-06,
        "output_cost_per_token": 1e-05,
        "output_cost_per_reasoning_token": 1.2e-05,
        "litellm_provider": "gemini",
    },
    "openrouter/acme/wise": {
        "input_cost_per_token": 3e-07,
        "output_cost_per_token": 9e-07,
        "litellm_provider": "openrouter",
    },
    "acme/wise": {"input_cost_per_token": 9.0, "output_cost_per_token": 9.0},
    "dall-e": {"input_cost_per_image": 0.04, "litellm_provider": "openai"},
}
WRITTEN = """\
# The workhorse.
id: a     # ours
provider: {chat_model: "openai:gpt-4o"}
price:
  input_usd_per_1m: 2.5   # was 5 before
  output_usd_per_1m: 10
  # As of the invoice.
  date: 2024-08-06 # a Tuesday
  source: invoice, page 2
learned:
  checkpoint: abc
  cost_target: output_tokens
  examples: 12
  embedding: [0.1000, -0.0, 3.14159265358979312, 1.0e-3,
              2]
"""


def price_file(folder: Path, changes: dict[str, Any] | None = None) -> Path:
    path = folder / "list.json"
    path.write_text(json.dumps(LISTED | (changes or {})), "utf-8")
    return path


def models(folder: Path, *texts: str) -> Path:
    (folder / "models").mkdir(exist_ok=True)
    for number, text in enumerate(texts):
        (folder / "models" / f"{number}.yaml").write_bytes(text.encode())
    return folder / "models"


def described(chat_model: str | None, price: tuple[float, float] = (1, 1), more: str = "") -> str:
    provider = f"provider: {{chat_model: '{chat_model}'{more}}}\n" if chat_model else ""
    return (
        f"id: a\n{provider}price: {{input_usd_per_1m: {price[0]}, "
        f"output_usd_per_1m: {price[1]}, date: 2024-08-06, source: me}}\n"
    )


def check(folder: Path, text: str, changes: dict[str, Any] | None = None) -> PriceCheck:
    (found,) = check_prices(models(folder, text), price_file(folder, changes), TODAY)
    return found


def test_only_the_lines_of_the_price_change(tmp_path: Path) -> None:
    found = check(tmp_path, WRITTEN)
    assert found.listed_as == "gpt-4o"
    assert found.changes == {
        "input_usd_per_1m": (2.5, 2.0),
        "output_usd_per_1m": (10.0, 8.0),
        "cached_input_usd_per_1m": (None, 1.0),
    }
    before = ModelDescriptor.load(found.path)
    assert found.path.read_text("utf-8") == WRITTEN
    write_price(found)
    expected = (
        WRITTEN.replace("2.5 ", "2.0 ")
        .replace("1m: 10\n", "1m: 8.0\n")
        .replace("  date: 2024-08-06", "  cached_input_usd_per_1m: 1.0\n  date: 2026-07-01")
        .replace("invoice, page 2", "list.json")
    )
    assert found.path.read_text("utf-8") == expected
    after = ModelDescriptor.load(found.path)
    assert after.price == found.after
    assert after.model_copy(update={"price": before.price}) == before
    # Nothing is left to do.
    (again,) = check_prices(found.path.parent, tmp_path / "list.json", TODAY)
    assert (again.changes, again.problem) == ({}, None)
    assert again.after == again.before


def test_a_price_within_braces_and_in_windows_lines(tmp_path: Path) -> None:
    text = described("openai:gpt-4o", (2.5, 8)).replace("\n", "\r\n") + "# end\r\n"
    found = check(tmp_path, text)
    write_price(found)
    assert found.path.read_bytes().decode() == text.replace("2.5", "2.0").replace(
        "date: 2024-08-06, source: me",
        "cached_input_usd_per_1m: 1.0, date: 2026-07-01,\r\n    source: list.json",
    )


def test_a_model_without_a_price_gets_one(tmp_path: Path) -> None:
    text = "id: a\nprovider: {chat_model: 'google_genai:gemini-pro'}\n# last"
    found = check(tmp_path, text)
    assert found.before is None
    assert found.changes["reasoning_output_usd_per_1m"] == (None, 12.0)
    write_price(found)
    assert found.path.read_text("utf-8").startswith(text.removesuffix("# last") + "price:\n")
    assert found.path.read_text("utf-8").endswith("\n# last\n")
    price = ModelDescriptor.load(found.path).price
    assert price == found.after
    assert price is not None
    assert (price.input_usd_per_1m, price.output_usd_per_1m) == (1.25, 10.0)
    assert (price.date, price.source) == (TODAY, "list.json")


@pytest.mark.parametrize(
    ("chat_model", "listed_as", "changes"),
    [
        ("openai:gpt-4o", "gpt-4o", {}),
        ("openrouter:acme/wise", "openrouter/acme/wise", {}),
        ("google_genai:gemini-pro", "gemini/gemini-pro", {}),
        ("openai:gpt-4o", "openai/gpt-4o", {"openai/gpt-4o": LISTED["gpt-4o"]}),
        ("google_vertexai:g", "g", {"g": {**LISTED["gpt-4o"], "litellm_provider": "vertex_ai-x"}}),
        (
            "groq:plain",
            "plain",
            {"plain": {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}},
        ),
    ],
)
def test_a_model_is_found_with_and_without_its_provider(
    tmp_path: Path, chat_model: str, listed_as: str, changes: dict[str, Any]
) -> None:
    assert check(tmp_path, described(chat_model), changes).listed_as == listed_as


@pytest.mark.parametrize(
    ("text", "changes", "said"),
    [
        (described(None), {}, "it has no provider"),
        (described("openai:gpt-5"), {}, "openai:gpt-5 is not in the file"),
        (described("openai:gpt-4"), {}, "openai:gpt-4 is not in the file"),
        # Another provider's model of that name, or a name that names another vendor.
        (described("groq:gpt-4o"), {}, "groq:gpt-4o is not in the file"),
        (described("together:acme/wise"), {}, "together:acme/wise is not in the file"),
        (described("openai:dall-e"), {}, "not in the file with a price"),
        (
            described("openai:gpt-4o", more=", base_url: 'http://x/v1', api_key_env: X"),
            {},
            "its own base_url",
        ),
        (
            described("openai:gpt-4o"),
            {"openai/gpt-4o": {**LISTED["gpt-4o"], "output_cost_per_token": 9e-06}},
            "two prices for it, as openai/gpt-4o and gpt-4o",
        ),
    ],
)
def test_what_is_not_sure_is_reported_and_left_alone(
    tmp_path: Path, text: str, changes: dict[str, Any], said: str
) -> None:
    found = check(tmp_path, text, changes)
    assert (found.after, found.listed_as, found.changes) == (None, None, {})
    assert found.problem is not None
    assert said in found.problem
    with pytest.raises(ValueError, match="no price was found"):
        write_price(found)
    assert found.path.read_text("utf-8") == text


def test_noise_of_arithmetic_is_no_change(tmp_path: Path) -> None:
    listed = {**LISTED["gpt-4o"], "cache_read_input_token_cost": None}
    listed |= {"input_cost_per_token": 8.0e-07, "output_cost_per_token": 0.1e-06 * 3}
    found = check(
        tmp_path, described("openai:gpt-4o", (0.7999999999999999, 0.3)), {"gpt-4o": listed}
    )
    assert found.problem is None
    assert found.changes == {}


def test_what_the_list_does_not_have_stays(tmp_path: Path) -> None:
    text = described("openrouter:acme/wise").replace(
        "date:", "cached_input_usd_per_1m: 0.05, reasoning_output_usd_per_1m: 7, date:"
    )
    found = check(tmp_path, text)
    assert set(found.changes) == {"input_usd_per_1m", "output_usd_per_1m"}
    assert found.after is not None
    assert found.after.cached_input_usd_per_1m == 0.05
    assert found.after.reasoning_output_usd_per_1m == 7


def test_reasoning_at_the_price_of_output_is_no_price_of_its_own(tmp_path: Path) -> None:
    listed = {"output_cost_per_reasoning_token": 8e-06, "cache_read_input_token_cost": None}
    changes = {"gpt-4o": LISTED["gpt-4o"] | listed}
    assert check(tmp_path, described("openai:gpt-4o", (2, 8)), changes).changes == {}
    apart = described("openai:gpt-4o", (2, 8)).replace(
        "date:", "reasoning_output_usd_per_1m: 9, date:"
    )
    found = check(tmp_path, apart, changes)
    assert found.changes == {"reasoning_output_usd_per_1m": (9.0, 8.0)}


ALIAS = """\
id: a
provider:
  chat_model: openai:gpt-4o
  arguments:
    reasoning: &p {input_usd_per_1m: 5, output_usd_per_1m: 5, date: "2024-08-06", source: me}
price: *p
"""
MERGED = ALIAS.replace("price: *p", "price: {<<: *p, source: list}")
FLOW = "{id: a, provider: {chat_model: 'openai:gpt-4o'}}\n"


def test_a_price_that_cannot_be_edited_alone_is_left(tmp_path: Path) -> None:
    found = check(tmp_path, ALIAS)
    assert found.changes
    with pytest.raises(DescriptorError, match=r"0\.yaml: price: cannot be changed alone") as caught:
        write_price(found)
    assert found.path.read_text("utf-8") == ALIAS
    by_hand = str(caught.value).partition("write by hand:\n")[2]
    assert Price.model_validate(yaml.safe_load(by_hand)["price"]) == found.after


def test_a_file_in_braces_gets_a_price(tmp_path: Path) -> None:
    found = check(tmp_path, FLOW)
    write_price(found)
    assert ModelDescriptor.load(found.path).price == found.after
    assert found.path.read_text("utf-8").startswith(FLOW[:-2] + ", price: {")


def test_a_merged_price_is_overridden(tmp_path: Path) -> None:
    found = check(tmp_path, MERGED)
    write_price(found)
    after = ModelDescriptor.load(found.path)
    assert after.price == found.after
    assert "<<: *p" in found.path.read_text("utf-8")
    assert after.provider == ModelDescriptor.parse(MERGED, found.path).provider


@pytest.mark.parametrize("bad", [-1e-06, "2e-06", True, float("nan"), float("inf")])
def test_a_listed_price_that_is_none_is_named(tmp_path: Path, bad: object) -> None:
    listed = LISTED["gpt-4o"] | {"output_cost_per_token": bad}
    # One that nobody looks up does not matter.
    assert check(tmp_path, described("openrouter:acme/wise"), {"gpt-4o": listed}).after is not None
    with pytest.raises(DataError, match=r"list\.json: gpt-4o: output_cost_per_token is"):
        check(tmp_path, described("openai:gpt-4o"), {"gpt-4o": listed})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[1]", "no model in it has input_cost_per_token"),
        ('{"gpt-4o": {"in_per_M": 2.5, "out_per_M": 10}}', "no model in it has"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    folder = models(tmp_path, described("openai:gpt-4o"))
    path = tmp_path / "list.json"
    with pytest.raises(DataError, match=r"list\.json: cannot be read"):
        check_prices(folder, path)
    path.write_text(text, "utf-8")
    with pytest.raises(DataError, match=said):
        check_prices(folder, path)


def test_the_shipped_descriptors_take_new_prices(tmp_path: Path) -> None:
    """Embeddings stay the same to the last digit, whatever their shape in the file."""
    ModelPool.shipped().save(tmp_path / "models")
    listed = {
        model.provider.chat_model.replace(":", "/", 1): {
            "input_cost_per_token": 1.23e-06,
            "output_cost_per_token": 4.56e-06,
        }
        for model in ModelPool.shipped().values()
        if model.provider
    }
    checks = check_prices(tmp_path / "models", price_file(tmp_path, listed), TODAY)
    changed = [one for one in checks if one.changes]
    assert len(changed) > 5
    for one in changed:
        old = one.path.read_text("utf-8").partition("learned:")[2]
        write_price(one)
        assert one.path.read_text("utf-8").partition("learned:")[2] == old
        assert ModelDescriptor.load(one.path).price == one.after


@pytest.mark.parametrize(
    "price",
    [
        "{input_usd_per_1m: 2.5, output_usd_per_1m: 10}",
        "\n  input_usd_per_1m: 2.5  # per 1M\n  # and\n  output_usd_per_1m: 10\n",
        "\n  input_usd_per_1m: 2.5\n  output_usd_per_1m: 10\n  source: an invoice  # page 2\n",
    ],
    ids=["in braces", "in lines", "with a source"],
)
def test_a_price_needs_neither_date_nor_source(tmp_path: Path, price: str) -> None:
    text = f"id: a\nprovider: {{chat_model: 'openai:gpt-4o'}}\nprice: {price}\nnote: Mine.\n"
    found = check(tmp_path, text)
    assert found.before is not None
    assert found.before.date is None
    write_price(found)
    after = ModelDescriptor.load(found.path)
    assert after.price == found.after
    assert after.price is not None
    assert (after.price.date, after.price.source) == (TODAY, "list.json")
    written = found.path.read_text("utf-8")
    for kept in ("# per 1M", "# and", "# page 2", "note: Mine."):
        assert (kept in written) is (kept in text)


def test_a_price_file_without_end_is_refused_early(tmp_path: Path) -> None:
    pipe = tmp_path / "prices.json"
    os.mkfifo(pipe)
    with pytest.raises(DataError, match="no regular file"):
        check_prices(tmp_path, pipe)
    large = tmp_path / "large.json"
    with large.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(DataError, match="is larger than"):
        check_prices(tmp_path, large)
