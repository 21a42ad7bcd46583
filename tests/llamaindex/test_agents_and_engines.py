"""CrossRouteLLM in agents, workflows, query engines and structured answers."""

# LlamaIndex's own signatures say Any.

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from fakes_llamaindex import (
    LARGE,
    MAKES_AN_AGENT,
    MINI,
    QUESTION,
    SMALL,
    TEXT,
    TOOL,
    Author,
    Make,
    Recorder,
    Retriever,
    asked,
    core_decision,
    multiply,
    scripted,
    user,
    with_the_tool,
)
from llama_index.core import PromptTemplate, Settings
from llama_index.core.agent.workflow import AgentStream, FunctionAgent
from llama_index.core.instrumentation.events.llm import LLMChatStartEvent
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine, RouterQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.tools import QueryEngineTool
from llama_index.core.types import PydanticProgramMode
from llama_index.core.workflow import Context, StartEvent, StopEvent, Workflow, step
from llama_index.llms.openai_like import OpenAILike
from openai_server import OpenAIServer, Reply

from llamaindex_crossroute import (
    CrossRouteAnswerEvent,
    CrossRouteLLM,
    CrossRouteSelector,
    call_settings,
)


@pytest.mark.parametrize("mode", ["sync", "async", "streaming"])
async def test_in_a_query_engine_as_settings_llm(settings: None, mode: str) -> None:
    models = scripted()
    Settings.llm = CrossRouteLLM(models=models, willingness_to_pay=0)
    streaming = mode == "streaming"
    engine = RetrieverQueryEngine(
        Retriever(), get_response_synthesizer(streaming=streaming, response_mode="compact")
    )
    response = await engine.aquery(QUESTION) if mode == "async" else engine.query(QUESTION)
    answer = "".join(response.response_gen) if streaming else str(response)
    assert answer == f"I am {SMALL}."
    with call_settings(model=LARGE):
        response = await engine.aquery(QUESTION) if mode == "async" else engine.query(QUESTION)
        answer = "".join(response.response_gen) if streaming else str(response)
    assert answer == f"I am {LARGE}."
    assert "Primes are numbers." in models[LARGE]._asked[0][-1].content


@MAKES_AN_AGENT
@pytest.mark.parametrize("streaming", [True, False])
async def test_in_a_function_agent(streaming: bool, events: Recorder) -> None:
    models = scripted()
    agent = FunctionAgent(
        tools=[multiply],
        llm=CrossRouteLLM(models=models, willingness_to_pay=math.inf),
        streaming=streaming,
    )
    chosen = core_decision("What is 6 * 7?", math.inf).model
    handler = agent.run("What is 6 * 7?")
    texts = [e.response async for e in handler.stream_events() if isinstance(e, AgentStream)]
    assert str(await handler) == f"I am {chosen}."
    assert (texts[-1:] == [f"I am {chosen}."]) is streaming
    first, second = models[chosen]._asked
    assert [message.content for message in first] == ["What is 6 * 7?"]
    assert second[-1].content == "42"
    assert [event.model for event in events.of(CrossRouteAnswerEvent)] == [chosen, chosen]
    assert len(events.of(LLMChatStartEvent)) == 2

    with call_settings(model=MINI):
        handler = agent.run("What is 6 * 7?")
    assert str(await handler) == f"I am {MINI}."


async def test_in_a_workflow() -> None:
    llm = CrossRouteLLM(models=scripted(), willingness_to_pay=0)

    class Ask(Workflow):
        @step
        async def ask(self, ctx: Context, event: StartEvent) -> StopEvent:
            return StopEvent(result=str(await llm.acomplete(event.question)))

    assert await Ask().run(question=QUESTION) == f"I am {SMALL}."
    with call_settings(excluded=[SMALL, MINI]):
        assert await Ask().run(question=QUESTION) == f"I am {LARGE}."


# Structured answers


@pytest.mark.parametrize("functions", [True, False])
async def test_structured_answers(functions: bool) -> None:
    # Without functions LlamaIndex asks for JSON in the text.
    models = scripted(calls_functions=functions)
    if not functions:
        for model in models.values():
            object.__setattr__(model, "name", json.dumps({"name": "Ada", "age": 36}))
    llm = CrossRouteLLM(models=models, willingness_to_pay=0)
    prompt = PromptTemplate("Who wrote the first program? {hint}")
    ada = Author(name="Ada", age=36)
    assert llm.structured_predict(Author, prompt, hint="Ada") == ada
    assert await llm.astructured_predict(Author, prompt, hint="Ada") == ada
    structured = llm.as_structured_llm(Author)
    assert structured.chat(user("Who?")).raw == ada
    assert (await structured.achat(user("Who?"))).raw == ada
    if functions:
        *_, last = llm.stream_structured_predict(Author, prompt, hint="Ada")
        assert Author.model_validate(last.model_dump()) == ada


def test_as_structured_llm_by_text() -> None:
    models = scripted()
    llm = CrossRouteLLM(
        models=models, willingness_to_pay=0, pydantic_program_mode=PydanticProgramMode.LLM
    )
    with pytest.raises(ValueError, match="I am"):
        llm.structured_predict(Author, PromptTemplate("Who?"))
    assert len(models[SMALL]._asked) == 1


# Clients


@MAKES_AN_AGENT
@pytest.mark.parametrize("streaming", [True, False])
async def test_an_agent_with_a_tool(streaming: bool, make: Make, server: OpenAIServer) -> None:
    server.answers[MINI] = with_the_tool
    agent = FunctionAgent(tools=[TOOL], llm=make(), streaming=streaming)
    result = await agent.run("What is the weather like in Paris?")
    assert result.response.content == "The tool says: It rains in Paris."
    assert [call.tool_name for call in result.tool_calls] == ["weather"]
    assert asked(server) == [MINI, MINI]


@MAKES_AN_AGENT
@pytest.mark.parametrize("streaming", [True, False])
async def test_an_agent_whose_model_fails_in_the_loop(
    streaming: bool, make: Make, server: OpenAIServer
) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        is_second = body["messages"][-1]["role"] == "tool"
        return Reply(status=500) if is_second else with_the_tool(body)

    server.answers = {MINI: answer, LARGE: with_the_tool}
    agent = FunctionAgent(tools=[TOOL], llm=make(), streaming=streaming)
    result = await agent.run("And the weather in Paris?")
    assert result.response.content == "The tool says: It rains in Paris."
    assert asked(server) == [MINI, MINI, LARGE]


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_a_query_engine_on_it(
    mode: str, streaming: bool, make: Make, server: OpenAIServer
) -> None:
    server.answers[MINI] = Reply(status=503)
    engine = RetrieverQueryEngine.from_args(Retriever(), llm=make(), streaming=streaming)
    response: Any = engine.query(QUESTION) if mode == "sync" else await engine.aquery(QUESTION)
    if streaming and mode == "async":
        assert "".join([token async for token in response.async_response_gen()]) == TEXT
    elif streaming:
        assert "".join(response.response_gen) == TEXT
    else:
        assert str(response) == TEXT
    assert asked(server) == [MINI, LARGE]
    assert "Primes are numbers." in str(server.requests[-1].body["messages"])


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("willingness", [0, math.inf])
async def test_query_engines_on_two_models(
    willingness: float, mode: str, client: Callable[..., OpenAILike], server: OpenAIServer
) -> None:
    tools = [
        QueryEngineTool.from_defaults(
            RetrieverQueryEngine.from_args(Retriever(), llm=client(model)),
            name=model,
            description="Answers from the corpus",
        )
        for model in (LARGE, MINI)
    ]
    selector = CrossRouteSelector(willingness_to_pay=willingness)
    engine = RouterQueryEngine(selector, tools, llm=MockLLM())
    response = engine.query(QUESTION) if mode == "sync" else await engine.aquery(QUESTION)
    assert str(response) == TEXT
    assert asked(server) == [MINI if willingness == 0 else LARGE]
