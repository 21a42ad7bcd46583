"""What an answer of a candidate says: words, why it ended, that it refuses, what it took.

Providers say it in the raw answer, each in its own way: the only place where those are read.
"""

# ruff: noqa: ANN401  # Raw answers are mappings or objects of their providers.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    ContentBlock,
    TextBlock,
    ThinkingBlock,
)
from pydantic import BaseModel

from crossroute import Price
from crossroute.logprobs import of_answer
from crossroute.strategies import Usage

Response = ChatResponse | CompletionResponse

_INPUT_TOKENS = ("prompt_tokens", "input_tokens", "prompt_token_count")
_OUTPUT_TOKENS = ("completion_tokens", "output_tokens", "candidates_token_count")

_MOST_TOKENS = 10**9

# OpenAI's and Gemini's, Anthropic's, Ollama's.
_FINISH_REASONS = ("finish_reason", "stop_reason", "done_reason", "done")


def has_words(output: Any) -> bool:
    """Whether an answer or a chunk of one has a word to read, thoughts too, or calls a tool.

    Args:
        output: A response, a token, or an object of a structured answer.
    """
    if isinstance(output, ChatResponse):
        # Where agents look for thoughts.
        thought = output.additional_kwargs.get("thinking_delta")
        return _is_text(output.delta) or _is_text(thought) or _message_has_words(output.message)
    if isinstance(output, CompletionResponse):
        return _is_text(output.delta) or _is_text(output.text)
    if isinstance(output, BaseModel):
        return any(value is not None for _, value in output)
    return _is_text(output) if isinstance(output, str) else output is not None


def is_finished(response: Any) -> bool | None:
    """Whether a response says why it ended.

    None if it has no place to say so: Anthropic's streams never do, and mocks hold nothing raw.
    """
    raw = _get(response, "raw")
    places = [raw, _first(_get(raw, "choices"))]
    found = [_get(place, name) for place in places for name in _FINISH_REASONS if _has(place, name)]
    return any(found) if found or _has(raw, "choices") else None


def is_answer(outputs: Sequence[Any]) -> bool:
    """Whether an answer is one, if without words: a provider may answer with nothing.

    Args:
        outputs: The whole answer, or the chunks of a stream up to its first words or its end.
    """
    if not outputs:
        return False
    finished = [is_finished(output) for output in outputs]
    if any(finished) or any(map(has_words, outputs)):
        return True
    if False in finished:
        return False
    last = outputs[-1]
    return (
        bool(last.message.blocks) if isinstance(last, ChatResponse) else isinstance(last, Response)
    )


def is_refusal(response: Any) -> bool:
    """Whether a response, or a chunk of one, is a refusal to answer, by what marks it as one."""
    raw = _get(response, "raw")
    choice = _first(_get(raw, "choices"))
    return bool(
        _get(_get(choice, "message"), "refusal")
        or _get(_get(choice, "delta"), "refusal")
        or _get(choice, "finish_reason") == "content_filter"
        or _get(raw, "stop_reason") == "refusal"
    )


def text_of(output: Any) -> str:
    """The text of an answer, or what has come of it with a chunk of one."""
    if isinstance(output, ChatResponse):
        return output.message.content or ""
    if isinstance(output, CompletionResponse):
        return output.text
    return output if isinstance(output, str) else ""


def with_text(output: Any, text: str, delta: str | None) -> Any:
    """An answer, or a chunk of one, with another text.

    Args:
        output: The answer.
        text: All of the text so far.
        delta: What is new of it in a stream; None if there is none.
    """
    if isinstance(output, CompletionResponse):
        return output.model_copy(update={"text": text, "delta": delta})
    if not isinstance(output, ChatResponse):
        if not isinstance(output, str):
            return output
        return text if delta is None else delta
    rest = [block for block in output.message.blocks if not isinstance(block, TextBlock)]
    message = output.message.model_copy(update={"blocks": [TextBlock(text=text), *rest]})
    return output.model_copy(update={"message": message, "delta": delta})


def to_completion(output: Any) -> Any:
    """A response to messages, or a chunk of one, as one to a prompt."""
    if not isinstance(output, ChatResponse):
        return output
    return CompletionResponse(
        text=text_of(output),
        delta=output.delta,
        raw=output.raw,
        logprobs=output.logprobs,
        additional_kwargs=output.additional_kwargs,
    )


def logprobs_of(response: Any) -> list[float]:
    """Log-probabilities of the tokens of an answer or a chunk, as OpenAI's API tells them.

    Those of a refusal and of reasoning are not of the answer.
    """
    choice = _first(_get(_get(response, "raw"), "choices"))
    if (found := _get(choice, "logprobs")) is None:
        return []
    tokens = [(_get(one, "token"), _get(one, "logprob")) for one in _get(found, "content") or ()]
    # The API of completions has them in lists of their own.
    values = _get(found, "token_logprobs") or ()
    tokens += zip(_get(found, "tokens") or (), values, strict=False)
    return of_answer(tokens, _text_beside_reasoning(response))


def _text_beside_reasoning(response: Any) -> str | None:
    """The text of an answer or a chunk with reasoning in it; None where there is none."""
    if not isinstance(response, ChatResponse):
        return None
    if response.delta is not None:
        # Of a chunk, whose message holds all so far.
        return response.delta if response.additional_kwargs.get("thinking_delta") else None
    reasons = any(isinstance(block, ThinkingBlock) for block in response.message.blocks)
    return response.message.content or "" if reasons else None


def usage_of(response: Response) -> Usage | None:
    """The tokens of an answer; None if it does not say them."""
    if not (usage := _usage(response)):
        return None
    tokens_in = next((n for name in _INPUT_TOKENS if (n := _count(usage, name))), 0)
    tokens_out = next((n for name in _OUTPUT_TOKENS if (n := _count(usage, name))), 0)
    if not tokens_in:
        return None
    details = _get(usage, "prompt_tokens_details") or _get(usage, "input_tokens_details")
    cached = _count(details, "cached_tokens") or _count(usage, "cached_content_token_count")
    # Anthropic counts the prompt cache, and Gemini the thoughts, beside the other tokens.
    if read := _count(usage, "cache_read_input_tokens"):
        cached, tokens_in = read, tokens_in + read
    tokens_in += _count(usage, "cache_creation_input_tokens")
    spent = _get(usage, "completion_tokens_details") or _get(usage, "output_tokens_details")
    thoughts = _count(usage, "thoughts_token_count")
    reasoning = _count(spent, "reasoning_tokens") or thoughts
    return Usage(tokens_in, tokens_out + thoughts, cached, reasoning)


def realised(response: Response, price: Price | None) -> Any:
    """What an answer really took: tokens, and USD by the price table.

    None without a price, or if the answer does not say its usage.
    """
    usage = usage_of(response)
    if price is None or usage is None:
        return None
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cached_tokens": usage.cached_tokens,
        "cost_usd": float(price.cost_usd(*usage)),
    }


def _message_has_words(message: ChatMessage) -> bool:
    # Older integrations leave the calls beside the blocks.
    return bool(message.additional_kwargs.get("tool_calls")) or any(
        map(_block_has_words, message.blocks)
    )


def _block_has_words(block: ContentBlock) -> bool:
    if isinstance(block, TextBlock):
        return _is_text(block.text)
    return _is_text(block.content) if isinstance(block, ThinkingBlock) else True


def _is_text(text: Any) -> bool:
    return isinstance(text, str) and bool(text.strip())


def _usage(response: Response) -> Any:
    """Where LlamaIndex's own token counter finds it: in the raw answer, or beside it."""
    usage = _get(response.raw, "usage") or _get(response.raw, "usage_metadata")
    return response.additional_kwargs if usage is None else usage


def _count(usage: Any, name: str) -> int:
    """A number of tokens; 0 where there is none, and where a server says nonsense."""
    found = _get(usage, name)
    return found if isinstance(found, int) and 0 < found <= _MOST_TOKENS else 0


def _first(choices: Any) -> Any:
    return choices[0] if isinstance(choices, Sequence) and choices else None


def _get(value: Any, name: str) -> Any:
    """A field of a raw answer, which is a mapping or an object of its provider."""
    if value is None:  # As of most chunks; asking whether it is a mapping takes longer.
        return None
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _has(value: Any, name: str) -> bool:
    if value is None:
        return False
    return name in value if isinstance(value, Mapping) else hasattr(value, name)
