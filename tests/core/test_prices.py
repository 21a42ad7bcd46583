"""What a model costs: its descriptor's own table, else what genai-prices lists."""

from __future__ import annotations

import datetime
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from crossroute import DescriptorError, ModelDescriptor, ModelPool, Price, Provider
from crossroute.models.price import LISTED_AS, ListedPrice, PriceList, PriceTier, listed_price
from crossroute.models.prices import check_prices, write_price
from crossroute.models.provider_arguments import BY_PROVIDER

OWN = "price: {input_usd_per_1m: 9, output_usd_per_1m: 8, date: 2024-08-06, source: me}\n"
WRITTEN = """\
# The workhorse.
id: a     # ours
provider: {chat_model: "openai:gpt-4o"}
price:
  input_usd_per_1m: 9   # was 5 before
  output_usd_per_1m: 8
  reasoning_output_usd_per_1m: 7
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


def described(chat_model: str, more: str = "") -> ModelDescriptor:
    text = f"id: a\nprovider: {{chat_model: '{chat_model}'}}\n{more}"
    return ModelDescriptor.parse(text, Path("a.yaml"))


def listed(chat_model: str) -> ListedPrice:
    found = listed_price(chat_model)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("chat_model", "at_least"),
    [
        ("openai:gpt-4o-mini-2024-07-18", 0.01),
        ("anthropic:claude-haiku-4-5", 0.1),
        ("google_genai:gemini-3.5-flash", 0.1),
        ("mistralai:mistral-large-2512", 0.1),
        ("xai:grok-4.3", 0.1),
        ("groq:openai/gpt-oss-120b", 0.01),
        ("openrouter:z-ai/glm-5", 0.01),
    ],
)
def test_a_model_without_a_table_has_the_listed_price(chat_model: str, at_least: float) -> None:
    price = described(chat_model).price
    assert isinstance(price, ListedPrice)
    assert price.input_usd_per_1m >= at_least
    assert price.output_usd_per_1m >= price.input_usd_per_1m
    assert (price.source or "").startswith("genai-prices ")


def test_the_own_table_counts_first() -> None:
    price = described("openai:gpt-4o", OWN).price
    assert type(price) is Price
    assert price.input_usd_per_1m == 9


def test_what_is_not_listed_is_not_guessed() -> None:
    assert described("openai:gpt-99").price is None
    # A part of the name is that of a provider that is listed.
    assert described("my_openai:gpt-4o").price is None
    assert ModelDescriptor(id="gpt-4o").price is None


def test_another_server_has_the_price_of_that_server() -> None:
    def at(address: str, model: str = "gpt-4o") -> Price | None:
        given = {"chat_model": f"openai:{model}", "base_url": address, "api_key_env": "MINE"}
        return ModelDescriptor(id="a", provider=Provider.model_validate(given)).price

    assert at("http://127.0.0.1:8000/v1") is None
    moonshot = at("https://api.moonshot.ai/v1", "kimi-k3")
    assert moonshot is not None
    assert moonshot.input_usd_per_1m > 0
    assert at("https://api.moonshot.ai/v1", "gpt-4o") is None


def test_every_provider_of_the_table_is_known() -> None:
    assert LISTED_AS.keys() - {"baseten", "meta"} <= BY_PROVIDER.keys()
    from genai_prices.data_snapshot import get_snapshot

    assert {*LISTED_AS.values()} <= {provider.id for provider in get_snapshot().providers}


def test_a_listed_price_is_not_written(tmp_path: Path) -> None:
    model = described("openai:gpt-4o")
    path = model.save(tmp_path)
    assert "price" not in path.read_text("utf-8")
    assert ModelDescriptor.load(path) == model
    ModelPool.load(tmp_path).save(tmp_path / "again")
    assert "price" not in (tmp_path / "again" / path.name).read_text("utf-8")


def test_an_edit_does_not_write_it_either(tmp_path: Path) -> None:
    from crossroute.models.edit import update_file

    path = described("openai:gpt-4o").save(tmp_path)
    update_file(path, ModelDescriptor.load(path).model_copy(update={"note": "Mine."}))
    assert "note: Mine." in path.read_text("utf-8")
    assert "price" not in path.read_text("utf-8")


def test_long_prompts_cost_what_their_tier_says() -> None:
    price = listed("openai:gpt-5.5")
    (tier,) = price.tiers
    start = tier.above_input_tokens
    assert tier.input_usd_per_1m > price.input_usd_per_1m
    assert price.cost_usd(start, 0.0) == pytest.approx(start * price.input_usd_per_1m / 1e6)
    long = price.cost_usd(start + 1, 100, cached_tokens=50)
    assert isinstance(long, float)
    assert tier.cached_input_usd_per_1m is not None
    assert long == pytest.approx(
        (
            (start + 1 - 50) * tier.input_usd_per_1m
            + 50 * tier.cached_input_usd_per_1m
            + 100 * tier.output_usd_per_1m
        )
        / 1e6
    )


def test_many_costs_are_those_of_each() -> None:
    tiers = (
        PriceTier(above_input_tokens=100, input_usd_per_1m=2, output_usd_per_1m=20),
        PriceTier(above_input_tokens=1000, input_usd_per_1m=3, output_usd_per_1m=30),
    )
    tiered = Price(input_usd_per_1m=1, output_usd_per_1m=10, tiers=tiers)
    prices = [tiered, None, Price(input_usd_per_1m=5, output_usd_per_1m=50)]
    sent = np.array([50.0, 100.0, 101.0, 5000.0])
    output = np.arange(12.0).reshape(4, 3)
    for rows in (slice(0, 2), slice(0, 4), slice(0, 0)):
        found = PriceList(prices).cost_usd(sent[rows], output[rows], np.zeros_like(output[rows]))
        expected = [
            [
                0.0 if price is None else price.cost_usd(float(n), float(tokens))
                for price, tokens in zip(prices, row, strict=True)
            ]
            for n, row in zip(sent[rows], output[rows], strict=True)
        ]
        assert found.shape == output[rows].shape
        assert found.tolist() == [pytest.approx(row) for row in expected]
    array = tiered.cost_usd(sent, output[:, 0])
    alone = PriceList([tiered]).cost_usd(sent, output[:, :1], np.zeros((4, 1)))
    assert array.tolist() == pytest.approx(alone[:, 0])


def test_input_of_further_calls_is_billed_by_the_tier_of_short_prompts() -> None:
    tier = PriceTier(above_input_tokens=100, input_usd_per_1m=2, output_usd_per_1m=20)
    prices = [
        Price(input_usd_per_1m=1, output_usd_per_1m=10, tiers=(tier,)),
        None,
        Price(input_usd_per_1m=5, output_usd_per_1m=50),
    ]
    more = np.array([[1_000.0, 1_000.0, 0.0], [1_000.0, 0.0, 2_000.0]])
    found = PriceList(prices).cost_usd(np.array([50.0, 200.0]), np.full((2, 3), 10.0), more)
    # An agent's calls are many, each of them short.
    assert found * 1e6 == pytest.approx(
        np.array(
            [
                [50 + 100 + 1_000, 0, 250 + 500],
                [2 * 200 + 200 + 1_000, 0, 1_000 + 500 + 5 * 2_000],
            ]
        )
    )


def test_tiers_stand_in_a_file_in_their_order() -> None:
    rates = "input_usd_per_1m: 1, output_usd_per_1m: 2"

    def table(*starts: int) -> str:
        tiers = ", ".join(f"{{above_input_tokens: {start}, {rates}}}" for start in starts)
        return f"price: {{{rates}, tiers: [{tiers}]}}"

    price = described("openai:gpt-4o", table(10, 20)).price
    assert price is not None
    assert [tier.above_input_tokens for tier in price.tiers] == [10, 20]
    for a, b in ((20, 10), (10, 10)):
        with pytest.raises(DescriptorError, match="must grow from tier to tier"):
            described("openai:gpt-4o", table(a, b))


def test_it_is_looked_up_only_where_no_table_is(tmp_path: Path) -> None:
    """Importing the package takes longer than all the rest of a first decision."""
    (tmp_path / "a.yaml").write_text(f"id: a\nprovider: {{chat_model: 'openai:gpt-4o'}}\n{OWN}")
    (tmp_path / "b.yaml").write_text("id: b\nprovider: {chat_model: 'acme:gpt-4o'}\n")
    code = (
        "import sys, crossroute, crossroute.models.prices\n"
        f"pool = crossroute.ModelPool.load({str(tmp_path)!r})\n"
        "print(len(pool), 'genai_prices' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False"]


def test_only_the_lines_of_the_price_change(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(WRITTEN, "utf-8")
    (check,) = check_prices(tmp_path)
    assert check.differs
    assert check.listed is not None
    write_price(check)
    before, after = WRITTEN.splitlines(), path.read_text("utf-8").splitlines()
    kept = [
        line for line in before if not line.startswith(("  input", "  output", "  date", "  s"))
    ]
    assert set(kept) <= set(after)
    assert "# was 5 before" in path.read_text("utf-8")
    price = ModelDescriptor.load(path).price
    assert price is not None
    assert price.model_copy(update={"reasoning_output_usd_per_1m": None}) == Price.model_validate(
        check.listed.model_dump() | {"date": datetime.date.today()}
    )
    assert price.reasoning_output_usd_per_1m == 7
    assert not check_prices(tmp_path)[0].differs


@pytest.mark.parametrize("price", ["", OWN])
def test_what_is_not_listed_is_left_alone(tmp_path: Path, price: str) -> None:
    (tmp_path / "a.yaml").write_text(f"id: a\nprovider: {{chat_model: 'openai:no'}}\n{price}")
    (check,) = check_prices(tmp_path)
    assert (check.listed, check.differs, check.changes) == (None, False, {})


def test_noise_of_arithmetic_is_no_difference(tmp_path: Path) -> None:
    same = listed("openai:gpt-4o")
    own = Price.model_validate(
        same.model_dump() | {"input_usd_per_1m": same.input_usd_per_1m + 1e-9}
    )
    described("openai:gpt-4o").model_copy(update={"price": own}).save(tmp_path)
    assert not check_prices(tmp_path)[0].differs


def test_tiers_are_compared_and_written(tmp_path: Path) -> None:
    same = listed("openai:gpt-5.5")
    own = Price.model_validate(same.model_dump() | {"tiers": ()})
    path = described("openai:gpt-5.5").model_copy(update={"price": own}).save(tmp_path)
    (check,) = check_prices(tmp_path)
    assert check.differs
    write_price(check)
    written = ModelDescriptor.load(path).price
    assert written is not None
    assert written.tiers == same.tiers


def test_embeddings_stay_to_the_last_digit(tmp_path: Path) -> None:
    """Whatever their shape in the file."""
    ModelPool.shipped().save(tmp_path)
    differ = [check for check in check_prices(tmp_path) if check.differs]
    assert len(differ) > 3
    for check in differ:
        old = check.path.read_text("utf-8").partition("learned:")[2]
        write_price(check)
        assert check.path.read_text("utf-8").partition("learned:")[2] == old
        assert ModelDescriptor.load(check.path).price == check.after


@pytest.mark.parametrize(
    "price",
    [
        "{input_usd_per_1m: 9, output_usd_per_1m: 8}",
        "\n  input_usd_per_1m: 9  # per 1M\n  # and\n  output_usd_per_1m: 8\n",
        "\n  input_usd_per_1m: 9\n  output_usd_per_1m: 8\n  source: an invoice  # page 2\n",
    ],
    ids=["in braces", "in lines", "with a source"],
)
def test_a_price_needs_neither_date_nor_source(tmp_path: Path, price: str) -> None:
    text = f"id: a\nprovider: {{chat_model: 'openai:gpt-4o'}}\nprice: {price}\nnote: Mine.\n"
    (tmp_path / "a.yaml").write_text(text, "utf-8")
    (check,) = check_prices(tmp_path)
    write_price(check)
    after = ModelDescriptor.load(check.path)
    assert after.price == check.after
    assert after.price is not None
    assert after.price.date == datetime.date.today()
    written = check.path.read_text("utf-8")
    for kept in ("# per 1M", "# and", "# page 2", "note: Mine."):
        assert (kept in written) is (kept in text)


def test_a_price_that_cannot_be_edited_alone_is_left(tmp_path: Path) -> None:
    text = (
        "id: a\nprovider: {chat_model: 'openai:gpt-4o'}\nnote: &own |\n  x\n"
        "price: {<<: &p {input_usd_per_1m: 9, output_usd_per_1m: 8}}\n"
    )
    (tmp_path / "a.yaml").write_text(text, "utf-8")
    (check,) = check_prices(tmp_path)
    write_price(check)
    assert ModelDescriptor.load(check.path).price == check.after
