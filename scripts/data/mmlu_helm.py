"""MMLU, by subject, one-letter answers: mmlu-helm.jsonl.gz.

    python scripts/data/mmlu_helm.py mmlu-helm.jsonl.gz --answers mmlu.jsonl

Sources: github.com/aryopg/mmlu-redux (CC-BY-4.0), outputs/original_helm_combined/SUBJECT.csv: the
answers of HELM's runs, with `question`, `choices` and a column a model. Mixtral is from
github.com/lm-sys/RouteLLM (Apache-2.0), routellm/evals/mmlu/responses/mmlu_SUBJECT.csv: `prompt`,
and whether it was right. Neither has the right answers: `--answers` are those of MMLU's test set
(cais/mmlu, MIT) as JSON lines of `question`, `choices` and `answer` (0 to 3), such as
`pandas.read_parquet("test-00000-of-00001.parquet").to_json("mmlu.jsonl", orient="records",
lines=True)` makes of it.

Done: the prompt is the question with its choices under A., B. ...; a model is right if it answered
with the right letter alone. Tokens are those of cl100k (the prompt's, without the five worked
examples that models were shown), one for the answer; costs list prices (tokencost's table, MIT)
times tokens.

Checked: in the trained set costs are prices times tokens, with one for the answer, in every row;
input tokens are cl100k's of the prompt (of every seventh row, but for 14 of them); the letters of
four questions, and Mixtral's scores of two. Not known: why it has 11,926 of 14,042 questions.
"""

from __future__ import annotations

import ast
import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rows import Answer, Count, Row, cl100k, row, run, usd

MIXTRAL = "routellm_mixtral-8x7b"
PRICES = {
    "anthropic_claude-3-opus-20240229": (15.0, 75.0),
    "openai_gpt-4o-2024-05-13": (5.0, 15.0),
    "openai_gpt-4-0613": (30.0, 60.0),
    "google_gemini-1.5-pro-preview-0409": (1.25, 5.0),
    "openai_gpt-4-1106-preview": (10.0, 30.0),
    "meta_llama-3-70b": (0.59, 0.79),
    "google_gemini-1.5-flash-preview-0514": (0.075, 0.3),
    MIXTRAL: (0.6, 0.6),
}
HELM, ROUTELLM = "outputs/original_helm_combined", "routellm/evals/mmlu/responses"
SOURCES = {"aryopg/mmlu-redux": [HELM], "lm-sys/RouteLLM": [ROUTELLM]}
Key = tuple[str, ...]


def prompt_of(question: str, choices: Iterable[str]) -> str:
    """A question with its choices."""
    lettered = [f"{'ABCD'[n]}. {choice}" for n, choice in enumerate(choices)]
    return "\n".join([question, *lettered])


def key_of(question: str, choices: Iterable[str]) -> Key:
    """What makes two spellings of a question one."""
    return tuple(" ".join(str(text).split()) for text in (question, *choices))


def right_letters(lines: Iterable[str]) -> dict[Key, str]:
    """The right letters of MMLU's test set."""
    found = map(json.loads, lines)
    return {key_of(one["question"], one["choices"]): "ABCD"[one["answer"]] for one in found}


def mixtral_scores(lines: Iterable[Mapping[str, str]]) -> dict[str, float]:
    """Whether Mixtral was right, by the prompt."""
    column = "mixtral-8x7b-instruct-v0.1"
    return {
        line["prompt"].removesuffix("\nAnswer:"): float(line[column] == "True") for line in lines
    }


def parse(
    subject: str,
    lines: Iterable[Mapping[str, Any]],
    right: Mapping[Key, str],
    mixtral: Mapping[str, float],
    count: Count,
) -> Iterator[Row]:
    """The rows of a subject whose right answer is known."""
    for number, line in enumerate(lines):
        choices = ast.literal_eval(line["choices"])
        letter = right.get(key_of(line["question"], choices))
        if letter is None:
            continue
        prompt = prompt_of(line["question"], choices)
        tokens = count(prompt)
        scores = {
            model: float(line[model].strip() == letter)
            for model in PRICES
            if model != MIXTRAL and line.get(model)
        }
        if prompt in mixtral:
            scores[MIXTRAL] = mixtral[prompt]
        outputs: dict[str, Answer] = {
            model: {"score": score, "cost_usd": usd(PRICES[model], tokens, 1)}
            for model, score in scores.items()
        }
        yield row(
            f"mmlu-helm/{subject}/{number}",
            f"mmlu/{subject}",
            prompt,
            outputs,
            question=line["question"],
            input_tokens=tokens,
        )


def build(helm: Path, routellm: Path, answers: Path | None) -> Iterator[Row]:
    """All rows of two checkouts."""
    if answers is None:
        raise SystemExit("--answers is missing: the right answers of MMLU's test set.")
    right, count = right_letters(answers.read_text("utf-8").splitlines()), cl100k()
    for path in sorted((helm / HELM).glob("*.csv")):
        mixtral: dict[str, float] = {}
        other = routellm / ROUTELLM / f"mmlu_{path.stem}.csv"
        if other.is_file():
            with other.open(encoding="utf-8", newline="") as file:
                mixtral = mixtral_scores(csv.DictReader(file))
        with path.open(encoding="utf-8", newline="") as file:
            yield from parse(path.stem, csv.DictReader(file), right, mixtral, count)


if __name__ == "__main__":
    run(__doc__, SOURCES, build, "answers")
