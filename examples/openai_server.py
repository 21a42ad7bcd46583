"""An OpenAI-compatible server on this machine whose answers are simulated: no key, no network.

    python examples/openai_server.py               # start it, ask it once, stop it
    python examples/openai_server.py --port 8000   # serve until Ctrl-C

Real clients (`ChatOpenAI`, LlamaIndex's `OpenAILike`, `curl`) talk to it over HTTP, and it answers
as it is told: plain or streamed, with tool calls, too late, or not at all. Beside
`langchain_openai_compatible.py`, the tests of real clients use it.
"""

from __future__ import annotations

import argparse
import json
import re
import select
import socket
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Reply:
    """What the server answers to one request.

    Attributes:
        text: The answer; in a stream one chunk for each word.
        tool_calls: `(name, arguments)` of each tool call; arguments in a text are sent as they are.
        refusal: Says that the model refuses.
        finish_reason: If None, `tool_calls` or `stop`.
        input_tokens: Tokens of the input in the usage.
        output_tokens: Tokens of the answer in the usage.
        cached_tokens: Those of `input_tokens` that were in the prompt cache.
        status: HTTP status; from 400 on it is an error with `text` as its message.
        cut_after: Cut the connection after that many chunks of the stream. With 0 an answer that
            is not streamed is cut too: it never begins.
        fail_after: Send the error of `status` as an event, after that many chunks of the stream;
            an answer that is not streamed is that error from the start.
        end_after: End the stream after that many chunks without a word of why, as if it were whole.
        silent: Never answer: the client has to give up.
        retry_after: The header of that name; without it, a client's own retry need not wait.
        raw: The body as it is sent, streamed or not, instead of all that the others say.
        logprobs: Log-probabilities of the tokens, which are the words of `text`, to a request that
            asks for them; of a refusal they are those of the refusal.
        delay: Seconds before an answer, and in a stream before each chunk of the text. Closing the
            server ends it.
        hold_after: Hold a stream after that many chunks, with 0 any answer before it begins, until
            `OpenAIServer.release` is set or the client leaves.
    """

    text: str = ""
    tool_calls: tuple[tuple[str, Mapping[str, Any] | str], ...] = ()
    refusal: str | None = None
    finish_reason: str | None = None
    input_tokens: int = 20
    output_tokens: int = 10
    cached_tokens: int = 0
    status: int = 200
    cut_after: int | None = None
    fail_after: int | None = None
    end_after: int | None = None
    silent: bool = False
    retry_after: str | None = None
    raw: str | None = None
    logprobs: Sequence[float] | None = None
    delay: float = 0.0
    hold_after: int | None = None


Answer = Reply | Sequence[Reply] | Callable[[dict[str, Any]], Reply]
"""A reply; several, one for each request in turn and then from the first again; or a function that
makes it of the request's body."""


@dataclass(frozen=True)
class Request:
    """What a client sent: the path, the `Authorization` header, and the JSON body."""

    path: str
    authorization: str | None
    body: dict[str, Any] = field(default_factory=dict)


class OpenAIServer(ThreadingHTTPServer):
    """Serves `/v1/chat/completions` and `/v1/models` on loopback while its `with` block runs.

    Args:
        answers: What each model answers; a model that is not in it says that it is simulated.
            It may be changed while the server runs.
        port: 0 takes a free one.

    Attributes:
        requests: What was asked, in the order of arrival.
        release: Lets go of the answers that are held.
        left: Models whose clients closed the connection to an answer that was held.
    """

    # Leaving the block waits for the answers under way, so that nothing outlives it.
    daemon_threads = False
    request_queue_size = 64

    def __init__(self, answers: Mapping[str, Answer] | None = None, *, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.answers: dict[str, Answer] = dict(answers or {})
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self.release = threading.Event()
        self.left: list[str] = []
        self._turns: Counter[str] = Counter()
        self._turn = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        """What a client takes as its `base_url`."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def reply(self, body: dict[str, Any]) -> Reply:
        """The reply to a request."""
        model = body["model"]
        answer = self.answers.get(model, Reply(f"(a simulated answer of {model})"))
        if isinstance(answer, Reply):
            return answer
        if not isinstance(answer, Sequence):
            return answer(body)
        with self._turn:
            turn = self._turns[model]
            self._turns[model] += 1
        return answer[turn % len(answer)]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: OpenAIServer
    protocol_version = "HTTP/1.1"  # for chunks, whose end a client misses when it is cut off
    timeout = 60
    disable_nagle_algorithm = True  # else a body waits until its head is acknowledged
    wait: Mapping[str, str] = {"Retry-After-Ms": "1"}

    def do_GET(self) -> None:
        self.server.requests.append(Request(self.path, self.headers["Authorization"]))
        if self.path != "/v1/models":
            return self._send(404, _error(404, f"There is no {self.path}."))
        models = [{"id": model, "object": "model", "created": 0} for model in self.server.answers]
        return self._send(200, {"object": "list", "data": models})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(Request(self.path, self.headers["Authorization"], body))
        if self.path != "/v1/chat/completions":
            return self._send(404, _error(404, f"There is no {self.path}."))
        reply = self.server.reply(body)
        self.close_connection = True
        if reply.retry_after is not None:
            self.wait = {"Retry-After": reply.retry_after}
        if reply.silent or reply.delay:
            self.server.closing.wait(None if reply.silent else reply.delay)
            if self.server.closing.is_set():
                return None
        if reply.hold_after == 0 and not self._goes_on(body):
            return None
        if reply.raw is not None:
            kind = "text/event-stream" if body.get("stream") else "application/json"
            if reply.raw.startswith("<"):
                kind = "text/html"
            return self._send_data(reply.status, reply.raw.encode(), kind)
        if reply.status >= 400 and not (body.get("stream") and reply.fail_after is not None):
            return self._send(reply.status, _error(reply.status, reply.text))
        if body.get("stream"):
            return self._stream(_chunks(reply, body), reply, body)
        return None if reply.cut_after == 0 else self._send(200, _completion(reply, body))

    def _send(self, status: int, content: dict[str, Any]) -> None:
        self._send_data(status, json.dumps(content).encode(), "application/json")

    def _send_data(self, status: int, data: bytes, kind: str) -> None:
        try:
            self._head(status, {"Content-Type": kind, "Content-Length": str(len(data))})
            self.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # The client did not wait for it.

    def _goes_on(self, body: Mapping[str, Any]) -> bool:
        """Wait until an answer is released; whether somebody still waits for it."""
        while not self.server.release.wait(0.01):
            if self._is_left():
                self.server.left.append(body["model"])
                return False
            if self.server.closing.is_set():
                return False
        return True

    def _is_left(self) -> bool:
        """Whether the client has closed the connection: there is an end to read."""
        if not select.select([self.connection], [], [], 0)[0]:
            return False
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except ConnectionResetError:
            return True

    def _stream(
        self, chunks: Iterator[dict[str, Any]], reply: Reply, body: Mapping[str, Any]
    ) -> None:
        self._head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
        try:
            for number, chunk in enumerate(chunks):
                if number == reply.cut_after:
                    return
                if number == reply.fail_after:
                    chunk = _error(reply.status, reply.text)  # Clients read no further.
                if number == reply.end_after:
                    break
                if number and number == reply.hold_after and not self._goes_on(body):
                    return
                if number and reply.delay and self.server.closing.wait(reply.delay):
                    return
                self._event(json.dumps(chunk))
            else:
                self._event("[DONE]")
            self.wfile.write(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # The client has heard enough.

    def _event(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        # No connection is left over for a client to keep.
        for name, value in {**headers, **self.wait, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def _error(status: int, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "error", "param": None, "code": str(status)}}


def _completion(reply: Reply, body: Mapping[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": reply.text or None,
        "refusal": reply.refusal,
    }
    if reply.tool_calls:
        message["tool_calls"] = _tool_calls(reply)
    choice = {"index": 0, "message": message, "finish_reason": _finish_reason(reply)}
    choice |= _logprobs(reply, body, _words(reply.refusal or reply.text))
    return _frame("chat.completion", body, choices=[choice], usage=_usage(reply))


def _chunks(reply: Reply, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The events of a stream: the role, the words or tool calls, the end, and the usage."""

    def delta(
        finish_reason: str | None = None, words: Sequence[str] = (), at: int = 0, **content: object
    ) -> dict[str, Any]:
        choice = {"index": 0, "delta": content, "finish_reason": finish_reason}
        choice |= _logprobs(reply, body, words, at) if words else {}
        return _frame("chat.completion.chunk", body, choices=[choice])

    yield delta(role="assistant", content="")
    for at, word in enumerate(_words(reply.text)):
        yield delta(words=[word], at=at, content=word)
    if reply.refusal is not None:
        yield delta(words=_words(reply.refusal), refusal=reply.refusal)
    for index, call in enumerate(_tool_calls(reply)):
        arguments = call["function"].pop("arguments")
        call["function"]["arguments"] = ""
        yield delta(tool_calls=[{"index": index, **call}])
        for part in (arguments[:5], arguments[5:]):
            yield delta(tool_calls=[{"index": index, "function": {"arguments": part}}])
    yield delta(_finish_reason(reply))
    if (body.get("stream_options") or {}).get("include_usage"):
        yield _frame("chat.completion.chunk", body, choices=[], usage=_usage(reply))


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+\s*$|\s*\S+", text)


def _logprobs(
    reply: Reply, body: Mapping[str, Any], words: Sequence[str], at: int = 0
) -> dict[str, Any]:
    """What a choice says of the log-probabilities of some words, of which `at` is the first."""
    if reply.logprobs is None or not body.get("logprobs"):
        return {"logprobs": None}
    values = reply.logprobs[at : at + len(words)]
    tokens = [
        {"token": word, "logprob": value, "bytes": list(word.encode()), "top_logprobs": []}
        for word, value in zip(words, values, strict=True)
    ]
    refuses = reply.refusal is not None
    return {
        "logprobs": {
            "content": None if refuses else tokens,
            "refusal": tokens if refuses else None,
        }
    }


def _frame(kind: str, body: Mapping[str, Any], **content: object) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 0, "model": body["model"], **content}


def _tool_calls(reply: Reply) -> list[dict[str, Any]]:
    return [
        {
            "id": f"call_{number}",
            "type": "function",
            "function": {
                "name": name,
                "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments),
            },
        }
        for number, (name, arguments) in enumerate(reply.tool_calls)
    ]


def _finish_reason(reply: Reply) -> str:
    return reply.finish_reason or ("tool_calls" if reply.tool_calls else "stop")


def _usage(reply: Reply) -> dict[str, Any]:
    return {
        "prompt_tokens": reply.input_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": reply.input_tokens + reply.output_tokens,
        "prompt_tokens_details": {"cached_tokens": reply.cached_tokens},
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, help="serve on it until Ctrl-C")
    port = parser.parse_args().port
    with OpenAIServer(port=port or 0) as server:
        print(f"Simulated answers at {server.url}")
        if port is not None:
            threading.Event().wait()
        question = {"model": "any", "messages": [{"role": "user", "content": "Who are you?"}]}
        request = urllib.request.Request(  # noqa: S310
            f"{server.url}/chat/completions",
            json.dumps(question).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as response:  # noqa: S310
            print(json.load(response)["choices"][0]["message"]["content"])


if __name__ == "__main__":
    main()
