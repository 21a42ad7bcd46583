"""`crossroute models new`: a descriptor from what genai-prices and LangChain know."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml
from fakes_core import Run
from langchain_openai import ChatOpenAI

from crossroute import ModelDescriptor, ModelPool
from crossroute.models.price import ListedPrice


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("COLUMNS", "300")


def failing(run: Run, *arguments: object) -> str:
    code, out, err = run("models", "new", *arguments)
    assert (code, out) == (1, "")
    return err


def test_it_says_what_langchain_and_genai_prices_know(run: Run, tmp_path: Path) -> None:
    code, out, err = run("models", "new", "openai:gpt-5.5", "--out", tmp_path / "new")
    assert (code, err) == (0, "")
    path = tmp_path / "new" / "gpt-5.5.yaml"
    assert str(path) in out
    model = ModelDescriptor.load(path)
    profile = ChatOpenAI(model="gpt-5.5", api_key="none").profile  # type: ignore[arg-type]
    assert profile is not None
    assert model.context_window_tokens == profile["max_input_tokens"]
    assert model.max_output_tokens == profile["max_output_tokens"]
    assert {"tools", "image_input", "structured_output"} <= set(model.capabilities)
    assert model.provider is not None
    assert (model.provider.chat_model, model.provider.arguments) == ("openai:gpt-5.5", {})
    assert isinstance(model.price, ListedPrice)
    assert "price:" not in path.read_text("utf-8")
    assert "genai-prices" in (model.note or "")


def test_without_a_folder_it_is_printed(run: Run) -> None:
    code, out, _ = run("models", "new", "openai:gpt-5.5", "--effort", "high")
    found = yaml.safe_load(out)
    assert code == 0
    assert found["id"] == "gpt-5.5@high"
    assert found["provider"]["arguments"] == {"reasoning_effort": "high"}
    assert "high effort" in found["description"]


def test_the_efforts_of_a_model_are_listed_or_written_one_by_one(run: Run, tmp_path: Path) -> None:
    run("models", "new", "openai:gpt-5.5", "--out", tmp_path / "one")
    model = ModelDescriptor.load(tmp_path / "one" / "gpt-5.5.yaml")
    assert model.efforts == ("none", "low", "medium", "high", "xhigh")
    code, _, _ = run("models", "new", "openai:gpt-5.5", "--every-effort", "--out", tmp_path / "all")
    assert code == 0
    assert ModelPool.load(tmp_path / "all") == ModelPool([model]).expanded()
    assert "give --out" in failing(run, "openai:gpt-5.5", "--every-effort")
    arguments = ("openai:gpt-4.1-mini", "--every-effort", "--out", tmp_path)
    assert "nobody says which efforts it takes" in failing(run, *arguments)


def test_log_probabilities_are_listed_where_they_are_known(run: Run) -> None:
    def capabilities(model: str) -> list[str]:
        code, out, _ = run("models", "new", model)
        assert code == 0
        found: list[str] = yaml.safe_load(out)["capabilities"]
        return found

    assert "logprobs" in capabilities("openai:gpt-4.1-mini")
    assert "logprobs" not in capabilities("openai:gpt-5.5")


def test_nothing_is_overwritten(run: Run, tmp_path: Path) -> None:
    arguments = ("openai:gpt-5.5", "--out", tmp_path)
    assert run("models", "new", *arguments)[0] == 0
    before = (tmp_path / "gpt-5.5.yaml").read_bytes()
    assert "gpt-5.5.yaml: is there already" in failing(run, *arguments)
    assert (tmp_path / "gpt-5.5.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("openai:gpt-5.55",), "did you mean 'gpt-5.5"),
        (("opnai:gpt-5.5",), "did you mean 'openai'?"),
        (("gpt-5.5",), "give PROVIDER:MODEL"),
        (("openai:",), "give PROVIDER:MODEL"),
        (("openai:gpt-5.5", "--effort", "hihg"), "did you mean 'high'"),
        (("mistralai:mistral-large-2512", "--effort", "high"), "takes no reasoning_effort"),
    ],
)
def test_what_is_not_known_is_said(run: Run, arguments: tuple[str, ...], said: str) -> None:
    assert said in failing(run, *arguments)


def test_without_the_package_the_fields_are_left_out(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "langchain_anthropic", None)
    code, out, err = run("models", "new", "anthropic:claude-opus-5-5")
    found = yaml.safe_load(out)
    assert code == 0
    assert "No LangChain profile of anthropic:claude-opus-5-5" in err
    assert "langchain" in err.partition("know them:")[2]
    assert found["context_window_tokens"] == 1_000_000
    assert not {"capabilities", "max_output_tokens", "price"} & found.keys()


def test_a_model_without_a_listed_price_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossroute.cli.new.listed_model", lambda _: None)
    monkeypatch.setattr("crossroute.models.descriptor.listed_price", lambda *_: None)
    code, out, err = run("models", "new", "openai:gpt-5.5")
    assert code == 0
    assert "lists no price of openai:gpt-5.5; add a price table" in err
    assert yaml.safe_load(out)["id"] == "gpt-5.5"
