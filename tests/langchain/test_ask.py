"""How chat models are asked outside of any routing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import openai
import pytest
from fakes_langchain import ScriptedChatModel
from langchain_openai import ChatOpenAI
from openai_server import OpenAIServer, Reply

from langchain_crossroute.ask import AskChatModels, without_retries

SCHEMA = {
    "title": "verdict",
    "description": "Grades.",
    "type": "object",
    "properties": {"A": {"type": "number"}},
    "required": ["A"],
    "additionalProperties": False,
}
KEY = "sk-SECRETSECRET1"


def client(server: OpenAIServer, **more: Any) -> ChatOpenAI:  # noqa: ANN401
    given: dict[str, Any] = {"max_retries": 0, **more}
    return ChatOpenAI(model="m", base_url=server.url, api_key=KEY, **given)


async def test_an_answer_has_its_tokens_and_whether_it_was_cut(server: OpenAIServer) -> None:
    ask = AskChatModels({"m": client(server)})
    server.answers["m"] = Reply("yes", input_tokens=7, output_tokens=3, cached_tokens=2)
    answer = await ask("m", "Is it?", max_tokens=50, schema=None)
    assert answer == ("yes", (7, 3, 2, 0), False)
    server.answers["m"] = Reply("ye", finish_reason="length")
    assert (await ask("m", "Is it?", max_tokens=50, schema=None)).cut
    assert [r.body["max_completion_tokens"] for r in server.requests] == [50, 50]


async def test_a_shorter_limit_of_the_model_stays(server: OpenAIServer) -> None:
    server.answers["m"] = Reply("yes")
    ask = AskChatModels({"m": client(server, max_tokens=20)})
    await ask("m", "Is it?", max_tokens=50, schema=None)
    assert server.requests[0].body["max_completion_tokens"] == 20


async def test_a_schema_gives_json_with_its_tokens_and_limit(server: OpenAIServer) -> None:
    server.answers["m"] = Reply('{"A":  7}', input_tokens=7, output_tokens=3)
    ask = AskChatModels({"m": client(server)})
    messages = [{"role": "system", "content": "Judge."}, {"role": "user", "content": "?"}]
    answer = await ask("m", messages, max_tokens=50, schema=SCHEMA)
    assert answer == ('{"A": 7}', (7, 3, 0, 0), False)
    body = server.requests[0].body
    assert body["response_format"]["json_schema"]["schema"]["required"] == ["A"]
    assert body["max_completion_tokens"] == 50
    assert [m["role"] for m in body["messages"]] == ["system", "user"]
    # What is no JSON is handed on as it is, for whoever reads it to refuse.
    server.answers["m"] = Reply("no idea", input_tokens=7, output_tokens=3)
    assert (await ask("m", messages, max_tokens=50, schema=SCHEMA)).text == "no idea"


async def test_a_model_that_takes_no_schema_is_asked_without() -> None:
    class Plain(ScriptedChatModel):
        def with_structured_output(self, *_: object, **__: object) -> Any:  # noqa: ANN401
            raise NotImplementedError

    ask = AskChatModels({"m": Plain(model_name="m")})
    assert (await ask("m", "Is it?", max_tokens=50, schema=SCHEMA)).text


async def test_errors_hold_no_key(server: OpenAIServer) -> None:
    server.answers["m"] = Reply(f"the key {KEY} is wrong", status=401)
    ask = AskChatModels({"m": client(server)})
    with pytest.raises(openai.AuthenticationError) as raised:
        await ask("m", "Is it?", max_tokens=50, schema=None)
    assert KEY not in str(raised.value)


async def test_an_error_that_says_nothing_of_schemas_is_raised(server: OpenAIServer) -> None:
    server.answers["m"] = Reply("too busy", status=503)
    ask = AskChatModels({"m": client(server)})
    with pytest.raises(openai.InternalServerError):
        await ask("m", "Is it?", max_tokens=50, schema=SCHEMA)
    assert len(server.requests) == 1


async def test_clients_do_not_try_again_by_themselves(server: OpenAIServer) -> None:
    def build(more: Mapping[str, Any]) -> ChatOpenAI:
        return client(server, **{"max_retries": 2, **more})

    server.answers["m"] = Reply("too busy", status=503)
    ask = AskChatModels({"m": without_retries(build)})
    with pytest.raises(openai.InternalServerError):
        await ask("m", "Is it?", max_tokens=50, schema=None)
    assert len(server.requests) == 1
    # One that has no such setting is built once.
    scripted = ScriptedChatModel(model_name="m")
    assert without_retries(lambda more: scripted) is scripted
