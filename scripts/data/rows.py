"""What the scripts of this folder share: the row format (docs/data.md), the split, prices, sources.

Our figures are of eight sets that cannot ship; the shipped checkpoint was trained on all of them.
Each script here builds one from its public source, as far as it is known how the rows were made:

    python scripts/data/zoonk.py zoonk.jsonl.gz

It fetches the source with git, only the folders that it reads (`--source FOLDER` takes a checkout
that is there), and writes gzipped JSON rows for `crossroute train`. Sources go on; the commit of a
set was not written down, so a set that is built today may have rows that the trained one had not,
and lack others. The split of the trained sets is not known either, beyond that it went by the
normalised question and gave about 70, 14 and 16 % to train, valid and test; here it goes by a hash.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crossroute.training.data import normalised

Row = dict[str, Any]
Answer = dict[str, Any]
"""Of one model: `score`, and what is known of `cost_usd`, `output_tokens`, `output_chars`..."""

Count = Callable[[str], int]
"""How many tokens a text has."""

Prices = Mapping[str, tuple[float, float]]
"""USD per 1M input and output tokens, by model."""

VALID_PERCENT, TEST_PERCENT = 15, 15


def split_of(question: str) -> str:
    """Where a question belongs: one question has one split in every set."""
    digest = hashlib.sha256(normalised(question).encode()).hexdigest()
    place = int(digest[:8], 16) % 100
    if place < TEST_PERCENT:
        return "test"
    return "valid" if place < TEST_PERCENT + VALID_PERCENT else "train"


def row(
    id_: str,
    task: str,
    prompt: str,
    outputs: Mapping[str, Answer],
    *,
    question: str | None = None,
    input_tokens: int | None = None,
) -> Row:
    """One row. The data set's name is what its id begins with."""
    own = {"question": question} if question and question != prompt else {}
    counted = {} if input_tokens is None else {"input_tokens": input_tokens}
    return {
        "id": id_,
        "dataset": id_.partition("/")[0],
        "task": task,
        "split": split_of(question or prompt),
        "prompt": prompt,
        **own,
        **counted,
        "outputs": dict(outputs),
    }


def usd(price: tuple[float, float], input_tokens: float, output_tokens: float) -> float:
    """Cost by a price table, in USD."""
    return (input_tokens * price[0] + output_tokens * price[1]) / 1e6


def mean_answer(answers: Sequence[Answer]) -> Answer:
    """Several answers of one model to one prompt as one: the mean of every number."""
    numbers: dict[str, list[float]] = defaultdict(list)
    for answer in answers:
        for name, value in answer.items():
            if value is not None:
                numbers[name].append(value)
    found: Answer = {name: sum(values) / len(values) for name, values in numbers.items()}
    return {
        name: round(value) if name.endswith(("_tokens", "_chars")) else value
        for name, value in found.items()
    }


def cl100k() -> Count:
    """Counts tokens as the three sets without counts of their own were counted."""
    try:
        import tiktoken
    except ModuleNotFoundError:
        raise SystemExit("Tokens are counted with tiktoken: pip install tiktoken") from None
    encoding = tiktoken.get_encoding("cl100k_base")
    return lambda text: len(encoding.encode(text, disallowed_special=()))


def litellm_prices(content: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """The prices in LiteLLM's `model_prices_and_context_window.json`."""
    return {
        name: (1e6 * entry["input_cost_per_token"], 1e6 * entry["output_cost_per_token"])
        for name, entry in content.items()
        if {"input_cost_per_token", "output_cost_per_token"} <= entry.keys()
    }


def read_json(path: Path) -> Any:  # noqa: ANN401  # Whatever the source holds.
    """A JSON file of a source."""
    return json.loads(path.read_text("utf-8"))


def checkout(repository: str, folders: Sequence[str], into: Path) -> Path:
    """The newest commit of a GitHub repository, only these folders of it."""
    git = shutil.which("git")
    if git is None:
        raise SystemExit("git is not installed; give a checkout with --source.")
    target = into / repository.replace("/", "__")
    address = f"https://github.com/{repository}"
    clone = [git, "clone", "--depth=1", "--filter=blob:none", "--sparse", address, str(target)]
    subprocess.run(clone, check=True)
    subprocess.run([git, "-C", str(target), "sparse-checkout", "set", *folders], check=True)
    return target


def write(path: Path, rows: Iterable[Row]) -> int:
    """Write rows, gzipped; returns how many."""
    count = 0
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for one in rows:
            file.write(json.dumps(one, ensure_ascii=False) + "\n")
            count += 1
    return count


def run(
    document: str | None,
    sources: Mapping[str, Sequence[str]],
    build: Callable[..., Iterable[Row]],
    *files: str,
) -> None:
    """A script's command line.

    Args:
        document: Its docstring.
        sources: Folders to fetch, by repository.
        build: Makes the rows of the checkouts, in the order of `sources`, and of `files`.
        *files: Names of further arguments, each a file that nobody can fetch for all.
    """
    parser = argparse.ArgumentParser(
        description=document, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="what is written: a .jsonl.gz")
    parser.add_argument("--source", type=Path, action="append", help="a checkout; one a repository")
    for name in files:
        parser.add_argument(f"--{name}", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = given.source or [
            checkout(repository, folders, Path(folder)) for repository, folders in sources.items()
        ]
        rows = build(*found, *(getattr(given, name) for name in files))
        print(f"{given.out}: {write(given.out, rows)} rows")


def of_all(rows: Iterator[Row], models: Iterable[str]) -> Iterator[Row]:
    """The rows that every model answered."""
    wanted = set(models)
    return (one for one in rows if wanted <= one["outputs"].keys())
