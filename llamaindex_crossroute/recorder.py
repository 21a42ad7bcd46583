"""CrossRouteRecorder: an event handler that records routed calls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.event_handlers import BaseEventHandler
from pydantic import PrivateAttr
from typing_extensions import override

from crossroute.strategies import Ended
from crossroute.traffic.recorder import Recorder
from crossroute.traffic.records import Text

if TYPE_CHECKING:
    from crossroute.budget.drift import Drift


class CrossRouteRecorder(BaseEventHandler):
    """Writes a record of each call that a `CrossRouteLLM` answers.

    It is a handler of LlamaIndex's instrumentation, for all calls of the process; one recorder may
    serve many threads and tasks, and many processes may write to one file. The id of a call is on
    its answer, for the feedback that comes later:

        recorder = CrossRouteRecorder("records.jsonl")
        get_dispatcher().add_event_handler(recorder)
        response = llm.complete(question)
        recorder.feedback(response.additional_kwargs["crossroute"]["call_id"], 1.0)

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

    _recorder: Recorder = PrivateAttr()

    def __init__(
        self,
        path: str | Path,
        *,
        text: Text = "keep",
        answers: bool = False,
        watch: Drift | None = None,
        traces: bool = False,
    ) -> None:
        super().__init__()
        self._recorder = Recorder(path, text=text, answers=answers, watch=watch, traces=traces)

    @classmethod
    @override
    def class_name(cls) -> str:
        return "CrossRouteRecorder"

    @property
    def path(self) -> Path:
        """Where records are written."""
        return self._recorder.path

    @property
    def lost(self) -> int:
        """Records that could not be written."""
        return self._recorder.lost

    @override
    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        return [("path", str(self.path)), ("text", self._recorder.text), ("lost", self.lost)]

    def feedback(self, call_id: str, score: float, *, source: str = "user") -> None:
        """Record how good the answer to a call was; see `crossroute.traffic.recorder.Recorder`.

        Args:
            call_id: What stands on the answer, as `call_id` in its decision.
            score: 0..1.
            source: Who says so; of what a source says of a call, the latest counts.

        Raises:
            DataError: If the score is none, or the id or the source is no text of a sensible
                length.
        """
        self._recorder.feedback(call_id, score, source=source)

    @override
    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        """Nothing: the router tells it of a call when it has ended, which no event does."""

    def on_crossroute_call(self, ended: Ended) -> None:
        """Record a call that has ended."""
        self._recorder.on_crossroute_call(ended)
