"""SQL: understanding, optimisation, dialect conversion: today/scale-sql.jsonl.gz.

    python scripts/data/scale_sql.py scale-sql.jsonl.gz

Source: github.com/actiontech/sql-llm-benchmark (MIT), the monthly reports in
leaderboard/public/data/evaluation_case_reports/eval_run_case_MONTH/ABILITY/MODEL.json: a list of
indicators, each with `case_datas` of `mode_question`, `case_eval_result` (`Pass` or `Fail`) and
`model_answers`.

Done: one row a prompt. A prompt is judged by several indicators (syntax, equivalence, depth), and
some in several months: the score is the share that it passes. The characters are those of the
answer, of a JSON answer as `json.dumps` writes it; hidden reasoning is not in them. No cost.

Checked: prompt, score and characters of one case, and the characters of another. Not known: how the
ids of the trained set were made; which reports its models were taken from (`model_id` follows the
names of files, which change from month to month); and whether the indicators that a model has a say
in (`hybrid`) were in it.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rows import Answer, Row, mean_answer, read_json, row, run

REPORTS = "leaderboard/public/data/evaluation_case_reports"
SOURCES = {"actiontech/sql-llm-benchmark": [REPORTS]}
_DATE = re.compile(r"-20\d{2}-?\d{2}-?\d{2}$")
MODELS = frozenset(
    [
        "claude-haiku-4-5@thinking",
        "claude-opus-4-5",
        "claude-opus-4-7",
        "claude-opus-4-8",
        "claude-sonnet-4-5@thinking",
        "claude-sonnet-4-6@thinking",
        "deepseek-r1",
        "deepseek-v3.2",
        "deepseek-v4-flash",
        "deepseek-v4-pro",
        "gemini-2.5-flash",
        "gemini-2.5-pro",
        "gemini-3.1-pro-preview",
        "gemini-3.5-flash",
        "glm-4.7",
        "glm-5",
        "gpt-4o",
        "gpt-5",
        "gpt-5-mini",
        "gpt-5-nano",
        "gpt-5.1",
        "gpt-5.2",
        "gpt-5.5",
        "kimi-k2.5",
        "minimax-m2.5",
        "o4-mini",
        "o4-mini@high",
        "qwen3.5-397b-a17b",
        "qwen3.6-35b-a3b",
        "qwen3.7-max",
    ]
)
"""The 30 of the trained set; the reports have older ones, too."""


def model_id(name: str) -> str:
    """The id of a model by the name of its report: an effort after `@`, and no date."""
    name = name.lower().replace("_", "-").replace("(thinking)", "-thinking")
    name, _, effort = re.sub(r"-(thinking|high|low|medium)$", r"@\1", name).partition("@")
    name = re.sub(r"^(claude-[a-z]+-\d)\.(\d)", r"\1-\2", _DATE.sub("", name))
    return f"{name}@{effort}" if effort else name


def answers(report: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Answer]]:
    """The prompts of a report, each with one judgement of the model's answer."""
    for indicator in report:
        for case in indicator["case_datas"]:
            given = [one.get("model_answer") for one in case["model_answers"]]
            text = given[-1] if given else None
            if text is not None and not isinstance(text, str):
                text = json.dumps(text, ensure_ascii=False)
            passed = float(case["case_eval_result"] == "Pass")
            yield (
                case["mode_question"].strip(),
                {"score": passed, "output_chars": len(text) if text else None},
            )


def parse(reports: Iterable[tuple[str, str, Sequence[Mapping[str, Any]]]]) -> Iterator[Row]:
    """The rows of reports: the ability, the name of the model, and what the file holds."""
    found: dict[tuple[str, str], dict[str, list[Answer]]] = defaultdict(lambda: defaultdict(list))
    for ability, name, report in reports:
        model = model_id(name)
        for prompt, answer in answers(report) if model in MODELS else ():
            found[ability, prompt][model].append(answer)
    for number, ((ability, prompt), outputs) in enumerate(found.items()):
        means = {model: mean_answer(several) for model, several in outputs.items()}
        yield row(f"scale-sql/{ability}/{number}", ability, prompt, means)


def build(source: Path) -> Iterator[Row]:
    """All rows of a checkout."""
    paths = sorted((source / REPORTS).glob("*/*/*.json"))
    return parse((path.parent.name, path.stem, read_json(path)) for path in paths)


if __name__ == "__main__":
    run(__doc__, SOURCES, build)
