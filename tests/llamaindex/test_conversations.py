"""Conversations: what is read of their past, and who stays."""

# LlamaIndex's own signatures say Any.

import math
from collections.abc import Callable

import pytest
from fakes_core import NotingQueries
from fakes_llamaindex import (
    CHATS,
    LARGE,
    MAKES_AN_AGENT,
    QUESTION,
    SMALL,
    TOOL_CHATS,
    answer_of,
    core_decision,
    multiply,
    scripted,
    user,
)
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import ChatPromptTemplate, PromptTemplate

from llamaindex_crossroute import CrossRouteLLM, call_settings


def test_a_short_follow_up_is_read_with_what_it_follows() -> None:
    llm = CrossRouteLLM(models=scripted())
    conversation = [
        ChatMessage("You are a mathematician.", role="system"),
        ChatMessage(QUESTION),
        ChatMessage("Shall I go on?", role="model"),
        ChatMessage("yes"),
    ]
    expected = core_decision(
        [
            {"role": "system", "content": "You are a mathematician."},
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": "Shall I go on?"},
            {"role": "user", "content": "yes"},
        ]
    )
    found = llm.chat(conversation).additional_kwargs["crossroute"]
    spent = {"realised": found["realised"], "bill": found["bill"]}
    assert found == expected.to_dict() | spent


@pytest.mark.parametrize("way", [*CHATS, *TOOL_CHATS])
async def test_a_conversation_stays_on_its_model(way: str) -> None:
    models = scripted()
    routes: Callable[[float | None], CrossRouteLLM] = lambda margin: CrossRouteLLM(  # noqa: E731
        models=models, willingness_to_pay=math.inf, stay_margin=margin
    )
    with call_settings(model=SMALL):
        first = (await answer_of(way, routes(0.9))).message
    assert first.additional_kwargs["crossroute_model"] == SMALL
    # Memory and context stores may write it out and read it again.
    first = ChatMessage.model_validate_json(first.model_dump_json())
    follow_up = [*user(QUESTION), first, *user("Now prove it in a quite different way, please.")]
    for margin, expected in ((0.9, SMALL), (0, LARGE), (None, LARGE)):
        found = (await answer_of(way, routes(margin), follow_up)).additional_kwargs["crossroute"]
        assert (found["model"], found["kept"]) == (expected, expected == SMALL)
    # No provider gets the mark.
    for asked in models[LARGE]._asked + models[SMALL]._asked:
        assert not any("crossroute_model" in message.additional_kwargs for message in asked)
    assert first.additional_kwargs["crossroute_model"] == SMALL


def test_messages_are_marked_only_where_conversations_stay() -> None:
    answer = CrossRouteLLM(models=scripted()).chat(user(QUESTION))
    assert answer.message.additional_kwargs == {}


TOLD = "You label tickets by topic."


@pytest.mark.parametrize("role", ["system", "developer"])
@pytest.mark.parametrize("way", [*CHATS, *TOOL_CHATS])
async def test_a_system_prompt_says_the_kind_of_task(way: str, role: str) -> None:
    noted = NotingQueries()
    llm = CrossRouteLLM(models=scripted(), strategy=noted)
    await answer_of(way, llm, [ChatMessage(TOLD, role=role), *user(QUESTION)])
    assert [(query.text, query.kind) for query in noted.seen] == [(QUESTION, TOLD)]


def test_the_system_prompt_of_the_llm_or_of_a_prompt_says_the_kind_of_task() -> None:
    noted = NotingQueries()
    llm = CrossRouteLLM(models=scripted(), strategy=noted, system_prompt=TOLD)
    llm.predict(PromptTemplate("Why is it {what}?"), what="blue")
    llm = CrossRouteLLM(models=scripted(), strategy=noted)
    llm.predict(ChatPromptTemplate.from_messages([("system", TOLD), ("user", "Why?")]))
    assert [query.kind for query in noted.seen] == [TOLD] * 2


def test_of_candidates_that_only_complete_the_system_prompt_begins_the_prompt() -> None:
    noted = NotingQueries()
    models = scripted(is_chat_model=False)
    llm = CrossRouteLLM(models=models, strategy=noted, system_prompt=TOLD)
    llm.predict(PromptTemplate("Why is it {what}?"), what="blue")
    assert [query.kind for query in noted.seen] == [f"{TOLD}\n\nWhy is it blue?"]


@MAKES_AN_AGENT
async def test_the_system_prompt_of_an_agent_says_the_kind_of_task() -> None:
    noted = NotingQueries()
    llm = CrossRouteLLM(models=scripted(), strategy=noted)
    await FunctionAgent(tools=[multiply], llm=llm, system_prompt=TOLD).run(QUESTION)
    assert {query.kind for query in noted.seen} == {TOLD}
