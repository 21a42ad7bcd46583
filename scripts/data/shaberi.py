"""Japanese chat and writing, scored by one judge: today/shaberi.jsonl.gz.

    python scripts/data/shaberi.py shaberi.jsonl.gz

Source: github.com/shisa-ai/shaberi (Apache-2.0), the judgements of GPT-4.1 in
data/judgements/judge_gpt-4.1-2025-04-14/BENCHMARK/MODEL.json: JSON lines with `Question`,
`ModelAnswer` and `score`, 1 to 5 for ELYZA-tasks-100 and up to 10 for the other three.

Done: the score as a share of the best one; the characters of the answer. No tokens, no cost.

Checked: score and prompt of a question of ELYZA-tasks-100. Not known: why the trained set has 277
of about 340 prompts (89 of ELYZA's 100), and which model of OpenAI its `gpt-4o` is: 2024-11-20 is
the only one that this judge has scored.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from rows import Answer, Row, mean_answer, row, run

JUDGE = "data/judgements/judge_gpt-4.1-2025-04-14"
SOURCES = {"shisa-ai/shaberi": [JUDGE]}
BEST = {"elyza__ELYZA-tasks-100": 5}
MODELS = {
    "gemini__gemini-2.5-flash": "gemini-2.5-flash",
    "gemini__gemini-2.5-pro": "gemini-2.5-pro",
    "gpt-4o-2024-11-20": "gpt-4o",
    "gpt-5-2025-08-07": "gpt-5",
    "gpt-5-mini-2025-08-07": "gpt-5-mini",
    "gpt-5-nano-2025-08-07": "gpt-5-nano",
}


def parse(benchmark: str, files: Mapping[str, Iterable[str]]) -> Iterator[Row]:
    """The rows of a benchmark; the lines of the files by the names of their models."""
    prompts: dict[str, dict[str, list[Answer]]] = defaultdict(lambda: defaultdict(list))
    for name, lines in files.items():
        for line in lines:
            judged = json.loads(line)
            # Some have failed, and have no score.
            if judged.get("score") is None or not judged.get("ModelAnswer"):
                continue
            share = judged["score"] / BEST.get(benchmark, 10)
            answer = {"score": share, "output_chars": len(judged["ModelAnswer"])}
            prompts[judged["Question"]][MODELS[name]].append(answer)
    for number, (prompt, outputs) in enumerate(prompts.items()):
        answers = {model: mean_answer(several) for model, several in outputs.items()}
        yield row(f"shaberi/{benchmark}/{number}", benchmark, prompt, answers)


def build(source: Path) -> Iterator[Row]:
    """All rows of a checkout."""
    for folder in sorted((source / JUDGE).iterdir()):
        paths = {name: folder / f"{name}.json" for name in MODELS}
        files = {
            name: path.read_text("utf-8").splitlines()
            for name, path in paths.items()
            if path.is_file()
        }
        yield from parse(folder.name, files)


if __name__ == "__main__":
    run(__doc__, SOURCES, build)
