"""Candidates with their own way with prompts: `predict`, `structured_predict` and the like."""

# ruff: noqa: ANN401  # LlamaIndex's own signatures say Any.

from collections.abc import Callable
from typing import Any

import pytest
from fakes_llamaindex import (
    ADA,
    LARGE,
    MINI,
    OBJECTS,
    PROMPT,
    TEXTS,
    NativeLLM,
    Person,
    Recorder,
    ScriptedLLM,
    StatusError,
    asked,
    core_decision,
    expected_of,
    native,
    outputs,
    result_of,
    user,
)
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.instrumentation.events.llm import (
    LLMChatEndEvent,
    LLMStructuredPredictEndEvent,
)
from llama_index.core.types import PydanticProgramMode
from llama_index.llms.openai_like import OpenAILike
from openai_server import OpenAIServer, Reply

from crossroute import NoAnswerError
from llamaindex_crossroute import (
    CrossRouteAnswerEvent,
    CrossRouteDecisionEvent,
    CrossRouteLLM,
    call_settings,
)

PROMPT_WAYS = [*TEXTS, *OBJECTS]
PROMPT_STREAMS = [way for way in PROMPT_WAYS if "stream" in way]
TWO = [LARGE, MINI]


@pytest.mark.parametrize("way", PROMPT_WAYS)
@pytest.mark.parametrize("model", TWO)
async def test_the_way_of_the_chosen_candidate_is_taken(
    way: str, model: str, events: Recorder
) -> None:
    models = native()
    llm = CrossRouteLLM(models=models, willingness_to_pay=0)
    with call_settings(model=model):
        found = await outputs(way, llm)
    assert result_of(way, found) == expected_of(way, model)
    [asked] = models[model]._asked
    assert [message.content for message in asked] == ["Who wrote the first program? Ada."]
    assert sum(len(llm._asked) for llm in models.values()) == 1
    [decided], [answered] = events.of(CrossRouteDecisionEvent), events.of(CrossRouteAnswerEvent)
    assert decided.decision["model"] == answered.model == model
    assert answered.attempts == []
    if "stream" not in way:
        price = llm.router.pool[model].price
        assert answered.realised["cost_usd"] == pytest.approx(price.cost_usd(50, 70))


@pytest.mark.parametrize("way", PROMPT_WAYS)
async def test_it_is_routed_by_the_prompt(way: str, events: Recorder) -> None:
    await outputs(way, CrossRouteLLM(models=native(), willingness_to_pay=0.001))
    [decided] = events.of(CrossRouteDecisionEvent)
    found = core_decision("Who wrote the first program? Ada.", 0.001, TWO)
    assert decided.decision["model"] == found.model
    chosen = {c["model"]: c["quality"] for c in decided.decision["candidates"]}
    assert chosen == {c.model: pytest.approx(c.quality) for c in found.candidates}


@pytest.mark.parametrize("way", PROMPT_WAYS)
async def test_the_next_candidate_answers(
    way: str, events: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    models = native()
    object.__setattr__(models[MINI], "error", StatusError(429))
    kwargs = {} if way in TEXTS else {"llm_kwargs": {"seed": 1}}
    found = await outputs(way, CrossRouteLLM(models=models, willingness_to_pay=0), **kwargs)
    assert result_of(way, found) == expected_of(way, LARGE)
    [answered] = events.of(CrossRouteAnswerEvent)
    assert answered.attempts == [{"model": MINI, "error": "StatusError: status 429"}]
    assert f"Candidate {MINI} failed" in caplog.text
    if way in OBJECTS:
        # Each got its own copy of what it writes into.
        assert kwargs["llm_kwargs"] == {"seed": 1}
        assert [models[model]._given for model in TWO] == [[{"seed": 1, "written": "into"}]] * 2


class Particular(ScriptedLLM):
    """Takes no `llm_kwargs`: they would be an argument of the prompt."""

    def structured_predict(self, output_cls: Any, prompt: Any, **given: Any) -> Any:
        assert given == {"hint": "Ada."}
        return ADA


async def test_settings_that_nobody_gave_are_not_passed_on() -> None:
    models = {model: Particular(name=model) for model in TWO}
    assert await outputs("structured_predict", CrossRouteLLM(models=models)) == [ADA]


@pytest.mark.parametrize("way", PROMPT_WAYS)
async def test_if_all_fail_the_last_error_names_them(way: str) -> None:
    llm = CrossRouteLLM(models=native(error=TimeoutError("slow")), willingness_to_pay=0)
    with pytest.raises(TimeoutError, match="slow") as raised:
        await outputs(way, llm)
    [note] = raised.value.__notes__
    assert note.index(MINI) < note.index(LARGE)


@pytest.mark.parametrize("way", PROMPT_WAYS)
async def test_an_error_of_the_caller_is_raised_at_once(way: str) -> None:
    models = native(error=StatusError(400))
    with pytest.raises(StatusError):
        await outputs(way, CrossRouteLLM(models=models, willingness_to_pay=0))
    assert not models[LARGE]._asked


@pytest.mark.parametrize("way", [way for way in PROMPT_WAYS if "stream" not in way])
async def test_a_refusal_within_it(way: str, events: Recorder) -> None:
    models = native()
    object.__setattr__(models[MINI], "raw", {"stop_reason": "refusal"})
    for passes, model in ((False, MINI), (True, LARGE)):
        llm = CrossRouteLLM(models=models, willingness_to_pay=0, pass_refusals=passes)
        assert result_of(way, await outputs(way, llm)) == expected_of(way, model)
        answered = events.of(CrossRouteAnswerEvent)[-1]
        assert answered.attempts == [{"model": MINI, "error": "refused"}] * passes


@pytest.mark.parametrize("way", PROMPT_STREAMS)
async def test_an_empty_stream(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScriptedLLM, "text", "")
    nothing: Callable[..., Any] = lambda *_, **__: iter(())  # noqa: E731
    monkeypatch.setattr(NativeLLM, "stream_structured_predict", nothing)
    models = native()
    with pytest.raises(NoAnswerError, match=LARGE):
        await outputs(way, CrossRouteLLM(models=models, willingness_to_pay=0))


@pytest.mark.parametrize("way", PROMPT_WAYS)
@pytest.mark.parametrize("own", [True, False])
async def test_events_and_tokens_are_counted_once(way: str, own: bool, events: Recorder) -> None:
    counter = TokenCountingHandler(tokenizer=str.split)
    kind = NativeLLM if own else ScriptedLLM
    models = {model: kind(name=model) for model in TWO}
    llm = CrossRouteLLM(models=models, callback_manager=CallbackManager([counter]))
    await outputs(way, llm)
    assert counter.total_llm_token_count == 120
    assert len(counter.llm_token_counts) == 1
    assert len(events.of(LLMChatEndEvent)) == 1
    assert len(events.of(CrossRouteAnswerEvent)) == 1


# LlamaIndex's own `astructured_predict` by function calls forgets system prompts.
@pytest.mark.parametrize("way", [way for way in PROMPT_WAYS if way != "astructured_predict"])
async def test_a_system_prompt_of_the_router_is_kept(way: str) -> None:
    # No candidate's own way would know of it.
    models = native()
    llm = CrossRouteLLM(models=models, willingness_to_pay=0, system_prompt="Be brief.")
    found = await outputs(way, llm)
    [asked] = models[MINI]._asked
    assert [message.role.value for message in asked] == ["system", "user"]
    assert asked[0].content == "Be brief."
    assert result_of(way, found) != expected_of(way, MINI)


@pytest.mark.parametrize("way", PROMPT_WAYS)
async def test_one_candidate_with_its_own_way_is_enough(way: str) -> None:
    models = {LARGE: ScriptedLLM(name=LARGE), MINI: NativeLLM(name=MINI)}
    llm = CrossRouteLLM(models=models, willingness_to_pay=0)
    assert result_of(way, await outputs(way, llm)) == expected_of(way, MINI)
    with call_settings(model=LARGE):
        found = result_of(way, await outputs(way, llm))
    assert found == f"I am {LARGE}." if way in TEXTS else found.name == "Ada"


async def test_the_program_mode_of_the_router_is_kept() -> None:
    llm = CrossRouteLLM(
        models=native(), willingness_to_pay=0, pydantic_program_mode=PydanticProgramMode.LLM
    )
    with pytest.raises(ValueError, match="I am"):
        llm.structured_predict(Person, PROMPT, hint="")


def test_a_structured_llm_takes_it() -> None:
    llm = CrossRouteLLM(models=native(), willingness_to_pay=0).as_structured_llm(Person)
    assert llm.chat(user("Who?")).raw == Person(name=MINI, age=36)


# Native structured answers over HTTP


def is_native(body: dict[str, Any]) -> bool:
    return bool(body["response_format"]["json_schema"]["name"] == "Person")


def structured(text: str) -> Callable[[dict[str, Any]], Reply]:
    return lambda body: Reply(text) if is_native(body) else Reply(status=400)


@pytest.fixture
def pair(client: Callable[..., OpenAILike]) -> CrossRouteLLM:
    models = {model: client(model, should_use_structured_outputs=True) for model in TWO}
    return CrossRouteLLM(models=models, willingness_to_pay=0)


@pytest.mark.parametrize("way", OBJECTS)
async def test_native_structured_answers(
    way: str, pair: CrossRouteLLM, server: OpenAIServer, events: Recorder
) -> None:
    server.answers[MINI] = structured(ADA.model_dump_json())
    found = (await outputs(way, pair))[-1]
    assert found.model_dump() == ADA.model_dump()
    assert asked(server) == [MINI]
    assert len(events.of(LLMStructuredPredictEndEvent)) == (1 if "stream" in way else 0)
    [answered] = events.of(CrossRouteAnswerEvent)
    assert answered.model == MINI
    if "stream" not in way:
        assert answered.realised["input_tokens"] == 20


@pytest.mark.parametrize(
    ("way", "reply"),
    [
        (way, reply)
        for way in OBJECTS
        for reply in (
            Reply(status=503),
            Reply(raw="<html>"),
            Reply(raw=""),
            Reply(raw='{"choices": []}'),
            # In a stream they end after the role; a whole answer is not JSON.
            Reply("No JSON.", end_after=1),
        )
    ],
)
async def test_native_structured_answers_fail_over(
    way: str, reply: Reply, pair: CrossRouteLLM, server: OpenAIServer, events: Recorder
) -> None:
    server.answers = {MINI: reply, LARGE: structured(ADA.model_dump_json())}
    found = (await outputs(way, pair))[-1]
    assert found.model_dump() == ADA.model_dump()
    assert asked(server) == [MINI, LARGE]
    [answered] = events.of(CrossRouteAnswerEvent)
    assert [attempt["model"] for attempt in answered.attempts] == [MINI]
