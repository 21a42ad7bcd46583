"""What is read of an answer: whether it is one, why it ended, that it refuses, what it took."""

# ruff: noqa: ANN401  # LlamaIndex's own signatures say Any.

from collections.abc import Iterator
from inspect import isawaitable
from typing import Any

import pytest
from fakes_llamaindex import (
    CHATS,
    COMPLETIONS,
    LARGE,
    SMALL,
    STREAMS,
    TOOL_CHATS,
    USAGE,
    WAYS,
    Recorder,
    ScriptedLLM,
    answer_of,
    answers_of,
    core_decision,
    scripted,
    user,
)
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    TextBlock,
    ThinkingBlock,
)
from pydantic import BaseModel, Field

from crossroute import CrossRouter, NoAnswerError
from llamaindex_crossroute import CrossRouteAnswerEvent, CrossRouteLLM
from llamaindex_crossroute.answers import realised

THOUGHTS = [
    ChatResponse(message=ChatMessage(), additional_kwargs={"thinking_delta": "Hm."}),
    ChatResponse(message=ChatMessage(blocks=[ThinkingBlock(content="Hm.")])),
]
NO_WORDS = [
    ChatResponse(message=ChatMessage(), additional_kwargs={"thinking_delta": None}),
    ChatResponse(message=ChatMessage(blocks=[ThinkingBlock(content=""), TextBlock(text="\n")])),
]
BLANK = [[], user(""), user(" \n"), [ChatMessage()]]
ONLY_A_SYSTEM_PROMPT = [ChatMessage("Be brief.", role="system")]
REFUSALS = [
    {"choices": [{"finish_reason": "content_filter"}]},
    {"choices": [{"finish_reason": "stop", "message": {"refusal": "I will not."}}]},
    {"stop_reason": "refusal"},
]


async def as_needed(found: Any) -> Any:
    """What a method gives, sync or async."""
    return await found if isawaitable(found) else found


# Whether it is an answer, and a whole one


@pytest.mark.parametrize("way", STREAMS)
async def test_an_empty_stream(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScriptedLLM, "_chunks", lambda *_: iter(()))
    models = scripted()
    with pytest.raises(NoAnswerError, match="answered with nothing"):
        await answers_of(way, CrossRouteLLM(models=models))
    assert all(len(model._asked) == 1 for model in models.values())


@pytest.mark.parametrize("way", [*CHATS, *TOOL_CHATS])
@pytest.mark.parametrize("raw", [None, {"usage": USAGE}])
async def test_a_message_without_a_block(
    way: str, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ScriptedLLM, "_message", lambda *_: ChatMessage(role="assistant"))
    monkeypatch.setattr(ScriptedLLM, "text", "")
    models = scripted(raw=raw)
    with pytest.raises(NoAnswerError):
        await answers_of(way, CrossRouteLLM(models=models))
    assert all(len(model._asked) == 1 for model in models.values())


@pytest.mark.parametrize("way", ["stream_chat", "astream_chat"])
@pytest.mark.parametrize(
    ("first", "begun"), [*((c, True) for c in THOUGHTS), *((c, False) for c in NO_WORDS)]
)
async def test_thoughts_are_handed_on_as_words_are(
    way: str, first: ChatResponse, begun: bool
) -> None:
    models = scripted()

    def chunks(*_: Any) -> Iterator[ChatResponse]:
        yield first
        raise ConnectionResetError("dropped")

    object.__setattr__(models[SMALL], "_chunks", chunks)
    llm = CrossRouteLLM(models=models, willingness_to_pay=0)
    if begun:
        with pytest.raises(ConnectionResetError):
            await answers_of(way, llm)
    else:
        assert (await answer_of(way, llm)).additional_kwargs["crossroute"]["model"] != SMALL


@pytest.mark.parametrize("way", [way for way in WAYS if "stream" not in way])
async def test_an_empty_text_of_an_unknown_kind_is_an_answer(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ScriptedLLM, "text", "")
    monkeypatch.setattr(ScriptedLLM, "_message", lambda *_: ChatMessage("", role="assistant"))
    found = (await answer_of(way, CrossRouteLLM(models=scripted()))).additional_kwargs["crossroute"]
    assert "attempts" not in found


@pytest.mark.parametrize("way", STREAMS)
async def test_a_stream_with_no_place_for_a_finish_reason_is_not_marked(
    way: str, events: Recorder
) -> None:
    # As those of LlamaIndex's Anthropic.
    llm = CrossRouteLLM(models=scripted(), strict_streams=True)
    answer = await answer_of(way, llm)
    assert "unfinished" not in answer.additional_kwargs["crossroute"]
    [answered] = events.of(CrossRouteAnswerEvent)
    assert not answered.unfinished


@pytest.mark.parametrize("way", STREAMS)
@pytest.mark.parametrize(
    ("raw", "unfinished"),
    [
        ({"finish_reason": None}, True),
        ({"finish_reason": "STOP"}, False),
        ({"stop_reason": "end_turn"}, False),
        ({"stop_reason": None}, True),
        ({"done": True}, False),
        ({"done": False, "done_reason": None}, True),
        ({"choices": [{"finish_reason": "length"}]}, False),
        ({"choices": [{"finish_reason": None}]}, True),
        ({"choices": []}, True),
    ],
)
async def test_finish_reasons_of_several_providers(
    way: str, raw: dict[str, Any], unfinished: bool
) -> None:
    llm = CrossRouteLLM(models=scripted(raw=raw))
    found = (await answer_of(way, llm)).additional_kwargs["crossroute"]
    assert found.get("unfinished", False) is unfinished


# Blank input, which models answer too


@pytest.mark.parametrize(
    ("way", "question", "blank"),
    [
        *((way, question, True) for way in CHATS for question in BLANK),
        # With tools, the models of these tests look at the last message.
        *((way, question, True) for way in TOOL_CHATS for question in BLANK[1:]),
        *((way, question, True) for way in COMPLETIONS for question in ("", " \n")),
        *((way, ONLY_A_SYSTEM_PROMPT, False) for way in [*CHATS, *TOOL_CHATS]),
    ],
)
async def test_blank_input_is_answered(way: str, question: Any, blank: bool) -> None:
    models = scripted()
    llm = CrossRouteLLM(models=models, willingness_to_pay=0)
    found = (await answer_of(way, llm, question)).additional_kwargs["crossroute"]
    assert found["blank"] is blank
    assert found["model"] == SMALL
    assert models[SMALL]._asked == [question]


@pytest.mark.parametrize("way", COMPLETIONS)
@pytest.mark.parametrize("bare", [True, False])
async def test_without_a_prompt_it_errs_as_a_model_does(way: str, bare: bool) -> None:
    models = scripted()
    llm: Any = models[SMALL] if bare else CrossRouteLLM(models=models)
    with pytest.raises(ValueError, match=r"(?i)no prompt"):
        await as_needed(getattr(llm, way)())
    with pytest.raises(TypeError, match="prompt"):
        await as_needed(getattr(llm, way)("one", prompt="another"))
    assert not any(model._asked for model in models.values())


# Refusals


@pytest.mark.parametrize("raw", REFUSALS)
@pytest.mark.parametrize("way", [way for way in WAYS if "stream" not in way])
async def test_a_refusal_is_the_answer_unless_it_may_pass(way: str, raw: dict[str, Any]) -> None:
    models = scripted()
    ranking = [c.model for c in core_decision(willingness=0).candidates]
    object.__setattr__(models[ranking[0]], "raw", raw)
    llm = CrossRouteLLM(models=models, willingness_to_pay=0)
    found = (await answer_of(way, llm)).additional_kwargs["crossroute"]
    assert found["model"] == ranking[0]
    assert "attempts" not in found
    llm = CrossRouteLLM(models=models, willingness_to_pay=0, pass_refusals=True)
    found = (await answer_of(way, llm)).additional_kwargs["crossroute"]
    assert found["model"] == ranking[1]
    assert found["attempts"] == [{"model": ranking[0], "error": "refused"}]


@pytest.mark.parametrize("way", WAYS)
async def test_if_all_refuse_the_first_refusal_is_the_answer(
    way: str, events: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In a stream, in one chunk.
    monkeypatch.setattr(ScriptedLLM, "text", "No.")
    models = scripted(raw=REFUSALS[0])
    llm = CrossRouteLLM(models=models, willingness_to_pay=0, pass_refusals=True)
    [answer] = await answers_of(way, llm)
    assert answer.additional_kwargs["crossroute"]["model"] == SMALL
    assert [event.model for event in events.of(CrossRouteAnswerEvent)] == [SMALL]
    assert all(len(model._asked) == 1 for model in models.values())


@pytest.mark.parametrize("way", ["stream_chat", "astream_chat"])
async def test_a_refusal_is_read_to_its_end_before_the_next_is_asked(way: str) -> None:
    # Left open, it would be closed at any time, by the garbage collector.
    models = scripted()
    ranking = [c.model for c in core_decision(willingness=0).candidates]

    def chunks(*_: Any) -> Iterator[ChatResponse]:
        for _number in range(3):
            assert not models[ranking[1]]._asked
            yield ChatResponse(message=ChatMessage("No.", role="assistant"), raw=REFUSALS[0])

    object.__setattr__(models[ranking[0]], "_chunks", chunks)
    llm = CrossRouteLLM(models=models, willingness_to_pay=0, pass_refusals=True)
    found = (await answer_of(way, llm)).additional_kwargs["crossroute"]
    assert found["model"] == ranking[1]
    assert models[ranking[0]]._closed == [True]


# What it took


class Usage(BaseModel):
    input_tokens: int = 50
    output_tokens: int = 70


class RawAnswer(BaseModel):
    usage: Usage = Field(default_factory=Usage)


@pytest.mark.parametrize(
    ("raw", "additional", "tokens"),
    [
        ({"usage": USAGE}, {}, (50, 70, 0)),
        ({"usage": USAGE | {"prompt_tokens_details": {"cached_tokens": 9}}}, {}, (50, 70, 9)),
        ({"usage": USAGE | {"prompt_tokens_details": None}}, {}, (50, 70, 0)),
        (RawAnswer(), {}, (50, 70, 0)),
        (None, USAGE, (50, 70, 0)),
        (
            {
                "usage": {
                    "input_tokens": 50,
                    "output_tokens": 70,
                    "cache_read_input_tokens": 30,
                    "cache_creation_input_tokens": 20,
                }
            },
            {},
            (100, 70, 30),
        ),
        (
            {
                "usage_metadata": {
                    "prompt_token_count": 50,
                    "candidates_token_count": 60,
                    "thoughts_token_count": 10,
                    "cached_content_token_count": 5,
                }
            },
            {},
            (50, 70, 5),
        ),
        (None, {}, None),
        ({"usage": None}, {}, None),
        ({"usage": {"prompt_tokens": 0, "completion_tokens": 0}}, {}, None),
    ],
)
def test_usage_of_several_providers(
    raw: Any, additional: dict[str, Any], tokens: tuple[int, int, int] | None
) -> None:
    shipped = CrossRouter.default().pool[LARGE].price
    assert shipped is not None
    price = shipped.model_copy(update={"cached_input_usd_per_1m": 1.0})
    response = CompletionResponse(text="", raw=raw, additional_kwargs=additional)
    found = realised(response, price)
    if tokens is None:
        assert found is None
    else:
        assert found == {
            "input_tokens": tokens[0],
            "output_tokens": tokens[1],
            "cached_tokens": tokens[2],
            "cost_usd": pytest.approx(price.cost_usd(*tokens)),
        }
    assert realised(response, None) is None


@pytest.mark.parametrize(
    "raw",
    [
        {"usage": USAGE | {"completion_tokens_details": {"reasoning_tokens": 10}}},
        {
            "usage_metadata": {
                "prompt_token_count": 50,
                "candidates_token_count": 60,
                "thoughts_token_count": 10,
            }
        },
    ],
)
def test_reasoning_has_its_own_price_where_it_is_billed_apart(raw: Any) -> None:
    shipped = CrossRouter.default().pool[LARGE].price
    assert shipped is not None
    price = shipped.model_copy(update={"reasoning_output_usd_per_1m": 100.0})
    found = realised(CompletionResponse(text="", raw=raw), price)
    by_hand = (50 * price.input_usd_per_1m + 60 * price.output_usd_per_1m + 10 * 100.0) / 1e6
    assert found["cost_usd"] == pytest.approx(by_hand)
