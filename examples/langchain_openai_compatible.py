"""Real ChatOpenAI clients as candidates, over HTTP. Needs no key: the server is simulated.

    python examples/langchain_openai_compatible.py
    python examples/langchain_openai_compatible.py https://api.openai.com/v1   # with OPENAI_API_KEY

Any server that speaks OpenAI's protocol will do, if it knows the models by the ids in `MODELS`.
"""

import os
import sys

from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from openai_server import OpenAIServer, Reply
from pydantic import BaseModel, SecretStr

from langchain_crossroute import ChatCrossRoute, CostLedger

MINI, LARGE = MODELS = "gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06"


class Capital(BaseModel):
    """A country's capital."""

    city: str
    country: str


def simulated(body: dict[str, object]) -> Reply:
    """What the server on this machine answers where no other one is given."""
    if "response_format" in body:
        return Reply('{"city": "Paris", "country": "France (simulated)"}')
    return Reply(f"(a simulated answer of {body['model']})")


def main(base_url: str, server: OpenAIServer | None = None) -> None:
    models = {
        model: ChatOpenAI(
            model=model,
            base_url=base_url,
            api_key=SecretStr(os.environ.get("OPENAI_API_KEY", "none")),
            max_retries=0,  # the next candidate is asked instead
            timeout=30,
            stream_usage=True,  # the cost of a stream is known only then
        )
        for model in MODELS
    }
    router = ChatCrossRoute(models=models, willingness_to_pay=0.001)
    ledger = CostLedger(router.router, baseline=LARGE)

    print("Streamed, through prompt | router:\n  ", end="")
    chain = ChatPromptTemplate.from_template("Answer in one sentence: {question}") | router
    for chunk in chain.stream({"question": "Why is the sky blue?"}, {"callbacks": [ledger]}):
        print(chunk.text, end="", flush=True)

    print("\n\nStructured, by the provider's own means:")
    structured = router.with_structured_output(Capital, method="json_schema")
    print(" ", structured.invoke("What is the capital of France?", {"callbacks": [ledger]}))

    if server is None:
        print("\nWilling to pay more, for a better answer:")
        willingness_to_pay = 10.0
    else:
        print("\nThe preferred model is at its rate limit, so the next one answers:")
        willingness_to_pay = 0.001
        server.answers[MINI] = Reply("Too many requests.", status=429)
    answer = router.invoke(
        "Is every group of order 15 cyclic? Answer in one sentence.",
        {"callbacks": [ledger], "configurable": {"willingness_to_pay": willingness_to_pay}},
    )
    told = answer.response_metadata["crossroute"]
    for attempt in told.get("attempts", []):
        print(f"  {attempt['model']} failed: {attempt['error']}")
    print(f"  {told['model']}: {answer.text}")
    realised = told["realised"]["cost_usd"]
    print(f"  predicted cost ${told['cost_usd']:.6f}, realised ${realised:.6f}")

    print(f"\nWhat all of it cost:\n{ledger.report()}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with OpenAIServer(dict.fromkeys(MODELS, simulated)) as server:
            main(server.url, server)
