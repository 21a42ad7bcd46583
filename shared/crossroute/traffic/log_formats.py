"""The formats of logs, and a reader for each: a record becomes the prompts that it holds.

What the readers go by: LangSmith's run data format, OpenAI's chat completions, Batch and Responses
API, and OpenTelemetry's semantic conventions for generative AI, those of 2025 (messages in parts)
and the ones before it (numbered attributes, as OpenLLMetry's and OpenInference's, and events).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from crossroute.query import Capability, Message
from crossroute.traffic.log_messages import as_json, batches, to_prompt

Record = Mapping[str, Any]

MOST_USD = 1e6
MOST_TOKENS = 1e9


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a model as a log has it.

    Attributes:
        prompt: What was asked: a text, or messages in OpenAI's dict form.
        topic: What kind of work it is, where the log says so.
        model: Id of the model that was asked.
        input_tokens: All input tokens.
        output_tokens: Output tokens.
        cost_usd: What it cost in USD.
        feedback: Scores that the answer got, by their names; not all of them are 0..1.
        needs: What the request needs of a model beside what its messages show.
        chain_of: Id of the trace, where it is the input of a whole chain, which stands for model
            calls only if the trace has none.
        trace: Id of the trace.
    """

    prompt: str | list[Message]
    topic: str | None = None
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    feedback: Mapping[str, float] = field(default_factory=dict)
    needs: frozenset[Capability] = frozenset()
    chain_of: str | None = None
    trace: str | None = None


class Unread(NamedTuple):
    """A record, or a part of one, that holds no prompt that could be read."""

    reason: str


Found = Iterator[Call | Unread]


class LogFormat(NamedTuple):
    """A format: its name, which records are of it, and the reader of such a record."""

    name: str
    holds: Callable[[Record], bool]
    read: Callable[[Record], Found]


def format_of(record: Record) -> LogFormat | None:
    """The format of a record; None if it is of none that is known."""
    return next((one for one in FORMATS if one.holds(record)), None)


# LangSmith


def _is_run(record: Record) -> bool:
    return "run_type" in record or isinstance(as_json(record.get("inputs")), Mapping)


def _read_run(record: Record) -> Found:
    """A run: the call of a model, or the input of a chain without one."""
    children = record.get("child_runs")
    calls = [
        found
        for child in (children if isinstance(children, list) else ())
        if isinstance(child, Mapping)
        for found in _read_run(child)
    ]
    inner = [one for one in calls if isinstance(one, Call) and one.chain_of is None]
    kind = record.get("run_type")
    if inner or kind in ("retriever", "tool", "embedding", "parser", "prompt"):
        yield from inner
        if not inner:
            yield Unread("a run that asks no model, as a tool's or a retriever's")
        return
    inputs = as_json(record.get("inputs"))
    if not isinstance(inputs, Mapping) or not inputs:
        yield Unread("a run without inputs")
        return
    trace = _text(record.get("trace_id")) or _text(record.get("id"))
    if kind not in ("llm", "chat", "chat_model", None) and record.get("parent_run_id"):
        yield Unread("a run within a chain, which asks no model itself")
        return
    call = _facts_of_run(record, inputs)
    chain = None if kind in ("llm", "chat", "chat_model", None) else (trace or "")
    prompts = [
        prompt
        for one in _inputs_of(inputs)
        if (prompt := to_prompt(one, inputs.get("system", inputs.get("instructions"))))
    ]
    if not prompts:
        yield Unread("a run whose inputs hold no prompt")
    for prompt in prompts:
        # Tokens and cost are those of the whole run.
        facts = call if len(prompts) == 1 else replace(call, cost_usd=None, input_tokens=None)
        yield replace(facts, prompt=prompt, chain_of=chain, trace=trace)


def _inputs_of(inputs: Record) -> Iterator[object]:
    for name in ("messages", "prompts", "prompt", "input", "question", "query"):
        value = as_json(inputs.get(name))
        if not value:
            continue
        if name == "prompts" and isinstance(value, list):
            yield from value
        elif name == "input" and isinstance(value, Mapping) and "messages" not in value:
            # A chain of LangGraph's has its state in there.
            yield from _inputs_of(value) if "type" not in value else [value]
        else:
            yield from batches(value)
        return
    texts = [value for value in inputs.values() if isinstance(value, str) and value.strip()]
    if len(texts) == 1:
        yield texts[0]


def _facts_of_run(record: Record, inputs: Record) -> Call:
    extra = _mapping(record.get("extra"))
    asked = _mapping(extra.get("invocation_params"))
    metadata = _mapping(extra.get("metadata")) | _mapping(record.get("metadata"))
    usage = _mapping(_mapping(record.get("outputs")).get("usage_metadata"))
    stats = _mapping(record.get("feedback_stats"))
    feedback = {
        name: value
        for name, one in stats.items()
        if (value := _number(_mapping(one).get("avg"), -MOST_USD, MOST_USD)) is not None
    }
    return Call(
        prompt="",
        topic=_text(metadata.get("topic")),
        model=_first_text(
            metadata.get("ls_model_name"), asked.get("model"), asked.get("model_name")
        ),
        input_tokens=_tokens(record.get("prompt_tokens"), usage.get("input_tokens")),
        output_tokens=_tokens(record.get("completion_tokens"), usage.get("output_tokens")),
        cost_usd=_usd(record.get("total_cost")),
        feedback=feedback,
        needs=_needs({**inputs, **asked}),
    )


# OpenAI

_WITHIN = ("body", "request", "request_body")
"""Where logs of requests keep the request itself, which may have a `body` again."""


def _body(record: Record) -> Record:
    """The request in a record of a log."""
    for _ in range(2):
        for name in _WITHIN:
            inner = as_json(record.get(name))
            if isinstance(inner, Mapping) and inner:
                record = inner
                break
    return record


def _is_request(record: Record) -> bool:
    body = _body(record)
    return (
        isinstance(as_json(body.get("messages")), list)
        or ("model" in body and "input" in body)
        or (record.get("object") == "list" and isinstance(record.get("data"), list))
        or record.get("object") in ("chat.completion", "response")
    )


def _read_request(record: Record) -> Found:
    """A request to chat completions, their batches, or the Responses API; Anthropic's are alike."""
    body = _body(record)
    model = _first_text(body.get("model"), record.get("model"))
    url = _text(record.get("url")) or ""
    if "embedding" in url or (model and "embed" in model):
        yield Unread("a request for embeddings")
        return
    value = as_json(body.get("messages", body.get("input")))
    if record.get("object") == "list":
        # As the API gives the messages of a stored completion, or the input of a response.
        value = [item for item in record["data"] if isinstance(item, Mapping)]
        if not any("role" in item for item in value):
            yield Unread("a list that is not of messages")
            return
    prompt = to_prompt(value, body.get("instructions", body.get("system")))
    if prompt is None:
        yield Unread("an answer without its request")
        return
    response = _mapping(record.get("response"))
    response = _mapping(response.get("body")) or response
    usage = _mapping(record.get("usage")) or _mapping(response.get("usage"))
    metadata = _mapping(body.get("metadata")) | _mapping(record.get("metadata"))
    yield Call(
        prompt,
        topic=_text(metadata.get("topic")),
        model=model,
        input_tokens=_tokens(
            usage.get("prompt_tokens"), usage.get("input_tokens"), record.get("prompt_tokens")
        ),
        output_tokens=_tokens(
            usage.get("completion_tokens"),
            usage.get("output_tokens"),
            record.get("completion_tokens"),
        ),
        cost_usd=_usd(record.get("cost_usd"), record.get("response_cost"), record.get("cost")),
        needs=_needs(body),
    )


# OpenTelemetry

_NUMBERED = re.compile(
    r"(?:gen_ai\.prompt|llm\.prompts|llm\.input_messages)\.(\d{1,6})\.(?:message\.)?(\w+)"
    r"(?:\.(\d{1,6})\.(?:tool_call\.)?(?:function\.)?(\w+))?"
)
"""One attribute of a message, or of one of its tool calls, before messages came in parts."""

_EVENT = re.compile(r"gen_ai\.(system|user|assistant|tool)\.message")
_ASKING = {"chat", "text_completion", "completion", "generate_content", "LLM", "llm"}
_DETAILS = "gen_ai.client.inference.operation.details"


def _is_telemetry(record: Record) -> bool:
    return (
        "resourceSpans" in record
        or "resourceLogs" in record
        or ("attributes" in record and ("context" in record or "spanId" in record))
    )


def _read_telemetry(record: Record) -> Found:
    """Spans, as the OTLP exporters write them or as the SDK's console exporter does."""
    if "resourceSpans" not in record and "resourceLogs" not in record:
        yield from _read_span(record)
        return
    for outer, scopes, inner in (
        ("resourceSpans", "scopeSpans", "spans"),
        ("resourceLogs", "scopeLogs", "logRecords"),
    ):
        for resource in _mappings(record.get(outer)):
            for scope in _mappings(resource.get(scopes)):
                for span in _mappings(scope.get(inner)):
                    yield from _read_span(span)


def _read_span(span: Record) -> Found:
    said = _attributes(span.get("attributes"))
    events = [
        (str(event.get("name")), _attributes(event.get("attributes")))
        for event in _mappings(span.get("events"))
    ]
    for name, attributes in events:
        if name == _DETAILS:
            said = {**attributes, **said}
    if not any(name.startswith(("gen_ai.", "llm.")) for name in said):
        yield Unread("a span that is of no model")
        return
    operation = said.get("gen_ai.operation.name", said.get("openinference.span.kind"))
    # Whatever a log holds there: what is no text is in no set.
    if operation is not None and str(operation) not in _ASKING:
        yield Unread("a span that asks no model itself, as an agent's, a tool's or of embeddings")
        return
    prompt = to_prompt(
        as_json(said.get("gen_ai.input.messages")), said.get("gen_ai.system_instructions")
    )
    prompt = prompt or to_prompt(_numbered(said)) or to_prompt(_of_events(events, said))
    if prompt is None:
        yield Unread("a span of a model without its messages, which its instrumentation left out")
        return
    yield Call(
        prompt,
        model=_first_text(
            said.get("gen_ai.request.model"),
            said.get("gen_ai.response.model"),
            said.get("llm.model_name"),
        ),
        input_tokens=_tokens(
            said.get("gen_ai.usage.input_tokens"),
            said.get("gen_ai.usage.prompt_tokens"),
            said.get("llm.token_count.prompt"),
        ),
        output_tokens=_tokens(
            said.get("gen_ai.usage.output_tokens"),
            said.get("gen_ai.usage.completion_tokens"),
            said.get("llm.token_count.completion"),
        ),
        cost_usd=_usd(said.get("gen_ai.usage.cost"), said.get("llm.cost.total")),
        feedback=_evaluations(events),
        needs=_needs(
            {
                "tools": said.get("gen_ai.tool.definitions")
                or any(name.startswith("llm.request.functions.") for name in said),
                "response_format": said.get("gen_ai.output.type") == "json",
            }
        ),
    )


def _numbered(said: Record) -> list[dict[str, Any]]:
    """Messages that are attributes such as `gen_ai.prompt.0.role`."""
    messages: dict[int, dict[str, Any]] = {}
    calls: dict[tuple[int, int], dict[str, Any]] = {}
    for name, value in said.items():
        if (found := _NUMBERED.match(name)) is None:
            continue
        number, key, place, of_call = found.groups()
        message = messages.setdefault(int(number), {})
        if place is None:
            message[key] = as_json(value) if key == "content" else value
        elif key == "tool_calls" and of_call is not None:
            calls.setdefault((int(number), int(place)), {})[of_call] = value
    for (number, _), call in sorted(calls.items()):
        messages[number].setdefault("tool_calls", []).append(call)
    for message in messages.values():
        message.setdefault("role", "user")
    return [messages[number] for number in sorted(messages)]


def _of_events(events: list[tuple[str, dict[str, Any]]], said: Record) -> object:
    """Messages that are events of a span, of which each is one, or one holds all."""
    messages: list[object] = []
    for name, attributes in events:
        if name == "gen_ai.content.prompt":
            return as_json(attributes.get("gen_ai.prompt"))
        if found := _EVENT.fullmatch(name):
            inner = as_json(attributes.get("gen_ai.event.content"))
            message = {**attributes, **inner} if isinstance(inner, Mapping) else attributes
            messages.append(
                {"role": found[1], **message, "content": as_json(message.get("content"))}
            )
    return messages or as_json(said.get("gen_ai.prompt"))


def _evaluations(events: list[tuple[str, dict[str, Any]]]) -> dict[str, float]:
    found = {}
    for name, attributes in events:
        if name == "gen_ai.evaluation.result":
            value = _number(attributes.get("gen_ai.evaluation.score.value"), -MOST_USD, MOST_USD)
            if value is not None:
                found[str(attributes.get("gen_ai.evaluation.name", "evaluation"))] = value
    return found


def _attributes(value: object) -> dict[str, Any]:
    """Attributes by name: OTLP has a list of keys and typed values, the SDK a mapping."""
    if isinstance(value, Mapping):
        return dict(value)
    return {str(pair.get("key")): _plain(pair.get("value")) for pair in _mappings(value)}


def _plain(value: object) -> Any:  # noqa: ANN401  # Whatever an attribute holds.
    """An OTLP `AnyValue` as what it stands for."""
    if not isinstance(value, Mapping):
        return value
    for kind, inner in value.items():
        if kind == "arrayValue":
            values = _mapping(inner).get("values")
            return [_plain(one) for one in values] if isinstance(values, list) else []
        if kind == "kvlistValue":
            return _attributes(_mapping(inner).get("values"))
        return inner
    return None


# Plain prompts


def _read_plain(record: Record) -> Found:
    prompt = to_prompt(record.get("prompt"))
    if prompt is None:
        yield Unread("an empty prompt")
        return
    feedback = {} if (score := _number(record.get("score"), 0, 1)) is None else {"score": score}
    yield Call(
        prompt,
        topic=_first_text(record.get("topic"), record.get("task")),
        model=_text(record.get("model")),
        input_tokens=_tokens(record.get("input_tokens")),
        output_tokens=_tokens(record.get("output_tokens")),
        cost_usd=_usd(record.get("cost_usd")),
        feedback=feedback,
    )


FORMATS = (
    LogFormat("LangSmith runs", _is_run, _read_run),
    LogFormat("OpenTelemetry spans", _is_telemetry, _read_telemetry),
    LogFormat("OpenAI requests", _is_request, _read_request),
    LogFormat("plain prompts", lambda record: "prompt" in record, _read_plain),
)


# What the readers share


def _needs(settings: Record) -> frozenset[Capability]:
    """What a request needs of a model, by its settings."""
    found: set[Capability] = set()
    if settings.get("tools") or settings.get("functions"):
        found.add("tools")
    form = settings.get("response_format") or _mapping(settings.get("text")).get("format")
    if form is True or (isinstance(form, Mapping) and form.get("type") not in (None, "text")):
        found.add("structured_output")
    return frozenset(found)


def _mapping(value: object) -> dict[str, Any]:
    value = as_json(value)
    return dict(value) if isinstance(value, Mapping) else {}


def _mappings(value: object) -> Iterator[Record]:
    return (
        (one for one in value if isinstance(one, Mapping)) if isinstance(value, list) else iter(())
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _first_text(*values: object) -> str | None:
    return next(filter(None, map(_text, values)), None)


def _number(value: object, least: float, most: float) -> float | None:
    """A number between two others, that in a text too; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and least <= number <= most else None


def _tokens(*values: object) -> int | None:
    # Logs write 0 where nobody has counted.
    found = next(filter(None, (_number(value, 0, MOST_TOKENS) for value in values)), None)
    return None if found is None else round(found)


def _usd(*values: object) -> float | None:
    numbers = (_number(value, 0, MOST_USD) for value in values)
    return next((number for number in numbers if number is not None), None)
