"""`call_settings(shorten=True)`: a model without room for the conversation gets a shorter one."""

from typing import Any

import pytest
from fakes_llamaindex import CHATS, LARGE, MINI, NativeLLM, responses, scripted
from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.llms import ChatMessage, MessageRole
from llama_index.core.prompts import ChatPromptTemplate

from crossroute import CrossRouter, ModelPool
from llamaindex_crossroute import CrossRouteLLM, call_settings

LONG = [
    ChatMessage("You know the sea.", role=MessageRole.SYSTEM),
    ChatMessage("What is the weather at the sea?"),
    ChatMessage(
        blocks=[ToolCallBlock(tool_call_id="1", tool_name="look", tool_kwargs={"at": "sea"})],
        role=MessageRole.ASSISTANT,
    ),
    ChatMessage(
        "The sea is calm today. " * 10,
        role=MessageRole.TOOL,
        additional_kwargs={"tool_call_id": "1"},
    ),
    ChatMessage("It is calm.", role=MessageRole.ASSISTANT),
    *(
        ChatMessage(f"Of other things, number {place}, we talk at length. " * 12, role=role)
        for place in range(10)
        for role in (MessageRole.USER, MessageRole.ASSISTANT)
    ),
    ChatMessage("So, how is the weather at the sea?"),
]


def narrow(router: CrossRouter, models: dict[str, Any]) -> CrossRouteLLM:
    """An LLM whose MINI has room for a thousand tokens."""
    found = router.subset([MINI, LARGE])
    small = found.pool[MINI].model_copy(update={"context_window_tokens": 1_000})
    pool = ModelPool([small, found.pool[LARGE]])
    return CrossRouteLLM(router=found.over(pool), models=models, willingness_to_pay=0)


def test_a_prompt_goes_whole_to_who_has_room(router: CrossRouter) -> None:
    """Where a model has its own way with prompts."""
    every = {model: NativeLLM(name=model) for model in (MINI, LARGE)}
    llm = narrow(router, {**every})
    with call_settings(shorten=True):
        llm.predict(ChatPromptTemplate(LONG))
    assert not every[MINI]._asked
    assert every[LARGE]._asked == [LONG]


@pytest.mark.parametrize("way", CHATS)
async def test_a_model_gets_what_it_has_room_for(way: str, router: CrossRouter) -> None:
    every = scripted()
    models = {model: every[model] for model in (MINI, LARGE)}
    llm = narrow(router, models)
    answer = (await responses(way, llm, LONG))[-1]
    assert answer.additional_kwargs["crossroute"]["model"] == LARGE
    with call_settings(shorten=True):
        answer = (await responses(way, llm, LONG))[-1]
    assert answer.additional_kwargs["crossroute"]["model"] == MINI
    (messages,) = models[MINI]._asked
    assert (messages[0], messages[-1]) == (LONG[0], LONG[-1])
    assert len(messages) < len(LONG) / 2
    call = messages.index(LONG[2])
    assert messages[call + 1] == LONG[3]
