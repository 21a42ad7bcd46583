"""Candidates of descriptors that cannot be built: a key or a package is missing."""

# LlamaIndex's own signatures say Any.

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes_llamaindex import ASKS, KEYS, LARGE, MINI, QUESTION, TEXT, Put, ask, asked, warnings_of
from llama_index.core.llms import LLM
from openai_server import OpenAIServer

from crossroute import DescriptorError, MissingExtraError
from llamaindex_crossroute import CrossRouteLLM, call_settings

pytestmark = pytest.mark.usefixtures("environment")


@pytest.mark.parametrize("way", ASKS)
async def test_where_one_lacks_its_key_the_next_answers(
    way: str,
    folder: Path,
    server: OpenAIServer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(KEYS[MINI])
    # It is not asked, so it is no attempt, and nothing on the bill.
    llm = CrossRouteLLM.from_yaml(folder, willingness_to_pay=0, attempts=1)
    told = warnings_of(caplog)
    assert len(told) == 1
    assert f"{MINI!r}" in told[0]
    assert "KEY_OF_MINI is not set" in told[0]
    for _ in range(2):
        text, decision = await ask(way, llm)
        assert text == TEXT
        assert "attempts" not in decision
        assert "KEY_OF_MINI is not set" in decision["removed"][MINI]
        assert [one["model"] for one in decision["bill"]["asks"]] == [LARGE]
    assert asked(server) == [LARGE] * 2
    assert warnings_of(caplog) == told


async def test_where_one_lacks_its_package_the_next_answers(
    put: Put, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(LARGE)
    folder = put(MINI, provider={"chat_model": "mistralai:x", "base_url": None, "arguments": {}})
    monkeypatch.setitem(sys.modules, "llama_index.llms.mistralai", None)
    llm = CrossRouteLLM.from_yaml(folder, willingness_to_pay=0)
    (told,) = warnings_of(caplog)
    assert "pip install llama-index-llms-mistralai" in told
    text, decision = await ask("achat", llm)
    assert text == TEXT
    assert "pip install llama-index-llms-mistralai" in decision["removed"][MINI]
    with call_settings(model=MINI), pytest.raises(MissingExtraError, match="llms-mistralai"):
        llm.complete(QUESTION)
    # LlamaIndex's way with a prompt goes on without it, too.
    assert llm.models[MINI].kind is LLM  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("provider", "said"),
    [
        ({"chat_model": "upstage:x", "arguments": {}}, "no LLM.*'upstage'.*Known are anthropic, "),
        ({"arguments": {"use_responses_api": True}}, "'use_responses_api'.*OpenAILike cannot take"),
        ({"arguments": {"streaming": True}}, "'streaming'.*OpenAILike cannot take"),
        ({"chat_model": "ollama:x", "arguments": {}}, "provider.base_url is set.*Ollama"),
        (
            {"chat_model": "bedrock_converse:x", "base_url": None, "arguments": {}},
            "provider.api_key_env is set.*BedrockConverse",
        ),
    ],
)
async def test_what_llamaindex_cannot_take_is_told_and_the_next_answers(
    provider: dict[str, Any], said: str, put: Put, caplog: pytest.LogCaptureFixture
) -> None:
    put(LARGE)
    llm = CrossRouteLLM.from_yaml(put(MINI, provider=provider), willingness_to_pay=0)
    (told,) = warnings_of(caplog)
    assert f"{MINI!r}" in told
    text, decision = await ask("complete", llm)
    assert text == TEXT
    assert re.search(said, decision["removed"][MINI])
    with call_settings(model=MINI), pytest.raises(DescriptorError, match=said):
        llm.complete(QUESTION)


def test_if_none_can_be_built_the_last_error_names_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in KEYS.values():
        monkeypatch.delenv(variable)
    llm = CrossRouteLLM.from_yaml(folder, willingness_to_pay=0)
    with pytest.raises(DescriptorError, match="KEY_OF_LARGE, which is not set") as raised:
        llm.complete(QUESTION)
    built, tried = raised.value.__notes__
    assert LARGE in built
    assert tried.index(MINI) < tried.index(LARGE)
    # The keys are asked for again.
    monkeypatch.setenv("KEY_OF_MINI", "sk-SECRET-KEY_OF_MINI")
    assert llm.complete(QUESTION).text == TEXT


def test_logging_names_the_candidate_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "crossroute"):
        CrossRouteLLM.from_yaml(folder)
    assert caplog.messages == []
