"""Real requests of a learning product, in several languages: today/zoonk.jsonl.gz.

    python scripts/data/zoonk.py zoonk.jsonl.gz --prices model_prices_and_context_window.json

Source: github.com/zoonk/zoonk (MIT), apps/evals/eval-results: outputs/TASK/MODEL.json (`outputs` of
`testCaseId`, `systemPrompt`, `userPrompt`, `inputTokens`, `outputTokens`), TASK/MODEL.json
(`results` of `testCase` and `steps`, the judgements of one judge) and battles/TASK/CASE.json
(`judgments` of `judgeId` and `rankings`, several models side by side).

Done: an answer needs its prompt, so older outputs, which were stored without, are left out. In
`battle/TASK`, the score is the mean of the judges' (1 to 10, as a share of 10), without a judgement
of the model's own vendor. In the others, it is the project's own: a mean of the steps, major errors
counting three, minor ones two, improvements one; repeats of a case (`-1`, `-2` ...) are one row.
`prompt` is the system prompt and then what the user sent, which is `question`. Costs are a price
table (LiteLLM's, MIT: `--prices`) times the measured tokens; an effort is part of a model's id.

Checked: costs are prices times tokens in all 12,875 answers of the trained set; three scores of one
battle, of which a judge ranked one model twice (both count). Not known: the commits (the ids of the
trained set name three generations of files), how its ids were hashed, which of several prompts of a
case it took, and how the oldest results, which no outputs belong to, got their prompts: they are
not built here, so the set comes out smaller and without the oldest models.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rows import Answer, Prices, Row, litellm_prices, mean_answer, read_json, row, run, usd

RESULTS = "apps/evals/eval-results"
SOURCES = {"zoonk/zoonk": [RESULTS]}
STEP_WEIGHTS = {"majorerrors": 3, "minorerrors": 2, "potentialimprovements": 1}
_EFFORTS = ("high", "xhigh", "medium", "low", "minimal", "thinking")
_ALSO_NAMED = {
    "gemini-3-flash": "gemini-3-flash-preview",
    "gemini-3.1-flash-lite-preview": "gemini-3.1-flash-lite",
    "gpt-5.1-instant": "gpt-5.1",
}
LISTED = {
    "gpt-oss-120b": "groq/openai/gpt-oss-120b",
    "grok-4.3": "xai/grok-4.3",
    "llama-4-maverick": "databricks/databricks-llama-4-maverick",
    "llama-4-scout": "together_ai/meta-llama/Llama-4-Scout-17B-16E-Instruct",
}
"""Names in LiteLLM's file of models that it does not list by their own."""
_REPEAT = re.compile(r"-\d+$")


class Output(NamedTuple):
    """What a model was sent in a case, and how many tokens went to and fro."""

    system: str
    user: str
    input_tokens: int
    output_tokens: int


def model_id(name: str) -> str:
    """The id of a model by the project's name for it: `anthropic/claude-opus-4.5` has no vendor."""
    bare, _, effort = name.partition("/")[2].partition(":")
    for one in _EFFORTS:
        if not effort and bare.endswith(f"-{one}"):
            bare, effort = bare.removesuffix(f"-{one}"), one
    bare = _ALSO_NAMED.get(bare, bare)
    if bare.startswith("claude"):
        bare = bare.replace(".", "-")
    return f"{bare}@{effort}" if effort else bare


def outputs_of(content: Mapping[str, Any]) -> dict[str, Output]:
    """The outputs of a file by their cases; those without a prompt are left out."""
    return {
        one["testCaseId"]: Output(
            one["systemPrompt"], one["userPrompt"], one["inputTokens"], one["outputTokens"]
        )
        for one in content["outputs"]
        if one.get("systemPrompt") and one.get("userPrompt")
    }


def step_score(steps: Iterable[Mapping[str, Any]]) -> float:
    """The weighted mean of a judgement's steps, as a share of the best."""
    weighed = [
        (STEP_WEIGHTS[step["kind"].replace("_", "").lower()], step["score"]) for step in steps
    ]
    whole = sum(weight for weight, _ in weighed)
    return float(sum(weight * score for weight, score in weighed) / whole / 10)


def battle_scores(battle: Mapping[str, Any]) -> dict[str, float]:
    """The models' scores in a battle, by their names, without judgements of their own vendor."""
    found: dict[str, list[float]] = defaultdict(list)
    for judgement in battle["judgments"]:
        vendor = judgement["judgeId"].partition("/")[0]
        for ranking in judgement["rankings"]:
            if ranking["modelId"].partition("/")[0] != vendor:
                found[ranking["modelId"]].append(ranking["score"] / 10)
    return {name: sum(scores) / len(scores) for name, scores in found.items()}


def parse(
    scores: Iterable[tuple[str, str, str, float]],
    outputs: Mapping[tuple[str, str], Mapping[str, Output]],
    prices: Prices,
) -> Iterator[Row]:
    """The rows of scored answers.

    Args:
        scores: Task, case, the model's name and its score.
        outputs: What the models were sent, by task and model, then by case.
        prices: By the names of LiteLLM's file.
    """
    found: dict[tuple[str, str, str, str], dict[str, list[Answer]]] = {}
    for task, case, name, score in scores:
        sent = outputs.get((task.removeprefix("battle/"), name), {}).get(case)
        if sent is None:
            continue
        model = model_id(name)
        answer: Answer = {
            "score": score,
            "input_tokens": sent.input_tokens,
            "output_tokens": sent.output_tokens,
        }
        bare = model.partition("@")[0]
        price = prices.get(LISTED.get(bare, bare))
        if price is not None:
            answer["cost_usd"] = usd(price, sent.input_tokens, sent.output_tokens)
        own = case if task.startswith("battle/") else _REPEAT.sub("", case)
        by_model = found.setdefault((task, own, sent.system, sent.user), defaultdict(list))
        by_model[model].append(answer)
    for number, ((task, case, system, user), by_model) in enumerate(found.items()):
        prompt, question = f"{system.strip()}\n\n{user.strip()}", user.strip()
        answers = {model: mean_answer(several) for model, several in by_model.items()}
        yield row(f"zoonk/{task}/{case}/{number}", task, prompt, answers, question=question)


def scores_in(folder: Path) -> Iterator[tuple[str, str, str, float]]:
    """All scores of a checkout: task, case, model, score."""
    for path in sorted((folder / "battles").glob("*/*.json")):
        for name, score in battle_scores(read_json(path)).items():
            yield f"battle/{path.parent.name}", path.stem, name, score
    for path in sorted(folder.glob("*/*.json")):
        content = read_json(path)
        if "results" not in content:
            continue
        for result in content["results"]:
            if steps := result.get("steps"):
                case = result["testCase"]["id"]
                yield path.parent.name, case, content["modelId"], step_score(steps)


def build(source: Path, prices: Path | None) -> Iterator[Row]:
    """All rows of a checkout."""
    if prices is None:
        raise SystemExit("--prices is missing: LiteLLM's model_prices_and_context_window.json.")
    folder = source / RESULTS
    outputs = {}
    for path in sorted((folder / "outputs").glob("*/*.json")):
        content = read_json(path)
        outputs[path.parent.name, content["modelId"]] = outputs_of(content)
    return parse(scores_in(folder), outputs, litellm_prices(read_json(prices)))


if __name__ == "__main__":
    run(__doc__, SOURCES, build, "prices")
