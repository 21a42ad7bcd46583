"""What a request needs, and so who may answer."""

# ruff: noqa: ANN401  # LlamaIndex's own signatures say Any.

import math
from typing import Any

import pytest
from fakes_llamaindex import (
    LARGE,
    MODELS,
    QUESTION,
    SMALL,
    WAYS,
    Author,
    ScriptedLLM,
    answers_of,
    core_decision,
    scripted,
    user,
)
from llama_index.core.base.llms.types import (
    AudioBlock,
    CacheControl,
    CachePoint,
    ChatMessage,
    CitableBlock,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    VideoBlock,
)

from crossroute import CrossRouter, ModelDescriptor, ModelPool, NoCandidateError, QueryError
from llamaindex_crossroute import CrossRouteLLM


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (
            ImageBlock(url="https://example.com/cat.png"),
            "image_input is not among the capabilities in its descriptor",
        ),
        (
            AudioBlock(url="https://example.com/cat.mp3"),
            "audio_input is not among the capabilities in its descriptor",
        ),
        (
            VideoBlock(url="https://example.com/cat.mp4"),
            "file_input is not among the capabilities in its descriptor",
        ),
        (
            DocumentBlock(data=b"%PDF-1.7", title="a"),
            "file_input is not among the capabilities in its descriptor",
        ),
        (
            CitableBlock(title="a", source="b", content=[ImageBlock(url="https://a.b/c.png")]),
            "image_input is not among the capabilities in its descriptor",
        ),
    ],
)
def test_blocks_need_models_that_take_them(block: Any, reason: str) -> None:
    flash = "gemini-1.5-flash-002"
    models = {model: ScriptedLLM(name=model) for model in (SMALL, flash)}
    llm = CrossRouteLLM(models=models)
    assert llm.chat(user(QUESTION)).additional_kwargs["crossroute"]["removed"] == {}
    for blocks in ([TextBlock(text=QUESTION), block], [block]):
        answer = llm.chat([ChatMessage(blocks=blocks)])
        found = answer.additional_kwargs["crossroute"]
        assert found["model"] == flash
        assert found["removed"] == {SMALL: reason}


def test_cache_points_and_texts_need_nothing() -> None:
    blocks = [
        TextBlock(text=QUESTION),
        CachePoint(cache_control=CacheControl(type="ephemeral")),
        CitableBlock(title="a", source="b", content="Euclid."),
    ]
    answer = CrossRouteLLM(models=scripted()).chat([ChatMessage(blocks=blocks)])
    found = answer.additional_kwargs["crossroute"]
    assert found["removed"] == {}
    assert found == found | core_decision(f"{QUESTION}\nEuclid.").to_dict()


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_a_long_answer_needs_a_model_that_can_give_it(name: str) -> None:
    llm = CrossRouteLLM(models=scripted(), willingness_to_pay=math.inf)
    answer = llm.chat(user(QUESTION), **{name: 20_000})
    found = answer.additional_kwargs["crossroute"]
    assert found["model"] == SMALL
    assert found["removed"][LARGE] == "answers with 16384 tokens at most, 20000 are asked for"


@pytest.mark.parametrize("response_format", [Author, {"type": "json_schema", "json_schema": {}}])
def test_a_response_format_needs_a_model_that_keeps_it(response_format: Any) -> None:
    llm = CrossRouteLLM(models=scripted(), willingness_to_pay=0)
    answer = llm.chat(user(QUESTION), response_format=response_format)
    found = answer.additional_kwargs["crossroute"]
    assert found["removed"] == {
        SMALL: "structured_output is not among the capabilities in its descriptor"
    }
    answer = llm.chat(user(QUESTION), response_format={"type": "json_object"})
    assert answer.additional_kwargs["crossroute"]["model"] == SMALL


def pool_of(**windows: int | None) -> CrossRouter:
    """A router over models with these context windows in their descriptors."""
    shipped = CrossRouter.default()
    return shipped.over(
        ModelPool(
            ModelDescriptor.model_validate(
                {**shipped.pool[model].model_dump(), "id": name, "context_window_tokens": window}
            )
            for (name, window), model in zip(windows.items(), MODELS, strict=False)
        )
    )


def test_the_context_window_is_the_descriptors_else_the_metadatas() -> None:
    router = pool_of(said=1000, completed=None, unknown=None)
    models = {
        "said": ScriptedLLM(name="said", window=7),
        "completed": ScriptedLLM(name="completed", window=2000),
        # LlamaIndex's default, which says nothing.
        "unknown": ScriptedLLM(name="unknown", window=3900),
    }
    llm = CrossRouteLLM(models=models, router=router)
    windows = {name: d.context_window_tokens for name, d in llm.router.pool.items()}
    assert windows == {"said": 1000, "completed": 2000, "unknown": None}
    assert router.pool["completed"].context_window_tokens is None

    def removed(words: int) -> list[str]:
        answer = llm.chat(user("word " * words))
        return sorted(answer.additional_kwargs["crossroute"]["removed"])

    assert removed(500) == []
    assert removed(1500) == ["said"]
    assert removed(50_000) == ["completed", "said"]


@pytest.mark.parametrize("way", WAYS)
async def test_no_model_can_serve(way: str) -> None:
    models = scripted()
    with pytest.raises(NoCandidateError, match="context window") as caught:
        await answers_of(way, CrossRouteLLM(models=models), "word " * 200_000)
    assert sorted(caught.value.removed) == sorted(MODELS)
    assert not any(model._asked for model in models.values())


@pytest.mark.parametrize("messages", [["text"], 5])
def test_input_that_cannot_be_routed(messages: Any) -> None:
    with pytest.raises(QueryError):
        CrossRouteLLM(models=scripted()).chat(messages)
