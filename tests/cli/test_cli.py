from __future__ import annotations

import datetime
import json
import subprocess
import sys
from pathlib import Path

import pytest
from fakes_core import Run, make_rows, write_rows

from crossroute import CrossRouter, ModelPool, Provider


def test_route_says_who_and_why(run: Run) -> None:
    code, out, _ = run("route", "What is 17 * 23?")
    assert code == 0
    assert "predicted quality" in out
    assert "willingness to pay" in out


def test_route_takes_candidates_and_willingness(run: Run) -> None:
    pair = ["-m", "gpt-4o-2024-08-06", "-m", "Meta-Llama-3.1-8B-Instruct", "--json"]
    cheap = json.loads(run("route", "Prove it.", "-w", "0", *pair)[1])
    best = json.loads(run("route", "Prove it.", "-w", "inf", *pair)[1])
    assert cheap["model"] == "Meta-Llama-3.1-8B-Instruct"
    assert best["model"] == "gpt-4o-2024-08-06"
    found = json.loads(run("route", "Prove it.", "--all", "--json")[1])
    today = datetime.date.today()
    assert {one["model"] for one in found["candidates"]} == {
        model.id for model in ModelPool.shipped().values() if not model.is_retired(today)
    }
    assert found["removed"] == {}
    found = json.loads(run("route", "Prove it.", "--json")[1])
    assert {one["model"] for one in found["candidates"]} == {*ModelPool.shipped().reachable()}


def test_train_evaluate_and_route_on_it(run: Run, toy_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    code, out, err = run("train", toy_file, "--out", folder, "--seed", "3")
    assert code == 0, err
    assert str(folder) in out
    code, out, _ = run("evaluate", toy_file, "--checkpoint", folder, "--json", tmp_path / "f.json")
    assert code == 0
    for router in ("CrossRoute", "Zero router", "best single", "random", "oracle"):
        assert router in out
    assert "Saves " in out
    assert " the quality of " in out
    assert "CrossRoute less fixed order" in out
    (figures,) = json.loads((tmp_path / "f.json").read_text("utf-8"))
    assert figures["dataset"] == "toy"
    code, out, _ = run("route", "What is 3 * 4?", "--checkpoint", folder)
    assert code == 0
    code, out, _ = run("models", "list", folder)
    assert "sage" in out


def answer(score: float, cost_usd: float) -> dict[str, float]:
    return {"score": score, "cost_usd": cost_usd}


def test_evaluate_draws_the_deferral_curve(
    run: Run, toy_file: Path, toy_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    at = ("evaluate", toy_file, "--checkpoint", toy_folder)
    code, out, err = run(*at, "--plot", tmp_path / "curve.png")
    assert code == 0, err
    assert "CPT(50 %)" in out
    assert "sage (the best)" in out
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    # The cheapest of two is the best.
    rows = [
        {"prompt": f"What is {i}?", "outputs": {"poet": answer(0.0, 2), "sage": answer(1.0, 1)}}
        for i in range(30)
    ]
    flat = tmp_path / "flat.jsonl"
    flat.write_text("".join(json.dumps({**row, "split": "test"}) + "\n" for row in rows), "utf-8")
    none = tmp_path / "none.png"
    code, out, err = run("evaluate", flat, "--checkpoint", toy_folder, "--plot", none)
    assert code == 0, err
    assert f"Not written, as no curve is defined: {none}" in out
    assert not none.exists()
    code, _, err = run(*at, "--plot", tmp_path / "curve.pdf")
    assert code == 1
    assert "name a file that ends in .png" in err
    code, _, err = run(*at, "--plot", tmp_path / "nowhere" / "curve.png")
    assert code == 1
    assert "make the folder" in err


def test_models_list_and_validate(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("models", "list", "--json")
    assert code == 0
    pool = ModelPool.shipped()
    assert [one["id"] for one in json.loads(out)] == pool.reachable()
    assert [one["id"] for one in json.loads(run("models", "list", "--all", "--json")[1])] == [*pool]
    assert run("models", "validate")[1].startswith(f"{len(pool)} descriptors are valid")
    (tmp_path / "a.yaml").write_text("id: a\nprovidr: x\n", "utf-8")
    code, _, err = run("models", "validate", tmp_path)
    assert code == 1
    assert "a.yaml" in err
    assert "did you mean 'provider'" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["route", "hello", "-w", "nan"], "willingness_to_pay is nan"),
        (["route", "hello", "-w", "-1"], "willingness_to_pay is -1"),
        (["route", "hello", "-m", "gpt-4o-2024-08-0", "-m", "claude-v1"], "did you mean"),
        (["route", "hello", "-m", "claude-v1"], "at least two models"),
        (["route", "hello", "--checkpoint", "nowhere"], "no such folder"),
        (["evaluate", "nothing.jsonl"], "nothing.jsonl: cannot be read"),
        (["train", "nothing.jsonl", "--out", "x"], "nothing.jsonl: cannot be read"),
        (["models", "validate", "nowhere"], "no such folder"),
    ],
)
def test_bad_input_is_one_clear_message(run: Run, arguments: list[str], said: str) -> None:
    code, out, err = run(*arguments)
    assert code == 1
    assert out == ""
    assert err.startswith("Error: ")
    assert said in err
    assert "Traceback" not in err


def test_broken_rows_stop_training_unless_skipped(run: Run, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "set.jsonl", make_rows(200))
    with path.open("a", encoding="utf-8") as file:
        file.write("{oops\n")
    code, _, err = run("train", path, "--out", tmp_path / "c")
    assert code == 1
    assert "set.jsonl:201" in err
    assert run("train", path, "--out", tmp_path / "c", "--skip-broken")[0] == 0


def test_a_checkpoint_is_not_written_over_other_things(
    run: Run, toy_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("precious", "utf-8")
    code, _, err = run("train", toy_file, "--out", tmp_path)
    assert code == 1
    assert "holds no checkpoint" in err


def test_training_again_keeps_what_was_written_by_hand(
    run: Run, toy_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoint"
    assert run("train", toy_file, "--out", folder)[0] == 0
    path = folder / "models" / "sage.yaml"
    text = path.read_text("utf-8")
    assert "cost_target: usd" in text
    price = "{input_usd_per_1m: 5, output_usd_per_1m: 20, date: 2026-01-01, source: me}"
    path.write_text(f"{text}price: {price}\n", "utf-8")
    assert run("train", toy_file, "--out", folder)[0] == 0
    text = path.read_text("utf-8")
    assert "source: me" in text
    assert "cost_target: output_tokens" in text


def test_one_reachable_model_is_too_few(run: Run, toy_router: CrossRouter, tmp_path: Path) -> None:
    provider = Provider(chat_model="openai:sage")
    models = [
        m.model_copy(update={"provider": provider}) if m.id == "sage" else m
        for m in toy_router.pool.values()
    ]
    CrossRouter(toy_router.checkpoint, ModelPool(models)).save(tmp_path / "c")
    code, _, err = run("route", "hello", "--checkpoint", tmp_path / "c")
    assert code == 1
    assert "at least two models" in err


def test_the_command_is_installed() -> None:
    command = Path(sys.executable).with_name("crossroute")
    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
    for name in ("route", "train", "evaluate", "models", "demo"):
        assert name in done.stdout


def test_training_does_not_lose_onboarded_models(
    run: Run, toy_file: Path, toy_folder: Path
) -> None:
    path = toy_folder / "models" / "poet.yaml"
    path.write_text(path.read_text("utf-8").replace("learned:\n", "learned:\n  source: scores\n"))
    code, _, err = run("train", toy_file, "--out", toy_folder)
    assert code == 1
    assert "poet would be lost" in err
    assert "crossroute models rebase" in err
    assert path.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--leave-one-out"], "Leaving one out needs two data sets"),
        (["--model", "sag"], "No row has an answer of 'sag'; did you mean 'sage'?"),
        (["--model", "sage"], "has answers of one model only"),
        (["--models", "nowhere"], "nowhere: no such folder"),
        (["--out", "{file}"], "File exists"),
    ],
)
def test_a_benchmark_says_what_is_wrong_before_it_trains(
    run: Run,
    toy_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    said: str,
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr("crossroute.evaluation.benchmark.train", never)
    options = [option.format(file=toy_file) for option in options]
    code, _, err = run("benchmark", toy_file, *options)
    assert code == 1
    assert err.startswith("Error: ")
    assert said in err


@pytest.mark.parametrize(
    ("package", "extra"),
    [("torch", "train"), ("sklearn", "benchmark"), ("matplotlib", "benchmark")],
)
def test_a_benchmark_names_the_package_that_is_missing(
    toy_file: Path, tmp_path: Path, package: str, extra: str
) -> None:
    code = (
        "import importlib.abc, sys\n"
        "class Gone(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == {package!r}: raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Gone())\n"
        "import importlib.util\n"
        "found = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda n: None if n == {package!r} else found(n)\n"
        f"sys.argv = ['crossroute', 'benchmark', {str(toy_file)!r}, '--out', {str(tmp_path)!r}]\n"
        "from crossroute.cli.app import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("Error: ")
    assert f"pip install 'crossroute[{extra}]'" in done.stderr


def test_a_part_of_an_id_finds_the_candidates(run: Run) -> None:
    code, _, err = run("route", "hello", "-m", "gpt-4o-2024")
    assert code == 1
    assert "did you mean 'gpt-4o-2024-05-13' or 'gpt-4o-2024-08-06'" in err


def failing_providers(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def build(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("langchain.chat_models.init_chat_model", build)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ImportError("pip install langchain-openrouter"), "pip install langchain-openrouter"),
        (ValueError("no OPENROUTER_API_KEY"), "no OPENROUTER_API_KEY"),
        (RuntimeError("wrong key: sk-0123456789"), "wrong key: ***"),
    ],
)
def test_a_live_demo_that_cannot_be_is_one_clear_message(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    failing_providers(monkeypatch, error)
    code, out, err = run("demo", "--live")
    assert code == 1
    assert "the answers come from the providers" in out
    assert err.startswith("Error: The providers could not be asked: ")
    assert said in err
    assert "leave out --live" in err
    assert "Traceback" not in err
    assert "0123456789" not in err
