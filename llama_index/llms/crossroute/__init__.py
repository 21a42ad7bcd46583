"""`llamaindex_crossroute`'s LLM by the name that LlamaIndex gives its integrations."""

from llamaindex_crossroute import CrossRouteLLM, call_settings

__all__ = ["CrossRouteLLM", "call_settings"]
