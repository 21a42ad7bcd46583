"""What is read of a request: its text, what it needs, and so who may answer."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

from typing import Any

import pytest
from fakes_langchain import (
    BOTH,
    LARGE,
    MINI,
    MODELS,
    QUESTION,
    SMALL,
    Joke,
    ScriptedChatModel,
    cheap,
    decision_of,
    predicted,
    scripted,
    weather,
)
from fakes_langchain_providers import providers
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    HumanMessage,
    HumanMessageChunk,
    SystemMessage,
    ToolMessage,
)
from langchain_core.prompt_values import StringPromptValue

from crossroute import CrossRouter, ModelPool, NoCandidateError, QueryError
from crossroute.query import Query
from langchain_crossroute import ChatCrossRoute, CrossRouteRunnable
from langchain_crossroute.messages import to_query

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


@pytest.mark.parametrize(
    "value",
    [
        QUESTION,
        StringPromptValue(text=QUESTION),
        [HumanMessage(QUESTION)],
        [HumanMessageChunk(QUESTION)],
        [("human", QUESTION)],
        ({"role": "user", "content": QUESTION},),
        [QUESTION],
        [HumanMessage([{"type": "text", "text": QUESTION}])],
        [HumanMessage([{"type": "unheard_of"}, {"type": "text", "text": QUESTION}])],
    ],
)
def test_every_input_of_a_chat_model_is_read(value: Any, router: CrossRouter) -> None:
    found = predicted(CrossRouteRunnable(models=scripted()).invoke(value))
    assert found == router.subset(MODELS).route(QUESTION).to_dict()


def test_roles_of_messages() -> None:
    messages: list[Any] = [
        SystemMessage("s"),
        HumanMessage("u"),
        AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1"}]),
        AIMessageChunk("a"),
        ToolMessage("t", tool_call_id="1"),
        ChatMessage("c", role="user"),
    ]
    assert to_query(messages) == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": "", "tool_calls": messages[2].tool_calls},
        {"role": "assistant", "content": "a"},
        {"role": "tool", "content": "t", "tool_call_id": "1"},
        {"role": "user", "content": "c"},
    ]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "an input of type int"),
        (None, "an input of type NoneType"),
        ({}, "an input of type dict"),
        (HumanMessage(QUESTION), "an input of type HumanMessage"),
        ([3], "not a list of messages"),
        ([("robot", "hi")], "robot"),
        ([("human", "hi", "there")], "not a list of messages"),
        ([(["human"], "hi")], "not a list of messages"),
        ([{"content": "hi"}], "role"),
        (b"bytes", "not a list of messages"),
    ],
)
def test_other_inputs_are_refused(value: Any, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        CrossRouteRunnable(models=scripted()).invoke(value)


def test_text_in_blocks_counts() -> None:
    long = "The contract ends in May. " * 50
    plain = Query.of(to_query([HumanMessage(QUESTION)]))
    for block in (
        {"type": "text-plain", "text": long},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": long}},
        {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": long}]},
    ):
        value = [HumanMessage(QUESTION), ToolMessage([block], tool_call_id="1")]
        assert Query.of(to_query(value)).input_tokens > plain.input_tokens + 200


# Who may answer


def test_the_profile_is_what_all_candidates_offer(router: CrossRouter) -> None:
    profiles: dict[str, dict[str, Any]] = {
        SMALL: {"tool_calling": False, "max_output_tokens": 4000, "text_inputs": True},
        MINI: {"max_input_tokens": 1000, "audio_inputs": True, "text_inputs": True},
        LARGE: {"max_input_tokens": 0, "audio_inputs": True, "text_inputs": False, "name": "large"},
    }
    chat = cheap({m: ScriptedChatModel(model_name=m, profile=p) for m, p in profiles.items()})
    profile: Any = chat.profile
    # The smallest number holds; where a profile says nothing, the descriptor does.
    assert profile["max_input_tokens"] == 1000
    assert profile["max_output_tokens"] == 4000
    assert profile["tool_calling"] is False
    assert profile["pdf_inputs"] is False
    assert profile["structured_output"] is False
    assert profile["audio_inputs"] is False
    assert profile["text_inputs"] is False
    assert "name" not in profile
    assert cheap(scripted(), profile={"tool_calling": False}).profile == {"tool_calling": False}


def test_profiles_complete_the_descriptors(router: CrossRouter) -> None:
    bare = router.over(
        ModelPool(
            descriptor.model_copy(
                update={"capabilities": (), "context_window_tokens": None, "max_output_tokens": 10}
            )
            for descriptor in router.pool.subset(MODELS).values()
        )
    )
    models: dict[str, Any] = scripted()
    models[LARGE] = ScriptedChatModel(
        model_name=LARGE,
        profile={
            "tool_calling": True,
            "image_url_inputs": True,
            "pdf_inputs": True,
            "max_input_tokens": 50,
            "max_output_tokens": 99,
        },
    ).bind(temperature=0)
    found = ChatCrossRoute(models=models, router=bare).router.pool
    assert set(found[LARGE].capabilities) == {"tools", "image_input", "file_input"}
    assert (found[LARGE].context_window_tokens, found[LARGE].max_output_tokens) == (50, 10)
    assert found[SMALL] is bare.pool[SMALL]
    # Of two numbers the smaller one holds, in routing too.
    found = ChatCrossRoute(models=models, router=router).router.pool
    assert (found[LARGE].context_window_tokens, found[LARGE].max_output_tokens) == (50, 99)


@BOTH
def test_images_go_to_models_that_take_them(kind: Any) -> None:
    chat = kind(models=scripted(), willingness_to_pay=0)
    answer = chat.invoke([HumanMessage([{"type": "text", "text": QUESTION}, IMAGE])])
    assert decision_of(answer)["model"] == MINI
    assert decision_of(answer)["removed"] == {
        SMALL: "image_input is not among the capabilities in its descriptor"
    }
    assert decision_of(chat.invoke([HumanMessage([IMAGE])]))["model"] == MINI


def test_tools_count_and_need_a_model_that_calls_them(router: CrossRouter) -> None:
    pool = ModelPool(
        descriptor.model_copy(update={"capabilities": ()}) if descriptor.id == SMALL else descriptor
        for descriptor in router.pool.subset(MODELS).values()
    )
    chat = cheap(providers(), router=router.over(pool))
    plain = decision_of(chat.invoke(QUESTION))
    for bound in (
        chat.bind_tools([weather]),
        chat.bind(tools=[{"type": "function", "function": {"name": "weather"}}], tool_choice="x"),
        chat.with_structured_output(Joke, include_raw=True),
        chat.with_structured_output(Joke, include_raw=True, method="function_calling"),
    ):
        answer: Any = bound.invoke(QUESTION)
        found = decision_of(answer["raw"] if isinstance(answer, dict) else answer)
        assert found["removed"] == {SMALL: "tools is not among the capabilities in its descriptor"}
        assert found["input_tokens"] > plain["input_tokens"] + 5
    assert decision_of(chat.bind_tools([]).invoke(QUESTION))["model"] == SMALL


def test_a_response_format_needs_structured_output() -> None:
    chat = cheap(scripted())
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}
    assert decision_of(chat.invoke(QUESTION, response_format=schema))["model"] == MINI
    loose = chat.invoke(QUESTION, response_format={"type": "json_object"})
    assert decision_of(loose)["model"] == SMALL


def test_log_probabilities_are_nothing_that_a_call_needs() -> None:
    candidates = scripted()
    answer = cheap(candidates).invoke(QUESTION, logprobs=True)
    assert decision_of(answer)["model"] == SMALL
    assert candidates[SMALL].given == [{"logprobs": True}]


def test_room_for_the_answer() -> None:
    chat = cheap(scripted())
    assert decision_of(chat.invoke(QUESTION, max_tokens=20_000))["model"] == SMALL
    assert set(decision_of(chat.invoke(QUESTION, max_tokens=20_000))["removed"]) == {MINI, LARGE}
    with pytest.raises(NoCandidateError) as raised:
        cheap(scripted(), max_tokens=200_000).invoke(QUESTION)
    for model in MODELS:
        assert model in str(raised.value)


@pytest.mark.parametrize(
    ("block", "needs"),
    [
        ({"type": "image", "url": "https://x/y.png"}, {"image_input"}),
        ({"type": "image", "base64": "AA==", "mime_type": "image/png"}, {"image_input"}),
        ({"type": "image", "source_type": "url", "url": "https://x/y.png"}, {"image_input"}),
        ({"type": "image", "source": {"type": "base64", "data": "AA=="}}, {"image_input"}),
        ({"image": {"format": "png", "source": {"bytes": b"x"}}}, {"image_input"}),
        (IMAGE, {"image_input"}),
        ({"type": "audio", "base64": "AA==", "mime_type": "audio/wav"}, {"audio_input"}),
        ({"type": "input_audio", "input_audio": {"data": "AA=="}}, {"audio_input"}),
        ({"type": "media", "mime_type": "audio/mp3", "data": "AA=="}, {"audio_input"}),
        ({"type": "media", "mime_type": "image/png", "data": "AA=="}, {"image_input"}),
        ({"type": "file", "base64": "AA==", "mime_type": "application/pdf"}, {"file_input"}),
        ({"type": "file", "source_type": "id", "id": "file-1"}, {"file_input"}),
        ({"type": "video", "url": "https://x/y.mp4"}, {"file_input"}),
        ({"type": "text-plain", "url": "https://x/y.txt"}, {"file_input"}),
        ({"type": "text-plain", "text": "a note", "mime_type": "text/plain"}, set()),
        ({"type": "document", "source": {"type": "url", "url": "https://x"}}, {"file_input"}),
        ({"type": "tool_result", "tool_use_id": "1", "content": [IMAGE]}, {"image_input"}),
        ({"type": "tool_use", "id": "1", "name": "f", "input": {}}, set()),
        ({"type": "reasoning", "reasoning": "hm"}, set()),
    ],
)
def test_content_blocks_show_what_they_need(block: dict[str, Any], needs: set[str]) -> None:
    text: dict[str, Any] = {"type": "text", "text": QUESTION}
    found = Query.of(to_query([HumanMessage([text, block])]))
    assert found.needs == needs
    # Also in what a tool gave back.
    later = [HumanMessage(QUESTION), ToolMessage([block], tool_call_id="1")]
    assert Query.of(to_query(later)).needs == needs
