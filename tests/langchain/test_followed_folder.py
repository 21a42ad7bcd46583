"""LangChain's classes over a folder of descriptors that changes while they are used."""

# ruff: noqa: ANN401  # LangChain's own signatures say Any.

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fakes_langchain import LARGE, MINI, QUESTION, aged, followed, put
from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import ConfigurableField, Runnable

from crossroute import CrossRouter, PoolError
from langchain_crossroute import ChatCrossRoute, CrossRouteMiddleware, CrossRouteRunnable


class Named(GenericFakeChatModel):
    """Answers with what it was built as, and with the tools that were bound to it."""

    label: str
    messages: Any = iter(())

    def _generate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Any:
        text = self.label + "".join(f" with {tool}" for tool in kwargs.get("tools", ()))
        self.messages = iter([AIMessage(text)])
        return super()._generate(messages, stop, run_manager)

    def bind_tools(self, tools: Any, **kwargs: Any) -> Runnable[Any, Any]:
        return self.bind(tools=[f"{tool['name']} of {self.label}" for tool in tools])


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The chat models that were built, in their order."""
    names: list[str] = []

    def build(chat_model: str, **arguments: Any) -> Named:
        names.append(chat_model)
        return Named(label=chat_model)

    monkeypatch.setattr("langchain.chat_models.init_chat_model", build)
    return names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path, LARGE, "large")
    put(tmp_path, MINI, "small")
    return tmp_path


def ask_agent(middleware: CrossRouteMiddleware[Any, Any]) -> str:
    agent: Any = create_agent(Named(label="never"), middleware=[middleware])
    return str(agent.invoke({"messages": [("user", QUESTION)]})["messages"][-1].text)


ASK: list[tuple[Any, Callable[[Any], str]]] = [
    (CrossRouteRunnable, lambda routed: str(routed.invoke(QUESTION).text)),
    (ChatCrossRoute, lambda chat: str(chat.invoke(QUESTION).text)),
    (ChatCrossRoute, lambda chat: str(asyncio.run(chat.ainvoke(QUESTION)).text)),
    (ChatCrossRoute, lambda chat: "".join(chunk.text for chunk in chat.stream(QUESTION))),
    (CrossRouteMiddleware, ask_agent),
]


@pytest.mark.parametrize(("cls", "ask"), ASK)
def test_a_change_of_the_folder_is_seen_by_the_next_call(
    folder: Path, built: list[str], cls: Any, ask: Callable[[Any], str]
) -> None:
    still = cls.from_yaml(folder, willingness_to_pay=0)
    routed = followed(cls.from_yaml(folder, follow=True, willingness_to_pay=0))
    assert ask(routed) == "openai:small"
    put(folder, MINI, "smaller")
    assert ask(routed) == "openai:smaller"
    put(folder, MINI, "smaller", disabled=True)
    assert ask(routed) == "openai:large"
    put(folder, MINI, "smaller", note="Switched on again.")
    assert ask(routed) == "openai:smaller"
    # One candidate is none to choose from: the last good pool stays.
    put(folder, MINI, None)
    assert ask(routed) == "openai:smaller"
    assert isinstance(routed.live.error, PoolError)
    assert "at least two" in str(routed.live.error)
    assert ask(still) == "openai:small"


def test_a_chat_model_is_kept_while_its_provider_says_the_same(
    folder: Path, built: list[str]
) -> None:
    chat = followed(ChatCrossRoute.from_yaml(folder, follow=True, willingness_to_pay=0))
    chat.invoke(QUESTION)
    put(folder, MINI, "small", note="The same.")
    put(folder, LARGE, "larger")
    assert chat.invoke(QUESTION).text == "openai:small"
    assert chat.live.error is None
    assert built == ["openai:small"]


def test_tools_are_bound_to_the_model_of_now(folder: Path, built: list[str]) -> None:
    capabilities = ("tools",)
    put(folder, MINI, "small", capabilities=capabilities)
    chat = followed(ChatCrossRoute.from_yaml(folder, follow=True, willingness_to_pay=0))
    bound = chat.bind_tools([{"name": "look", "description": "Look.", "parameters": {}}])
    assert bound.invoke(QUESTION).text == "openai:small with look of openai:small"
    put(folder, MINI, "smaller", capabilities=capabilities)
    assert bound.invoke(QUESTION).text == "openai:smaller with look of openai:smaller"


def test_a_copy_with_other_settings_follows_too(folder: Path, built: list[str]) -> None:
    chat = followed(ChatCrossRoute.from_yaml(folder, follow=True, willingness_to_pay=0))
    field = ConfigurableField(id="temperature")
    other = chat.configurable_fields(temperature=field).with_config(
        configurable={"temperature": 0.5}
    )
    put(folder, MINI, "smaller")
    assert other.invoke(QUESTION).text == "openai:smaller"


def test_a_call_in_flight_goes_on_with_what_it_began_with(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, go_on = threading.Event(), threading.Event()

    class Slow(Named):
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            if self.label == "openai:small":
                inside.set()
                assert go_on.wait(30)
                raise TimeoutError
            return super()._generate(*args, **kwargs)

    monkeypatch.setattr("langchain.chat_models.init_chat_model", lambda name: Slow(label=name))
    chat = followed(ChatCrossRoute.from_yaml(folder, follow=True, willingness_to_pay=0))
    with ThreadPoolExecutor(1) as executor:
        call = executor.submit(chat.invoke, QUESTION)
        assert inside.wait(30)
        put(folder, MINI, "smaller")
        put(folder, LARGE, "larger")
        assert chat.invoke(QUESTION).text == "openai:smaller"
        go_on.set()
        # The next candidate is that of the pool which the call began with.
        assert call.result(30).text == "openai:large"


def test_calls_under_load_are_of_one_pool(folder: Path, built: list[str]) -> None:
    """The price that an answer is decided by is that of the model which gives it."""
    chat = followed(ChatCrossRoute.from_yaml(folder, follow=True, willingness_to_pay=0))
    answers: list[AIMessage] = [chat.invoke(QUESTION)]
    base = answers[0].response_metadata["crossroute"]["cost_usd"]
    done = threading.Event()

    def call() -> None:
        while not done.is_set():
            answers.append(chat.invoke(QUESTION))

    async def calls() -> None:
        async def one() -> None:
            while not done.is_set():
                answers.append(await chat.ainvoke(QUESTION))

        await asyncio.gather(one(), one(), one())

    price = CrossRouter.default().pool[MINI].price
    assert price is not None
    with ThreadPoolExecutor(4) as executor:
        jobs = [executor.submit(call) for _ in range(3)]
        jobs.append(executor.submit(lambda: asyncio.run(calls())))
        for number in range(1, 30):
            dearer = {
                name: getattr(price, name) * (1 + number / 100)
                for name in ("input_usd_per_1m", "output_usd_per_1m")
            }
            put(folder, MINI, f"small-{number}", price=price.model_copy(update=dearer))
            time.sleep(0.02)
            if number % 5 == 0:
                broken = folder / "broken.yaml"
                broken.write_text("id: [", "utf-8")
                aged(broken)
                while chat.live.error is None:
                    time.sleep(0.001)
                broken.unlink()
        done.set()
        for job in jobs:
            job.result(60)
    assert len({answer.text for answer in answers}) > 5
    for answer in answers:
        number = int(answer.text.partition("-")[2] or 0)
        cost = answer.response_metadata["crossroute"]["cost_usd"]
        assert cost == pytest.approx(base * (1 + number / 100))


@pytest.mark.parametrize("cls", [CrossRouteRunnable, ChatCrossRoute, CrossRouteMiddleware])
def test_there_must_be_a_folder_to_follow(cls: Any) -> None:
    with pytest.raises(PoolError, match="No folder is named to follow"):
        cls.from_yaml(follow=True)


def test_what_is_followed_is_not_in_the_repr(folder: Path) -> None:
    chat = ChatCrossRoute.from_yaml(folder, follow=True)
    assert "live" not in repr(chat)
