"""What an attacker found: keys that leave, files without end, answers and numbers that are none."""

# ruff: noqa: ANN401  # Settings of any kind.

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI
from openai_server import OpenAIServer, Reply
from pydantic import BaseModel, ValidationError

from crossroute import ConstraintError, CrossRouteError, DataError, DescriptorError, ModelDescriptor
from crossroute.evaluation.comparison import load_prompts
from crossroute.failures import MASK, mask_error
from crossroute.onboarding.anchors import load_anchors
from crossroute.onboarding.scores import load_scores
from crossroute.training.data import RoutingData
from langchain_crossroute import ChatCrossRoute, CostLedger, CrossRouteRunnable

MINI, LARGE = "gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06"
KEY = "sk-0123456789abcdef-of-this-candidate"


def descriptor(address: str, variable: str) -> str:
    return json.dumps(
        {
            "id": "m",
            "provider": {
                "chat_model": "openai:m",
                "base_url": address,
                "api_key_env": variable,
            },
        }
    )


@pytest.mark.parametrize(
    ("address", "variable"),
    [
        ("https://evil.example/v1", "OPENAI_API_KEY"),
        ("https://evil.example/v1", "AWS_SECRET_ACCESS_KEY"),
        ("https://openai.com.evil.example/v1", "OPENAI_API_KEY"),
        ("https://notopenai.com/v1", "OPENAI_API_KEY"),
        ("https://api.openai.com/v1", "ANTHROPIC_API_KEY"),
    ],
)
def test_a_vendors_key_goes_to_nobody_else(address: str, variable: str) -> None:
    with pytest.raises(DescriptorError, match=rf"{variable} holds a key of .* must not go to"):
        ModelDescriptor.parse(descriptor(address, variable), Path("m.yaml"))


@pytest.mark.parametrize(
    ("chat_model", "variable", "is_right"),
    [
        ("groq:m", "OPENAI_API_KEY", False),
        ("openai:m", "ANTHROPIC_API_KEY", False),
        ("google_genai:m", "XAI_API_KEY", False),
        ("google_genai:m", "GEMINI_API_KEY", True),
        ("openai:m", "OPENAI_API_KEY_OF_THE_TEAM", True),
        ("openai:m", "TEAM_KEY", True),
        ("azure_openai:m", "OPENAI_API_KEY", True),
        ("mistralai:m", "MISTRAL_API_KEY", True),
    ],
)
def test_a_vendors_key_goes_to_no_other_vendor(
    chat_model: str, variable: str, is_right: bool
) -> None:
    text = json.dumps({"id": "m", "provider": {"chat_model": chat_model, "api_key_env": variable}})
    if is_right:
        ModelDescriptor.parse(text, Path("m.yaml"))
        return
    with pytest.raises(DescriptorError, match=rf"{variable} holds a key of .* must not go to"):
        ModelDescriptor.parse(text, Path("m.yaml"))


@pytest.mark.parametrize(
    ("address", "variable"),
    [
        ("https://evil.example/v1", "EXAMPLE_KEY"),
        ("https://eu.api.openai.com/v1", "OPENAI_API_KEY"),
        ("http://127.0.0.1:4000/v1", "OPENAI_API_KEY"),
    ],
)
def test_a_key_of_its_own_goes_to_a_server(address: str, variable: str) -> None:
    assert ModelDescriptor.parse(descriptor(address, variable), Path("m.yaml")).provider


@pytest.mark.parametrize("escape", ["\\U0011ffff", "\\Uffffffff", "\\UFFFFFFFF"])
def test_an_escape_that_stands_for_no_character(escape: str, tmp_path: Path) -> None:
    with pytest.raises(DescriptorError, match=r"line 1, column .* stands for no character"):
        ModelDescriptor.parse(f'id: "{escape}"', Path("m.yaml"))
    anchors = tmp_path / "anchors.yaml"
    anchors.write_text(f'- id: "{escape}"')
    with pytest.raises(CrossRouteError, match="stands for no character"):
        load_anchors(anchors)


def test_a_pipe_is_no_file_of_data(tmp_path: Path) -> None:
    pipe = tmp_path / "rows.jsonl"
    os.mkfifo(pipe)
    for read in (
        lambda: RoutingData.load([pipe]),
        lambda: load_scores(pipe, "m"),
        lambda: load_prompts(pipe),
    ):
        with pytest.raises(DataError, match="no regular file"):
            read()


NO_MESSAGES = [
    {"content": 5},
    {"content": {"a": 1}},
    {"content": [1, None]},
    {"content": "x", "role": None},
    {"content": None, "tool_calls": "x"},
    {"content": None, "tool_calls": [{"id": "1", "type": "function", "function": None}]},
    {"content": {"k": KEY}},
]


def routed(server: OpenAIServer, **settings: Any) -> ChatCrossRoute:
    return ChatCrossRoute(
        models={
            model: ChatOpenAI(
                model=model, base_url=server.url, api_key=KEY, max_retries=0, **settings
            )
            for model in (MINI, LARGE)
        },
        willingness_to_pay=0,
    )


def raw(message: dict[str, Any]) -> Reply:
    choice = {"index": 0, "message": {"role": "assistant"} | message, "finish_reason": "stop"}
    body = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
    return Reply(raw=json.dumps(body))


@pytest.mark.parametrize("message", NO_MESSAGES, ids=str)
def test_what_no_message_can_be_made_of_passes_on(message: dict[str, Any]) -> None:
    with OpenAIServer() as server:
        server.answers = {MINI: raw(message), LARGE: Reply("I am large.")}
        answer = routed(server).invoke("Who?")
        assert answer.text == "I am large."
        assert KEY not in str(answer.response_metadata)


def test_a_key_in_what_pydantic_says_is_masked() -> None:
    with OpenAIServer() as server:
        server.answers = dict.fromkeys((MINI, LARGE), raw({"content": {"k": KEY}}))
        with pytest.raises(Exception, match=r"\*\*\*") as caught:
            routed(server).invoke("Who?")
        assert KEY not in f"{caught.value!r} {caught.value} {caught.value.__notes__}"


@pytest.mark.parametrize("name", ["X-Auth", "Anything"])
@pytest.mark.parametrize("where", ["client", "call"])
def test_headers_are_masked_whatever_their_name(name: str, where: str) -> None:
    secret = "a value of a header"
    headers = {name: secret}
    with OpenAIServer() as server:
        server.answers = {MINI: Reply(f"you sent {secret}", status=401), LARGE: Reply("Fine.")}
        chat = routed(server, **({"default_headers": headers} if where == "client" else {}))
        given = {"extra_headers": headers} if where == "call" else {}
        (attempt,) = chat.invoke("Who?", **given).response_metadata["crossroute"]["attempts"]
        assert secret not in attempt["error"]
        assert MASK in attempt["error"]


def test_an_error_whose_text_cannot_be_changed_is_raised_as_another() -> None:
    class Small(BaseModel):
        number: int

    with pytest.raises(ValidationError) as caught:
        Small.model_validate({"number": KEY})
    told = mask_error(caught.value, [KEY])
    assert KEY not in str(told)
    assert isinstance(told, ValueError)
    group = ExceptionGroup("both", [ValueError(KEY), OSError("fine")])
    assert mask_error(group, [KEY]) is group
    assert KEY not in repr(group.exceptions)


@pytest.mark.parametrize("count", [float("nan"), float("inf"), -5, 10**30])
@pytest.mark.parametrize("kind", [ChatCrossRoute, CrossRouteRunnable])
def test_a_usage_that_is_none_is_not_counted(kind: type[Any], count: Any) -> None:
    message = AIMessage("Fine.")
    usage = {"input_tokens": count, "output_tokens": 1, "total_tokens": 1}
    message.usage_metadata = usage  # type: ignore[assignment]
    models = {model: RunnableLambda(lambda _: message) for model in (MINI, LARGE)}
    answer = kind(models=models, willingness_to_pay=0).invoke("Who?")
    decision = answer.response_metadata["crossroute"]
    assert "realised" not in decision
    assert decision["bill"]["estimated"]
    assert 0 <= decision["bill"]["cost_usd"] < 1


def test_a_ledger_survives_a_usage_that_is_none() -> None:
    with OpenAIServer() as server:
        body = json.loads(raw({"content": "Fine."}).raw or "")
        body["usage"] = {"prompt_tokens": 10**30, "completion_tokens": 5, "total_tokens": 1}
        server.answers = {MINI: Reply(raw=json.dumps(body))}
        chat = routed(server)
        ledger = CostLedger(chat)
        chat.invoke("Who?", {"callbacks": [ledger]})
        assert ledger.total_usd == 0
        assert ledger.spend[MINI].without_usage == 1
        assert "NOT in the sums" in ledger.report()


@pytest.mark.parametrize("kind", [ChatCrossRoute, CrossRouteRunnable])
def test_settings_of_other_kinds_are_typed_errors(kind: type[Any]) -> None:
    models = {model: RunnableLambda(lambda _: AIMessage("Fine.")) for model in (MINI, LARGE)}
    chat = kind(models=models)
    for excluded in (0, False, b"", "x"):
        with pytest.raises(CrossRouteError):
            chat.invoke("Who?", {"configurable": {"crossroute_excluded": excluded}})
    for wrong in ({"attempts": True}, {"attempts": "2"}, {"stay_margin": "x"}):
        with pytest.raises(ConstraintError):
            kind(models=models, **wrong)
    if kind is ChatCrossRoute:
        with pytest.raises(ConstraintError):
            kind(models=models, max_retries="a")
