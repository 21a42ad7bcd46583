"""A LangGraph conversation over a router. Needs no key: the models' server is simulated.

    python examples/langchain_langgraph.py

Which model is chosen is real: the shipped router decides, for each turn, from the conversation.
"""

from collections.abc import Iterator
from typing import Any

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from openai_server import OpenAIServer
from pydantic import SecretStr

from langchain_crossroute import ChatCrossRoute

MODELS = ["gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18"]
TURNS = [
    ("What is the capital of France?", 0.001),
    ("Is every group of order 15 cyclic? Prove it.", 10.0),
    ("Yes, go on.", 10.0),
]


def main(base_url: str) -> None:
    models = {
        model: ChatOpenAI(model=model, base_url=base_url, api_key=SecretStr("none"))
        for model in MODELS
    }
    chat = ChatCrossRoute(models=models, stay_margin=0.05)

    def answer(state: MessagesState, config: RunnableConfig) -> MessagesState:
        return {"messages": [chat.invoke(state["messages"], config)]}

    graph = StateGraph(MessagesState)
    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    conversation = graph.compile(checkpointer=InMemorySaver())

    config: RunnableConfig = {"configurable": {"thread_id": "1"}}
    for text, willingness_to_pay in TURNS:
        config["configurable"]["willingness_to_pay"] = willingness_to_pay
        print(f"\n> {text}  (${willingness_to_pay} a unit of quality)\n  ", end="")
        turn: MessagesState = {"messages": [HumanMessage(text)]}
        # LangGraph's own type is that of all its modes.
        tokens: Iterator[Any] = conversation.stream(turn, config, stream_mode="messages")
        for token, _ in tokens:
            print(token.text, end="", flush=True)
        last = conversation.get_state(config).values["messages"][-1]
        decision = last.response_metadata["crossroute"]
        print(f"\n  {decision['model']}, quality {decision['quality']:.2f} predicted")


if __name__ == "__main__":
    with OpenAIServer() as server:
        main(server.url)
