"""pytest plugin for LlamaIndex's own tests: their fake LLMs inside `CrossRouteLLM`."""

# ruff: noqa: ANN401

from __future__ import annotations

import os
from typing import Any, ClassVar

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse
from llama_index.core.llms import LLM, mock
from wrapping import CANDIDATES, SeenByTests, equal_but_for, wrap_fakes

from crossroute import CrossRouter
from llamaindex_crossroute import CrossRouteLLM
from llamaindex_crossroute.request import ANSWERED_BY
from llamaindex_crossroute.transport import DECISION

ROUTER = CrossRouter.default()


class Wrapped(SeenByTests, CrossRouteLLM):
    """A router over one fake, whose attributes the tests see."""

    kind: ClassVar[type] = LLM


def wrapped(fake: Any) -> Any:
    """A router with a fake as both of its candidates, tried once as a fake itself would be."""
    if isinstance(fake, CrossRouteLLM):
        return fake
    return Wrapped(models=dict.fromkeys(CANDIDATES, fake), router=ROUTER, attempts=1)


if os.environ["PEERS_MODE"] == "model":
    equal_but_for(ANSWERED_BY, "additional_kwargs", ChatMessage)
    for kind in (ChatResponse, CompletionResponse):
        equal_but_for(DECISION, "additional_kwargs", kind)
    wrap_fakes(LLM, mock.__name__, wrapped)
