"""A server on this machine that answers as OpenAI, Anthropic and Google do."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from crossroute import CrossRouter, ModelDescriptor, ModelPool

MODEL = "gpt-5.9"
TEXT = "Paris."

_CHAT = {
    "id": "c",
    "object": "chat.completion",
    "created": 0,
    "model": MODEL,
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": TEXT},
        }
    ],
    "usage": {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30},
}
_RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 0,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "metadata": {},
    "model": MODEL,
    "output": [
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": TEXT, "annotations": []}],
        }
    ],
    "parallel_tool_calls": True,
    "temperature": None,
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "usage": {
        "input_tokens": 20,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 10,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 30,
    },
}
_MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": MODEL,
    "content": [{"type": "text", "text": TEXT}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 20, "output_tokens": 10},
}
_CONTENT = {
    "candidates": [
        {
            "content": {"role": "model", "parts": [{"text": TEXT}]},
            "finishReason": "STOP",
            "index": 0,
        }
    ],
    "usageMetadata": {"promptTokenCount": 20, "candidatesTokenCount": 10, "totalTokenCount": 30},
    "modelVersion": MODEL,
}
_BY_PATH = {
    "chat/completions": _CHAT,
    "responses": _RESPONSE,
    "messages": _MESSAGE,
    "generateContent": _CONTENT,
}
"""Answers, by how the path of a request ends."""


class WireServer(ThreadingHTTPServer):
    """Answers on loopback while its `with` block runs.

    Attributes:
        bodies: What was sent, in the order of arrival.
        url: Its address, without a path.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[dict[str, Any]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: WireServer

    def do_POST(self) -> None:
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        path = self.path.partition("?")[0]
        answer = next(answer for end, answer in _BY_PATH.items() if path.endswith(end))
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # The class's own.
        """Say nothing."""


def router_of_efforts(capabilities: tuple[str, ...] = ()) -> CrossRouter:
    """Of one model that nobody calls by this name, at two efforts: two candidates."""
    model = ModelDescriptor.model_validate(
        {
            "id": MODEL,
            "efforts": ("low", "high"),
            "family": "gpt",
            "capabilities": capabilities,
            "price": {
                "input_usd_per_1m": 1.0,
                "output_usd_per_1m": 8.0,
                "date": "2026-01-01",
                "source": "a test",
            },
        }
    )
    return CrossRouter.shipped().over(ModelPool([model]))
