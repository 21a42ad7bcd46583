"""The commands `crossroute models ...`."""

from __future__ import annotations

import datetime
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes_core import Run, make_rows, write_rows

from crossroute import (
    CrossRouter,
    DataError,
    ModelDescriptor,
    ModelPool,
    PoolError,
    Price,
    Provider,
    UnknownModelError,
)
from crossroute.evaluation.comparison import TopicPrompt, compare, load_prompts
from crossroute.models.descriptor import json_schema
from crossroute.onboarding.anchors import load_anchors

SMALL, LARGE = "gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06"
PRICE = Price(
    input_usd_per_1m=0.5, output_usd_per_1m=2.0, date=datetime.date(2026, 1, 1), source="test"
)


@pytest.fixture
def run(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`crossroute models ...` in a wide terminal."""
    monkeypatch.setenv("COLUMNS", "160")
    return lambda *arguments: run("models", *arguments)


def failing(run: Run, *arguments: object) -> str:
    """The message of a command that fails, which prints nothing else."""
    code, out, err = run(*arguments)
    assert code == 1
    assert out == ""
    assert err.startswith("Error: ")
    assert "Traceback" not in err
    return " ".join(err.split())


def descriptor(folder: Path, **facts: Any) -> Path:  # noqa: ANN401
    folder.mkdir(exist_ok=True)
    return ModelDescriptor.model_validate({"id": "new", "price": PRICE, **facts}).save(folder)


def test_list_says_what_is_disabled_or_retired(run: Run, tmp_path: Path) -> None:
    provider = Provider(chat_model="openai:x")
    descriptor(tmp_path, id="a", provider=provider, disabled=True)
    descriptor(tmp_path, id="b", provider=provider, retired=datetime.date(2024, 5, 6))
    out = run("list", tmp_path)[1]
    assert re.search(r"a +openai +.*disabled", out)
    assert re.search(r"b +openai +.*2024-05-06", out)
    assert [model["id"] for model in json.loads(run("list", tmp_path, "--json")[1])] == ["a", "b"]


def test_show_says_all_but_the_numbers_of_the_embedding(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("show", SMALL)
    assert code == 0
    said = dict(re.findall(r"│ ([\w.]+) +│ (.*?) +│", out))
    assert said["price.input_usd_per_1m"] == "0.15"
    assert said["capabilities"] == "tools, structured_output, image_input, logprobs"
    assert said["reachable"] == "yes"
    assert re.fullmatch(r"trained on [\d,]+ answers", said["embedding"])
    assert "learned.embedding" not in said
    facts = json.loads(run("show", SMALL, "--json")[1])
    assert facts == ModelPool.shipped()[SMALL].model_dump(mode="json", exclude_none=True)
    assert len(facts["learned"]["embedding"]) > 10

    descriptor(tmp_path, disabled=True, region="eu", data_retention_days=0)
    out = run("show", "new", "--models", tmp_path)[1]
    said = dict(re.findall(r"│ ([\w.]+) +│ (.*?) +│", out))
    assert (said["data_retention_days"], said["region"]) == ("0", "eu")
    assert said["reachable"] == "no: disabled in its descriptor"
    assert said["embedding"].startswith("none yet")


@pytest.mark.parametrize(
    ("learned", "said"),
    [
        ({"source": "guess", "quality_error": 1.0}, "guessed without any scores; .*23 points"),
        (
            {"source": "scores", "examples": 1200, "quality_error": 0.16},
            "onboarded from 1,200 scored answers; .*4 points",
        ),
        (
            {"source": "scores", "examples": 1200, "quality_error": 0.16, "mean_quality": 0.9},
            "onboarded from 1,200 scored answers; .* 2 points",
        ),
        (
            {"source": "scores", "examples": 2, "quality_error": 0.5, "mean_quality": 0.9},
            "onboarded from 2 scored answers, which are few; .* 5 points",
        ),
    ],
)
def test_show_says_how_sure_an_embedding_is(
    run: Run, tmp_path: Path, learned: dict[str, object], said: str
) -> None:
    facts = {"checkpoint": "c", "cost_target": "usd", "examples": 0, "embedding": [1.0], **learned}
    descriptor(tmp_path, learned=facts)
    out = run("show", "new", "--models", tmp_path)[1]
    assert re.search(said, " ".join(out.replace("│", "").split()))


def test_validate_says_all_that_is_wrong_at_once(run: Run, toy_folder: Path) -> None:
    code, out, _ = run("validate", toy_folder, "--json")
    assert (code, json.loads(out)) == (0, {"valid": 3, "unlearned": [], "errors": []})
    models = toy_folder / "models"
    (models / "a.yaml").write_text("id: a\nprovidr: x\n", "utf-8")
    (models / "b.yaml").write_text("id: b\nregion: eu\nregion: us\n", "utf-8")
    code, out, err = run("validate", toy_folder)
    assert (code, out) == (1, "")
    assert "a.yaml" in err
    assert "did you mean 'provider'" in err
    assert "b.yaml: not valid YAML: the field of line 3 stands in line 2 already" in err
    code, out, _ = run("validate", models, "--json")
    found = json.loads(out)
    assert (code, found["valid"], len(found["errors"])) == (1, 3, 2)


def test_efforts_that_a_file_lists(run: Run, tmp_path: Path) -> None:
    descriptor(tmp_path, id="acme", efforts=("low", "high"))
    assert "acme@low" in run("show", "acme@low", "--models", tmp_path)[1]
    assert "'acme@max' is not in the pool" in failing(run, "show", "acme@max", "--models", tmp_path)
    descriptor(tmp_path, id="acme_low")
    code, _, err = run("validate", tmp_path)
    assert code == 1
    assert "'acme_low' and 'acme@low' would both be saved as" in " ".join(err.split())


def test_validate_checks_embeddings_against_the_checkpoint(
    run: Run, toy_folder: Path, tmp_path: Path
) -> None:
    models = toy_folder / "models"
    ModelPool.shipped()[SMALL].save(models)
    for arguments in ([toy_folder], [models], [models, "--checkpoint", toy_folder]):
        said = failing(run, "validate", *arguments)
        assert f"Model '{SMALL}': its embedding" in said
        assert "crossroute models rebase" in said
    # A folder of no checkpoint is checked by itself.
    ModelPool.shipped().subset([SMALL, "gpt-4o-2024-08-06"]).save(tmp_path / "alone")
    assert run("validate", tmp_path / "alone")[0] == 0
    assert "its embedding" in failing(
        run, "validate", tmp_path / "alone", "--checkpoint", toy_folder
    )


def test_validate_names_one_id_in_two_files(run: Run, toy_folder: Path) -> None:
    models = toy_folder / "models"
    (models / "z.yaml").write_text((models / "sage.yaml").read_text("utf-8"), "utf-8")
    assert "z.yaml: the id 'sage' is taken by" in failing(run, "validate", toy_folder)


def test_add_and_remove(run: Run, toy_folder: Path, tmp_path: Path) -> None:
    file = descriptor(
        tmp_path / "mine", behaves_like={"model": "poet"}, provider={"chat_model": "openai:new"}
    )
    file.write_text("# by hand\n" + file.read_text("utf-8"), "utf-8")
    code, out, err = run("add", file, "--to", toy_folder, "--json")
    assert code == 0, err
    added = toy_folder / "models" / "new.yaml"
    assert json.loads(out) == {"added": "new", "file": str(added)}
    assert added.read_bytes() == file.read_bytes()
    assert "new" in CrossRouter.load(toy_folder).pool
    assert "the id 'new' is taken" in failing(run, "add", file, "--to", toy_folder)

    said = failing(run, "remove", "ne", "--from", toy_folder)
    assert "'ne' is not in the pool; did you mean 'new'?" in said
    assert added.exists()
    # The id counts, not the name of the file.
    added = added.rename(added.with_name("other.yml"))
    code, out, _ = run("remove", "new", "--from", toy_folder / "models")
    assert (code, out.split(":")[0]) == (0, "Removed new")
    assert not added.exists()
    assert set(CrossRouter.load(toy_folder).pool) == {"poet", "clerk", "sage"}


def test_what_does_not_fit_is_not_added(run: Run, toy_folder: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in (toy_folder / "models").iterdir()}
    mine = tmp_path / "mine"
    foreign = ModelPool.shipped()[SMALL]
    mine.mkdir()
    said = failing(run, "add", foreign.save(mine), "--to", toy_folder)
    assert "was made for checkpoint" in said
    # It is the checkpoint of the folder of models, too.
    said = failing(run, "add", mine / foreign.file_name, "--to", toy_folder / "models")
    assert "was made for checkpoint" in said
    said = failing(run, "add", descriptor(mine, price=None), "--to", toy_folder)
    assert "'new' has no learned embedding, and none can be guessed" in said
    said = failing(run, "add", descriptor(mine, id="SAGE"), "--to", toy_folder)
    assert "'SAGE'" in said
    unknown = descriptor(mine, behaves_like={"model": "poett"})
    assert "did you mean 'poet'" in failing(run, "add", unknown, "--to", toy_folder)
    assert "nowhere: no such folder" in failing(run, "add", unknown, "--to", tmp_path / "nowhere")
    (mine / "broken.yaml").write_text("id: x\nprize: {}\n", "utf-8")
    said = failing(run, "add", mine / "broken.yaml", "--to", toy_folder)
    assert "did you mean 'price'" in said
    after = {path.name: path.read_bytes() for path in (toy_folder / "models").iterdir()}
    assert after == before


def test_a_first_model_can_be_added_to_an_empty_folder(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    file = ModelPool.shipped()[SMALL].save(tmp_path)
    assert run("add", file, "--to", folder)[0] == 0
    assert run("add", descriptor(tmp_path), "--to", folder)[0] == 0
    assert list(ModelPool.load(folder)) == [SMALL, "new"]


def test_add_takes_the_scores_along(run: Run, toy_folder: Path, toy_router: CrossRouter) -> None:
    learned = toy_router.pool["poet"].learned
    assert learned is not None
    mine = toy_folder.parent / "mine"
    for name, there in (("scores/new.jsonl", True), ("gone.jsonl", False)):
        model = learned.model_copy(update={"scores_file": name, "source": "scores"})
        file = descriptor(mine, id=f"new-{there}", learned=model.model_dump())
        (mine / "scores").mkdir(exist_ok=True)
        (mine / "scores" / "new.jsonl").write_text("{}\n", "utf-8")
        code, _, err = run("add", file, "--to", toy_folder)
        assert code == 0
        assert (toy_folder / "models" / name).is_file() is there
        assert (f"Its scores, {name}, are not there" in " ".join(err.split())) is not there


def test_prices_are_compared_and_written(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    learned = ModelPool.shipped()[SMALL].learned
    for name, price in (("a", Price(input_usd_per_1m=9, output_usd_per_1m=8)), ("b", None)):
        provider = Provider(chat_model="openai:gpt-4o")
        ModelPool([ModelDescriptor(id=name, provider=provider, price=price, learned=learned)]).save(
            folder
        )
    before = ModelPool.load(folder)
    code, out, _ = run("prices", folder)
    assert code == 0
    assert "2 models: 1 at the listed price, 1 at a table of their own, of which 1 differ" in out
    assert dict(ModelPool.load(folder)) == dict(before)

    a, b = json.loads(run("prices", folder, "--write", "--json")[1])
    assert (a["differs"], a["written"], b["own"], b["written"]) == (True, True, None, False)
    assert a["changes"]["input_usd_per_1m"] == {"own": 9, "listed": b["listed"]["input_usd_per_1m"]}
    after = ModelPool.load(folder)
    assert after["b"] == before["b"]
    assert "price" not in (folder / "b.yaml").read_text("utf-8")
    assert after["a"].learned == before["a"].learned
    assert after["a"].price is not None
    assert after["a"].price.date == datetime.date.today()
    assert after["a"].price.cost_usd(1e6, 1e6) == pytest.approx(
        before["b"].price.cost_usd(1e6, 1e6)  # type: ignore[union-attr]
    )
    assert "differ" not in run("prices", folder)[1].partition("2 models:")[2]


def test_the_shipped_descriptors_are_not_written_to(run: Run) -> None:
    assert run("prices")[0] == 0
    assert "name a folder of your own" in failing(run, "prices", "--write")


def test_the_command_has_them_all(run: Run) -> None:
    out = run("--help")[1]
    found = set(re.findall(r"^│ ([a-z]+)  ", out, re.MULTILINE))
    assert found == {
        *("list", "show", "validate", "add", "onboard", "remove", "prices", "compare"),
        *("new", "rebase", "schema", "measure"),
    }


def test_schema_is_printed_for_editors(run: Run) -> None:
    code, out, _ = run("schema")
    assert (code, json.loads(out)) == (0, json_schema())


def test_compare_says_where_one_wins(run: Run, toy_folder: Path, tmp_path: Path) -> None:
    rows = make_rows(60, seed=5)
    prompts = [
        {"prompt": row["prompt"], "topic": "story" if "story" in str(row["prompt"]) else "sum"}
        for row in rows
    ]
    file = write_rows(tmp_path / "prompts.jsonl", prompts)
    arguments = ["compare", "clerk", "sage", "--models", toy_folder, "--prompts", file]
    code, out, err = run(*arguments, "--json")
    assert code == 0, err
    overall, story, sums = json.loads(out)["comparisons"]
    assert (overall["topic"], story["topic"], sums["topic"]) == (None, "story", "sum")
    assert overall["prompts"] == 60 == story["prompts"] + sums["prompts"]
    # The clerk is bad at stories, and as good at sums for less.
    assert story["quality"]["sage"] - story["quality"]["clerk"] > 0.3
    assert story["cost_usd"]["sage"] > story["cost_usd"]["clerk"]
    (won,) = story["second_chosen"]
    assert 0 < won["from_usd"] < 0.1
    assert won["to_usd"] == "inf"
    shares = {one["willingness_to_pay"]: one["share"] for one in story["second_share"]}
    assert (shares[0.0], shares["inf"]) == (0.0, 1.0)
    code, out, _ = run(*arguments)
    assert code == 0
    assert re.search(r"│ story +│ \d+ +│.*above \$", out)
    assert "sage: trained on" in out


def test_compare_has_prompts_of_its_own(run: Run) -> None:
    code, out, _ = run("compare", SMALL, LARGE, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["comparisons"][0]["prompts"] == len(load_anchors())
    assert {one["topic"] for one in found["comparisons"][1:]} == {
        anchor.topic for anchor in load_anchors()
    }


def test_the_comparison_is_what_the_router_would_do(router: CrossRouter) -> None:
    prompts = [TopicPrompt(anchor.prompt) for anchor in load_anchors()][:30]
    (found,) = compare(router, SMALL, LARGE, prompts)
    pair = router.subset([SMALL, LARGE])
    between = np.sqrt(found.points[:-1] * found.points[1:]).tolist()
    for willingness in (0.0, *between, math.inf):
        decisions = pair.route_batch([prompt for prompt, _ in prompts], willingness)
        chosen = sum(decision.model == LARGE for decision in decisions) / len(decisions)
        assert found.share(willingness) == pytest.approx(chosen)
    (back,) = compare(router, LARGE, SMALL, prompts)
    assert back.quality == found.quality[::-1]
    assert back.share(0.03) == pytest.approx(1 - found.share(0.03))
    (start, end) = found.wins[0]
    assert found.share(start * 0.99) <= 0.5 < found.share(start * 1.01)
    assert math.isinf(end)
    assert back.wins[0][0] == 0.0


def test_a_model_that_is_better_and_cheaper_always_wins(router: CrossRouter) -> None:
    twin = router.pool[LARGE].model_copy(
        update={"id": "twin", "price": PRICE.model_copy(update={"output_usd_per_1m": 1.0})}
    )
    over = router.over(ModelPool([*router.pool.values(), twin]))
    prompts = [TopicPrompt("What is 17 * 23?", "sum"), TopicPrompt("Write a poem.")]
    overall, topic = compare(over, LARGE, "twin", prompts)
    assert overall.wins == topic.wins == [(0.0, math.inf)]
    assert compare(over, "twin", LARGE, prompts)[0].wins == []
    assert (overall.prompts, topic.prompts, topic.topic) == (2, 1, "sum")


def test_compare_names_what_is_wrong(router: CrossRouter, run: Run, tmp_path: Path) -> None:
    prompts = [TopicPrompt("hello")]
    with pytest.raises(UnknownModelError, match="did you mean 'gpt-4o-2024-08-06'"):
        compare(router, SMALL, "gpt-4o-2024-08-0", prompts)
    with pytest.raises(PoolError, match="name two"):
        compare(router, SMALL, SMALL, prompts)
    with pytest.raises(DataError, match="at least one"):
        compare(router, SMALL, LARGE, [])
    file = tmp_path / "none.txt"
    assert "none.txt: cannot be read" in failing(run, "compare", SMALL, LARGE, "--prompts", file)


def test_prompts_are_lines_or_json_lines(tmp_path: Path) -> None:
    text = tmp_path / "prompts.txt"
    text.write_text('Why?\n\n{"prompt": "as it is"}\n', "utf-8")
    assert load_prompts(text) == [TopicPrompt("Why?"), TopicPrompt('{"prompt": "as it is"}')]
    lines = tmp_path / "prompts.jsonl"
    lines.write_text('{"prompt": "a", "task": "t"}\n{"prompt": "b", "topic": "u", "x": 1}\n')
    assert load_prompts(lines) == [TopicPrompt("a", "t"), TopicPrompt("b", "u")]
    for broken, said in (
        ("{", "line 2: not a prompt: Invalid JSON"),
        ('"b"', "line 2: not a prompt: Input should be an object"),
        ('{"text": "b"}', "line 2: not a prompt: prompt: missing"),
    ):
        lines.write_text(f'{{"prompt": "a"}}\n{broken}\n', "utf-8")
        with pytest.raises(DataError, match=rf"prompts\.jsonl, {said}"):
            load_prompts(lines)
    text.write_text("\n \n", "utf-8")
    with pytest.raises(DataError, match="holds no prompt"):
        load_prompts(text)


def test_the_list_reads_within_80_columns(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from crossroute.cli import models as module

    monkeypatch.setattr(module.out, "_width", 80)
    pool = ModelPool.shipped()
    for arguments, ids in ((("list",), pool.reachable()), (("list", "--all"), [*pool])):
        lines = run(*arguments)[1].splitlines()
        assert max(map(len, lines)) <= 80
        # Neither cut off nor broken.
        assert [
            line.split()[0] for line in lines if line.split()[:1] and line.split()[0] in pool
        ] == ids
    hidden = len(pool) - len(pool.reachable())
    assert f"{hidden} more ship that cannot be called today" in run("list")[1]
