"""LlamaIndex query engines over a small corpus: chosen by their model, then also by their data.

The answers are simulated, so that no key and no network is needed. Retrieval and routing are real,
by the encoder and the router that ship. In an application put real LLMs in the place of
`SimulatedLLM`, such as `OpenAI(model="gpt-4o-2024-08-06")`, and your own embedding model.

    python examples/llamaindex_query_engine.py
"""

# ruff: noqa: ANN401, ARG002  # The signatures of `SimulatedLLM` are LlamaIndex's.

from __future__ import annotations

from typing import Any

from llama_index.core import VectorStoreIndex
from llama_index.core.base.llms.types import CompletionResponse, CompletionResponseGen, LLMMetadata
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.llms import CustomLLM, MockLLM
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.query_engine import RouterQueryEngine
from llama_index.core.schema import TextNode
from llama_index.core.tools import QueryEngineTool
from pydantic import Field

from crossroute import StaticEncoder
from llamaindex_crossroute import CrossRouteSelector, CrossRouteTextSelector

MODELS = {"quick": "gpt-4o-mini-2024-07-18", "thorough": "gpt-4o-2024-08-06"}
# In USD: what a surely right answer is worth to you, over a surely wrong one.
WILLINGNESS_TO_PAY = 0.008
HANDBOOK = [
    "Holidays: full-time employees have 28 days of paid leave a year; five may be carried over.",
    "Sick leave: call your manager before ten. From the fourth day on, a doctor's note is needed.",
    "Parental leave: up to twelve months may be shared between both parents.",
    "Salaries are paid on the 25th. Overtime is paid with the salary of the following month.",
    "Expenses: hand in receipts for train tickets and hotels within 30 days to get the money back.",
    "Training: each employee has a budget of 1,500 euros a year for courses and conferences.",
]
MANUAL = [
    "Brewing: fill the tank with cold water, put in a capsule, and press the button for one cup.",
    "Cleaning: rinse the drip tray daily, and run a cycle of plain water once a week.",
    "Descaling: when the orange lamp blinks, run the descaling solution through the machine twice.",
    "Milk froth: cold milk with 3.5 % fat froths best; clean the steam nozzle after each use.",
    "Error E4: the pump draws air. Refill the tank and hold the button for five seconds.",
    "Warranty: two years from the date of purchase; damage by limescale is not covered.",
]
QUERIES = [
    # In a sentence, the better model costs little more; at length, it is not worth its price.
    "How many days of paid leave do I have? Answer in one sentence.",
    "What do I do when the orange lamp blinks? Answer in one sentence.",
    "Two parents share their parental leave in the ratio 5:3. Prove how many days each may take.",
    "The pump shows E4, although the tank is full. Derive all possible causes, and say for each "
    "whether the warranty covers it.",
]


class StaticEmbedding(BaseEmbedding):
    """CrossRoute's own encoder as an embedding model."""

    encoder: StaticEncoder = Field(default_factory=StaticEncoder)

    def _get_text_embedding(self, text: str) -> list[float]:
        vector: list[float] = self.encoder.encode([text])[0].tolist()
        return vector

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)


class SimulatedLLM(CustomLLM):
    """Stands for a model: it names itself, and the text that was found for the question."""

    model: str

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name=self.model)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        found = next(text for text in (*HANDBOOK, *MANUAL) if text in prompt)
        return CompletionResponse(text=f"(simulated answer of {self.model}) {found}")

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        yield self.complete(prompt, formatted, **kwargs)


def by_model(texts: list[str]) -> RouterQueryEngine:
    """A query engine over the texts that answers by the model that is worth it."""
    nodes = [TextNode(text=text) for text in texts]
    index = VectorStoreIndex(nodes, embed_model=StaticEmbedding())
    tools = [
        QueryEngineTool.from_defaults(
            index.as_query_engine(llm=SimulatedLLM(model=model), similarity_top_k=1),
            name=name,
            description=f"Answers by {model}",
        )
        for name, model in MODELS.items()
    ]
    selector = CrossRouteSelector(models=MODELS, willingness_to_pay=WILLINGNESS_TO_PAY)
    # RouterQueryEngine wants an LLM to merge several answers; there is only ever one.
    return RouterQueryEngine(selector, tools, llm=MockLLM())


def by_text() -> RouterQueryEngine:
    """Chooses the data by its description; the engine over the data then chooses the model."""
    tools = [
        QueryEngineTool.from_defaults(
            by_model(HANDBOOK),
            name="handbook",
            description="For employees: holidays, leave, illness, salary, expenses and training",
        ),
        QueryEngineTool.from_defaults(
            by_model(MANUAL),
            name="manual",
            description="The coffee machine: brewing, cleaning, lamps, errors, pump and warranty",
        ),
    ]
    return RouterQueryEngine(CrossRouteTextSelector(), tools, llm=MockLLM())


def ask(engine: RouterQueryEngine, names: list[str]) -> None:
    for query in QUERIES:
        response = engine.query(query)
        result = (response.metadata or {})["selector_result"]
        print(f"\n  query:  {query}")
        print(f"  engine: {names[result.ind]}")
        print(f"  why:    {result.reason}")
        print(f"  answer: {response}")


def main() -> None:
    print("The answers are simulated, retrieval and routing are not.")
    print(f"\nBy model, at a willingness to pay of ${WILLINGNESS_TO_PAY} a unit of quality")
    ask(by_model(HANDBOOK + MANUAL), list(MODELS))
    print("\nBy text, then by model")
    ask(by_text(), ["handbook", "manual"])


if __name__ == "__main__":
    main()
