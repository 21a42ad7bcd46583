"""Candidates that fail: whether another one may do better, and what is told of them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, TypedDict
from urllib.parse import quote

from crossroute.decision import Decision
from crossroute.errors import CrossRouteError
from crossroute.errors import NoAnswerError as NoAnswerError
from crossroute.secret_text import SECRET_NAME

REFUSED = "refused"
"""Stands for the error of a candidate that answered, but refused to."""

SHOWN_CHARACTERS = 200

LEAST_SECRET = 8
"""Shorter values are no keys, and masking them would garble every message."""

MASK = "***"

_PASSING_STATUSES = frozenset({401, 402, 403, 404, 408, 409, 410, 429, *range(500, 600)})
"""By these the failure is the vendor's or of the account there, not the request's."""

WRONG_STATUSES = frozenset({400, 413, 422})
"""By these the request is."""

_PASSING_ERRORS = {
    "httpx": ("TimeoutException", "NetworkError", "RemoteProtocolError", "ProxyError"),
    "httpx2": ("TimeoutException", "NetworkError", "RemoteProtocolError", "ProxyError"),
    "requests.exceptions": ("ConnectionError", "Timeout", "ChunkedEncodingError"),
    "aiohttp.client_exceptions": ("ClientConnectionError", "ClientPayloadError"),
    # Of LlamaIndex's agents.
    "workflows.errors": ("WorkflowTimeoutError",),
    "langchain_core.exceptions": (
        "ModelAuthenticationError",
        "ModelPermissionDeniedError",
        "ModelNotFoundError",
        "ModelRateLimitError",
        "ModelAPIError",
        "ModelConnectionError",
        "ModelTimeoutError",
    ),
}
"""By module and name: none of these packages has to be there."""

_CONNECTING = ("ConnectError", "ConnectTimeout")

_RAISED_ERRORS = {
    "langchain_core.exceptions": ("ModelError", "OutputParserException"),
    "httpx": ("UnsupportedProtocol", "LocalProtocolError", "InvalidURL"),
    "httpx2": ("UnsupportedProtocol", "LocalProtocolError", "InvalidURL"),
}
"""Those that say that the request itself is wrong."""

_REFUSALS = {
    "langchain_core.exceptions": ("ModelRefusalError",),
    "langchain_openai.chat_models.base": ("OpenAIRefusalError",),
}

_PAUSES = {"langgraph.errors": ("GraphBubbleUp",)}
"""With what a graph stops to ask somebody, or hands over to the graph around it."""

_CLIENTS = re.compile(
    # By name: an application may call modules of its own langchain_something.
    r"(?:langchain_(?:anthropic|aws|azure_ai|baseten|cerebras|cohere|community|deepseek|fireworks"
    r"|google_\w+|groq|huggingface|ibm|litellm|meta|mistralai|nvidia_ai_endpoints|ollama|openai"
    r"|openrouter|perplexity|sambanova|together|upstage|xai)"
    r"|llama_index\.llms|openai|anthropic|groq"
    r"|mistralai|cohere|ollama|fireworks|together|openrouter|google|vertexai|botocore|xai_sdk)"
    r"(?:\.|$)"
)
"""Modules of vendors' clients, and of the frameworks' integrations of them."""

_BENEATH_CLIENTS = frozenset(
    {*sys.stdlib_module_names, "pydantic", "pydantic_core", "httpx", "httpx2", "tenacity"}
)
_FRAMEWORKS = ("llama_index.core.", "langchain_core.")
"""What clients read answers with: an error in it is an error of the client that called it."""

_CLIENT_NAME = re.compile(r"client|llm", re.IGNORECASE)

_SENT_ALONG = re.compile(r"(?:headers|query)$")
"""Mappings with whatever a server wants to know, under names of its own."""

_PASSWORD_IN_ADDRESS = re.compile(r"://[^\s/@:]{0,100}:([^\s/@]{1,200})@")

_SECONDS = re.compile(r"\d{1,9}(?:\.\d{1,9})?")

_DEPTH = 3
"""How far clients within clients, and mappings within mappings, are looked into."""


class Failure(TypedDict):
    """A candidate that failed, and how."""

    model: str
    error: str


def may_pass_elsewhere(error: BaseException, *, refusals: bool = False) -> bool:
    """Whether another candidate may succeed where this one failed.

    The HTTP status says so, of the error or of one of its causes: clients wrap what their HTTP
    library raises. 400 and 422 say that the request is wrong, 401 and 404 that this vendor does
    not know the account or the model, and a status below 400 that the answer could not be read.
    Without a status it passes if it is a timeout, a lost connection, a missing package, or was
    raised by a vendor's client itself, which makes the request and reads the answer: another client
    may do better. An error of the application's own code does not pass.

    Args:
        error: What the candidate raised.
        refusals: Whether a refusal to answer passes, too.
    """
    for found in _causes(error):
        if not isinstance(found, Exception):
            return False
        if _is_one_of(found, _REFUSALS):
            return refusals
        if isinstance(found, (TimeoutError, ConnectionError, NoAnswerError, ImportError)):
            return True
        if _is_one_of(found, _PASSING_ERRORS):
            return True
        if _is_one_of(found, _RAISED_ERRORS):
            return False
        if (status := _status(found)) is not None:
            return status < 400 or status in _PASSING_STATUSES
        # In the middle of OpenAI's streams there is no status.
        kind: object = getattr(found, "type", None)
        if kind in ("server_error", "invalid_request_error"):
            return kind == "server_error"
    return any(_is_of_a_client(found) for found in _causes(error))


def is_pause(error: BaseException | None) -> bool:
    """Whether it is no failure, but a run that stops to go on later, as LangGraph's interrupts."""
    return isinstance(error, Exception) and _is_one_of(error, _PAUSES)


def describe(error: BaseException, secrets: Sequence[str] = ()) -> str:
    """An error in a line of text, with secrets masked: servers echo keys."""
    text = masked(f"{type(error).__name__}: {error}", secrets)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def masked(text: str, secrets: Sequence[str]) -> str:
    """A text in which no secret can be read."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


def mask_error(error: Exception, secrets: Sequence[str]) -> Exception:
    """Mask secrets in the texts of an error that is raised, and of those that a traceback adds.

    Its type stays, and so does what is no text: a vendor's response object holds all it held.

    Returns:
        The error to raise: another one where its text cannot be changed, as of pydantic's.
    """
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error] if secrets else []
    while waiting:
        found = waiting.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        waiting += [found.__cause__, found.__context__]
        if isinstance(found, BaseExceptionGroup):
            waiting += found.exceptions
        found.args = _masked(found.args, secrets)
        # The texts that errors hold beside: OpenAI's `message` and `body`, and notes.
        held = getattr(found, "__dict__", {})
        held.update({name: _masked(value, secrets) for name, value in held.items()})
    if (text := str(error)) == masked(text, secrets):
        return error
    kind = NoAnswerError if _is_of_a_client(error) else ValueError
    return kind(describe(error, secrets))


def secrets_of(client: object) -> list[str]:
    """What a candidate's client holds as secret: the longest first, as one may hold another.

    Pydantic's `SecretStr`s, texts under a name such as `api_key`, all headers and parameters of
    each request, and passwords in addresses; also in the clients that it holds itself.
    """
    return secrets_in_values(_held(client))


def secrets_in_values(values: Mapping[str, Any]) -> list[str]:
    """`secrets_of` attributes or settings by their names."""
    found = {text for text in _secrets(values, _DEPTH) if len(text) >= LEAST_SECRET}
    # As they stand in an address or in JSON, too.
    found |= {form(text) for text in found for form in (quote, _in_json)}
    return sorted(found, key=len, reverse=True)


def note(error: BaseException, failures: Sequence[Failure]) -> None:
    """Say in an error's notes which candidates failed before it is raised."""
    if failures:
        tried = "; ".join(f"{failure['model']}: {failure['error']}" for failure in failures)
        error.add_note(f"CrossRoute tried, in this order: {tried}.")


def decision_after(
    decision: Decision, model: str, failures: Sequence[Failure], reason: str = ""
) -> dict[str, Any]:
    """A decision as plain values, with the candidate as its model that is asked after failures.

    Args:
        decision: Its candidates stand in the order in which the router prefers them.
        model: Id of the candidate that is asked now.
        failures: One for each candidate that failed before.
        reason: Why it is asked, which stands in it unless it is empty.
    """
    plain = decision.to_dict()
    if reason:
        plain["reason"] = reason
    if model == decision.model and not failures:
        return plain
    asked = next(candidate for candidate in decision.candidates if candidate.model == model)
    # That of the model that was drawn, not of the one that is asked after it.
    plain.pop("probability", None)
    return plain | {
        "model": model,
        "quality": asked.quality,
        "cost_usd": asked.cost_usd,
        "kept": decision.kept and model == decision.model,
        **({"attempts": list(failures)} if failures else {}),
    }


def may_pass(error: BaseException, *, refusals: bool, own: bool) -> bool:
    """`may_pass_elsewhere`, and where a strategy asks in words of its own also if these are wrong.

    Args:
        error: What the candidate raised.
        refusals: Whether a refusal to answer passes.
        own: Whether nothing of the request is the caller's. Then a refusal passes in any case.
    """
    return may_pass_elsewhere(error, refusals=refusals or own) or (own and has_status(error))


def has_status(error: BaseException) -> bool:
    """Whether a server answered with an error: it has made nothing, and bills nothing."""
    return status_of(error) is not None


def status_of(error: BaseException) -> int | None:
    """The HTTP status that a server answered with, of an error or of one of its causes."""
    for found in _causes(error):
        if isinstance(found, Exception) and (status := _status(found)) is not None:
            return status
    return None


def may_be_billed(error: BaseException) -> bool:
    """Whether a request that failed may have reached a server that answered it for itself."""
    unsent = {"httpx": _CONNECTING, "httpx2": _CONNECTING}
    return not has_status(error) and not any(
        isinstance(c, (ConnectionRefusedError, ImportError, CrossRouteError))
        or (isinstance(c, Exception) and _is_one_of(c, unsent))
        for c in _causes(error)
    )


def retry_after_seconds(error: BaseException) -> float | None:
    """In how many seconds a provider wants to be asked again; None if it does not say."""
    for found in _causes(error):
        headers = getattr(getattr(found, "response", None), "headers", None)
        if not isinstance(headers, Mapping):
            continue
        for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
            # Plain mappings know the name in one spelling only.
            text = str(headers.get(name) or headers.get(name.title()) or "").strip()
            if _SECONDS.fullmatch(text):
                return float(text) * unit
            if text and (at := _date(text)) is not None:
                return max((at - datetime.now(UTC)).total_seconds(), 0.0)
    return None


def _date(text: str) -> datetime | None:
    """The time that a header says, with its time zone."""
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and what it was raised from."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__


def _masked(value: Any, secrets: Sequence[str]) -> Any:  # noqa: ANN401  # All that errors hold.
    """A value with the texts in it masked."""
    if isinstance(value, str):
        return masked(value, secrets)
    if type(value) is dict:
        return {key: _masked(inner, secrets) for key, inner in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_masked(inner, secrets) for inner in value)
    return value


def _is_one_of(error: Exception, names: Mapping[str, Sequence[str]]) -> bool:
    return any(c.__name__ in names.get(c.__module__, ()) for c in type(error).__mro__)


def _status(error: Exception) -> int | None:
    """The HTTP status of an error; in the middle of a stream it is the server's `code`."""
    response = getattr(error, "response", None)
    for status in (
        getattr(error, "status_code", None),
        getattr(response, "status_code", None),
        getattr(error, "code", None),
    ):
        if isinstance(status, str) and status.isdecimal():
            status = int(status[:4])
        if isinstance(status, int) and 100 <= status < 600:
            return int(status)
    return None


def _is_of_a_client(error: BaseException) -> bool:
    """Whether a vendor's client raised it, and not the application, which may be called by one."""
    trace: TracebackType | None = error.__traceback__
    found = False
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        beneath = module.partition(".")[0] in _BENEATH_CLIENTS or module.startswith(_FRAMEWORKS)
        if not beneath:
            found = _CLIENTS.match(module) is not None
        trace = trace.tb_next
    return found


def _held(client: object) -> dict[str, Any]:
    """The attributes of an object, pydantic's private ones included."""
    private = getattr(client, "__pydantic_private__", None)
    return {**getattr(client, "__dict__", {}), **(private if isinstance(private, dict) else {})}


def _in_json(text: str) -> str:
    return json.dumps(text)[1:-1]


def _secrets(values: Mapping[Any, Any], depth: int) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping) and _SENT_ALONG.search(str(name)):
            for sent in value.values():
                if isinstance(sent, str):
                    yield from (sent, sent.partition(" ")[2])
        if isinstance(value, str):
            yield from _PASSWORD_IN_ADDRESS.findall(value)
            if SECRET_NAME.search(str(name)):
                # Of "Bearer KEY" the server may echo the key alone.
                yield from (value, value.partition(" ")[2])
        elif hasattr(value, "get_secret_value"):
            secret = value.get_secret_value()
            if isinstance(secret, str):
                yield secret
        elif depth and isinstance(value, Mapping):
            yield from _secrets(value, depth - 1)
        elif depth and _CLIENT_NAME.search(str(name)):
            yield from _secrets(_held(value), depth - 1)
