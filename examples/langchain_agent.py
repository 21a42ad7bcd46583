"""An agent whose model is chosen for each turn. Needs no key: the models are simulated.

    python examples/langchain_agent.py

Which model is chosen is real: the shipped router decides. To have real answers, put real chat
models in `MODELS`, such as `ChatOpenAI(model="gpt-4o-mini-2024-07-18")`.
"""

from collections.abc import Sequence
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from typing_extensions import override

from crossroute import CrossRouter
from langchain_crossroute import CostLedger, CrossRouteMiddleware


class Simulated(BaseChatModel):
    """Calls its tool once a turn and then answers, with a made-up number of tokens."""

    name: str

    @property
    @override
    def _llm_type(self) -> str:
        return "simulated"

    @override
    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        return self.bind(**kwargs)

    @override
    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        if isinstance(messages[-1], ToolMessage):
            answer = AIMessage(f"(a simulated answer of {self.name})")
        else:
            call = {"name": "look_up", "args": {"topic": "groups"}, "id": str(len(messages))}
            answer = AIMessage("", tool_calls=[call])
        answer.usage_metadata = {"input_tokens": 400, "output_tokens": 300, "total_tokens": 700}
        return ChatResult(generations=[ChatGeneration(message=answer)])


def look_up(topic: str) -> str:
    """Look a topic up in the handbook."""
    return f"The handbook has a chapter on {topic}."


LARGE, SMALL = "gpt-4o-2024-08-06", "Meta-Llama-3.1-8B-Instruct"
MODELS = {model: Simulated(name=model) for model in (LARGE, SMALL)}
TURNS = [
    # A willingness to pay may be given for each turn; None is that of the middleware.
    ("What is the capital of France?", None),
    ("Is every group of order 15 cyclic? Prove it.", None),
    ("Is every group of order 15 cyclic? Prove it, for a textbook.", 10.0),
]


def main() -> None:
    agent = create_agent(
        MODELS[SMALL],  # Never asked: the middleware puts a candidate in its place.
        [look_up],
        middleware=[CrossRouteMiddleware(MODELS, willingness_to_pay=0.001)],
        checkpointer=InMemorySaver(),
    )
    ledger = CostLedger(CrossRouter.default(), baseline=LARGE)
    for question, willingness in TURNS:
        settings = {"thread_id": "1", "willingness_to_pay": willingness}
        config: RunnableConfig = {"callbacks": [ledger], "configurable": settings}
        state = agent.invoke({"messages": [HumanMessage(question)]}, config)
        models = [
            message.response_metadata["crossroute"]["model"]
            for message in state["messages"]
            if isinstance(message, AIMessage)
        ]
        print(f"{question}\n  tool call by {models[-2]}, answer by {models[-1]}")
        decision = state["crossroute"]
        print(f"  predicted: quality {decision['quality']:.2f} for ${decision['cost_usd']:.6f}\n")
    print("What it came to, with the simulated numbers of tokens:")
    print(ledger.report())


if __name__ == "__main__":
    main()
