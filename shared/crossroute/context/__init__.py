"""What of a conversation, or of what several agents wrote, the next call needs."""

from __future__ import annotations

from crossroute.context.fit import ContextSettings, FittedContext, fit_context
from crossroute.context.scores import ContextWeights
from crossroute.context.shared_memory import MemoryItem, MemorySettings, SharedMemory, fit_items
from crossroute.context.tokens import ATTACHMENT_TOKENS, MESSAGE_TOKENS, count_tokens
from crossroute.network.text_attention import TextAttention

__all__ = [
    "ATTACHMENT_TOKENS",
    "MESSAGE_TOKENS",
    "ContextSettings",
    "ContextWeights",
    "FittedContext",
    "MemoryItem",
    "MemorySettings",
    "SharedMemory",
    "TextAttention",
    "count_tokens",
    "fit_context",
    "fit_items",
]
