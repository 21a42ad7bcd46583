"""Hard tool-calling tasks: today/mcpmark.jsonl.gz.

    python scripts/data/mcpmark.py mcpmark.jsonl.gz

Sources: github.com/eval-sys/mcpmark-experiments, model_results/MODEL/CATEGORY__TASK.json: `service`
and `runs`, each with `execution_result.success` and `token_usage`; and the table of its README,
with what a run of all tasks cost ("Per-Run Cost (USD)"). The tasks' texts are in
github.com/eval-sys/mcpmark (Apache-2.0), tasks/SERVICE/.../CATEGORY/TASK/description.md.

Done: the score is the share of runs that succeeded, tokens are the mean of the runs. The published
cost of a run is shared out among its tasks by their tokens, of which those of the output weigh five
times those of the input. An effort is part of a model's id: gpt-5@high. Only tasks that all of the
21 models were given.

Checked: this way of sharing gives the costs of all rows of the trained set, from their sums. Not
known: which commit of the README it was (the newest may have other models and no cost: `--source`
takes an older checkout; where it has none, the costs are missing here); why the trained set has 112
of 127 tasks; and where below tasks/SERVICE the texts were at that time. Of the models' folders,
gpt-5-high, gpt-4-1-mini and claude-opus-4-5-high were seen, of other names some in tables of the
README; the rest are made alike.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rows import Answer, Row, of_all, read_json, row, run

RESULTS = "model_results"
SOURCES = {"eval-sys/mcpmark-experiments": [RESULTS], "eval-sys/mcpmark": ["tasks"]}
OUTPUT_WEIGHT = 5
"""What an output token costs, in input tokens, when a run's cost is shared out."""

MODELS = {
    "claude-opus-4-5-high": "claude-opus-4-5@high",
    "claude-sonnet-4-5": "claude-sonnet-4-5",
    "deepseek-v3-2-thinking": "deepseek-v3.2@thinking",
    "gemini-2-5-flash": "gemini-2.5-flash",
    "gemini-2-5-pro": "gemini-2.5-pro",
    "gpt-4-1": "gpt-4.1",
    "gpt-4-1-mini": "gpt-4.1-mini",
    "gpt-4-1-nano": "gpt-4.1-nano",
    "gpt-5-2-high": "gpt-5.2@high",
    **{
        f"gpt-5{size}-{effort}": f"gpt-5{size}@{effort}"
        for size in ("", "-mini", "-nano")
        for effort in ("low", "medium", "high")
    },
    "gpt-oss-120b": "gpt-oss-120b",
    "o3": "o3",
    "o4-mini": "o4-mini",
}
"""Names in the source, of the 21 models."""


def run_costs(readme: str) -> dict[str, float]:
    """What a run of all tasks cost, by the models' names in the first table that says so."""
    costs: dict[str, float] = {}
    place = None
    for line in readme.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        titles = [n for n, cell in enumerate(cells) if cell.startswith("Per-Run Cost")]
        if titles:
            if costs:
                break
            place = titles[0]
        elif place is not None and len(cells) > place:
            found = re.fullmatch(r"\$?([\d,]+(?:\.\d+)?)", cells[place])
            if found:
                costs[cells[0]] = float(found.group(1).replace(",", ""))
    return costs


def task_answer(result: Mapping[str, Any]) -> Answer | None:
    """The runs of a task as one answer; None where there is none with tokens."""
    runs = [one for one in result["runs"].values() if (one.get("token_usage") or {})]
    if not runs:
        return None
    used = [one["token_usage"] for one in runs]
    return {
        "score": sum(bool(one["execution_result"]["success"]) for one in runs) / len(runs),
        "input_tokens": round(sum(one["input_tokens"] for one in used) / len(used)),
        "output_tokens": round(sum(one["output_tokens"] for one in used) / len(used)),
    }


def share_out(answers: Mapping[str, Answer], run_usd: float) -> None:
    """Give each answer of a model its part of what a run cost."""
    weights = {
        task: one["input_tokens"] + OUTPUT_WEIGHT * one["output_tokens"]
        for task, one in answers.items()
    }
    whole = sum(weights.values())
    for task, one in answers.items():
        one["cost_usd"] = run_usd * weights[task] / whole


def parse(
    results: Iterable[Mapping[str, Any]], costs: Mapping[str, float], texts: Mapping[str, str]
) -> Iterator[Row]:
    """The rows of all results; the texts by the tasks' names, `category__task`."""
    by_model: dict[str, dict[str, Answer]] = defaultdict(dict)
    services: dict[str, str] = {}
    for result in results:
        answer = task_answer(result)
        if result["model"] in MODELS and answer is not None:
            by_model[result["model"]][result["task_name"]] = answer
            services[result["task_name"]] = result["service"]
    for name, answers in by_model.items():
        if name in costs:
            share_out(answers, costs[name])
    for task, service in sorted(services.items()):
        if task not in texts:
            continue
        outputs = {
            MODELS[name]: by_model[name][task] for name in by_model if task in by_model[name]
        }
        id_ = f"mcpmark/{task.replace('__', '/')}"
        yield row(id_, service.partition("_")[0], texts[task], outputs)


def build(experiments: Path, benchmark: Path) -> Iterator[Row]:
    """All rows of two checkouts that every model was given."""
    results = [read_json(path) for path in sorted((experiments / RESULTS).glob("*/*.json"))]
    costs = run_costs((experiments / "README.md").read_text("utf-8"))
    texts = {
        f"{path.parent.parent.name}__{path.parent.name}": path.read_text("utf-8").strip()
        for path in sorted((benchmark / "tasks").rglob("description.md"))
    }
    return of_all(parse(results, costs, texts), MODELS.values())


if __name__ == "__main__":
    run(__doc__, SOURCES, build)
