"""fit_messages, FitContextMiddleware and StoreMemory in LangChain's and LangGraph's own hands."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import get_ident
from typing import Any

import pytest
from fakes_langchain import ToolCaller, cheap, lookup, scripted, tool_callers, weather
from langchain.agents import create_agent
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    trim_messages,
)
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore

from crossroute import ConstraintError, ContextError, DataError, QueryError
from crossroute.context import ContextWeights, SharedMemory
from crossroute.context.tokens import message_tokens
from langchain_crossroute import (
    CrossRouteMiddleware,
    FitContextMiddleware,
    StoreMemory,
    fit_messages,
)
from langchain_crossroute.context import messages_as_dicts

SYSTEM = SystemMessage("You look after a house.")
CAT = HumanMessage("My cat is called Tom and eats only fish.")
RAIN = AIMessage("In Paris it rains all day, with storms in the evening.")
ASKED = HumanMessage("What does the cat eat?")
# Of their own: an agent's state holds one message once.
RAINS = [RAIN.model_copy() for _ in range(6)]
HISTORY: list[BaseMessage] = [SYSTEM, CAT, *RAINS, ASKED]


def tokens(messages: list[BaseMessage]) -> int:
    return sum(map(message_tokens, messages_as_dicts(messages)))


BUDGET = tokens([SYSTEM, CAT, ASKED])


def calls(*ids: str) -> AIMessage:
    made = [{"name": "weather", "args": {"city": "Paris"}, "id": id_} for id_ in ids]
    return AIMessage("", tool_calls=made)


def test_messages_are_kept_as_they_are() -> None:
    found = fit_messages(HISTORY, budget_tokens=BUDGET)
    assert len(found) == 3
    assert all(ours is theirs for ours, theirs in zip(found, [SYSTEM, CAT, ASKED], strict=True))


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_a_runnable_in_a_chain(way: str) -> None:
    models = scripted()
    prompt = ChatPromptTemplate.from_messages(
        [("system", "You look after a house."), MessagesPlaceholder("history")]
    )
    chain = prompt | fit_messages(budget_tokens=BUDGET) | cheap(models)
    given = {"history": HISTORY[1:]}
    answer = chain.invoke(given) if way == "invoke" else await chain.ainvoke(given)
    assert answer.text
    (asked,) = [messages for model in models.values() for messages in model.asked]
    assert [message.content for message in asked] == [
        message.content for message in (SYSTEM, CAT, ASKED)
    ]


def test_it_stands_where_trim_messages_stood() -> None:
    def count(messages: list[BaseMessage]) -> int:
        return tokens(messages)

    trim = trim_messages(max_tokens=BUDGET, token_counter=count, include_system=True)
    fit = fit_messages(budget_tokens=BUDGET)
    assert CAT not in trim.invoke(HISTORY)
    assert CAT in fit.invoke(HISTORY)
    assert tokens(fit.invoke(HISTORY)) <= BUDGET


def test_what_a_chat_model_takes() -> None:
    assert fit_messages("Hello", budget_tokens=99) == [HumanMessage("Hello")]
    pairs = fit_messages([("system", "Be short."), ("user", "Hello")], budget_tokens=99)
    assert [message.type for message in pairs] == ["system", "human"]
    value = ChatPromptTemplate.from_messages([("user", "Hello")]).invoke({})
    assert fit_messages(value, budget_tokens=99) == value.to_messages()
    with pytest.raises(QueryError):
        fit_messages({"question": "Hello"}, budget_tokens=99)  # type: ignore[arg-type]


def test_pairs_also_of_calls_that_could_not_be_read() -> None:
    broken = AIMessage(
        "", invalid_tool_calls=[{"name": "weather", "args": "{", "id": "1", "error": "cut"}]
    )
    mended = ToolMessage("The arguments are no JSON.", tool_call_id="1")
    pair = [
        calls("2", "3"),
        ToolMessage("rain", tool_call_id="3"),
        ToolMessage("x", tool_call_id="2"),
    ]
    messages: list[BaseMessage] = [broken, mended, *pair, CAT, ASKED]
    for budget in range(tokens([ASKED]), tokens(messages) + 1):
        found = fit_messages(messages, budget_tokens=budget)
        assert tokens(found) <= budget
        assert (broken in found) == (mended in found)
        assert len({message in found for message in pair}) == 1
    assert found == messages


def test_a_stage_and_a_name() -> None:
    plan = AIMessage("Done.", additional_kwargs={"stage": "plan"}, name="planner")
    draft = AIMessage("Done.", additional_kwargs={"stage": "draft"}, name="writer")
    messages: list[BaseMessage] = [plan, draft, draft, ASKED]
    budget = tokens([plan, ASKED])
    weights = ContextWeights(stage=2)
    assert fit_messages(messages, budget_tokens=budget, stage="plan", weights=weights)[0] is plan


def test_the_models_own_count() -> None:
    model = cheap(scripted())
    found = fit_messages(HISTORY, budget_tokens=60, count=lambda text: len(text) // 4)
    assert sum(len(message.text) // 4 + 4 for message in found) <= 60
    assert fit_messages(HISTORY, budget_tokens=999, count=model.get_num_tokens)[0] is SYSTEM


def test_settings_are_checked_where_they_are_given() -> None:
    for make in (fit_messages, FitContextMiddleware):
        with pytest.raises(ConstraintError, match="budget_tokens is -1"):
            make(budget_tokens=-1)
        with pytest.raises(ConstraintError, match="count is 3"):
            make(budget_tokens=9, count=3)
        with pytest.raises(ConstraintError, match="weights is 3"):
            make(budget_tokens=9, weights=3)


def test_a_chain_that_is_given_nothing() -> None:
    with pytest.raises(QueryError, match="fit_messages is given None; give a list"):
        fit_messages(budget_tokens=9).invoke(None)  # type: ignore[arg-type]


def test_calls_of_before_there_were_tool_calls() -> None:
    call = AIMessage(
        "", additional_kwargs={"function_call": {"name": "cat", "arguments": '{"who": "Tom"}'}}
    )
    messages = [call, FunctionMessage("It eats fish.", name="cat"), RAIN, ASKED]
    assert fit_messages(messages, budget_tokens=999) == messages
    assert tokens([call]) > tokens([AIMessage("")])


# In an agent


def agent(model: ToolCaller, **settings: Any) -> Any:
    return create_agent(
        model,
        [weather],
        system_prompt=SYSTEM.text,
        middleware=[FitContextMiddleware(**settings)],
        checkpointer=InMemorySaver(),
    )


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_each_model_call_is_fitted_and_the_state_is_whole(way: str) -> None:
    model = ToolCaller(model_name="one")
    config = {"configurable": {"thread_id": "1"}}
    made = agent(model, budget_tokens=BUDGET + 70)
    state = {"messages": [*HISTORY[1:]]}
    found = made.invoke(state, config) if way == "invoke" else await made.ainvoke(state, config)
    # The question, the call, its result, the answer.
    assert len(found["messages"]) == len(HISTORY) - 1 + 3
    first, second = model.asked
    assert first[0].type == "system"
    assert CAT.content in [message.content for message in first]
    assert first[-1].content == ASKED.content
    assert [message.type for message in second][-3:] == ["human", "ai", "tool"]
    for messages in model.asked:
        assert tokens(messages) <= BUDGET + 70
        assert len(messages) < len(HISTORY)


def test_a_loop_that_does_not_fit_is_an_error() -> None:
    model = ToolCaller(model_name="one")
    with pytest.raises(ContextError, match="nothing of them is cut"):
        agent(model, budget_tokens=tokens([SYSTEM, ASKED])).invoke(
            {"messages": [ASKED]}, {"configurable": {"thread_id": "1"}}
        )
    assert len(model.asked) == 1


def test_before_the_router() -> None:
    models = tool_callers()
    routed = CrossRouteMiddleware(models, willingness_to_pay=0)
    never = ToolCaller(model_name="never", errors=[AssertionError()])
    made = create_agent(
        never, [lookup], middleware=[FitContextMiddleware(budget_tokens=120), routed]
    )
    long: list[BaseMessage] = [*(RAIN.model_copy() for _ in range(300)), ASKED]
    made.invoke({"messages": long})
    asked = [messages for model in models.values() for messages in model.asked]
    assert asked
    assert all(tokens(messages) <= 120 for messages in asked)


# A memory in a store


@pytest.fixture
def store() -> InMemoryStore:
    return InMemoryStore()


def test_a_store_and_a_process_give_the_same(store: InMemoryStore) -> None:
    shared, stored = SharedMemory(), StoreMemory(store, ("case", "found"))
    for number in range(30):
        for memory in (shared, stored):
            memory.add(f"Box {number} holds {number * 3} letters.", author="a", stage="read")
    asked: dict[str, Any] = {"budget_tokens": 60, "question": "What does box 17 hold?"}
    ours = [item.content for item in stored.items(**asked)]
    assert ours == [item.content for item in shared.items(**asked)]
    assert "Box 17 holds 51 letters." in ours
    assert len(stored.items()) == 30


async def test_without_blocking(store: InMemoryStore) -> None:
    memory = StoreMemory(store, ("case",))
    written = await memory.aadd({"sum": 4310}, author="accountant", stage="check")
    assert await memory.aitems() == [written]
    assert await memory.aitems(budget_tokens=1) == []


async def test_reading_does_not_hold_the_loop(store: InMemoryStore) -> None:
    memory = StoreMemory(store, ("case",))
    memory.add("One.", author="a")
    threads: set[int] = set()

    def count(text: str) -> int:
        threads.add(get_ident())
        return len(text)

    assert await memory.aitems(budget_tokens=99, count=count)
    assert get_ident() not in threads
    assert threads


def test_many_items_and_other_namespaces(
    store: InMemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langchain_crossroute.store_memory.PAGE", 7)
    memory = StoreMemory(store, ("case",))
    StoreMemory(store, ("case", "below")).add("not mine", author="b")
    StoreMemory(store, ("cas",)).add("not mine", author="b")

    def write(author: str) -> None:
        for number in range(25):
            memory.add(number, author=author)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, "abcd"))
    items = memory.items()
    assert len(items) == 100
    for author in "abcd":
        assert [item.content for item in items if item.author == author] == list(range(25))


def test_two_memories_over_one_store(store: InMemoryStore) -> None:
    StoreMemory(store, ("case",)).add("One.", author="a")
    other = StoreMemory(store, ("case",))
    other.add("Two.", author="b")
    assert [item.content for item in other.items()] == ["One.", "Two."]


def test_what_is_no_item_and_no_namespace(store: InMemoryStore) -> None:
    store.put(("case",), "key", {"text": "something else"})
    with pytest.raises(DataError, match=r"case, key 'key'.*another namespace"):
        StoreMemory(store, ("case",)).items()
    for namespace in ((), "case", ("",), [1], None):
        with pytest.raises(ConstraintError, match="namespace is"):
            StoreMemory(store, namespace)  # type: ignore[arg-type]
    with pytest.raises(ConstraintError, match="author"):
        StoreMemory(store, ("other",)).add("x", author="")
