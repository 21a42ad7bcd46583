"""`crossroute_shorten`: a model without room for the conversation gets a shorter one."""

from operator import itemgetter
from typing import Any

import pytest
from fakes_langchain import (
    LARGE,
    MINI,
    WAYS,
    agent_of,
    answer_of,
    decision_of,
    run_agent,
    scripted,
    tool_callers,
    weather,
)
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from crossroute import ConstraintError, CrossRouter, ModelPool, NoCandidateError
from langchain_crossroute import ChatCrossRoute, CrossRouteRunnable

# The protocol of version v3 is in beta, and says so in every call.
pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")

SHORTEN = {"configurable": {"crossroute_shorten": True}}
CALL = {"name": "look", "args": {"at": "sea"}, "id": "1"}
LONG: list[BaseMessage] = [
    SystemMessage("You know the sea."),
    HumanMessage("What is the weather at the sea?"),
    AIMessage("", tool_calls=[CALL]),
    ToolMessage("The sea is calm today. " * 10, tool_call_id="1"),
    AIMessage("It is calm."),
    *(
        kind(f"Of other things, number {place}, we talk at length. " * 12)
        for place in range(10)
        for kind in (HumanMessage, AIMessage)
    ),
    HumanMessage("So, how is the weather at the sea?"),
]


@pytest.fixture
def narrow(router: CrossRouter) -> CrossRouter:
    """A router whose MINI has room for a thousand tokens."""
    found = router.subset([MINI, LARGE])
    small = found.pool[MINI].model_copy(update={"context_window_tokens": 1_000})
    return found.over(ModelPool([small, found.pool[LARGE]]))


def pair(models: dict[str, Any]) -> dict[str, Any]:
    return {model: models[model] for model in (MINI, LARGE)}


def check(asked: list[list[BaseMessage]]) -> None:
    """See that MINI got the system prompt, the tool call with its result and the question."""
    (messages,) = asked
    assert messages[0].text == "You know the sea."
    assert messages[-1] is LONG[-1]
    assert len(messages) < len(LONG) / 2
    called = [
        message for message in messages if isinstance(message, AIMessage) if message.tool_calls
    ]
    results = [message for message in messages if isinstance(message, ToolMessage)]
    assert (len(called), len(results)) == (1, 1)
    assert messages.index(called[0]) + 1 == messages.index(results[0])


@pytest.mark.parametrize(
    ("kind", "way"),
    [*((ChatCrossRoute, way) for way in [*WAYS, "v3"]), (CrossRouteRunnable, "stream")],
)
async def test_a_model_gets_what_it_has_room_for(
    way: str, kind: type[Any], narrow: CrossRouter
) -> None:
    models = pair(scripted())
    chat = kind(router=narrow, models=models, willingness_to_pay=0)
    answer = await answer_of(way, chat, LONG, SHORTEN)
    assert decision_of(answer)["model"] == MINI
    assert decision_of(answer)["shortened"] == {MINI: 750}
    check(models[MINI].asked)
    assert not models[LARGE].asked


def test_a_call_that_could_not_be_read_stays_with_its_result(narrow: CrossRouter) -> None:
    models = pair(scripted())
    chat = ChatCrossRoute(router=narrow, models=models, willingness_to_pay=0)
    call = {"name": "look", "args": "{at: sea", "id": "1", "error": None}
    messages = [*LONG[:2], AIMessage("", invalid_tool_calls=[call]), *LONG[3:]]
    chat.invoke(messages, SHORTEN)
    (asked,) = models[MINI].asked
    assert asked[2:4] == messages[2:4]


def test_who_has_room_gets_all_of_it(narrow: CrossRouter) -> None:
    models = pair(scripted())
    models[MINI].error = ConnectionError("down")
    chat = ChatCrossRoute(router=narrow, models=models, willingness_to_pay=0)
    assert decision_of(chat.invoke(LONG, SHORTEN))["model"] == LARGE
    check(models[MINI].asked)
    assert models[LARGE].asked == [LONG]


def test_nothing_is_shortened_unless_the_call_says_so(narrow: CrossRouter) -> None:
    models = pair(scripted())
    chat = ChatCrossRoute(router=narrow, models=models, willingness_to_pay=0)
    assert decision_of(chat.invoke(LONG))["model"] == LARGE
    assert models[LARGE].asked == [LONG]
    with pytest.raises(NoCandidateError, match="context window"):
        chat.invoke(LONG, {"configurable": {"crossroute_model": MINI}})
    assert chat.invoke("Hello", SHORTEN).response_metadata["crossroute"].get("shortened") is None


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_an_agent_keeps_its_tool_loop(way: str, narrow: CrossRouter) -> None:
    models = pair(tool_callers())
    agent = agent_of(models, [weather], router=narrow, willingness_to_pay=0)
    state = await run_agent(way, agent, LONG[1:], SHORTEN)
    assert state["messages"][-1].text == f"I am {MINI}."
    first, second = models[MINI].asked
    assert len(first) < len(LONG) / 2
    # The question, the call and its result.
    assert second[-3:] == state["messages"][-4:-1]
    assert not models[LARGE].asked


def test_an_input_that_is_no_conversation_cannot_be_shortened(narrow: CrossRouter) -> None:
    chain = CrossRouteRunnable(router=narrow, models=pair(scripted()), query=itemgetter("question"))
    with pytest.raises(ConstraintError, match="crossroute_shorten is for inputs that are messages"):
        chain.invoke({"question": "Hello"}, SHORTEN)
