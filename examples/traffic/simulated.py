"""Three simulated models and a judge on this machine, for the tutorial: no key, no network.

    python simulated.py --port 8765    # serves until Ctrl-C

They are right as often as `SKILL` says, by chance that is fixed for each request, so what comes of
them says nothing of real models. Tokens are counted: words and signs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from openai_server import OpenAIServer, Reply
from shop import KINDS, kind_of, tokens

SKILL = {
    "small": {"faq": 0.98, "summary": 0.97, "extract": 0.98, "invoice": 0.1},
    "medium": {"faq": 0.98, "summary": 0.98, "extract": 0.98, "invoice": 0.4},
    "large": {"faq": 0.98, "summary": 0.98, "extract": 0.98, "invoice": 0.97},
}
"""How often each model is right."""


def answers(model: str, body: dict[str, Any]) -> Reply:
    """What a model answers."""
    first, last = body["messages"][0]["content"], body["messages"][-1]["content"]
    if (name := kind_of(first)) is None:
        return _reply(body, "(simulated) I know the requests of the example log only.")
    kind = KINDS[name]
    is_right = _chance(model, last) < SKILL[model][name]
    return _reply(body, (kind.answer if is_right else kind.wrong)(last))


def judges(body: dict[str, Any]) -> Reply:
    """Grades by how many of the facts each answer holds."""
    shown = body["messages"][1]["content"]
    system, user = re.search(
        r"<request \w+>\n\[system\]\n(.*?)\n\n\[user\]\n(.*?)\n</request", shown, re.DOTALL
    ).groups()
    facts = KINDS[kind_of(system)].facts(user)
    verdict = {}
    for label, text in re.findall(r"<answer (\w+) \w+>\n(.*?)\n</answer", shown, re.DOTALL):
        held = sum(fact in text for fact in facts)
        reason = f"It holds {held} of {len(facts)} facts."
        verdict[label] = {"reason": reason, "grade": 2 + 8 * held // len(facts)}
    return _reply(body, json.dumps(verdict))


def _chance(*given: str) -> float:
    """A number from 0 to 1 that is the same for the same texts."""
    digest = hashlib.sha256("\n".join(given).encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48


def _reply(body: dict[str, Any], text: str) -> Reply:
    sent = sum(tokens(message["content"]) for message in body["messages"])
    return Reply(text, input_tokens=sent, output_tokens=tokens(text))


def server(port: int = 0) -> OpenAIServer:
    """The server of the three models and the judge."""
    models = {model: lambda body, model=model: answers(model, body) for model in SKILL}
    return OpenAIServer({**models, "judge": judges}, port=port)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8765)
    with server(parser.parse_args().port) as running:
        print(f"Simulated models at {running.url}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
