"""Asks chat models outside of any routing: one many prompts, or several for a collection."""

# ruff: noqa: ANN401  # Models, messages and errors have the types of their providers.

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crossroute.failures import mask_error, status_of
from crossroute.query import Message
from crossroute.traffic.asking import Answer as Answer
from langchain_crossroute.failures import secrets_in
from langchain_crossroute.limits import within
from langchain_crossroute.messages import for_provider, from_dicts
from langchain_crossroute.metadata import message_of, tokens_of

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import BaseMessage

FAILURES_IN_A_ROW = 5
"""So many calls failed with no answer between them: the others would fail, too."""

_CUT = {"length", "max_tokens", "max_output_tokens", "MAX_TOKENS", "incomplete"}
"""Why an answer ends that was cut off at its longest, in the words of the providers."""

_NO_SCHEMA = (400, 404, 422, 501)
"""What servers say that take no schema."""


async def ask(
    model: BaseChatModel,
    prompts: Sequence[str],
    tell: Callable[[int, Answer | Exception], None],
    *,
    at_once: int,
) -> None:
    """Ask a model every prompt once; whatever a call raises is told, and the others go on.

    When `FAILURES_IN_A_ROW` calls have failed, nothing further is asked.

    Args:
        model: The chat model.
        prompts: What it is asked.
        tell: Gets the position of a prompt and its answer, or what the call raised, as they come;
            always in the thread and event loop of the caller.
        at_once: Calls under way at a time, at most.
    """
    waiting = iter(enumerate(prompts))
    failures = 0

    async def work() -> None:
        nonlocal failures
        # One iterator for all workers: each takes the next prompt that nobody has.
        for position, prompt in waiting:
            if failures >= FAILURES_IN_A_ROW:
                return
            try:
                message = await model.ainvoke(prompt)
            except Exception as error:
                failures += 1
                tell(position, error)
                continue
            failures = 0
            tell(position, _answer(message))

    await asyncio.gather(*(work() for _ in range(min(at_once, len(prompts)))))


class AskChatModels:
    """Asks chat models by their ids, as `crossroute.traffic.collect` wants it.

    Args:
        models: The chat models by the ids of their descriptors. They should not try again by
            themselves: what they ask a second time, no budget knows.
    """

    def __init__(self, models: Mapping[str, BaseChatModel]) -> None:
        self._models = models
        self._without_schema: set[str] = set()

    async def __call__(
        self,
        model: str,
        messages: str | Sequence[Message],
        *,
        max_tokens: int,
        schema: Mapping[str, Any] | None,
    ) -> Answer:
        """Ask once.

        A model that cannot be given a schema, or whose server refuses it, is asked without one.

        Args:
            model: Its id.
            messages: A prompt, or a conversation in OpenAI's dict form.
            max_tokens: The longest answer; a shorter one that the chat model has set stays.
            schema: JSON schema of a structured answer, whose JSON is the text then.
        """
        chat_model = self._models[model]
        value = messages if isinstance(messages, str) else from_dicts(messages)
        try:
            if schema is None or model in self._without_schema:
                return _answer(await _invoked(chat_model, value, max_tokens))
            try:
                structured = chat_model.with_structured_output(dict(schema), include_raw=True)
                return _structured(await _invoked(structured, value, max_tokens))
            except Exception as error:
                if not isinstance(error, NotImplementedError) and (
                    status_of(error) not in _NO_SCHEMA
                ):
                    raise
            answer = _answer(await _invoked(chat_model, value, max_tokens))
            self._without_schema.add(model)
        except Exception as error:
            # Servers echo keys.
            masked = mask_error(error, secrets_in(chat_model))
            if masked is error:
                raise
            raise masked from None
        return answer


def without_retries(build: Callable[[Mapping[str, Any]], BaseChatModel]) -> BaseChatModel:
    """A chat model whose client does not try again by itself, as far as it can be told so.

    Args:
        build: Makes it with further arguments.
    """
    model = build({})
    return build({"max_retries": 0}) if "max_retries" in type(model).model_fields else model


async def _invoked(model: Any, value: Any, max_tokens: int) -> Any:
    value, settings = for_provider(model, value, {})
    model, settings = within(model, settings, max_tokens)
    return await model.ainvoke(value, **settings)


def _answer(message: BaseMessage) -> Answer:
    metadata = message.response_metadata
    reasons = (metadata.get(name) for name in ("finish_reason", "stop_reason", "done_reason"))
    return Answer(
        str(message.text),
        tokens_of(getattr(message, "usage_metadata", None)),
        any(reason in _CUT for reason in (*reasons, metadata.get("status"))),
    )


def _structured(output: Any) -> Answer:
    """The answer of a model with `include_raw`: the JSON that was read, else its text."""
    message, parsed = message_of(output), output.get("parsed")
    if message is None:
        return Answer(json.dumps(parsed), None)
    answer = _answer(message)
    return answer if parsed is None else answer._replace(text=json.dumps(parsed))
