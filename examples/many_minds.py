"""One question through the strategies of several models, and what each of them asked. No key.

    python examples/many_minds.py

A mixture, a probe, a handoff and a controller (`docs/strategies/index.md`), each over real clients
and a server on this machine whose answers are simulated. It shows who is asked what, and that all
of it is on the bill; what a strategy is worth on your traffic it cannot say.
"""

from typing import Any

from langchain_openai import ChatOpenAI
from openai_server import OpenAIServer, Reply
from pydantic import SecretStr

from crossroute.strategies import Controller, Handoff, Mixture, Probe, Strategy, within
from langchain_crossroute import ChatCrossRoute

SMALL, MINI, LARGE = MODELS = (
    "Meta-Llama-3.1-8B-Instruct",
    "gpt-4o-mini-2024-07-18",
    "gpt-4o-2024-08-06",
)
QUESTION = "Why is the sky blue, and why are sunsets red?"
BEGUN = "Air scatters short waves of light more than long ones."
UNSURE = " At sunset the light is perhaps refracted by dust or so."
REST = "At sunset it has lost its blue on a longer way through the air."
LIMIT_USD = 0.02

STRATEGIES: dict[str, Strategy] = {
    "Mixture": Mixture(width=2, rounds=1, stop_above=None, aggregator=LARGE),
    "Probe": Probe(tokens=8, judge=MINI),
    "Handoff": Handoff(tau=-1.0, window=5, cheap=MINI, strong=LARGE),
    "Controller": Controller(model=MINI, budget="high", rounds=1),
}


def simulated(body: dict[str, Any]) -> Reply:
    """What a model says to what it is asked."""
    last = str(body["messages"][-1]["content"])
    if tools := body.get("tools"):
        name = next(t["function"]["name"] for t in tools if LARGE in t["function"]["description"])
        return Reply(tool_calls=((name, {"question": "Why are sunsets red?"}),))
    if "Write nothing else" in last:
        # A judge of beginnings likes each better than the one before.
        count = last.count("</answer")
        return Reply("\n".join(f"{number}: 0.{number}" for number in range(1, count + 1)))
    if body.get("logprobs") and body["model"] == MINI:
        sure, unsure = len(BEGUN.split()), len(UNSURE.split())
        return Reply(BEGUN + UNSURE, logprobs=[-0.05] * sure + [-2.5] * unsure)
    is_begun = any(message["content"] == BEGUN for message in body["messages"])
    return Reply(REST if is_begun else f"{BEGUN} {REST}")


def main() -> None:
    with OpenAIServer(dict.fromkeys(MODELS, simulated)) as server:
        models = {
            model: ChatOpenAI(
                model=model,
                base_url=server.url,
                api_key=SecretStr("none"),
                stream_usage=True,
            )
            for model in MODELS
        }
        print(f"{QUESTION} (The answers are simulated.)")
        for name, strategy in STRATEGIES.items():
            chat = ChatCrossRoute(models=models, strategy=within(LIMIT_USD, strategy))
            print(f"{name}: ", end="")
            answer: Any = None
            for chunk in chat.stream(QUESTION):
                print(chunk.text, end="", flush=True)
                answer = chunk if answer is None else answer + chunk
            bill = answer.response_metadata["crossroute"]["bill"]
            print(f"\n  ${bill['cost_usd']:.6f} for")
            for ask in bill["asks"]:
                about = ", estimated" if ask["estimated"] else ""
                print(f"  {ask['role']:8} {ask['model']:24} ${ask['cost_usd']:.6f}{about}")


if __name__ == "__main__":
    main()
