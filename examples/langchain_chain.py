"""A router in a chain: prompt | router | parser. Needs no key: the models are simulated.

    python examples/langchain_chain.py

Which model is chosen is real: the shipped router decides. To have real answers, put real chat
models in `MODELS`, such as `ChatOpenAI(model="gpt-4o-mini-2024-07-18")`.
"""

from itertools import repeat

from langchain_core.language_models import BaseChatModel, GenericFakeChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableConfig

from langchain_crossroute import CrossRouteRunnable


def simulated(name: str) -> BaseChatModel:
    return GenericFakeChatModel(messages=repeat(f"(a simulated answer of {name})"))


MODELS = {
    "gpt-4o-2024-08-06": simulated("GPT-4o"),
    "gpt-4o-mini-2024-07-18": simulated("GPT-4o mini"),
    "Meta-Llama-3.1-8B-Instruct": simulated("Llama 3.1 8B"),
}
QUESTIONS = [
    "What is the capital of France?",
    "A train leaves at 9:40 at 80 km/h, another at 10:10 at 110 km/h. When does it catch up?",
    "Is every group of order 15 cyclic? Prove it.",
]


def main() -> None:
    prompt = ChatPromptTemplate.from_template("{question}")
    router = CrossRouteRunnable(models=MODELS, willingness_to_pay=0.001)

    print("One chain, several models: prompt | router | parser")
    chain = prompt | router | StrOutputParser()
    for question in QUESTIONS:
        print(f"\n  {question}\n    ", end="")
        for token in chain.stream({"question": question}):
            print(token, end="", flush=True)
        print()

    print("\nWhat the answer costs and is worth decides; the answer carries the decision.")
    question = QUESTIONS[-1]
    for willingness in (0.0, 0.001, 0.1, 10.0):
        config: RunnableConfig = {"configurable": {"willingness_to_pay": willingness}}
        answer = (prompt | router).invoke({"question": question}, config=config)
        decision = answer.response_metadata["crossroute"]
        print(
            f"  at ${willingness:<6} a unit of quality: {decision['model']:<27}"
            f"predicted quality {decision['quality']:.2f} for ${decision['cost_usd']:.6f}"
        )


if __name__ == "__main__":
    main()
