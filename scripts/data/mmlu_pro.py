"""MMLU-Pro, by category: mmlu-pro.jsonl.gz.

    python scripts/data/mmlu_pro.py mmlu-pro.jsonl.gz

Source: github.com/TIGER-AI-Lab/MMLU-Pro (Apache-2.0), eval_results: a zip with JSON lists for each
of seven models (model_outputs_MODEL_5shots.zip), and gpt4o/CATEGORY_result.json for GPT-4o, of
`question_id`, `question`, `options`, `answer`, `category`, `pred` and `response`.

Done: the prompt is the question with its options under A., B. ...; a prediction is right or wrong;
tokens are those of cl100k (the prompt's, without the five worked examples that models were shown;
the answer's), costs list prices (tokencost's table, MIT) times tokens.

Checked: prompt and score of a question of GPT-4o; in the trained set the input tokens are cl100k's
of the prompt (of every seventh row, but for one token in two of them), and costs are prices times
tokens. Not known: why it has 10,317 of the 12,032 questions; how a missing prediction was counted
(here: wrong; the authors guess); and the layout of the zips, which were not at hand: it is taken to
be the lists that the authors' compute_accuracy.py reads, with `model_outputs` for the answer.
"""

from __future__ import annotations

import json
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rows import Answer, Count, Row, cl100k, read_json, row, run, usd

GPT = "gpt-4o-2024-05-13"
PRICES = {
    "gemini-1.5-pro-002": (1.25, 5.0),
    "gemini-1.5-flash-002": (0.075, 0.3),
    "Meta-Llama-3.1-70B-Instruct": (0.88, 0.88),
    "Meta-Llama-3.1-8B-Instruct": (0.18, 0.18),
    "Mixtral-8x7B-Instruct-v0.1": (0.6, 0.6),
    "c4ai-command-r-v01": (0.15, 0.6),
    "Mistral-7B-Instruct-v0.2": (0.2, 0.2),
    GPT: (5.0, 15.0),
}
SOURCES = {"TIGER-AI-Lab/MMLU-Pro": ["eval_results"]}


def prompt_of(item: Mapping[str, Any]) -> str:
    """The question with its options."""
    options = [f"{'ABCDEFGHIJ'[n]}. {option}" for n, option in enumerate(item["options"])]
    return "\n".join([item["question"], *options]).strip()


def parse(results: Mapping[str, Iterable[Mapping[str, Any]]], count: Count) -> Iterator[Row]:
    """The rows of what each model answered."""
    items: dict[int, Mapping[str, Any]] = {}
    outputs: dict[int, dict[str, Answer]] = defaultdict(dict)
    for model, result in results.items():
        for item in result:
            text = item.get("model_outputs") or item.get("response") or ""
            number, length = item["question_id"], count(text)
            items[number] = item
            outputs[number][model] = {
                "score": float(item["pred"] == item["answer"]),
                "cost_usd": usd(PRICES[model], count(prompt_of(item)), length),
                "output_tokens": length,
            }
    for number, item in sorted(items.items()):
        prompt = prompt_of(item)
        yield row(
            f"mmlu-pro/{number}",
            item["category"],
            prompt,
            outputs[number],
            question=item["question"],
            input_tokens=count(prompt),
        )


def zipped(path: Path) -> Iterator[Mapping[str, Any]]:
    """The items of all JSON files in a zip."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".json") and "__MACOSX" not in name:
                yield from json.loads(archive.read(name))


def build(source: Path) -> Iterator[Row]:
    """All rows of a checkout."""
    folder = source / "eval_results"
    results: dict[str, Iterable[Mapping[str, Any]]] = {}
    for model in PRICES:
        if model == GPT:
            paths = sorted(folder.glob("gpt4o/*_result.json"))
            results[model] = [item for path in paths for item in read_json(path)]
        else:
            name = model.replace("Llama-3.1", "Llama-3_1")
            results[model] = zipped(folder / f"model_outputs_{name}_5shots.zip")
    return parse(results, cl100k())


if __name__ == "__main__":
    run(__doc__, SOURCES, build)
