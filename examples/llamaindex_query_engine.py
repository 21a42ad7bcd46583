"""A LlamaIndex RouterQueryEngine that sends each query to the engine whose model is worth it.

The three engines are simulated: no key and no network is needed. The routing is real, by the
shipped router. In an application, build each engine on its own LLM, for example
`index.as_query_engine(llm=OpenAI("gpt-4o"))`.

    python examples/llamaindex_query_engine.py
"""

from __future__ import annotations

from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import CustomQueryEngine, RouterQueryEngine
from llama_index.core.tools import QueryEngineTool

from llamaindex_crossroute import CrossRouteSelector

MODELS = {
    "quick": "Meta-Llama-3.1-8B-Instruct",
    "balanced": "gpt-4o-mini-2024-07-18",
    "thorough": "gpt-4o-2024-08-06",
}
QUERIES = [
    "What is the capital of France?",
    "Write a Python function that merges two sorted lists.",
    "Prove that every bounded sequence of real numbers has a convergent subsequence.",
]
# In USD: what a surely right answer is worth to you, over a surely wrong one.
WILLINGNESS_TO_PAY = [0.0005, 0.1]


class SimulatedEngine(CustomQueryEngine):
    """Stands for a query engine over an index and an LLM."""

    name: str

    def custom_query(self, query_str: str) -> str:
        return f"(simulated answer of the {self.name} engine to {len(query_str)} characters)"


def main() -> None:
    tools = [
        QueryEngineTool.from_defaults(
            SimulatedEngine(name=name), name=name, description=f"The {name} engine on {model}"
        )
        for name, model in MODELS.items()
    ]
    print("The engines are simulated, the routing is not.")
    for willingness in WILLINGNESS_TO_PAY:
        print(f"\nWillingness to pay: ${willingness} a unit of quality")
        engine = RouterQueryEngine(
            CrossRouteSelector(models=MODELS, willingness_to_pay=willingness),
            tools,
            # RouterQueryEngine wants an LLM to merge several answers; there is only ever one.
            llm=MockLLM(),
        )
        for query in QUERIES:
            response = engine.query(query)
            result = response.metadata["selector_result"]
            print(f"\n  query:  {query}")
            print(f"  engine: {tools[result.ind].metadata.name}")
            print(f"  why:    {result.reason}")
            print(f"  answer: {response}")


if __name__ == "__main__":
    main()
