"""Recorder: keeps what each call was, and the feedback on it.

How it is told of calls is an integration's own.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from crossroute.errors import SHOWN_CHARACTERS, DataError, problems, shortened
from crossroute.failures import REFUSED, is_pause
from crossroute.lines import MOST_LINE_BYTES
from crossroute.models.descriptor import Kind
from crossroute.query import Message
from crossroute.strategies import Ended, EndedAsk, Reply, Task
from crossroute.traffic.records import (
    CallRecord,
    Feedback,
    Text,
    masked_values,
    query_hash,
    recorded_messages,
    recorded_query,
    recorded_text,
)
from crossroute.traffic.sinks import sink_of

if TYPE_CHECKING:
    from crossroute.budget.drift import Drift

logger = logging.getLogger(__name__)


class Recorder:
    """Writes a record of each call that has ended; safe in many threads and processes.

    A record that cannot be written is lost, and no call fails by it: the first time is logged, and
    `lost` counts them.

    Args:
        path: Where to: a `.jsonl` file, or a `.db`, `.sqlite` or `.sqlite3` file (SQLite). It is
            made if it is not there.
        text: What is kept of a query's text: all (`keep`), its SHA-256 (`hash`), or nothing
            (`omit`). What looks like a key or a password is `***` in any case.
        answers: Whether the texts of answers are kept, too.
        watch: Sees the decisions, too, and warns of drift (`Tuned.watch`); None is nobody.
        traces: Whether all that each ask got and said is kept, and the answer, to train with
            (`docs/traces.md`). It needs the text.

    Raises:
        DataError: If the path, `text`, `watch` or `traces` is none of these, or there is no such
            folder.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        text: Text = "keep",
        answers: bool = False,
        watch: Drift | None = None,
        traces: bool = False,
    ) -> None:
        if text not in get_args(Text):
            raise DataError(f"text is {shortened(text)}; give one of {', '.join(get_args(Text))}.")
        if watch is not None:
            from crossroute.budget.drift import Drift

            # Not when a call has been answered.
            if not isinstance(watch, Drift):
                raise DataError(f"watch is {shortened(watch)}; give tuned.watch(), or None.")
        if traces and text != "keep":
            raise DataError(
                f"traces=True with text={text!r}: a trace is all text. Give text='keep', or "
                "traces=False."
            )
        # Wherever the process goes later.
        self.path = Path(path).absolute()
        self.text: Text = text
        self.answers = answers
        self.traces = traces
        self.watch = watch
        self._sink = sink_of(self.path)
        self._counting = threading.Lock()
        self._lost = 0

    @property
    def lost(self) -> int:
        """Records that could not be written."""
        return self._lost

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, text={self.text!r}, lost={self.lost})"

    def feedback(self, call_id: str, score: float, *, source: str = "user") -> None:
        """Record how good the answer to a call was; it may be in another process, and much later.

        Of what a source says of a call, the latest counts.

        Args:
            call_id: What stands on the answer, as `call_id` in its decision.
            score: 0..1.
            source: Who says so.

        Raises:
            DataError: If the score is none, or the id or the source is no text of a sensible
                length.
        """
        try:
            found = Feedback(
                id=call_id,
                at=datetime.now(UTC),
                score=float("nan") if isinstance(score, bool) else score,
                source=source,
            )
        except ValidationError as error:
            raise DataError(f"Feedback: {problems(error, Feedback)}") from None
        self._write("feedback", found.id, found.model_dump_json())

    def on_crossroute_call(self, ended: Ended) -> None:
        """Record a call that has ended."""
        if self.watch is not None:
            self.watch.seen(ended.task.decision)
        try:
            record = self._record(ended)
            line = record.model_dump_json(exclude_none=True)
            for shorter in (_without_trace, _without_text):
                if len(line.encode()) > MOST_LINE_BYTES:
                    record = shorter(record, answers=self.answers)
                    line = record.model_dump_json(exclude_none=True)
        except Exception as error:
            # Whatever a message may hold: the call does not fail by it.
            self._lose(error)
        else:
            self._write("call", record.id, line)

    def _record(self, ended: Ended) -> CallRecord:
        decision, error = ended.task.decision, ended.error
        asks: list[dict[str, Any]] = [
            {
                **one.charge,
                "error": REFUSED if one.refused else _name(one.error),
                "kind": _kind(ended.task, one.charge["model"]),
                **(_trace(one) if self.traces else {}),
            }
            for one in ended.asks
        ]
        costs = [one["cost_usd"] for one in asks if one["cost_usd"] is not None]
        query = None if self.text == "omit" else recorded_query(ended.task.messages)
        hashed = None
        if self.text == "hash":
            hashed, query = query_hash(ended.task.messages), None
        if error is None:
            outcome = "answered"
        else:
            # What is no Exception is a caller that has left or was cancelled.
            is_failure = isinstance(error, Exception) and not is_pause(error)
            outcome = "failed" if is_failure else "left"
        return CallRecord.model_validate(
            {
                "id": decision.call_id,
                "at": datetime.now(UTC) - timedelta(seconds=ended.seconds),
                "text": self.text,
                "query": query,
                "query_hash": hashed,
                "decision": decision.to_dict(),
                "model": ended.model,
                "outcome": outcome,
                "error": _name(error) if outcome == "failed" else None,
                "asks": asks,
                **{
                    name: sum(one[name] for one in asks)
                    for name in ("input_tokens", "output_tokens", "cached_tokens")
                },
                "cost_usd": sum(costs) if len(costs) == len(asks) else None,
                "estimated": any(one["estimated"] for one in asks),
                "latency_s": ended.seconds,
                "answer": recorded_text(ended.text) if self.answers or self.traces else None,
                "trace": "kept" if self.traces else None,
                "tools": masked_values(ended.task.tools()) or None if self.traces else None,
            }
        )

    def _write(self, kind: str, id_: str, line: str) -> None:
        try:
            self._sink.write(kind, id_, line)
        except Exception as error:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        with self._counting:
            self._lost += 1
            first = self._lost == 1
        if first:
            logger.warning(
                "A record could not be written to %s: %s: %s. Calls go on without; `lost` counts "
                "them.",
                self.path,
                type(error).__name__,
                error,
            )


def _kind(task: Task, model: str) -> Kind | None:
    """The kind of a candidate that is no model."""
    kind = task.pool[model].kind if model in task.pool else "model"
    return None if kind == "model" else kind


def _trace(one: EndedAsk) -> dict[str, Any]:
    """What an ask got and said."""
    if one.ask is None or one.reply is None:
        return {}
    return {
        "handed_on": one.shown,
        "reason": recorded_text(one.ask.reason) or None,
        "keep": None if one.ask.keep is None else [*one.ask.keep],
        "then": recorded_messages(one.ask.then) or None,
        "tools": masked_values([*one.ask.tools]) or None,
        "said": recorded_messages(_said(one.reply)),
    }


def _said(reply: Reply) -> Sequence[Message]:
    """The messages that came back, in OpenAI's dict form."""
    if reply.messages or not (reply.text or reply.tool_calls):
        return reply.messages
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.tool_calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                # Masked by their names while they have some.
                "function": {
                    "name": call.name,
                    "arguments": json.dumps(masked_values(call.arguments), ensure_ascii=False),
                },
            }
            for call in reply.tool_calls
        ]
    return [message]


def _without_trace(record: CallRecord, *, answers: bool) -> CallRecord:
    if record.trace is None:
        return record
    bare = dict.fromkeys(("handed_on", "reason", "keep", "then", "tools", "said"))
    asks = tuple(one.model_copy(update=bare) for one in record.asks)
    answer = record.answer if answers else None
    return record.model_copy(
        update={"asks": asks, "trace": "too long", "tools": None, "answer": answer}
    )


def _without_text(record: CallRecord, **_: bool) -> CallRecord:
    return record.model_copy(update={"text": "too long", "query": None, "answer": None})


def _name(error: BaseException | None) -> str | None:
    # Its text may hold what nobody should read.
    return None if error is None else type(error).__name__[:SHOWN_CHARACTERS]
