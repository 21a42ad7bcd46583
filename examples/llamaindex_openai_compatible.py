"""Real OpenAILike clients as candidates, over HTTP. Needs no key: the server is simulated.

    pip install 'crossroute[llamaindex]' llama-index-llms-openai-like
    python examples/llamaindex_openai_compatible.py
    python examples/llamaindex_openai_compatible.py https://api.openai.com/v1  # with OPENAI_API_KEY

Any server that speaks OpenAI's protocol will do, if it knows the models by the ids in `MODELS`.
"""

import os
import sys

from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from openai_server import OpenAIServer, Reply

from llamaindex_crossroute import CostLedger, CrossRouteLLM, call_settings

MINI, LARGE = MODELS = "gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06"


def weather(city: str) -> str:
    """Say what the weather in a city is like."""
    return f"It rains in {city}."


def simulated(body: dict[str, object]) -> Reply:
    """What the server on this machine answers where no other one is given."""
    if body.get("tools"):
        return Reply(tool_calls=(("weather", {"city": "Paris (simulated)"}),))
    return Reply(f"(a simulated answer of {body['model']})")


def main(base_url: str, server: OpenAIServer | None = None) -> None:
    llm = CrossRouteLLM(
        models={
            model: OpenAILike(
                model=model,
                api_base=base_url,
                api_key=os.environ.get("OPENAI_API_KEY", "none"),
                is_chat_model=True,
                is_function_calling_model=True,
                max_retries=0,  # the next candidate is asked instead
                timeout=30,
            )
            for model in MODELS
        },
        willingness_to_pay=0.001,
    )
    ledger = CostLedger(llm, baseline=LARGE)
    with ledger:
        ask(llm, server)
    print(f"\nWhat all of it cost:\n{ledger.report()}")


def ask(llm: CrossRouteLLM, server: OpenAIServer | None) -> None:
    print("Streamed:\n  ", end="")
    # The cost of a stream is known only if its usage is asked for.
    for chunk in llm.stream_complete(
        "Answer in one sentence: why is the sky blue?", stream_options={"include_usage": True}
    ):
        print(chunk.delta, end="", flush=True)
    print(f"\n  ${chunk.additional_kwargs['crossroute']['realised']['cost_usd']:.6f}")

    print("\nWith a tool:")
    tool = FunctionTool.from_defaults(weather)
    response = llm.chat_with_tools([tool], "What is the weather like in Paris?")
    for call in llm.get_tool_calls_from_response(response):
        print(f"  {call.tool_name}: {tool(**call.tool_kwargs)}")

    if server is None:
        print("\nWilling to pay more, for a better answer:")
        willingness_to_pay = 10.0
    else:
        print("\nThe preferred model is at its rate limit, so the next one answers:")
        willingness_to_pay = 0.001
        server.answers[MINI] = Reply("Too many requests.", status=429)
    with call_settings(willingness_to_pay=willingness_to_pay):
        answer = llm.complete("Is every group of order 15 cyclic? Answer in one sentence.")
    told = answer.additional_kwargs["crossroute"]
    for attempt in told.get("attempts", []):
        print(f"  {attempt['model']} failed: {attempt['error']}")
    print(f"  {told['model']}: {answer.text}")
    realised = told["realised"]["cost_usd"]
    print(f"  predicted cost ${told['cost_usd']:.6f}, realised ${realised:.6f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        # Not through a proxy, which may be set for the world outside.
        os.environ["NO_PROXY"] = "127.0.0.1"
        with OpenAIServer(dict.fromkeys(MODELS, simulated)) as local:
            main(local.url, local)
