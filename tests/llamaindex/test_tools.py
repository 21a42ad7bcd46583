"""Tools: they go whole to one model, which reads its own calls."""

# ruff: noqa: ANN401  # LlamaIndex's own signatures say Any.

import asyncio
from typing import Any

import pytest
from fakes_llamaindex import (
    CHATS,
    LARGE,
    MINI,
    QUESTION,
    SMALL,
    TOOL,
    TOOL_CHATS,
    Make,
    Recorder,
    ScriptedLLM,
    StatusError,
    answers_of,
    multiply,
    native,
    responses,
    scripted,
    user,
    with_the_tool,
)
from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.llms import MockLLM
from llama_index.core.llms.llm import ToolSelection
from openai_server import OpenAIServer

from crossroute import CrossRouter
from llamaindex_crossroute import CrossRouteAnswerEvent, CrossRouteLLM


@pytest.mark.parametrize("way", TOOL_CHATS)
async def test_tools_go_whole_to_one_model_that_reads_its_calls(way: str) -> None:
    models = scripted()
    llm = CrossRouteLLM(models=models, willingness_to_pay=0)
    for chunk in await answers_of(way, llm, "What is 6 * 7?", tool_required=True, seed=1):
        model = chunk.additional_kwargs["crossroute"]["model"]
        [call] = llm.get_tool_calls_from_response(chunk)
        assert call.tool_id == f"{model}:multiply"
        assert call.tool_kwargs == {"a": 6, "b": 7}
    assert models[model]._given == [{"flags": (False, False, True), "seed": 1}]
    assert sum(len(model._asked) for model in models.values()) == 1


def test_a_user_message_joins_the_history() -> None:
    models = scripted()
    llm = CrossRouteLLM(models=models, willingness_to_pay=0)
    history = [ChatMessage("Hello", role="system")]
    for message in ("What is 6 * 7?", ChatMessage("What is 6 * 7?")):
        llm.chat_with_tools([multiply], user_msg=message, chat_history=history)
    for asked in models[SMALL]._asked:
        assert [message.content for message in asked] == ["Hello", "What is 6 * 7?"]
    assert len(history) == 1


def test_predict_and_call() -> None:
    llm = CrossRouteLLM(models=scripted())
    assert str(llm.predict_and_call([multiply], "What is 6 * 7?")) == "42"
    assert str(asyncio.run(llm.apredict_and_call([multiply], "What is 6 * 7?"))) == "42"


def test_tool_calls_of_a_foreign_response() -> None:
    llm = CrossRouteLLM(models=scripted())
    foreign = ChatResponse(message=ChatMessage("text"))
    for flag in (True, False):
        with pytest.raises(ValueError, match="no decision in additional_kwargs"):
            llm.get_tool_calls_from_response(foreign, error_on_no_tool_call=flag)


def test_tools_are_not_prepared_for_nobody() -> None:
    with pytest.raises(NotImplementedError, match="chat_with_tools"):
        CrossRouteLLM(models=scripted())._prepare_chat_with_tools([multiply])


def test_a_model_that_cannot_call_tools_does_not_get_them() -> None:
    # A plain LLM has no method for it, whatever its descriptor says.
    plain = MockLLM()
    models = {SMALL: plain, MINI: ScriptedLLM(name=MINI)}
    assert "tools" in CrossRouter.default().pool[SMALL].capabilities
    llm = CrossRouteLLM(models=models, willingness_to_pay=0)
    assert llm.chat(user(QUESTION)).additional_kwargs["crossroute"]["model"] == SMALL
    for answer in (
        llm.chat_with_tools([multiply], QUESTION),
        llm.chat(user(QUESTION), functions=[{"name": "multiply"}]),
    ):
        found = answer.additional_kwargs["crossroute"]
        assert found["model"] == MINI
        assert found["removed"] == {SMALL: "tools is not among the capabilities in its descriptor"}


def test_metadata_adds_tools_to_a_descriptor() -> None:
    models = {"claude-v1": ScriptedLLM(name="claude-v1"), LARGE: ScriptedLLM(name=LARGE)}
    assert "tools" not in CrossRouter.shipped().pool["claude-v1"].capabilities
    llm = CrossRouteLLM(models=models, willingness_to_pay=0)
    assert llm.router.pool["claude-v1"].capabilities == ("tools",)
    assert len(llm.chat_with_tools([multiply], QUESTION).additional_kwargs["crossroute"]) > 0


@pytest.mark.parametrize("way", ["predict_and_call", "apredict_and_call"])
async def test_tools_are_called_in_the_way_of_the_candidate(way: str, events: Recorder) -> None:
    models = native()
    llm = CrossRouteLLM(models=models, willingness_to_pay=0)
    found = getattr(llm, way)([TOOL], "And the weather in Paris?", tool_choice="any")
    response = await found if way.startswith("a") else found
    assert str(response) == f"{MINI} ['chat_history', 'tool_choice']"
    object.__setattr__(models[MINI], "error", StatusError(429))
    found = getattr(llm, way)([TOOL], "And in Rome?", verbose=True, error_on_no_tool_call=False)
    response = await found if way.startswith("a") else found
    assert str(response) == f"{LARGE} ['chat_history', 'error_on_no_tool_call', 'verbose']"
    assert [event.model for event in events.of(CrossRouteAnswerEvent)] == [MINI, LARGE]


# Candidates of any class


class SaysSo(MockLLM):
    """No `FunctionCallingLLM`, but its metadata says that it calls functions, and it does."""

    @property
    def metadata(self) -> Any:
        return super().metadata.model_copy(
            update={"is_function_calling_model": True, "is_chat_model": True}
        )

    def chat_with_tools(self, tools: Any, chat_history: Any = None, **kwargs: Any) -> Any:
        return self.chat(chat_history)

    def get_tool_calls_from_response(self, response: Any, **kwargs: Any) -> list[ToolSelection]:
        return [ToolSelection(tool_id="1", tool_name="weather", tool_kwargs={"city": "Paris"})]


def test_the_metadata_is_taken_at_its_word() -> None:
    llm = CrossRouteLLM(models={LARGE: SaysSo(), MINI: SaysSo()}, willingness_to_pay=0)
    assert llm.metadata.is_function_calling_model
    answer = llm.chat_with_tools([TOOL], "And the weather in Paris?")
    assert answer.additional_kwargs["crossroute"]["model"] == MINI
    assert str(llm.predict_and_call([TOOL], "And the weather in Paris?")) == "It rains in Paris."


# Clients


@pytest.mark.parametrize("way", [f"{way}_with_tools" for way in CHATS])
async def test_tool_calls(way: str, make: Make, server: OpenAIServer) -> None:
    server.answers[MINI] = with_the_tool
    llm = make()
    answer = (await responses(way, llm, [TOOL], "What is the weather like in Paris?"))[-1]
    (call,) = llm.get_tool_calls_from_response(answer)
    assert (call.tool_name, call.tool_kwargs) == ("weather", {"city": "Paris"})
    (request,) = server.requests
    assert [bound["function"]["name"] for bound in request.body["tools"]] == ["weather"]
