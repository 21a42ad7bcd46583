"""LlamaIndex's classes over a folder of descriptors that changes while they are used."""

# ruff: noqa: ANN401  # LlamaIndex's own signatures say Any.

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from fakes_llamaindex import ASKS, LARGE, MINI, QUESTION, TEXT, TOOL, Put, ask, followed
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import ToolMetadata
from openai_server import OpenAIServer, Reply

from crossroute import (
    CrossRouter,
    DescriptorError,
    ModelDescriptor,
    NoCandidateError,
    PoolError,
    UnknownModelError,
)
from llamaindex_crossroute import CrossRouteLLM, CrossRouteSelector

pytestmark = pytest.mark.usefixtures("environment")


@pytest.mark.parametrize("way", ASKS)
async def test_a_change_of_the_folder_is_seen_by_the_next_call(
    way: str, put: Put, folder: Path, server: OpenAIServer
) -> None:
    for name in ("mini", "mini-2"):
        server.answers[name] = Reply(f"I am {name}.")
    put(MINI, "mini")
    still = CrossRouteLLM.from_yaml(folder, willingness_to_pay=0)
    llm = followed(CrossRouteLLM.from_yaml(folder, follow=True, willingness_to_pay=0))
    assert (await ask(way, llm))[0] == "I am mini."
    put(MINI, "mini-2")
    assert (await ask(way, llm))[0] == "I am mini-2."
    put(MINI, "mini-2", disabled=True)
    text, decision = await ask(way, llm)
    assert (text, decision["model"]) == (TEXT, LARGE)
    assert MINI in decision["removed"]
    (folder / "broken.yaml").write_text("id: [", "utf-8")
    os.utime(folder / "broken.yaml", (1, 1))
    assert (await ask(way, llm))[1]["model"] == LARGE
    assert llm.live is not None
    assert isinstance(llm.live.error, DescriptorError)
    assert (await ask(way, still))[0] == "I am mini."


def test_an_llm_is_kept_while_what_it_is_built_of_says_the_same(put: Put, folder: Path) -> None:
    llm = followed(CrossRouteLLM.from_yaml(folder, follow=True, willingness_to_pay=0))
    llm.complete(QUESTION)
    lazy = llm.candidates.models[MINI]
    put(MINI, note="The same.")
    assert llm.candidates.models[MINI] is lazy
    put(MINI, context_window_tokens=50_000)
    assert llm.candidates.models[MINI] is not lazy
    assert llm.metadata.context_window == 50_000


@pytest.mark.parametrize("way", ["stream_chat", "astream_chat"])
async def test_a_stream_goes_on_with_what_it_began_with(
    way: str, put: Put, folder: Path, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply(TEXT, input_tokens=1000, output_tokens=100)
    llm = followed(CrossRouteLLM.from_yaml(folder, follow=True, willingness_to_pay=0))
    price = CrossRouter.default().pool[MINI].price
    assert price is not None
    stream: Any = getattr(llm, way)([ChatMessage(QUESTION)])
    dearer = price.model_copy(update={"input_usd_per_1m": 1000.0}).model_dump()
    if way == "stream_chat":
        put(MINI, "other", price=dearer)
        assert llm.candidates.router.pool[MINI].price != price
        chunks = list(stream)
    else:
        stream = await stream
        put(MINI, "other", price=dearer)
        assert llm.candidates.router.pool[MINI].price != price
        chunks = [chunk async for chunk in stream]
    decision = chunks[-1].additional_kwargs["crossroute"]
    assert chunks[-1].message.content == TEXT
    expected = float(price.cost_usd(1000, 100))
    assert decision["realised"]["cost_usd"] == pytest.approx(expected)
    assert decision["bill"]["cost_usd"] == pytest.approx(expected)


def test_tool_calls_of_a_model_that_has_left_the_folder(
    put: Put, folder: Path, server: OpenAIServer
) -> None:
    put(MINI)
    llm = followed(CrossRouteLLM.from_yaml(folder, follow=True, willingness_to_pay=0))
    server.answers[MINI] = Reply(tool_calls=(("weather", {"city": "Paris"}),))
    answer = llm.chat_with_tools([TOOL], "What is the weather like in Paris?")
    content = CrossRouter.default().pool["Meta-Llama-3.1-70B-Instruct"].model_dump()
    content |= {"retired": None, "provider": {"chat_model": "openai:x"}}
    ModelDescriptor.model_validate(content).save(folder)
    (folder / f"{MINI}.yaml").unlink()
    for path in (*folder.iterdir(), folder):
        os.utime(path, (1, 1))
    assert MINI not in llm.candidates.models
    assert llm.get_tool_calls_from_response(answer)[0].tool_name == "weather"


def test_there_must_be_a_folder_to_follow() -> None:
    with pytest.raises(PoolError, match="No folder is named to follow"):
        CrossRouteLLM.from_yaml(follow=True)


# A selector that follows


TOOLS = [
    ToolMetadata(name=LARGE, description="Long answers"),
    ToolMetadata(name=MINI, description="Short answers"),
]


@pytest.mark.parametrize("way", ["select", "aselect"])
async def test_a_selector_follows_a_folder(way: str, put: Put, folder: Path) -> None:
    live = CrossRouter.follow(folder, check_seconds=0)
    selector = CrossRouteSelector(live, willingness_to_pay=0)

    async def select(tools: list[ToolMetadata] = TOOLS) -> Any:
        found: Any = getattr(selector, way)(tools, QUESTION)
        return await found if way == "aselect" else found

    assert (await select()).decision.model == MINI
    put(MINI, disabled=True)
    assert (await select()).decision.model == LARGE
    assert (await select(TOOLS[:1])).decision.model == LARGE
    with pytest.raises(NoCandidateError, match="disabled"):
        await select(TOOLS[1:])
    put(MINI, note="Switched on again.")
    assert (await select()).decision.model == MINI


def test_a_selector_of_a_folder_checks_its_models(folder: Path) -> None:
    with pytest.raises(UnknownModelError, match="gpt-4o-2024-08-07"):
        CrossRouteSelector(CrossRouter.follow(folder), models=["gpt-4o-2024-08-07", MINI])
