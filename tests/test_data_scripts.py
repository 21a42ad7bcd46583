"""The scripts that build the training data from public sources: their parsers, on small files."""

# ruff: noqa: ANN401  # What sources hold has any type.

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import mcpmark
import mmlu_helm
import mmlu_pro
import pytest
import routerbench
import rows
import scale_sql
import shaberi
import zeroeval
import zoonk

from crossroute.training.data import RoutingData

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
trained = pytest.mark.skipif(not SHARED.is_dir(), reason="the trained sets are not here")


def words(text: str) -> int:
    return len(text.split())


def trained_rows(name: str) -> list[dict[str, Any]]:
    with gzip.open(SHARED / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


# The row format


def test_training_reads_what_is_written(tmp_path: Path) -> None:
    made = [
        rows.row(f"toy/{n}", "sums", f"What is {n} + 1?", {"a": {"score": 1.0, "cost_usd": 0.1}})
        for n in range(40)
    ]
    path = tmp_path / "toy.jsonl.gz"
    assert rows.write(path, iter(made)) == 40
    data = RoutingData.load([path])
    assert data.prompts == tuple(one["prompt"] for one in made)
    assert set(data.dataset) == {"toy"}
    assert set(data.split) == {"train", "valid", "test"}


def test_a_question_has_one_split_in_every_set() -> None:
    question = "Why is the sky blue?"
    one = rows.row("a/1", "t", f"Be brief. {question}", {}, question=question)
    other = rows.row("b/1", "t", "why is the sky BLUE", {})
    assert one["split"] == other["split"] == rows.split_of(question)
    assert one["question"] == question
    assert "question" not in other


def test_the_mean_of_answers() -> None:
    answers = [{"score": 1.0, "output_chars": 10}, {"score": 0.0, "output_chars": None}]
    assert rows.mean_answer(answers) == {"score": 0.5, "output_chars": 10}


def test_litellms_prices() -> None:
    content = {
        "a": {"input_cost_per_token": 2e-6, "output_cost_per_token": 1e-5},
        "sample_spec": {"mode": "chat"},
    }
    assert rows.litellm_prices(content) == {"a": (pytest.approx(2.0), pytest.approx(10.0))}


def test_only_rows_of_all_models() -> None:
    some = [{"outputs": {"a": {}, "b": {}}}, {"outputs": {"a": {}}}]
    assert list(rows.of_all(iter(some), ["a", "b"])) == some[:1]


# The sets


def test_routerbench() -> None:
    example = "2 + 2?\nA) 3\nB) 4\nAnswer:\nB\n\n"
    line = {
        "": "7",
        "sample_id": "arc-challenge.test.1",
        "prompt": repr([example + "3 + 3?\nA) 6\nB) 7\nAnswer:"]),
        "eval_name": "arc-challenge",
        "m/small": "0.0",
        "m/small|model_response": "['B']",
        "m/small|total_cost": "0.0004",
        "oracle_model_to_route_to": "none",
    }
    (one,) = routerbench.parse([line])
    assert one["question"] == "3 + 3?\nA) 6\nB) 7\nAnswer:"
    assert one["prompt"].startswith("2 + 2?")
    assert one["outputs"] == {"m/small": {"score": 0.0, "cost_usd": 0.0004}}
    assert (one["dataset"], one["task"]) == ("routerbench", "arc-challenge")


def item(answer: str, output: str, **more: object) -> dict[str, Any]:
    own = {"id": "q1", "chat_history": ["\nHow many?\n"], "question": "How many?"}
    return own | {"answer": answer, "output": [output], **more}


@pytest.mark.parametrize(
    ("task", "answer", "output", "right"),
    [
        ("gsm", "# 18", 'So: {"reasoning": "x", "answer": "$18"}', True),
        ("gsm", "# 1,000", '{"answer": "1000 miles"}', True),
        ("gsm", "# 18", '{"answer": 19}', False),
        ("gsm", "# 18", '{"reasoning": "cut off', False),
        ("gsm", "# 18", '{"reasoning": "a \\"b\\", "answer": "18"', True),
        ("math-l5", "0.5", '{"answer": "1/2"}', True),
        ("crux", "'ab'", '{"answer": "ab"}', True),
        ("crux", "[1, 2]", '{"answer": "[1, 2]"}', True),
        ("crux", "[1, 2]", '{"answer": "[1,3]"}', False),
    ],
)
def test_zeroevals_answers(task: str, answer: str, output: str, right: bool) -> None:
    assert zeroeval.is_right(task, item(answer, output), {}) is right


def test_zeroeval_measures_what_it_can() -> None:
    model = "gpt-4o-2024-08-06"
    results = {model: [item("# 3", '{"answer": "3"} and more words')]}
    (one,) = zeroeval.parse("gsm", results, words, {})
    assert (one["prompt"], one["input_tokens"]) == ("How many?", 2)
    assert one["outputs"][model] == {
        "score": 1.0,
        "cost_usd": pytest.approx((2 * 2.5 + 5 * 10) / 1e6),
        "output_tokens": 5,
    }


def test_zeroevals_choices_and_means() -> None:
    model = "gpt-4o-2024-08-06"
    some = {"choices": ["red", "blue"], "correct_answer": "blue"}
    results = {
        model: [
            item("", '{"answer": "B"}', **some),
            item("", '{"answer": "A"} or so', **some) | {"id": "q2"},
        ]
    }
    right, wrong = zeroeval.parse("mmlu-redux", results, words, {})
    assert right["prompt"] == "How many?\n(A) red\n(B) blue"
    # Three and five words, four in the mean.
    cost = pytest.approx((6 * 2.5 + 3 * 10) / 1e6)
    assert right["outputs"][model] == {"score": 1.0, "cost_usd": cost}
    assert wrong["outputs"][model] == {"score": 0.0, "cost_usd": cost}


@pytest.mark.parametrize(("pet", "right"), [("Cat", True), ("dog", False)])
def test_zeroevals_puzzles(pet: str, right: bool) -> None:
    output = json.dumps({"solution": {"House 1": {"Name": "Eric", "Pet": pet}}})
    solutions = {"q1": {"header": ["House", "Name", "Pet"], "rows": [["1", "Eric", "cat"]]}}
    puzzle = item("", output, puzzle="There is 1 house.")
    results = {"gpt-4o-2024-08-06": [puzzle, puzzle | {"id": "unknown"}]}
    (one,) = zeroeval.parse("zebra-grid", results, words, solutions)
    assert one["prompt"] == "There is 1 house."
    assert one["outputs"]["gpt-4o-2024-08-06"]["score"] == float(right)


def test_mmlu_pro(tmp_path: Path) -> None:
    question = {
        "question_id": 70,
        "question": " Which one?",
        "options": ["red", "blue"],
        "answer": "B",
        "category": "business",
    }
    path = tmp_path / "outputs.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/outputs.json", json.dumps([question | {"pred": None}]))
        archive.writestr("__MACOSX/x/outputs.json", "no JSON")
    results = {
        "gpt-4o-2024-05-13": [question | {"pred": "B", "response": "It is B."}],
        "Mistral-7B-Instruct-v0.2": mmlu_pro.zipped(path),
    }
    (one,) = mmlu_pro.parse(results, words)
    assert (one["prompt"], one["question"]) == ("Which one?\nA. red\nB. blue", " Which one?")
    assert (one["id"], one["task"], one["input_tokens"]) == ("mmlu-pro/70", "business", 6)
    assert one["outputs"]["gpt-4o-2024-05-13"] == {
        "score": 1.0,
        "cost_usd": pytest.approx((6 * 5 + 3 * 15) / 1e6),
        "output_tokens": 3,
    }
    assert one["outputs"]["Mistral-7B-Instruct-v0.2"]["score"] == 0.0


def test_mmlu_helm() -> None:
    right = mmlu_helm.right_letters(
        [json.dumps({"question": "How  many?", "choices": ["1", "2", "3", "4"], "answer": 2})]
    )
    scores = {"prompt": "How many?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:"}
    mixtral = mmlu_helm.mixtral_scores([scores | {"mixtral-8x7b-instruct-v0.1": "False"}])
    line = {
        "question": "How many?",
        "choices": "['1', '2', '3', '4']",
        "meta_llama-3-70b": " C",
        "openai_gpt-4-0613": "The",
        "writer_palmyra-x-v3": "C",
        "openai_gpt-4o-2024-05-13": "",
    }
    unknown = line | {"question": "How few?"}
    (one,) = mmlu_helm.parse("sums", [line, unknown], right, mixtral, words)
    found = {model: answer["score"] for model, answer in one["outputs"].items()}
    assert found == {
        "meta_llama-3-70b": 1.0,
        "openai_gpt-4-0613": 0.0,
        "routellm_mixtral-8x7b": 0.0,
    }
    cost = one["outputs"]["openai_gpt-4-0613"]["cost_usd"]
    assert cost == pytest.approx((10 * 30 + 1 * 60) / 1e6)
    assert (one["task"], one["input_tokens"]) == ("mmlu/sums", 10)


def output_of(case: str, system: str = "You are brief.", **more: Any) -> dict[str, Any]:
    own = {"testCaseId": case, "systemPrompt": system, "userPrompt": "TITLE: Cats"}
    return own | {"inputTokens": 100, "outputTokens": 10, **more}


def test_zoonk() -> None:
    steps = [
        {"kind": "majorErrors", "score": 10},
        {"kind": "minor_errors", "score": 8},
        {"kind": "potentialImprovements", "score": 8},
    ]
    battle = {
        "judgments": [
            {
                "judgeId": "anthropic/claude-opus-4.6",
                "rankings": [
                    {"modelId": "anthropic/claude-opus-4.5", "score": 10},
                    {"modelId": "openai/gpt-5.2:high", "score": 5},
                ],
            },
            {
                "judgeId": "openai/gpt-5.2",
                "rankings": [{"modelId": "anthropic/claude-opus-4.5", "score": 8}],
            },
        ]
    }
    claude, gpt = "anthropic/claude-opus-4.5", "openai/gpt-5.2:high"
    assert zoonk.battle_scores(battle) == {gpt: 0.5, claude: 0.8}
    assert zoonk.step_score(steps) == pytest.approx(0.9)

    scores = [
        *(("battle/titles", "en-cats-1", name, s) for name, s in ((claude, 0.8), (gpt, 0.5))),
        ("titles", "en-cats-1", claude, 0.9),
        ("titles", "en-cats-2", claude, 0.7),
        ("titles", "en-dogs-1", claude, 0.7),
        ("titles", "en-cats-1", "google/none", 0.7),
    ]
    sent = {"outputs": [output_of("en-cats-1"), output_of("en-cats-2", outputTokens=20)]}
    old = {"outputs": [output_of("en-dogs-1", system="")]}
    outputs = {
        ("titles", claude): zoonk.outputs_of(sent) | zoonk.outputs_of(old),
        ("titles", gpt): zoonk.outputs_of(sent),
    }
    fought, judged = zoonk.parse(scores, outputs, {"claude-opus-4-5": (5.0, 25.0)})
    assert fought["task"] == "battle/titles"
    assert fought["outputs"]["gpt-5.2@high"] == {
        "score": 0.5,
        "input_tokens": 100,
        "output_tokens": 10,
    }
    assert (judged["prompt"], judged["question"]) == (
        "You are brief.\n\nTITLE: Cats",
        "TITLE: Cats",
    )
    assert judged["outputs"] == {
        "claude-opus-4-5": {
            "score": pytest.approx(0.8),
            "input_tokens": 100,
            "output_tokens": 15,
            "cost_usd": pytest.approx((100 * 5 + 15 * 25) / 1e6),
        }
    }


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("openai/gpt-5.1-instant", "gpt-5.1"),
        ("openai/gpt-5.1-thinking", "gpt-5.1@thinking"),
        ("google/gemini-3-flash", "gemini-3-flash-preview"),
        ("anthropic/claude-haiku-4.5", "claude-haiku-4-5"),
    ],
)
def test_zoonks_names(name: str, model: str) -> None:
    assert zoonk.model_id(name) == model


README = """# Results
| Model | Total Tasks | Per-Run Cost (USD) | Avg Agent Time (s) |
|-------|-------------|--------------------|--------------------|
| gpt-5-high | 127 | $1,000.50 | 582.6 |
| o3 | 127 | / | 60.0 |
## Filesystem
| Model | Total Tasks | Per-Run Cost (USD) | Avg Agent Time (s) |
|-------|-------------|--------------------|--------------------|
| o3 | 30 | 1.0 | 60.0 |
"""


def result_of(model: str, task: str, tokens: int, *successes: bool) -> dict[str, Any]:
    used = {"input_tokens": tokens, "output_tokens": 10, "total_tokens": tokens + 10}
    return {
        "task_name": task,
        "service": "playwright_webarena",
        "model": model,
        "runs": {
            f"run-{n}": {"execution_result": {"success": success}, "token_usage": used}
            for n, success in enumerate(successes, start=1)
        },
    }


def test_mcpmark() -> None:
    costs = mcpmark.run_costs(README)
    assert costs == {"gpt-5-high": 1000.5}
    results = [
        result_of("gpt-5-high", "web__one", 50, True, True, False, False),
        result_of("gpt-5-high", "web__two", 250, True),
        result_of("o3", "web__one", 50, False),
        result_of("grok-4", "web__one", 50, True),
        result_of("o3", "web__none", 50) | {"runs": {"run-1": {"token_usage": None}}},
    ]
    one, two = mcpmark.parse(results, costs, {"web__one": "Do it.", "web__two": "Do that."})
    assert (one["id"], one["task"], one["prompt"]) == ("mcpmark/web/one", "playwright", "Do it.")
    assert one["outputs"]["gpt-5@high"] == {
        "score": 0.5,
        "input_tokens": 50,
        "output_tokens": 10,
        # An output token weighs as much as five of the input.
        "cost_usd": pytest.approx(1000.5 * 100 / 400),
    }
    assert two["outputs"]["gpt-5@high"]["cost_usd"] == pytest.approx(1000.5 * 300 / 400)
    assert one["outputs"]["o3"] == {"score": 0.0, "input_tokens": 50, "output_tokens": 10}
    assert set(one["outputs"]) == {"gpt-5@high", "o3"}


def case(result: str, answer: object) -> dict[str, Any]:
    given = [{"case_evaluation_count": 1, "model_answer": answer}]
    return {
        "case_eval_result": result,
        "mode_question": "Optimise.\n\nSELECT 1;\n",
        "model_answers": given,
    }


def test_scale_sql() -> None:
    report = [
        {"indicator_name": "syntax.jsonl", "case_datas": [case("Pass", "SELECT 1;")]},
        {"indicator_name": "equivalence.jsonl", "case_datas": [case("Fail", {"sql": "SELECT 1;"})]},
    ]
    reports = [("sql_optimization", name, report) for name in ("gpt-5-2025-08-07", "o1", "o4-mini")]
    (one,) = scale_sql.parse(reports)
    assert one["prompt"] == "Optimise.\n\nSELECT 1;"
    assert one["outputs"]["gpt-5"] == {"score": 0.5, "output_chars": round((9 + 20) / 2)}
    assert set(one["outputs"]) == {"gpt-5", "o4-mini"}


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("claude_opus_4.5", "claude-opus-4-5"),
        ("claude-haiku-4-5-20251001-thinking", "claude-haiku-4-5@thinking"),
        ("gpt-5.1-2025-11-13", "gpt-5.1"),
        ("o4-mini-high", "o4-mini@high"),
        ("DeepSeek-R1", "deepseek-r1"),
    ],
)
def test_scale_sqls_names(name: str, model: str) -> None:
    assert scale_sql.model_id(name) == model
    assert model in scale_sql.MODELS


def test_shaberi() -> None:
    lines = [
        json.dumps({"Question": "Warum?", "ModelAnswer": "Darum.", "score": 4}),
        json.dumps({"Question": "Wie?", "ModelAnswer": "So.", "score": None}),
    ]
    files = {"gpt-5-2025-08-07": lines, "gemini__gemini-2.5-pro": lines}
    (one,) = shaberi.parse("elyza__ELYZA-tasks-100", files)
    assert one["outputs"]["gpt-5"] == {"score": 0.8, "output_chars": 6}
    (other,) = shaberi.parse("lightblue__tengu_bench", files)
    assert other["outputs"]["gemini-2.5-pro"]["score"] == 0.4


# Whole checkouts


def put(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")


def test_a_script_writes_the_rows_of_a_checkout(tmp_path: Path) -> None:
    line = json.dumps({"Question": "Warum?", "ModelAnswer": "Darum.", "score": 4})
    folder = tmp_path / "source" / shaberi.JUDGE / "elyza__ELYZA-tasks-100"
    put(folder / "gpt-5-2025-08-07.json", f"{line}\n")
    put(folder / "somebody__else.json", f"{line}\n")
    out = tmp_path / "shaberi.jsonl.gz"
    script = Path(shaberi.__file__)
    command = [sys.executable, script, out, "--source", tmp_path / "source"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.strip().endswith("1 rows")
    assert RoutingData.load([out]).models == ("gpt-5",)


def test_a_checkout_of_zoonk(tmp_path: Path) -> None:
    folder, name = tmp_path / zoonk.RESULTS, "openai/gpt-5.2"
    sent = {"modelId": name, "outputs": [output_of("en-cats-1")]}
    steps = [{"kind": "majorErrors", "score": 7}]
    judged = {"modelId": name, "results": [{"testCase": {"id": "en-cats-1"}, "steps": steps}]}
    ranked = {"judgeId": "google/gemini", "rankings": [{"modelId": name, "score": 5}]}
    put(folder / "outputs" / "titles" / "openai-gpt-5.2.json", sent)
    put(folder / "titles" / "openai-gpt-5.2.json", judged)
    put(folder / "battles" / "titles" / "en-cats-1.json", {"judgments": [ranked]})
    price = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}
    put(tmp_path / "prices.json", {"gpt-5.2": price})
    found = {
        one["task"]: one["outputs"]["gpt-5.2"]
        for one in zoonk.build(tmp_path, tmp_path / "prices.json")
    }
    assert {task: answer["score"] for task, answer in found.items()} == {
        "battle/titles": 0.5,
        "titles": pytest.approx(0.7),
    }
    assert found["titles"]["cost_usd"] == pytest.approx(120e-6)


def test_a_checkout_of_mcpmark(tmp_path: Path) -> None:
    experiments, benchmark = tmp_path / "experiments", tmp_path / "benchmark"
    put(experiments / "README.md", README)
    names = list(mcpmark.MODELS)
    for name in names:
        for task in ("web__one", "web__two")[: 1 if name == names[0] else 2]:
            result = result_of(name, task, 50, True)
            put(experiments / mcpmark.RESULTS / name / f"{task}.json", result)
    for task in ("one", "two"):
        put(benchmark / "tasks/playwright/standard/web" / task / "description.md", "Do it.\n")
    (one,) = mcpmark.build(experiments, benchmark)
    assert (one["id"], one["prompt"], len(one["outputs"])) == ("mcpmark/web/one", "Do it.", 21)


def test_a_checkout_of_scale_sql(tmp_path: Path) -> None:
    report = [{"indicator_name": "syntax.jsonl", "case_datas": [case("Pass", "SELECT 1;")]}]
    for month in ("eval_run_case_2025-08", "eval_run_case_2025-09"):
        put(tmp_path / scale_sql.REPORTS / month / "sql_understanding" / "gpt-5.json", report)
    (one,) = scale_sql.build(tmp_path)
    assert one["task"] == "sql_understanding"
    assert one["outputs"] == {"gpt-5": {"score": 1.0, "output_chars": 9}}


# Against the trained sets, where they are


@trained
def test_routerbenchs_questions_follow_from_its_prompts() -> None:
    found = trained_rows("routerbench")
    assert [routerbench.question_of(one["prompt"]) for one in found] == [
        one.get("question") for one in found
    ]


@trained
@pytest.mark.parametrize(
    ("name", "prices", "tasks"),
    [("zeroeval", zeroeval.PRICES, zeroeval.MEASURED), ("mmlu-pro", mmlu_pro.PRICES, None)],
)
def test_costs_are_prices_times_tokens(name: str, prices: rows.Prices, tasks: Any) -> None:
    for one in trained_rows(name):
        if tasks is None or one["task"] in tasks:
            for model, answer in one["outputs"].items():
                cost = rows.usd(prices[model], one["input_tokens"], answer["output_tokens"])
                assert answer["cost_usd"] == pytest.approx(cost, abs=1e-8)


@trained
def test_helms_answers_have_one_token() -> None:
    for one in trained_rows("mmlu-helm"):
        assert one["outputs"].keys() <= mmlu_helm.PRICES.keys()
        for model, answer in one["outputs"].items():
            cost = rows.usd(mmlu_helm.PRICES[model], one["input_tokens"], 1)
            assert answer["cost_usd"] == pytest.approx(cost, abs=1e-8)


@trained
def test_mcpmarks_costs_are_shared_out_by_tokens() -> None:
    found = trained_rows("today/mcpmark")
    assert set(found[0]["outputs"]) == set(mcpmark.MODELS.values())
    for model in mcpmark.MODELS.values():
        answers = {one["id"]: dict(one["outputs"][model]) for one in found}
        recorded = {id_: answer["cost_usd"] for id_, answer in answers.items()}
        mcpmark.share_out(answers, sum(recorded.values()))
        shared = {id_: answer["cost_usd"] for id_, answer in answers.items()}
        assert shared == pytest.approx(recorded, abs=1e-3 * max(recorded.values()))


@trained
def test_zoonks_costs_are_of_a_price_table() -> None:
    listed = json.loads((SHARED / "prices-today.json").read_text("utf-8"))["models"]
    prices = {m: (p["input_per_1m"], p["output_per_1m"]) for m, p in listed.items()}
    for one in trained_rows("today/zoonk"):
        assert one["prompt"].endswith(one["question"])
        for model, answer in one["outputs"].items():
            price = prices[model.partition("@")[0]]
            cost = rows.usd(price, answer["input_tokens"], answer["output_tokens"])
            assert answer["cost_usd"] == pytest.approx(cost, abs=6e-7)


@trained
def test_the_other_models_are_those_of_the_trained_sets() -> None:
    def models(name: str) -> set[str]:
        return {model for one in trained_rows(name) for model in one["outputs"]}

    assert models("today/scale-sql") == scale_sql.MODELS
    assert models("today/shaberi") == set(shaberi.MODELS.values())
    assert models("zeroeval") == zeroeval.PRICES.keys()
    assert models("mmlu-pro") == mmlu_pro.PRICES.keys()
