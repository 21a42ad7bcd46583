"""The OpenAI-compatible server of the examples: what scripted replies say."""

# ruff: noqa: ANN401  # Bodies in JSON.

from __future__ import annotations

import threading
from typing import Any

import httpx
import pytest
from openai_server import OpenAIServer, Reply

WORDS = ["I", " am", " small."]
VALUES = (-0.25, -0.5, -1.5)


def ask(server: OpenAIServer, **body: Any) -> Any:
    question = {"model": "one", "messages": [{"role": "user", "content": "Who?"}], **body}
    return httpx.post(f"{server.url}/chat/completions", json=question, timeout=60)


def choice(server: OpenAIServer, **body: Any) -> Any:
    return ask(server, **body).json()["choices"][0]


def streamed(server: OpenAIServer, **body: Any) -> list[Any]:
    lines = ask(server, stream=True, **body).text.split("\n\n")
    events = [httpx.Response(200, text=line[6:]).json() for line in lines if line[6:7] == "{"]
    return [event["choices"][0] for event in events]


def listed(choices: list[Any], kind: str = "content") -> list[tuple[str, float]]:
    found = [one["logprobs"] for one in choices if one.get("logprobs")]
    return [(t["token"], t["logprob"]) for one in found for t in one[kind] or ()]


def test_log_probabilities_are_for_those_who_ask() -> None:
    expected = list(zip(WORDS, VALUES, strict=True))
    with OpenAIServer({"one": Reply("I am small.", logprobs=VALUES)}) as server:
        assert listed([choice(server, logprobs=True)]) == expected
        assert listed(streamed(server, logprobs=True)) == expected
        assert listed([choice(server), *streamed(server)]) == []


def test_those_of_a_refusal_stand_apart() -> None:
    with OpenAIServer({"one": Reply(refusal="I will not.", logprobs=VALUES)}) as server:
        for choices in ([choice(server, logprobs=True)], streamed(server, logprobs=True)):
            assert listed(choices) == []
            assert [value for _, value in listed(choices, "refusal")] == list(VALUES)


def test_several_replies_are_given_in_turn() -> None:
    with OpenAIServer({"one": [Reply("a"), Reply("b", status=429), Reply("c")]}) as server:
        found = [ask(server) for _ in range(4)]
        assert [response.status_code for response in found] == [200, 429, 200, 200]
        texts = [r.json()["choices"][0]["message"]["content"] for r in (found[0], *found[2:])]
        assert texts == ["a", "c", "a"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_delay_ends_with_the_server(stream: bool) -> None:
    errors: list[Exception] = []

    def impatient() -> None:
        try:
            ask(server, stream=stream)
        except httpx.HTTPError as error:
            errors.append(error)

    with OpenAIServer({"one": Reply("I am small.", delay=3600)}) as server:
        client = threading.Thread(target=impatient)
        client.start()
        while not server.requests:
            pass
    client.join(60)
    assert not client.is_alive()
    assert len(errors) == 1


def test_a_delay_is_before_what_is_said() -> None:
    with OpenAIServer({"one": Reply("I am small.", delay=0.01)}) as server:
        assert choice(server)["message"]["content"] == "I am small."
        assert "".join(one["delta"].get("content", "") for one in streamed(server)) == "I am small."


def test_an_answer_is_held_until_it_is_released() -> None:
    with OpenAIServer({"one": Reply("I am small.", hold_after=2)}) as server:
        question = {"model": "one", "messages": [], "stream": True}
        url = f"{server.url}/chat/completions"
        with httpx.stream("POST", url, json=question, timeout=60) as response:
            lines = (line for line in response.iter_lines() if "content" in line)
            assert all(next(lines) for _ in range(2))
            assert not server.release.is_set()
            server.release.set()
            assert len(list(lines)) == 2
        server.release.clear()
        server.answers["one"] = Reply("I am small.", hold_after=0)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(url, json=question, timeout=0.2)
    assert server.left == ["one"]
