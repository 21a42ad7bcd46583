"""ARC-challenge, MBPP and Winogrande of RouterBench, by way of RouterDC: routerbench.jsonl.gz.

    python scripts/data/routerbench.py routerbench.jsonl.gz

Source: github.com/shuhao02/RouterDC, datasets/routerbench_zs/*.csv, which holds three tasks of
RouterBench (withmartian/routerbench, MIT): prompts, scores, answers and the recorded total costs.

Done: the prompt is the one string of its list; the question is what follows the last worked
example. Scores and costs are as recorded; there are no token counts. The answers are left out.

Checked: the questions of all rows of the trained set follow from their prompts; the scores of two
rows and the costs of one. Not known: the split; whether rows that occur twice were left out, as
they are here.
"""

from __future__ import annotations

import ast
import csv
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from rows import Row, row, run

SOURCES = {"shuhao02/RouterDC": ["datasets/routerbench_zs"]}
_COST = "|total_cost"
_EXAMPLE = re.compile(r"Answer:\s*[A-Z]\n+")


def question_of(prompt: str) -> str | None:
    """What a prompt asks after its worked examples; None where there are none."""
    *examples, last = _EXAMPLE.split(prompt)
    return last if examples else None


def parse(lines: Iterable[Mapping[str, str]]) -> Iterator[Row]:
    """The rows of a table, whose lines are mappings from its column names."""
    for line in lines:
        prompt = "\n".join(ast.literal_eval(line["prompt"]))
        models = [name.removesuffix(_COST) for name in line if name.endswith(_COST)]
        outputs = {
            model: {"score": float(line[model]), "cost_usd": float(line[model + _COST])}
            for model in models
        }
        yield row(
            f"routerbench/{line['sample_id']}",
            line["eval_name"],
            prompt,
            outputs,
            question=question_of(prompt),
        )


def build(source: Path) -> Iterator[Row]:
    """All rows of a checkout, each once."""
    csv.field_size_limit(sys.maxsize)
    seen = set()
    for path in sorted(source.glob("datasets/routerbench_zs/*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            for one in parse(csv.DictReader(file)):
                if one["id"] not in seen:
                    seen.add(one["id"])
                    yield one


if __name__ == "__main__":
    run(__doc__, SOURCES, build)
