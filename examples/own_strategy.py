"""A strategy of one's own, in LangChain and in LlamaIndex. Needs no key: the models are simulated.

    python examples/own_strategy.py

A strategy says what to ask, and is sent what came back (`docs/strategies/index.md`). This one asks
the cheapest candidate first, and the router's own choice where that is not sure.
"""

from typing import Any

from langchain_core.language_models import FakeListChatModel
from llama_index.core.llms import CompletionResponse, CustomLLM, LLMMetadata
from typing_extensions import override

from crossroute.strategies import Ask, Flow, Task
from langchain_crossroute import ChatCrossRoute
from llamaindex_crossroute import CrossRouteLLM


class CheapFirst:
    def answer(self, task: Task) -> Flow:
        cheapest = min(task.decision.candidates, key=lambda candidate: candidate.cost_usd)
        reply = yield Ask(cheapest.model, role="draft")
        if reply.failed or "not sure" in reply.text:
            reply = yield Ask(task.decision.model)
        return reply


ANSWERS = {
    "gpt-4o-2024-08-06": "(simulated) Yes: its Sylow subgroups are normal.",
    "gpt-4o-mini-2024-07-18": "(simulated) I am not sure.",
}
QUESTION = "Is every group of order 15 cyclic? Prove it."


class Simulated(CustomLLM):
    text: str

    @property
    @override
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="simulated")

    @override
    def complete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponse:
        return CompletionResponse(text=self.text, raw={"stop_reason": "end"})

    @override
    def stream_complete(self, prompt: str, formatted: bool = False, **_: Any) -> Any:
        yield CompletionResponse(text=self.text, delta=self.text, raw={"stop_reason": "end"})


def main() -> None:
    chat = ChatCrossRoute(
        models={model: FakeListChatModel(responses=[text]) for model, text in ANSWERS.items()},
        willingness_to_pay=1,
        strategy=CheapFirst(),
    )
    answer = chat.invoke(QUESTION)
    print("LangChain: ", answer.text)
    for ask in answer.response_metadata["crossroute"]["bill"]["asks"]:
        print(f"  {ask['role']:6} {ask['model']:23} ${ask['cost_usd']:.6f}")

    llm = CrossRouteLLM(
        models={model: Simulated(text=text) for model, text in ANSWERS.items()},
        willingness_to_pay=1,
        strategy=CheapFirst(),
    )
    print("LlamaIndex:", llm.complete(QUESTION).text)


if __name__ == "__main__":
    main()
