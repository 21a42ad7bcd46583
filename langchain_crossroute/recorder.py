"""CrossRouteRecorder: a callback that records routed calls."""

from __future__ import annotations

from langchain_core.callbacks import BaseCallbackHandler

from crossroute.traffic.recorder import Recorder


class CrossRouteRecorder(Recorder, BaseCallbackHandler):
    """Writes a record of each call that a CrossRoute router answers.

    A callback for sync, async, streamed and batched calls; one recorder may serve many of them at
    once, in many threads and processes. Calls of other models are ignored. The id of a call is on
    its answer, for the feedback that comes later:

        recorder = CrossRouteRecorder("records.jsonl")
        answer = chat.invoke(question, config={"callbacks": [recorder]})
        recorder.feedback(answer.response_metadata["crossroute"]["call_id"], 1.0)

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

    # The router tells it of a call when it has ended; of LangChain's own events it needs none.
    run_inline = True
    ignore_llm = True
    ignore_chat_model = True
    ignore_chain = True
    ignore_agent = True
    ignore_retriever = True
    ignore_custom_event = True
