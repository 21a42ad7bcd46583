"""Which failure of a candidate another one may not share, and what is told of it."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

import httpx
import pytest
from langchain_core.exceptions import (
    ContextOverflowError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelInvalidRequestError,
    ModelNotFoundError,
    ModelRateLimitError,
    OutputParserException,
)
from langchain_openai.chat_models.base import OpenAIRefusalError
from pydantic import BaseModel, PrivateAttr, SecretStr

from crossroute.failures import (
    MASK,
    NoAnswerError,
    describe,
    mask_error,
    masked,
    may_pass_elsewhere,
    secrets_of,
)

KEY = "sk-0123456789abcdef"
REQUEST = httpx.Request("POST", "http://127.0.0.1")


def error_with(base: type[BaseException] = Exception, **found: object) -> BaseException:
    error = base("vendor")
    for name, value in found.items():
        setattr(error, name, value)
    return error


def chained(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


def http_error(status: int) -> httpx.HTTPStatusError:
    return httpx.HTTPStatusError("no", request=REQUEST, response=httpx.Response(status))


PASSING = [
    *(error_with(status_code=x) for x in (401, 402, 403, 404, 408, 409, 410, 429, 500, 503, 529)),
    # The answer could not be read.
    error_with(status_code=200),
    # Google's, and those in the streams of compatible servers.
    *(error_with(code=code) for code in (HTTPStatus.SERVICE_UNAVAILABLE, 429, 404, "502")),
    error_with(code=None, type="server_error"),
    error_with(ModelAPIError, status_code=400),
    ModelAuthenticationError("401"),
    ModelNotFoundError("404"),
    ModelRateLimitError("429"),
    NoAnswerError("no chunk"),
    ModuleNotFoundError("No module named 'anthropic'"),
    TimeoutError("slow"),
    ConnectionResetError("gone"),
    httpx.ReadTimeout("slow"),
    httpx.ConnectError("refused"),
    httpx.RemoteProtocolError("dropped"),
    http_error(503),
    http_error(403),
    chained(Exception("APIConnectionError"), httpx.ConnectTimeout("slow")),
    chained(chained(Exception("outer"), Exception("inner")), error_with(status_code=429)),
]
RAISED = [
    *(error_with(status_code=status) for status in (400, 413, 422)),
    # Of a closed web socket.
    error_with(status_code=1006),
    *(error_with(code=code) for code in ("invalid_api_key", "", None, "9" * 5000)),
    error_with(code=lambda: 503),
    error_with(code=None, type="invalid_request_error"),
    error_with(code="400", type="server_error"),
    error_with(status_code=400, code=500),
    # Those of LangChain say it themselves.
    error_with(ModelInvalidRequestError, status_code=500),
    ContextOverflowError("too long"),
    OutputParserException("no JSON"),
    error_with(SystemExit, code=500),
    KeyboardInterrupt(),
    ValueError("a bug"),
    httpx.UnsupportedProtocol("no scheme"),
    httpx.LocalProtocolError("illegal header"),
    http_error(400),
    chained(error_with(status_code=422), httpx.ConnectError("refused")),
    OpenAIRefusalError("no"),
]


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_failures_that_others_may_not_share(error: BaseException) -> None:
    assert may_pass_elsewhere(error)


@pytest.mark.parametrize("error", RAISED, ids=repr)
def test_failures_that_others_would_share(error: BaseException) -> None:
    assert not may_pass_elsewhere(error)


def test_causes_in_a_circle_come_to_an_end() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert not may_pass_elsewhere(one)


def test_a_refusal_passes_where_it_is_asked_to() -> None:
    assert may_pass_elsewhere(OpenAIRefusalError("no"), refusals=True)


def test_errors_of_other_clients() -> None:
    import aiohttp
    import requests

    assert may_pass_elsewhere(requests.ConnectionError("refused"))
    assert may_pass_elsewhere(requests.ReadTimeout("slow"))
    assert may_pass_elsewhere(aiohttp.ServerDisconnectedError())
    assert not may_pass_elsewhere(requests.exceptions.InvalidURL("no scheme"))
    assert not may_pass_elsewhere(aiohttp.InvalidURL("no scheme"))


def called_in(module: str, cause: Callable[[], object]) -> Callable[[], object]:
    """A function of that module that calls `cause`."""
    scope: dict[str, Any] = {"__name__": module, "cause": cause}
    exec("def call():\n    cause()", scope)
    call: Callable[[], object] = scope["call"]
    return call


def raised_in(module: str, cause: Callable[[], object]) -> BaseException:
    """What `cause` raises when a function of that module calls it."""
    with pytest.raises(Exception, match=r"\S") as caught:
        called_in(module, cause)()
    return caught.value


@pytest.mark.parametrize(
    ("module", "passes"),
    [
        ("langchain_openai.chat_models.base", True),
        ("llama_index.llms.openai.base", True),
        ("openai._streaming", True),
        ("langchain_core.language_models.chat_models", False),
        ("langchain_crossroute.dispatch", False),
        ("langchain_helpers.prompts", False),
        ("langchain_google_genai.chat_models", True),
        ("llama_index.core.llms.llm", False),
        ("openai_tools.mine", False),
        ("__main__", False),
    ],
)
def test_an_answer_that_a_client_cannot_read(module: str, passes: bool) -> None:
    assert may_pass_elsewhere(raised_in(module, partial(json.loads, "<html>"))) == passes


@pytest.mark.parametrize(
    "messages",
    [
        "llama_index.core.base.llms.types",
        "langchain_core.messages.ai",
        "langchain_core.outputs.chat",
    ],
)
def test_an_answer_of_which_a_client_can_make_no_message(messages: str) -> None:
    cause = called_in(messages, partial(json.loads, "<html>"))
    assert may_pass_elsewhere(raised_in("llama_index.llms.openai.utils", cause))
    assert not may_pass_elsewhere(raised_in("__main__", cause))


def test_an_error_of_the_application_that_a_client_calls() -> None:
    def handler() -> None:
        raise ValueError("of the application")

    assert not may_pass_elsewhere(raised_in("openai._streaming", handler))


class Inner:
    def __init__(self) -> None:
        self.api_key = "key-of-the-inner-client"
        self.address = "https://user:passwordless@127.0.0.1/v1"
        self.endless = self.client = self


class Client(BaseModel):
    api_key: SecretStr
    password: str = "hunter22"
    model: str = "token-model"
    default_headers: dict[str, str] = {
        "Authorization": f"Bearer {KEY}",
        "X-Api-Key": "key-in-a-header",
        "X-Title": "visible",
    }
    max_tokens: str = "1000000"
    token: str = "short"
    tokenizer: object = Inner()
    _client: object = PrivateAttr(default_factory=Inner)


def test_secrets_of_a_client_are_masked() -> None:
    client = Client(api_key=SecretStr(f"{KEY}-longer"))
    found = secrets_of(client)
    assert set(found) == {
        f"{KEY}-longer",
        "hunter22",
        f"Bearer {KEY}",
        # As it stands in an address.
        f"Bearer%20{KEY}",
        KEY,
        "key-in-a-header",
        "key-of-the-inner-client",
        "passwordless",
    }
    assert [*found] == sorted(found, key=len, reverse=True)
    told = describe(ValueError(f"you sent Bearer {KEY}, {KEY}-longer and hunter22"), found)
    assert told == f"ValueError: you sent {MASK}, {MASK} and {MASK}"
    assert secrets_of(object()) == []


def test_a_masked_error_is_cut_after_masking() -> None:
    text = describe(ValueError("x" * 190 + KEY), [KEY])
    assert KEY[:4] not in text
    assert masked("nothing here", [KEY]) == "nothing here"


def test_the_texts_of_an_error_are_masked() -> None:
    first = error_with(message=f"you sent {KEY}", body={"sent": [f"Bearer {KEY}"]}, status_code=401)
    first.add_note(f"with {KEY}")
    second = chained(ValueError(f"in {KEY}", 3), first)
    third = KeyError(KEY)
    third.__context__ = second
    first.__context__ = third
    mask_error(third, [KEY])
    assert KEY not in "".join(traceback.format_exception(third))
    assert (second.args, third.args) == ((f"in {MASK}", 3), (MASK,))
    assert vars(first) == {
        "message": f"you sent {MASK}",
        "body": {"sent": [f"Bearer {MASK}"]},
        "status_code": 401,
        "__notes__": [f"with {MASK}"],
    }
