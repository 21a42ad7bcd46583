"""fit_messages and FitContextMemoryBlock in LlamaIndex's own hands."""

from __future__ import annotations

import pytest
from llama_index.core.base.llms.types import (
    ChatMessage,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import MockLLM
from llama_index.core.memory import Memory, StaticMemoryBlock
from llama_index.core.storage.chat_store.base_db import MessageStatus
from llama_index.core.storage.chat_store.sql import SQLAlchemyChatStore

from crossroute import ConstraintError, ContextError, QueryError
from crossroute.context import ATTACHMENT_TOKENS, ContextWeights
from crossroute.context.tokens import message_tokens
from llamaindex_crossroute import FitContextMemoryBlock, fit_messages
from llamaindex_crossroute.context import count_tokens, messages_as_dicts


def says(role: str, text: str) -> ChatMessage:
    return ChatMessage(text, role=MessageRole(role))


SYSTEM = says("system", "You look after a house.")
CAT = says("user", "My cat is called Tom and eats only fish.")
RAIN = says("assistant", "In Paris it rains all day, with storms in the evening.")
ASKED = says("user", "What does the cat eat?")
HISTORY = [SYSTEM, CAT, *[RAIN] * 6, ASKED]


def tokens(messages: list[ChatMessage]) -> int:
    return sum(message_tokens(one, count_tokens) for one in messages_as_dicts(messages))


def calls(*ids: str) -> ChatMessage:
    blocks = [ToolCallBlock(tool_call_id=id_, tool_name="weather", tool_kwargs={}) for id_ in ids]
    return ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks)


def old_calls(*ids: str) -> ChatMessage:
    """As providers of before tool call blocks keep them: objects of their client."""

    class Call:
        def __init__(self, id_: str) -> None:
            self.id = id_

    kwargs = {"tool_calls": [Call(id_) for id_ in ids]}
    return ChatMessage("", role=MessageRole.ASSISTANT, additional_kwargs=kwargs)


def result(id_: str, text: str) -> ChatMessage:
    return ChatMessage(text, role=MessageRole.TOOL, additional_kwargs={"tool_call_id": id_})


def texts(messages: list[ChatMessage]) -> list[str | None]:
    return [message.content for message in messages]


# A conversation


def test_messages_are_kept_as_they_are() -> None:
    found = fit_messages(HISTORY, budget_tokens=tokens([SYSTEM, CAT, ASKED]))
    assert len(found) == 3
    assert all(ours is theirs for ours, theirs in zip(found, [SYSTEM, CAT, ASKED], strict=True))


@pytest.mark.parametrize("call", [calls, old_calls])
def test_pairs(call: type) -> None:
    pair = [call("a", "b"), result("b", "rain"), result("a", "sun")]
    messages = [*pair, CAT, RAIN, ASKED]
    for budget in range(tokens([ASKED]), tokens(messages) + 1):
        found = fit_messages(messages, budget_tokens=budget)
        assert tokens(found) <= budget
        kept = {id(message) for message in found}
        assert len({id(message) in kept for message in pair}) == 1
    assert found == messages


def test_a_stage_and_an_image() -> None:
    plan = says("assistant", "Done.")
    plan.additional_kwargs["stage"] = "plan"
    image = ChatMessage(
        role=MessageRole.USER, blocks=[TextBlock(text="Look."), ImageBlock(url="https://a.b/c")]
    )
    messages = [plan, says("assistant", "Done."), image]
    budget = tokens([plan, image])
    assert budget > ATTACHMENT_TOKENS
    weights = ContextWeights(stage=2)
    assert fit_messages(messages, budget_tokens=budget, stage="plan", weights=weights)[0] is plan


def test_results_of_calls_without_an_id() -> None:
    # As Ollama's: the id of a result is the name of the tool.
    block = ToolCallBlock(tool_name="cat", tool_kwargs={"who": "Tom"})
    call = ChatMessage(role=MessageRole.ASSISTANT, blocks=[block])
    messages = [call, result("cat", "It eats fish."), ASKED]
    assert fit_messages(messages, budget_tokens=999) == messages


def test_what_a_model_thought_is_counted() -> None:
    thought = ChatMessage(role=MessageRole.ASSISTANT, blocks=[ThinkingBlock(content="hm " * 50)])
    assert tokens([thought]) > 50


def test_what_is_refused() -> None:
    with pytest.raises(ContextError):
        fit_messages(HISTORY, budget_tokens=5)
    with pytest.raises(QueryError, match="Message 0"):
        fit_messages(["text"], budget_tokens=5)  # type: ignore[list-item]


# A memory


class Store(SQLAlchemyChatStore):
    """Keeps messages in lists: LlamaIndex's own leaves a connection to SQLite open."""

    _kept: dict[str, list[tuple[MessageStatus, ChatMessage]]] = PrivateAttr(default_factory=dict)

    async def get_messages(
        self,
        key: str,
        status: MessageStatus | None = MessageStatus.ACTIVE,
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[ChatMessage]:
        # Copies, as of a database.
        return [
            message.model_copy(deep=True)
            for found, message in self._kept.get(key, ())
            if status in (found, None)
        ]

    async def add_messages(
        self,
        key: str,
        messages: list[ChatMessage],
        status: MessageStatus = MessageStatus.ACTIVE,
    ) -> None:
        self._kept.setdefault(key, []).extend((status, message) for message in messages)

    async def add_message(
        self, key: str, message: ChatMessage, status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        await self.add_messages(key, [message], status)

    async def archive_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        kept = self._kept[key]
        places = [i for i, (status, _) in enumerate(kept) if status == MessageStatus.ACTIVE][:n]
        for place in places:
            kept[place] = (MessageStatus.ARCHIVED, kept[place][1])
        return [kept[place][1] for place in places]


def memory_of(block: FitContextMemoryBlock, limit: int = 100) -> Memory:
    return Memory.from_defaults(
        token_limit=limit,
        token_flush_size=20,
        chat_history_token_ratio=0.5,
        memory_blocks=[block],
        chat_store=Store("unused"),
    )


async def chat(memory: Memory, turns: int) -> None:
    await memory.aput_messages([CAT, says("assistant", "Noted.")])
    for number in range(turns):
        await memory.aput_messages(
            [says("user", f"How is the weather on day {number}?"), says("assistant", RAIN.content)]
        )


async def test_what_is_needed_of_the_flushed_comes_back() -> None:
    block = FitContextMemoryBlock(budget_tokens=25)
    memory = memory_of(block)
    await chat(memory, 6)
    (stored,) = block.stored.values()
    assert CAT.content in texts(stored)
    # No mark of the memory's is sent to a model.
    assert all(not message.additional_kwargs for message in stored)
    await memory.aput(ASKED)
    found = await memory.aget()
    assert found[-1].content == ASKED.content
    assert found[0].content == CAT.content
    recent = await memory.aget_all()
    assert len(found) < len(recent)


async def test_an_input_that_is_not_yet_in_the_memory() -> None:
    memory = memory_of(FitContextMemoryBlock(budget_tokens=25))
    for message in (CAT, *[RAIN] * 4, says("user", "And in Rome?"), RAIN):
        await memory.aput(message)
    assert CAT.content in texts(await memory.aget(input="What does the cat eat?"))


async def test_conversations_do_not_mix() -> None:
    block = FitContextMemoryBlock(budget_tokens=1_000)
    first, second = memory_of(block), memory_of(block)
    await chat(first, 6)
    assert len(block.stored) == 1
    assert CAT.content not in texts(await second.aget())
    await second.aput(ASKED)
    assert texts(await second.aget()) == [ASKED.content]


@pytest.mark.parametrize("priority", [0, 1])
async def test_a_memory_that_is_full_gives_up_what_is_needed_least(priority: int) -> None:
    memory = memory_of(FitContextMemoryBlock(budget_tokens=90, priority=priority))
    await chat(memory, 8)
    await memory.aput(ASKED)
    found = await memory.aget()
    active = await memory.sql_store.get_messages(memory.session_id)
    assert len(found) > len(active)
    tokens = sum(memory._estimate_token_count(message) for message in found)
    # LlamaIndex never cuts a block of priority 0.
    assert (tokens <= memory.token_limit) == bool(priority)


async def test_truncating() -> None:
    block = FitContextMemoryBlock(budget_tokens=80)
    content = [CAT, RAIN, RAIN]
    fewer = await block.atruncate(content, 5)
    assert fewer is not None
    assert 0 < len(fewer) < 3
    saved = memory_of(block)._estimate_token_count(content) - memory_of(
        block
    )._estimate_token_count(fewer)
    assert saved >= 5
    assert await block.atruncate(content, 10_000) is None
    assert await block.atruncate([], 1) is None


async def test_system_prompts_that_do_not_fit() -> None:
    block = FitContextMemoryBlock(budget_tokens=9)
    await block.aput([SYSTEM, CAT], from_short_term_memory=True)
    needed = tokens([SYSTEM])
    assert needed > 9
    with pytest.raises(ContextError, match=f"have {needed} tokens, {needed - 9} more than .*=9;"):
        await block.aget([ASKED])
    assert await block.atruncate([SYSTEM, CAT], tokens([CAT]) + 2) is None


@pytest.mark.parametrize("budget", [0, -1, True, 9.5])
def test_budgets_of_a_block_that_make_no_sense(budget: int) -> None:
    with pytest.raises(ValueError, match="budget_tokens"):
        FitContextMemoryBlock(budget_tokens=budget)


async def test_a_chat_engine_and_another_block() -> None:
    asked: list[list[ChatMessage]] = []

    class Model(MockLLM):
        async def achat(self, messages, **kwargs):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN003, ANN202
            asked.append(list(messages))
            return await super().achat(messages, **kwargs)

    block = FitContextMemoryBlock(budget_tokens=30)
    static = StaticMemoryBlock(name="facts", static_content="Ann lives here.")
    memory = memory_of(block)
    memory.memory_blocks.append(static)
    await chat(memory, 6)
    engine = SimpleChatEngine.from_defaults(llm=Model(), memory=memory)
    await engine.achat("What does the cat eat?")
    (messages,) = asked
    assert "Ann lives here." in str(messages[0])
    assert CAT.content in texts(messages)
    assert messages[-1].content == "What does the cat eat?"


async def test_attributes_that_make_no_sense() -> None:
    memory = memory_of(FitContextMemoryBlock(budget_tokens=30, role=" "))
    with pytest.raises(ConstraintError, match="role is ' '"):
        await memory.aget()


async def test_a_block_that_is_saved() -> None:
    block = FitContextMemoryBlock(budget_tokens=30, stage={"plan": 0.5}, count=len)
    await chat(memory_of(block), 6)
    again = FitContextMemoryBlock.model_validate_json(block.model_dump_json())
    assert again.stage == {"plan": 0.5}
    assert [texts(one) for one in again.stored.values()] == [
        texts(one) for one in block.stored.values()
    ]
