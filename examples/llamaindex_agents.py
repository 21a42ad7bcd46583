"""LlamaIndex agents, tools and LLMs behind one door. Needs no key: the LLMs are simulated.

    python examples/llamaindex_agents.py

Who answers is decided by CrossRoute: an agent or a tool where the question is like what its
descriptor says, else the LLM that is worth its price.
"""

# ruff: noqa: ANN401, ARG002  # The signatures of `SimulatedLLM` are LlamaIndex's.

import asyncio
import warnings
from typing import Any

from llama_index.core.agent.workflow import ReActAgent
from llama_index.core.base.llms.types import CompletionResponse, CompletionResponseGen, LLMMetadata
from llama_index.core.llms import ChatMessage, CustomLLM
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.tools import FunctionTool

from crossroute import CrossRouter, ModelDescriptor
from llamaindex_crossroute import CrossRouteAgents

MODELS = ["gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18"]
AGENTS = [
    ModelDescriptor(
        id="flights",
        kind="agent",
        description="Finds, books and changes flights between cities.",
        examples=("Which flights are there from Berlin to Madrid on Monday?",),
        cost_usd_a_call=0.004,
        expected_quality=0.9,
    ),
    ModelDescriptor(
        id="holidays",
        kind="tool",
        description="Says how many days of holiday an employee has left.",
        cost_usd_a_call=0.0,
        expected_quality=0.9,
    ),
]
QUESTIONS = [
    "Which flights go from Paris to Rome on Friday evening?",
    "How many days of holiday do I have left?",
    "Is every group of order 15 cyclic? Prove it.",
]


class SimulatedLLM(CustomLLM):
    """Stands for a model, and for that of the agent: it thinks, calls the tool, and answers."""

    model: str

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name=self.model)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        text = f"(simulated answer of {self.model})"
        if "Observation: Flight" in prompt:
            text = "Thought: I can answer.\nAnswer: AZ 325 leaves Paris at 18:10. (simulated)"
        elif "search_flights" in prompt:
            call = 'Action: search_flights\nAction Input: {"route": "Paris to Rome"}'
            text = f"Thought: I look it up.\n{call}"
        return CompletionResponse(text=text)

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        whole = self.complete(prompt, formatted, **kwargs)
        yield whole.model_copy(update={"delta": whole.text})


def search_flights(route: str) -> str:
    """Search flights."""
    return f"Flight AZ 325 ({route}), 18:10."


def days_left(question: str) -> str:
    """Look up the days of holiday that are left."""
    return f"12 days are left. (simulated answer to {question!r})"


async def main() -> None:
    router = CrossRouter.shipped().subset(MODELS)
    for agent in AGENTS:
        router = router.add_model(agent)
    door = CrossRouteAgents(
        router=router,
        models={
            **{model: SimulatedLLM(model=model) for model in MODELS},
            "flights": ReActAgent(tools=[search_flights], llm=SimulatedLLM(model="the agent's")),
            "holidays": FunctionTool.from_defaults(days_left),
        },
    )
    history: list[ChatMessage] = []
    for question in QUESTIONS:
        history.append(ChatMessage(question))
        response = await door.achat(history)
        history.append(response.message)
        decision = response.additional_kwargs["crossroute"]
        print(f"\n> {question}\n  {response.message.content}")
        print(f"  by {decision['model']}, {decision['quality']:.2f} predicted quality")


if __name__ == "__main__":
    # LlamaIndex's agents themselves use what is deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    asyncio.run(main())
