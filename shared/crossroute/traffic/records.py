"""Records: what one call was, what it came to, and the feedback that it got later.

A file of records holds one JSON object a line, or a record, in the order in which they were
written: calls, and feedback on calls (`docs/traffic/recorder.md`).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from crossroute.errors import DataError, problems
from crossroute.models.descriptor import Kind
from crossroute.models.fields import ModelId
from crossroute.query import Message, Query
from crossroute.secret_text import SECRET_NAME, mask_secrets
from crossroute.traffic.sinks import stored
from crossroute.training.data import AnswerTokens, AnswerUsd, Name, Score

MOST_FEEDBACK = 1_000_000
"""Of all files: it is held in memory while the calls are read."""
MOST_ASKS = 1_000
MOST_CANDIDATES = 10_000
SHOWN_BROKEN = 10
LEAST_SECRET = 1000
"""A smaller number is none."""

CallId = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Seconds = Annotated[FiniteFloat, Field(ge=0, le=1e9)]
Text = Literal["keep", "hash", "omit"]
"""What is kept of a query's text."""


class _Recorded(BaseModel):
    # What a later version adds is not read.
    model_config = ConfigDict(
        frozen=True, extra="ignore", hide_input_in_errors=True, ser_json_inf_nan="strings"
    )


class Prediction(_Recorded):
    """What was predicted for one candidate; see `crossroute.decision.CandidateScore`."""

    model: ModelId
    quality: FiniteFloat
    cost_usd: FiniteFloat
    reward: float


class RecordedDecision(_Recorded):
    """A decision; see `crossroute.decision.Decision`."""

    model: ModelId
    quality: FiniteFloat
    cost_usd: FiniteFloat
    candidates: Annotated[tuple[Prediction, ...], Field(min_length=1, max_length=MOST_CANDIDATES)]
    willingness_to_pay: float
    reward: str
    input_tokens: AnswerTokens
    removed: dict[str, str] = {}
    kept: bool = False
    blank: bool = False
    shadow: Prediction | None = None
    probability: Annotated[float, Field(gt=0, le=1)] | None = None
    surcharge_usd: dict[ModelId, FiniteFloat] = {}


class RecordedAsk(_Recorded):
    """One ask of a call; see `crossroute.strategies.Charge`.

    Attributes:
        error: Type of the error that ended it, `refused` where another ask was to mend a refusal;
            None if it went well.
        effort: The reasoning effort that it named; None is the model's own.
        kind: Of the candidate, where it is no model; None where that is not known, too.
        stated: Whether its cost is what the descriptor of an agent states; None is no.
        handed_on: Whether the answer, or a part of it, is of it. This and what follows is there
            where traces are recorded.
        reason: Why it was asked.
        keep: Positions of the caller's messages that it got; None are all.
        then: Messages after them, in OpenAI's dict form.
        tools: Its own tools in OpenAI's dict form; None are the caller's.
        said: Messages that came back, in OpenAI's dict form; none where it could not be asked.
    """

    model: ModelId
    role: str
    input_tokens: AnswerTokens
    output_tokens: AnswerTokens
    cached_tokens: AnswerTokens = 0
    cost_usd: AnswerUsd | None = None
    estimated: bool = False
    error: Name | None = None
    effort: Name | None = None
    kind: Kind | None = None
    stated: bool | None = None
    handed_on: bool | None = None
    reason: str | None = None
    keep: tuple[int, ...] | None = None
    then: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    said: list[dict[str, Any]] | None = None


class Feedback(_Recorded):
    """What somebody, or something, said of the answer to a call.

    Attributes:
        id: Id of the call.
        at: When.
        score: How good the answer was, 0..1.
        source: Who says so: `user`, `judge`, the name of a check.
    """

    kind: Literal["feedback"] = "feedback"
    id: CallId
    at: AwareDatetime
    score: Score
    source: Name = "user"


class CallRecord(_Recorded):
    """One call.

    Attributes:
        id: Its id, which stands on the answer, too.
        at: When it was decided.
        text: What was kept of the query's text; `too long` where a line would not hold it.
        query: The prompt: a text, or messages in OpenAI's dict form without attachments.
        query_hash: `query_hash` of it, where that is all that was kept.
        decision: What was decided, with the predictions for all candidates.
        model: Id of the model that answered, or had begun to; None if none had.
        outcome: Whether it was answered, left by its caller, or failed.
        error: Type of the error that was raised.
        asks: Every ask, those too that failed, and drafts and judges.
        input_tokens: Of all asks.
        output_tokens: Of all asks.
        cached_tokens: Of the input tokens, those from a provider's prompt cache.
        cost_usd: Of all asks, by the price table; None if one of them is not known.
        estimated: Whether tokens of an ask are estimated, as nobody has counted them.
        latency_s: Seconds from the decision to the end of the answer.
        answer: Text of the answer, where that was asked for.
        trace: Whether the asks have what they got and said; `too long` where a line would not hold
            it. None where that was not asked for.
        tools: The caller's tools in OpenAI's dict form, where traces are recorded.
        feedback: The latest of each source, by its source; it is written apart.
    """

    kind: Literal["call"] = "call"
    id: CallId
    at: AwareDatetime
    text: Text | Literal["too long"] = "keep"
    query: str | list[dict[str, Any]] | None = None
    query_hash: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    decision: RecordedDecision
    model: ModelId | None = None
    outcome: Literal["answered", "left", "failed"]
    error: Name | None = None
    asks: Annotated[tuple[RecordedAsk, ...], Field(max_length=MOST_ASKS)] = ()
    input_tokens: AnswerTokens = 0
    output_tokens: AnswerTokens = 0
    cached_tokens: AnswerTokens = 0
    cost_usd: AnswerUsd | None = None
    estimated: bool = False
    latency_s: Seconds
    answer: str | None = None
    trace: Literal["kept", "too long"] | None = None
    tools: list[dict[str, Any]] | None = None
    feedback: Annotated[dict[str, Feedback], Field(exclude=True)] = {}

    @property
    def probability(self) -> float | None:
        """With which the model that answered was drawn; None if it was not, or is another one."""
        return self.decision.probability if self.model == self.decision.model else None

    @property
    def predicted(self) -> Prediction | None:
        """What was predicted for the model that answered."""
        found = [one for one in self.decision.candidates if one.model == self.model]
        return found[0] if found else None

    @property
    def answering(self) -> RecordedAsk | None:
        """The ask that gave the answer; None where it came of several, or of none."""
        if any(one.role != "answer" for one in self.asks):
            return None
        found = [one for one in self.asks if one.error is None]
        return found[0] if len(found) == 1 and found[0].model == self.model else None

    @property
    def first_asked(self) -> str | None:
        """Id of the model of the first ask that went well; where none did, of the answer."""
        return next((one.model for one in self.asks if one.error is None), self.model)

    def score(self, source: str | None = None) -> float | None:
        """Its feedback as one score, 0..1.

        Args:
            source: Of this source alone; None is the mean of all sources.
        """
        found = [
            one.score for name, one in self.feedback.items() if source is None or name == source
        ]
        return sum(found) / len(found) if found else None


_ANY: TypeAdapter[CallRecord | Feedback] = TypeAdapter(
    Annotated[CallRecord | Feedback, Field(discriminator="kind")]
)


def read_records(
    *paths: str | Path,
    skip_broken: bool = False,
    on_broken: Callable[[str], None] | None = None,
    on_lone: Callable[[int], None] | None = None,
) -> Iterator[CallRecord]:
    """The calls of files of records, with their feedback; of a source's, the latest.

    Feedback may be in another file than its call, as where files are moved away while they are
    written. The files are read twice: first for the feedback, then call by call.

    Args:
        *paths: `.jsonl`, `.jsonl.gz`, `.db`, `.sqlite` or `.sqlite3` files.
        skip_broken: Leave broken records out, as a crash may leave one, instead of refusing them.
        on_broken: Called for each that is left out, with where it is and what is wrong.
        on_lone: Called after the last call, with how much of the feedback is on none of the calls.

    Raises:
        DataError: If a file cannot be read, or has broken records (each is named).
    """
    feedback = _feedback([Path(path) for path in paths])
    lone = set(feedback)
    for path in map(Path, paths):
        for call in _calls(path, feedback, skip_broken=skip_broken, on_broken=on_broken):
            lone.discard(call.id)
            yield call
    if on_lone is not None:
        on_lone(sum(len(feedback[one]) for one in lone))


def _feedback(paths: Sequence[Path]) -> dict[str, dict[str, Feedback]]:
    """The latest feedback of each source, by the id of the call and the source."""
    feedback: dict[str, dict[str, Feedback]] = {}
    read = 0
    for path in paths:
        for _, kind, line in stored(path):
            # What is broken is told when the calls are read.
            if kind == "call" or not isinstance(one := _record(line), Feedback):
                continue
            read += 1
            if read > MOST_FEEDBACK:
                raise DataError(
                    f"{path}: more than {MOST_FEEDBACK:,} records are feedback; split the file."
                )
            sources = feedback.setdefault(one.id, {})
            if one.source not in sources or sources[one.source].at <= one.at:
                sources[one.source] = one
    return feedback


def _calls(
    path: Path,
    feedback: Mapping[str, dict[str, Feedback]],
    *,
    skip_broken: bool,
    on_broken: Callable[[str], None] | None,
) -> Iterator[CallRecord]:
    """The calls of one file."""
    broken: list[str] = []
    count = 0
    for where, kind, line in stored(path):
        if kind == "feedback":
            continue
        found = _record(line)
        if isinstance(found, CallRecord):
            yield found.model_copy(update={"feedback": feedback.get(found.id, {})})
        elif not isinstance(found, Feedback):
            count += 1
            said = f"{where}: {problems(found, CallRecord)}"
            if on_broken is not None:
                on_broken(said)
            if count <= SHOWN_BROKEN:
                broken.append(f"  {said}")
    if count and not skip_broken:
        more = [f"  ... and {count - SHOWN_BROKEN} more"] if count > SHOWN_BROKEN else []
        raise DataError(
            f"{path}: {count} records are broken:\n"
            + "\n".join([*broken, *more])
            + "\nMend them, or leave them out with --skip-broken (skip_broken=True)."
        )


def _record(line: bytes) -> CallRecord | Feedback | ValidationError:
    try:
        return _ANY.validate_json(line)
    except ValidationError as error:
        return error


# Queries


def recorded_query(messages: Sequence[Message]) -> str | list[dict[str, Any]]:
    """Messages as they are recorded: without attachments, and without what looks like a secret.

    Args:
        messages: In OpenAI's dict form.

    Returns:
        A text where a user's message is all there is, else messages.
    """
    found = recorded_messages(messages)
    if len(found) == 1 and found[0].keys() == {"role", "content"}:
        content = found[0]["content"]
        if found[0]["role"] == "user" and isinstance(content, str):
            return content
    return found


def recorded_messages(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """`recorded_query` that stays messages, whatever they are."""
    return [
        {
            name: _content(value) if name == "content" else masked_values(value)
            for name, value in message.items()
            if name in ("role", "content", "name", "tool_calls", "tool_call_id")
        }
        for message in messages
    ]


def query_hash(query: str | Sequence[Message]) -> str:
    """SHA-256 of a query as it is recorded, to find the record of a prompt that is known.

    Args:
        query: A prompt, or messages in OpenAI's dict form.
    """
    if isinstance(query, str):
        query = [{"role": "user", "content": query}]
    return hashlib.sha256(_canonical(recorded_query(query)).encode()).hexdigest()


def recorded_text(text: str) -> str:
    """A text as it is recorded: encodable, and without what looks like a secret."""
    # A lone surrogate is no character.
    return mask_secrets(text if text.isascii() else text.encode("utf-8", "replace").decode())


def _content(content: object) -> Any:  # noqa: ANN401  # As the messages have it.
    """The content of a message: a text, or parts of which one is more than that."""
    if isinstance(content, str) or content is None:
        return content and recorded_text(content)
    texts: list[str] = []
    parts: list[dict[str, Any]] = []
    for part in content if isinstance(content, Sequence) else ():
        text = part.get("text") if isinstance(part, Mapping) else part
        kind = part.get("type") if isinstance(part, Mapping) else "text"
        if isinstance(text, str):
            texts.append(recorded_text(text))
            parts.append({"type": "text", "text": texts[-1]})
        else:
            # Of an attachment, what a model must be able to take.
            parts.append({"type": str(kind)})
    return "\n".join(texts) if len(texts) == len(parts) else parts


def masked_values(value: object) -> Any:  # noqa: ANN401  # Whatever tools are called with.
    """Nested values as they are recorded: plain, and without what looks like a secret."""
    if isinstance(value, str):
        return recorded_text(value)
    if isinstance(value, Mapping):
        return {
            recorded_text(str(name)): _masked_field(str(name), inner)
            for name, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [masked_values(inner) for inner in value]
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def _masked_field(name: str, value: object) -> Any:  # noqa: ANN401  # As `masked_values`.
    """A value as it is recorded, whose name may say that it is a secret."""
    if name == "arguments" and isinstance(value, str):
        return _masked_arguments(value)
    if SECRET_NAME.search(name):
        if isinstance(value, str):
            return "***"
        if isinstance(value, (list, tuple)):
            return ["***" if isinstance(one, str) else masked_values(one) for one in value]
        # Of tokens, and of characters of a password, there are numbers.
        if type(value) is int and value >= LEAST_SECRET and "token" not in name.lower():
            return "***"
    return masked_values(value)


def _masked_arguments(text: str) -> str:
    """Arguments of a tool call as a text in JSON, which stays JSON."""
    try:
        given = json.loads(text)
        masked = masked_values(given)
    except (ValueError, RecursionError):
        return recorded_text(text)
    return recorded_text(text if masked == given else json.dumps(masked, ensure_ascii=False))


def _canonical(query: str | Sequence[Message]) -> str:
    return json.dumps(query, sort_keys=True, ensure_ascii=False)


# Rows


@dataclass
class Rows:
    """Routing data that records make (`docs/data.md`).

    Attributes:
        rows: One for each prompt, or for each call that was drawn.
        calls: Calls that were read.
        used: Those that are in the rows.
        apart: Those of them that were drawn among other candidates than the usual ones, so that
            their rows have no `probability`.
        skipped: How many are not, by the reason.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    calls: int = 0
    used: int = 0
    apart: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


def records_to_rows(records: Iterable[CallRecord], *, source: str | None = None) -> Rows:
    """Make routing data of the calls that have got feedback.

    Calls with the same prompt make one row, with the mean over the calls of each model. A call
    whose model was drawn is a row of its own, with the `probability` of that model: an estimate
    weighs it by that. It is right only where each model might have been drawn in each call, so
    that only those calls count as drawn which had the same candidates, those that tell most.

    Args:
        records: As `read_records` gives them.
        source: The source of feedback to go by; None is the mean over the sources of a call.
    """
    found = Rows()
    together: dict[str, tuple[Any, dict[str, list[dict[str, float]]]]] = {}
    drawn: list[tuple[frozenset[str], Any, str, dict[str, float]]] = []

    def put_together(query: Any, model: str, output: dict[str, float]) -> None:  # noqa: ANN401
        _, outputs = together.setdefault(_canonical(query), (query, {}))
        outputs.setdefault(model, []).append(output)

    for record in records:
        found.calls += 1
        ask, score = record.answering, record.score(source)
        if reason := _unusable(record, ask, score):
            found.skipped[reason] += 1
            continue
        assert ask is not None and score is not None  # noqa: S101, PT018  # For mypy.
        found.used += 1
        output = {"score": score, "output_tokens": ask.output_tokens}
        if ask.input_tokens:
            output["input_tokens"] = ask.input_tokens
        if ask.cost_usd is not None:
            output["cost_usd"] = ask.cost_usd
        if record.probability is None:
            put_together(record.query, ask.model, output)
            continue
        output["probability"] = record.probability
        among = frozenset(one.model for one in record.decision.candidates)
        drawn.append((among, record.query, ask.model, output))
    sets = Counter(among for among, *_ in drawn)
    # Of one candidate, nothing is compared.
    usual = max(sets, key=lambda among: sets[among] * (len(among) - 1), default=None)
    for among, query, model, output in drawn:
        if among == usual:
            found.rows.append({"prompt": query, "outputs": {model: output}})
            continue
        # A model that rests, is over its ceiling or may not serve the call could not be drawn.
        found.apart += 1
        del output["probability"]
        put_together(query, model, output)
    for prompt, outputs in together.values():
        means = {model: _mean(answers) for model, answers in outputs.items()}
        found.rows.append({"prompt": prompt, "outputs": means})
    return found


def _unusable(record: CallRecord, ask: RecordedAsk | None, score: float | None) -> str | None:
    """Why a call is no part of a row, None if it is one."""
    if score is None:
        return "without feedback"
    if record.query is None:
        return "without the text of the query"
    if ask is None:
        return "failed" if record.model is None else "answered by several asks"
    try:
        _canonical(record.query)
        return "without words in the query" if Query.of(record.query).is_blank else None
    except ValueError:
        # No messages, or a number in them that is too long to be written.
        return "with a query of no known form"


def _mean(answers: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each number, over the answers that have it."""
    found: dict[str, float] = {}
    for name in ("score", "cost_usd", "input_tokens", "output_tokens"):
        values = [answer[name] for answer in answers if name in answer]
        if values:
            found[name] = sum(values) / len(values)
    return found
