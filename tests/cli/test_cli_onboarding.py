"""`crossroute models onboard` and `rebase`, with a model that is asked over HTTP."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fakes_core import Run, write_scores
from openai_server import OpenAIServer, Reply
from pydantic import TypeAdapter

from crossroute import CrossRouter, ModelDescriptor, ModelPool
from crossroute.onboarding.anchors import Anchor, Check, load_anchors
from crossroute.onboarding.embedding import onboard
from crossroute.onboarding.scores import load_scores
from crossroute.training.data import RoutingData

ROOT = Path(__file__).parents[2]


COUNT = 12
ANCHORS = "".join(
    f"- {{topic: sums, prompt: 'What is {n} + {n}?', check: {{kind: number, answer: {2 * n}}}, "
    f"reference: '{2 * n}'}}\n"
    for n in range(COUNT)
)
DESCRIPTOR = """\
# Written by hand.
id: acme/new
price: {{input_usd_per_1m: 1.0, output_usd_per_1m: 4.0, date: 2026-01-01, source: test}}  # ours
provider:
  chat_model: openai:new
  base_url: {url}
  api_key_env: ACME_KEY
  arguments: {{max_retries: 0, timeout: 60}}
# The end.
"""


def number(body: dict[str, Any]) -> int:
    """The number that is added to itself."""
    return int(body["messages"][-1]["content"].split()[2])


def calculator(body: dict[str, Any]) -> Reply:
    """Answers the sums below 8 rightly."""
    n = number(body)
    return Reply(f"It is **{2 * n if n < 8 else n}**.", input_tokens=10, output_tokens=50)


@pytest.fixture(scope="module")
def running() -> Iterator[OpenAIServer]:
    with pytest.MonkeyPatch.context() as patch, OpenAIServer() as server:
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield server


@pytest.fixture
def server(running: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> OpenAIServer:
    monkeypatch.setenv("ACME_KEY", "sk-SECRET")
    running.answers = {"new": calculator}
    running.requests.clear()
    return running


@pytest.fixture
def new(server: OpenAIServer, tmp_path: Path) -> Path:
    (tmp_path / "anchors.yaml").write_text(ANCHORS, "utf-8")
    folder = tmp_path / "models"
    folder.mkdir()
    path = folder / "new.yaml"
    path.write_text(DESCRIPTOR.format(url=server.url), "utf-8")
    return path


@pytest.fixture
def asking(run: Run, new: Path, tmp_path: Path) -> Run:
    """`models onboard new.yaml --run` with the anchors of this file."""

    def call(*options: object) -> tuple[int, str, str]:
        given = ("--run", "--anchors", tmp_path / "anchors.yaml", *options)
        return run("models", "onboard", new, *given)

    return call


def scores_of(path: Path) -> list[Any]:
    return load_scores(path, "acme/new")


def asked(server: OpenAIServer) -> list[int]:
    return sorted(int(r.body["messages"][-1]["content"].split()[2]) for r in server.requests)


# From scores


def test_a_file_that_lists_efforts_says_how_to_onboard_one(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "acme.yaml"
    path.write_text("id: acme\nefforts: [low, high]\n", "utf-8")
    code, _, said = run("models", "onboard", path, "--scores", tmp_path / "none.jsonl")
    assert code
    assert "write a descriptor of acme@low" in " ".join(said.split())


def test_scores_become_an_embedding_in_the_file(
    run: Run, new: Path, toy_folder: Path, toy_data: RoutingData, toy_router: CrossRouter
) -> None:
    before, text = ModelDescriptor.load(new), new.read_text("utf-8")
    scores = write_scores(new.parent.parent / "scores.jsonl", toy_data, "poet")
    arguments = ("models", "onboard", new, "--scores", scores, "--checkpoint", toy_folder)
    code, out, err = run(*arguments)
    assert code == 0, err
    assert "acme/new: onboarded from 60 scored answers; its mean quality is known within" in out
    assert "mean score 0." in out
    assert err == ""
    after = ModelDescriptor.load(new)
    assert after.learned is not None
    assert after.learned.scores_file == "../scores.jsonl"
    assert after.model_copy(update={"learned": None}) == before
    # What was written by hand is as it was, and its last line is the last one.
    by_hand, end = text.split("# The end.")
    assert new.read_text("utf-8").startswith(by_hand + "learned:\n")
    assert new.read_text("utf-8").endswith("# The end." + end)
    expected = onboard(toy_router, before, load_scores(scores, "acme/new")).learned
    assert expected is not None
    assert after.learned.embedding == pytest.approx(expected.embedding, abs=1e-4)
    toy_router.over(ModelPool([*toy_router.pool.values(), after]))

    # Again: it is replaced, not doubled.
    code, out, _ = run(*arguments, "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["model"], found["file"], found["examples"]) == ("acme/new", str(new), 60)
    assert found["mean_score"] == pytest.approx(
        np.mean([answer.score for answer in load_scores(scores, "acme/new")])
    )
    assert found["quality_error"] > 0
    assert ModelDescriptor.load(new) == after


@pytest.mark.parametrize("count", [2, 19, 20, 60])
def test_how_sure_it_is_is_one_number_everywhere(
    count: int, run: Run, new: Path, toy_folder: Path, toy_data: RoutingData
) -> None:
    scores = write_scores(new.with_name("scores.jsonl"), toy_data, "sage", count)
    arguments = ("models", "onboard", new, "--scores", scores, "--checkpoint", toy_folder)
    code, out, err = run(*arguments)
    assert code == 0
    (points,) = re.findall(r"known within (\d+) points \(1 s\.e\.\)", out)
    shown = run("models", "show", "acme/new", "--models", new.parent)[1]
    shown = " ".join(shown.replace("│", "").split())
    assert f"known within {points} points (1 s.e.)" in shown
    few = count < 20
    assert ("Warning: " in err) is few
    assert (f"{count} scored answers, which are few" in out) is few
    found = json.loads(run(*arguments, "--json")[1])
    assert round(found["error_in_points"]) == int(points)
    # It is right nearly always, which two answers do not show.
    assert int(points) >= (5 if count == 2 else 1)


def test_the_descriptor_can_go_to_another_folder(
    run: Run, new: Path, toy_folder: Path, toy_data: RoutingData
) -> None:
    text = new.read_text("utf-8")
    scores = write_scores(new.with_name("scores.jsonl"), toy_data, "poet")
    options = ("--scores", scores, "--checkpoint", toy_folder, "--to", toy_folder / "models")
    assert run("models", "onboard", new, *options)[0] == 0
    assert new.read_text("utf-8") == text
    router = CrossRouter.load(toy_folder)
    learned = router.pool["acme/new"].learned
    assert learned is not None
    assert learned.scores_file is not None
    assert (toy_folder / "models" / learned.scores_file).samefile(scores)


@pytest.mark.parametrize(
    "text",
    [
        "id: acme/new\nlearned:\n  checkpoint: x\n  cost_target: usd\n  examples: 1\n"
        "  embedding:\n  - 1.0\n  - 2.0\n# A comment.\nnote: Kept.  # here\n",
        "{id: acme/new, note: Kept.}",
        "---\nnote: Kept.\nid: acme/new\n...\n",
        "id: acme/new\nnote: |-\n  Kept.\n",
        "id: acme/new\r\nnote: Kept.\r\n",
    ],
    ids=["learned in the midst", "flow", "document marks", "block text", "CRLF"],
)
def test_files_of_any_form_are_written(
    text: str, run: Run, tmp_path: Path, toy_folder: Path, toy_data: RoutingData
) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(text, "utf-8")
    scores = write_scores(tmp_path / "scores.jsonl", toy_data, "poet", 20)
    code, _, err = run("models", "onboard", path, "--scores", scores, "--checkpoint", toy_folder)
    assert code == 0, err
    model = ModelDescriptor.load(path)
    assert (model.id, model.note) == ("acme/new", "Kept.")
    assert model.learned is not None
    assert model.learned.examples == 20
    ends = re.findall(r"\r?\n", path.read_bytes().decode())
    assert set(ends) == {"\r\n" if "\r" in text else "\n"}
    if "# A comment." in text:
        assert "\n# A comment.\nnote: Kept.  # here\n" in path.read_text("utf-8")
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == [
        "model.yaml",
        "scores.jsonl",
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--scores FILE, or --run"),
        (["--scores", "none.jsonl"], "none.jsonl: cannot be read"),
        (["--scores", "none.jsonl", "--anchors", "a.yaml"], "--scores FILE, or --run"),
        (["--run", "--anchors", "none.yaml"], "none.yaml: cannot be read"),
    ],
)
def test_bad_input_is_one_clear_message(run: Run, new: Path, options: list[str], said: str) -> None:
    text = new.read_text("utf-8")
    code, out, err = run("models", "onboard", new, *options)
    assert (code, out) == (1, "")
    assert err.startswith("Error: ")
    assert said in err.replace("\n", " ")
    assert new.read_text("utf-8") == text


# By asking the model


def test_the_model_is_asked_and_scored(asking: Run, new: Path, server: OpenAIServer) -> None:
    code, out, err = asking("--yes", "--json")
    assert code == 0, err
    assert f"{COUNT} of {COUNT} anchors are to be asked" in err
    assert "about $" in err
    assert asked(server) == list(range(COUNT))
    assert {r.authorization for r in server.requests} == {"Bearer sk-SECRET"}
    found = json.loads(out)
    assert found["examples"] == COUNT
    # 0 + 0 is right in any case.
    assert found["mean_score"] == pytest.approx(8 / COUNT)
    assert found["scores_file"] == "new.scores.jsonl"
    scores = new.with_name("new.scores.jsonl")
    answers = {answer.prompt: answer for answer in scores_of(scores)}
    assert answers["What is 3 + 3?"].score == 1
    assert answers["What is 9 + 9?"].score == 0
    assert answers["What is 3 + 3?"].output_tokens == 50
    assert answers["What is 3 + 3?"].cost_usd == pytest.approx((10 * 1 + 50 * 4) / 1e6)
    # Neither what it said nor the key is kept.
    kept = scores.read_text("utf-8") + new.read_text("utf-8") + out + err
    assert "It is" not in kept
    assert "SECRET" not in kept
    learned = ModelDescriptor.load(new).learned
    assert learned is not None
    assert learned.cost_target == "output_tokens"

    # All is known now: nobody is asked, nothing is spent.
    server.requests.clear()
    code, _, err = asking()
    assert code == 0
    assert "All 12 anchors are scored" in err
    assert not server.requests


def test_nothing_is_spent_without_a_yes(
    asking: Run, new: Path, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, "n\n")
    text = new.read_text("utf-8")
    code, _, err = asking()
    assert code == 1
    assert "about $" in err
    assert not server.requests
    assert new.read_text("utf-8") == text


def type_in(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_where_nobody_answers_the_way_without_is_named(
    asking: Run, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, "")
    code, _, err = asking()
    assert code == 1
    assert "nobody is there to answer; give --yes" in err
    assert not server.requests


NONSENSE = pytest.mark.parametrize(
    ("answer", "doubt"),
    [
        (lambda _: Reply("I cannot say."), "all 12 answers are the same, 'I cannot say.'"),
        (lambda _: Reply("\x1b[31mred"), r"all 12 answers are the same, '\x1b[31mred'"),
        (lambda body: Reply("" if number(body) > 3 else "7"), "8 of 12 answers are empty"),
        (lambda body: Reply(f"-{1 + number(body)}"), "none of 12 answers is right"),
    ],
    ids=["same", "control characters", "empty", "wrong"],
)


@NONSENSE
@pytest.mark.parametrize("typed", ["y\nn\n", "y\ny\n", "y\n"], ids=["no", "yes", "nobody"])
def test_nonsense_is_asked_about_before_it_is_believed(
    asking: Run,
    new: Path,
    server: OpenAIServer,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[dict[str, Any]], Reply],
    doubt: str,
    typed: str,
) -> None:
    text, scores = new.read_text("utf-8"), new.with_name("new.scores.jsonl")
    server.answers["new"] = answer
    type_in(monkeypatch, typed)
    code, _, err = asking()
    said = " ".join(err.split())
    assert f"{doubt}. It was asked as openai:new at {server.url}" in said
    assert "Is that the right endpoint" in said
    assert "\x1b" not in err
    assert code == (0 if typed == "y\ny\n" else 1)
    assert (new.read_text("utf-8") == text) is (code == 1)
    # After a no, the next run asks the right endpoint everything.
    assert scores.exists() is (typed != "y\nn\n")
    if typed == "y\nn\n":
        assert "its scores of this run are dropped" in said


def test_only_the_scores_of_this_run_are_dropped(
    asking: Run, new: Path, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = new.with_name("new.scores.jsonl")
    before = '{"prompt": "What is 3 + 3?", "score": 1.0}\n'
    scores.write_text(before, "utf-8")
    server.answers["new"] = Reply("")
    type_in(monkeypatch, "y\nn\n")
    assert asking()[0] == 1
    assert scores.read_text("utf-8") == before


@NONSENSE
def test_with_yes_nonsense_is_warned_of(
    asking: Run, new: Path, server: OpenAIServer, answer: Callable[..., Reply], doubt: str
) -> None:
    server.answers["new"] = answer
    code, _, err = asking("--yes")
    assert code == 0
    assert "Warning: " in err
    assert doubt in " ".join(err.split())
    assert ModelDescriptor.load(new).learned is not None


def test_nonsense_is_told_of_before_failed_calls(asking: Run, server: OpenAIServer) -> None:
    server.answers["new"] = lambda body: (
        Reply(status=500) if "What is 3 " in str(body) else Reply("")
    )
    code, _, err = asking("--yes")
    assert code == 1
    assert "11 of 11 answers are empty" in " ".join(err.split())
    assert "1 of 12 calls of 'acme/new' failed" in err


def test_failed_calls_are_named_and_asked_again(
    asking: Run, new: Path, server: OpenAIServer
) -> None:
    def sometimes(body: dict[str, Any]) -> Reply:
        n = int(body["messages"][-1]["content"].split()[2])
        return Reply("overloaded", status=500) if n % 4 == 1 else calculator(body)

    text = new.read_text("utf-8")
    server.answers["new"] = sometimes
    code, out, err = asking("--yes", "--at-once", "2")
    assert (code, out) == (1, "")
    assert "3 of 12 calls of 'acme/new' failed" in err
    assert "3 x " in err
    assert "overloaded" in err
    assert "holds 9 scored answers" in err
    assert new.read_text("utf-8") == text

    server.answers["new"] = calculator
    server.requests.clear()
    code, out, err = asking("--yes", "--json")
    assert code == 0, err
    assert "3 of 12 anchors are to be asked" in err
    assert asked(server) == [1, 5, 9]
    assert json.loads(out)["examples"] == COUNT


def test_what_there_is_can_be_taken(asking: Run, run: Run, new: Path, server: OpenAIServer) -> None:
    server.answers["new"] = lambda body: (
        Reply(status=500) if "What is 3 " in str(body) else calculator(body)
    )
    assert asking("--yes")[0] == 1
    scores = new.with_name("new.scores.jsonl")
    code, out, _ = run("models", "onboard", new, "--scores", scores, "--json")
    assert code == 0
    assert json.loads(out)["examples"] == COUNT - 1


def test_a_model_that_only_fails_is_soon_left(asking: Run, server: OpenAIServer) -> None:
    server.answers["new"] = Reply("wrong key", status=401)
    code, _, err = asking("--yes", "--at-once", "1")
    assert code == 1
    assert "wrong key" in err
    assert "5 of 12 calls" in err
    assert len(server.requests) == 5


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT as in a terminal: what is started in a shell's background may ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_break_leaves_what_was_scored(asking: Run, new: Path, server: OpenAIServer) -> None:
    def interrupted(body: dict[str, Any]) -> Reply:
        if len(server.requests) == 5:
            os.kill(os.getpid(), signal.SIGINT)
            return Reply(silent=True)
        return calculator(body)

    text = new.read_text("utf-8")
    server.answers["new"] = interrupted
    code, out, err = asking("--yes", "--at-once", "1")
    assert (code, out) == (130, "")
    assert "Stopped." in err
    assert "Traceback" not in err
    assert new.read_text("utf-8") == text
    scores = new.with_name("new.scores.jsonl")
    assert len(scores_of(scores)) == 4

    # The machine went down in the midst of a line.
    with scores.open("a", encoding="utf-8") as file:
        file.write('{"prompt": "What is 4 +')
    done = asked(server)[:4]
    server.answers["new"] = calculator
    server.requests.clear()
    code, out, err = asking("--yes", "--json")
    assert code == 0, err
    assert sorted(done + asked(server)) == list(range(COUNT))
    assert json.loads(out)["examples"] == COUNT == len(scores_of(scores))


def test_a_disabled_model_is_onboarded_before_it_serves(asking: Run, new: Path) -> None:
    new.write_text(f"{new.read_text('utf-8')}disabled: true\n", "utf-8")
    assert asking("--yes")[0] == 0
    model = ModelDescriptor.load(new)
    assert model.disabled
    assert model.learned is not None


def test_calls_are_bounded(asking: Run, server: OpenAIServer) -> None:
    under_way, most, lock = 0, 0, threading.Lock()
    both = threading.Barrier(3, timeout=60)

    def counted(body: dict[str, Any]) -> Reply:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        both.wait()
        with lock:
            under_way -= 1
        return calculator(body)

    server.answers["new"] = counted
    assert asking("--yes", "--at-once", "3")[0] == 0
    assert most == 3


def test_scores_of_other_prompts_count_too(
    asking: Run, new: Path, tmp_path: Path, server: OpenAIServer
) -> None:
    scores = tmp_path / "mine.jsonl"
    # Without a line end, as an editor may leave it.
    scores.write_text('{"prompt": "Who wrote Emma?", "score": 1.0}', "utf-8")
    code, out, err = asking("--yes", "--json", "--scores", scores)
    assert code == 0, err
    assert json.loads(out)["examples"] == COUNT + 1
    assert len(scores_of(scores)) == COUNT + 1
    assert ModelDescriptor.load(new).learned is not None


@pytest.mark.parametrize(
    ("old", "new_text", "said"),
    [
        ("ACME_KEY", "NO_SUCH_KEY", "environment variable NO_SUCH_KEY, which is not set"),
        ("openai:new", "nobody:new", "its chat model cannot be built"),
        ("# The end.", "retired: 2020-01-01", "cannot be asked: retired 2020-01-01"),
    ],
)
def test_a_model_that_cannot_be_reached_is_named(
    asking: Run, new: Path, server: OpenAIServer, old: str, new_text: str, said: str
) -> None:
    new.write_text(new.read_text("utf-8").replace(old, new_text), "utf-8")
    code, _, err = asking("--yes")
    assert code == 1
    assert "acme/new" in err
    assert said in err.replace("\n", " ")
    assert "Traceback" not in err
    assert not server.requests


def test_without_a_price_the_cost_is_not_known(
    asking: Run, new: Path, server: OpenAIServer
) -> None:
    lines = [x for x in new.read_text("utf-8").splitlines() if not x.startswith("price")]
    new.write_text("\n".join(lines), "utf-8")
    _, _, err = asking("--yes")
    assert "has no price: the cost is not known" in err
    assert len(server.requests) == COUNT


def test_the_shipped_anchors_are_asked_by_default(
    run: Run, new: Path, server: OpenAIServer
) -> None:
    right = {anchor.prompt: anchor.reference for anchor in load_anchors()}
    server.answers["new"] = lambda body: Reply(right[body["messages"][-1]["content"]])
    code, out, err = run("models", "onboard", new, "--run", "--yes", "--json")
    assert code == 0, err
    assert json.loads(out)["mean_score"] == 1.0
    assert len(server.requests) == len(right)
    # Not one answer was wrong, and still it is not taken for infallible.
    pool = ModelPool([*CrossRouter.default().pool.values(), ModelDescriptor.load(new)])
    found = CrossRouter.default().over(pool).predict(list(right))
    assert 0.8 < found.quality[:, found.models.index("acme/new")].mean() < 0.995


def test_the_page_says_what_is_so() -> None:
    page = (ROOT / "docs" / "onboarding.md").read_text("utf-8")
    assert f"{len(load_anchors())} anchor prompts" in page
    for block in page.split("```yaml\n")[1:]:
        content = yaml.safe_load(block.split("```")[0])
        kind: Any = ModelDescriptor if isinstance(content, dict) else list[Anchor]
        TypeAdapter(kind).validate_python(content)
    for check in re.findall(r"^\| `(\{kind.*?\})` \|", page, flags=re.MULTILINE):
        TypeAdapter[Any](Check).validate_python(yaml.safe_load(check.replace("{...}", "{}")))
