"""A LangGraph supervisor that routes: agents by what they serve, models by quality and cost.

    python examples/langgraph_supervisor.py

Who answers is decided by CrossRoute, from the descriptors of agents in a folder and the shipped
models; no LLM is asked for it. Needs no key: the answers of the agents and models are simulated.
"""

import tempfile
from pathlib import Path

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command

from crossroute import CrossRouter, ModelDescriptor

MODELS = ["gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18"]
DESCRIPTORS = {
    "flights": """
id: flights
kind: agent
description: Finds, books and changes flights between cities.
skills: [search flights by date and price, change the seat or the date of a booking]
examples: ["Which flights are there from Berlin to Madrid on Monday?"]
cost_usd_a_call: 0.004
expected_quality: 0.9
""",
    "holidays": """
id: holidays
kind: agent
description: Answers employees about their holidays, sick leave and parental leave.
examples: ["How many days of holiday are left this year?"]
cost_usd_a_call: 0.001
expected_quality: 0.9
""",
}
QUESTIONS = [
    "Which flights go from Paris to Rome on Friday evening?",
    "How many days of holiday do I have left?",
    "Is every group of order 15 cyclic? Prove it.",
]


def supervised(router: CrossRouter) -> CompiledStateGraph:
    """A graph whose supervisor sends each conversation to one agent or model."""

    def supervise(state: MessagesState) -> Command[str]:
        turns = [
            {"role": "user" if isinstance(one, HumanMessage) else "assistant", "content": one.text}
            for one in state["messages"]
        ]
        decision = router.route(turns, willingness_to_pay=0.01)
        print(f"\n> {turns[-1]['content']}\n{decision.explain(top=3)}")
        return Command(goto=decision.model)

    graph = StateGraph(MessagesState)
    graph.add_node("supervise", supervise, destinations=tuple(router.pool))
    for name in router.pool:
        # In an application: a graph of its own, such as create_agent(...), or a chat model.
        graph.add_node(name, lambda _, name=name: answer(name))
    graph.add_edge(START, "supervise")
    return graph.compile()


def answer(name: str) -> MessagesState:
    return {"messages": [AIMessage(f"(simulated answer of {name})", name=name)]}


def main() -> None:
    router = CrossRouter.shipped().subset(MODELS)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in DESCRIPTORS.items():
            path = Path(folder) / f"{name}.yaml"
            path.write_text(text, "utf-8")
            router = router.add_model(ModelDescriptor.load(path))
    graph = supervised(router)
    for question in QUESTIONS:
        state = graph.invoke({"messages": [HumanMessage(question)]})
        print(f"  {state['messages'][-1].text}")


if __name__ == "__main__":
    main()
