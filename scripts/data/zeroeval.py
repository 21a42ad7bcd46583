"""GSM8K, MATH level 5, CRUX, MMLU-redux and ZebraLogic: zeroeval.jsonl.gz.

    python scripts/data/zeroeval.py zeroeval.jsonl.gz [--solutions zebra.json]

Source: github.com/WildEval/ZeroEval (Apache-2.0), result_dirs/TASK/MODEL.json: lists of `id`,
`chat_history`, `output`, `question` and `answer` (`choices` and `correct_answer` in mmlu-redux,
`puzzle` in zebra-grid). The text of MMLU-redux is CC-BY-4.0. The solutions of ZebraLogic are not in
it: `--solutions` is a JSON file of them, `{id: {"header": [...], "rows": [[...]]}}`, from
allenai/ZebraLogicBench-private, which its authors give on request; without it the puzzles are left
out.

Done: the `answer` of the JSON that models were told to write is compared with the right one: by the
first number in gsm and math-l5, as text in crux, as a letter in mmlu-redux, cell by cell in
zebra-grid. Tokens are those of cl100k, costs list prices (tokencost's table, MIT) times tokens; in
mmlu-redux and zebra-grid the prompt is the question with its choices, or the puzzle, without the
instructions, and the output tokens of a cost are the model's mean. Prompts that not all of the 14
models answered are left out.

Checked: in the trained set costs are prices times tokens in all rows of the first three tasks;
input tokens are cl100k's of the prompt (of every seventh row, but for one), in those tasks with the
line breaks around it; eight scores and two lengths of answers of a model in gsm. Not known: why the
trained set has 1,128 of gsm's 1,319 prompts, 681 of crux's 800, 2,375 of mmlu-redux's 2,778 and
fewer of the others; how answers without valid JSON were read (here: a search for the field, else
wrong); and how the files of mmlu-redux and zebra-grid look, which were not at hand beyond what
ZeroEval's own evaluation reads of them.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rows import Answer, Count, Row, cl100k, of_all, read_json, row, run, usd

PRICES = {
    "Llama-3.1-405B-Inst@sambanova": (3.5, 3.5),
    "Meta-Llama-3-70B-Instruct": (0.59, 0.79),
    "Meta-Llama-3.1-70B-Instruct": (0.88, 0.88),
    "Meta-Llama-3.1-8B-Instruct": (0.18, 0.18),
    "Mistral-Large-2": (3.0, 9.0),
    "Qwen2-72B-Instruct": (0.9, 0.9),
    "claude-3-haiku-20240307": (0.25, 1.25),
    "claude-3-opus-20240229": (15.0, 75.0),
    "gemini-1.5-flash": (0.075, 0.3),
    "gemini-1.5-pro": (1.25, 5.0),
    "gemma-2-27b-it": (0.8, 0.8),
    "gpt-3.5-turbo-0125": (0.5, 1.5),
    "gpt-4o-2024-08-06": (2.5, 10.0),
    "gpt-4o-mini-2024-07-18": (0.15, 0.6),
}
"""USD per 1M input and output tokens, of the 14 models."""

ALSO_NAMED = {
    "Llama-3.1-405B-Inst-SN": "Llama-3.1-405B-Inst@sambanova",
    "gemma-2-27b-it@together": "gemma-2-27b-it",
}
"""A file's name, where it is not the same in all tasks."""

TASKS = ("gsm", "math-l5", "crux", "mmlu-redux", "zebra-grid")
MEASURED = ("gsm", "math-l5", "crux")
SOURCES = {"WildEval/ZeroEval": [f"result_dirs/{task}" for task in TASKS]}
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def final_answer(text: str, field: str = "answer") -> Any:  # noqa: ANN401  # JSON.
    """A field of the last JSON object in a text; None where there is none."""
    for start in reversed([place for place, letter in enumerate(text) if letter == "{"]):
        try:
            found, _ = json.JSONDecoder(strict=False).raw_decode(text, start)
        except json.JSONDecodeError:
            continue
        if field in found:
            return found[field]
    searched = re.search(rf'"{field}"\s*:\s*"?([^",\n}}]+)', text)
    return searched.group(1).strip() if searched else None


def is_right(task: str, item: Mapping[str, Any], solutions: Mapping[str, Any]) -> bool:
    """Whether the answer of an item is the right one."""
    text = item["output"][0]
    if task == "zebra-grid":
        return _solved(final_answer(text, "solution"), solutions[item["id"]])
    answer = final_answer(text)
    if answer is None:
        return False
    if task == "mmlu-redux":
        return str(answer).strip() == "ABCDEFGH"[item["choices"].index(item["correct_answer"])]
    if task == "crux":
        # Strings stand without the quotes around them.
        return item["answer"] in (str(answer), f"'{answer}'")
    given, right = _first_number(str(answer)), _first_number(item["answer"].replace("#", ""))
    return given is not None and given == right


def _first_number(text: str) -> float | None:
    text = text.replace("$", "").replace(",", "").strip()
    if part := re.fullmatch(r"(-?\d+)/(\d+)", text):
        return int(part[1]) / int(part[2]) if int(part[2]) else None
    found = _NUMBER.search(text)
    return float(found.group()) if found else None


def _solved(given: object, solution: Mapping[str, Any]) -> bool:
    if not isinstance(given, Mapping):
        return False
    for number, cells in enumerate(solution["rows"], start=1):
        house = given.get(f"House {number}")
        for column, right in zip(solution["header"][1:], cells[1:], strict=True):
            found = house.get(column) if isinstance(house, Mapping) else None
            found = found[0] if isinstance(found, list) and found else found
            if str(found).strip().lower() != right.strip().lower():
                return False
    return True


def prompt_of(task: str, item: Mapping[str, Any]) -> str:
    """What is routed: the prompt, or the question alone where many instructions are around it."""
    if task == "zebra-grid":
        return str(item["puzzle"]).strip()
    if task == "mmlu-redux":
        choices = [f"({'ABCDEFGH'[n]}) {choice}" for n, choice in enumerate(item["choices"])]
        return "\n".join([item["question"], *choices]).strip()
    return str(item["chat_history"][0])


def parse(
    task: str,
    results: Mapping[str, Sequence[Mapping[str, Any]]],
    count: Count,
    solutions: Mapping[str, Any],
) -> Iterator[Row]:
    """The rows of a task; the lists of the files by the ids of their models."""
    items: dict[str, Mapping[str, Any]] = {}
    outputs: dict[str, dict[str, Answer]] = defaultdict(dict)
    for model, result in results.items():
        lengths = [count(item["output"][0]) for item in result]
        mean = sum(lengths) / max(len(lengths), 1)
        for item, length in zip(result, lengths, strict=True):
            if task == "zebra-grid" and item["id"] not in solutions:
                continue
            items[item["id"]] = item
            measured = task in MEASURED
            answer = {
                "score": float(is_right(task, item, solutions)),
                "cost_usd": usd(
                    PRICES[model], count(prompt_of(task, item)), length if measured else mean
                ),
            }
            outputs[item["id"]][model] = answer | ({"output_tokens": length} if measured else {})
    for id_, item in items.items():
        prompt = prompt_of(task, item)
        yield row(
            f"zeroeval/{id_}",
            task,
            prompt.strip(),
            outputs[id_],
            question=item["question"].strip() if task in MEASURED else None,
            input_tokens=count(prompt),
        )


def build(source: Path, solutions: Path | None) -> Iterator[Row]:
    """All rows of a checkout that every model answered."""
    known = read_json(solutions) if solutions else {}
    count = cl100k()
    for task in TASKS:
        paths = sorted((source / "result_dirs" / task).glob("*.json"))
        named = {ALSO_NAMED.get(path.stem, path.stem): path for path in paths}
        results = {model: read_json(path) for model, path in named.items() if model in PRICES}
        yield from of_all(parse(task, results, count, known), PRICES)


if __name__ == "__main__":
    run(__doc__, SOURCES, build, "solutions")
