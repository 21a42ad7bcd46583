"""`crossroute collect`, with real clients that ask over HTTP."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes_collect import verdict
from fakes_core import Run
from openai_server import Answer, OpenAIServer, Reply

from crossroute import ModelDescriptor
from crossroute.training.data import RoutingData

DESCRIPTOR = """\
id: {id}
price: {{input_usd_per_1m: {price}, output_usd_per_1m: {price}}}
provider:
  chat_model: openai:{name}
  base_url: {url}
  api_key_env: ACME_KEY
capabilities: [structured_output]
context_window_tokens: 100000
disabled: {disabled}
"""
PRICES = {"small": 1.0, "large": 10.0, "judge": 5.0}
COUNT = 6
KEY = "sk-SECRETSECRET1"


class Bill:
    """What the server would bill, and how many calls it has seen at once."""

    def __init__(self) -> None:
        self.usd = 0.0
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self.wait: threading.Barrier | None = None

    def __call__(self, answer: Callable[[dict[str, Any]], Reply]) -> Answer:
        def counted(body: dict[str, Any]) -> Reply:
            with self._lock:
                self._at_once += 1
                self.most_at_once = max(self.most_at_once, self._at_once)
            if self.wait is not None:
                self.wait.wait(30)
            reply = answer(body)
            with self._lock:
                self._at_once -= 1
                if reply.status < 400:
                    price = PRICES[body["model"]]
                    self.usd += (reply.input_tokens + reply.output_tokens) * price / 1e6
            return reply

        return counted


def says(text: str, tokens: int = 10) -> Callable[[dict[str, Any]], Reply]:
    return lambda body: Reply(text, output_tokens=tokens)


def judging(body: dict[str, Any]) -> Reply:
    """Grades by what answers say: 9 for `good`, 3 for all else."""
    return Reply(verdict(body["messages"], lambda text: 9 if "good" in text else 3))


@pytest.fixture(scope="module")
def running() -> Iterator[OpenAIServer]:
    with pytest.MonkeyPatch.context() as patch, OpenAIServer() as server:
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield server


@pytest.fixture
def bill() -> Bill:
    return Bill()


@pytest.fixture
def server(running: OpenAIServer, bill: Bill, monkeypatch: pytest.MonkeyPatch) -> OpenAIServer:
    monkeypatch.setenv("ACME_KEY", KEY)
    running.answers = {
        "small": bill(says("so so")),
        "large": bill(says("good")),
        "judge": bill(judging),
    }
    running.requests.clear()
    return running


@pytest.fixture
def folder(server: OpenAIServer, tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    for id_, name in [("acme/small", "small"), ("bravo/large", "large"), ("carat/judge", "judge")]:
        text = DESCRIPTOR.format(
            id=id_, name=name, price=PRICES[name], url=server.url, disabled=name == "judge"
        )
        (folder / f"{name}.yaml").write_text(text, "utf-8")
    return folder


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    lines = [
        {
            "prompt": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": f"What is {n} + {n}?"},
            ],
            "task": "sums",
            "reference": str(2 * n),
        }
        for n in range(COUNT)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "scored.jsonl"


@pytest.fixture
def collect(run: Run, prompts: Path, folder: Path, out: Path) -> Run:
    """`crossroute collect` of the prompts and models of this file."""

    def call(*options: object) -> tuple[int, str, str]:
        given = options if "--budget-usd" in options else ("--budget-usd", 1, *options)
        given = given if "--score" in given else ("--judge", "carat/judge", *given)
        return run("collect", prompts, "--models", folder, "--out", out, *given)

    return call


def asked(server: OpenAIServer) -> Counter[str]:
    return Counter(request.body["model"] for request in server.requests)


def test_answers_are_asked_for_judged_and_written(
    collect: Run, server: OpenAIServer, out: Path, bill: Bill
) -> None:
    code, said, err = collect("--yes")
    assert code == 0, err
    assert f"{out}: 12 scored answers to 6 of 6 prompts; $0." in said
    assert asked(server) == {"small": 6, "large": 6, "judge": 6}
    data = RoutingData.load([out])
    assert data.models == ("acme/small", "bravo/large")
    assert data.score.mean(axis=0).tolist() == pytest.approx([0.3, 0.9])
    assert data.cost_usd.mean(axis=0).tolist() == pytest.approx([30e-6, 300e-6])
    assert set(data.task) == {"sums"}
    # The estimate stands before all: of each model, and of all.
    for shown in ("acme/small", "bravo/large", "carat/judge", "6 of 6 prompts", "at most"):
        assert shown in err
    assert json.loads(collect("--yes", "--json")[1])["spent_usd"] == pytest.approx(bill.usd)


def test_what_is_sent(collect: Run, server: OpenAIServer) -> None:
    assert collect("--yes", "--max-tokens", 777)[0] == 0
    for request in server.requests:
        body = request.body
        assert body["max_completion_tokens"] == 777
        if body["model"] == "judge":
            assert body["response_format"]["type"] == "json_schema"
            system, user = body["messages"]
            assert "acme" not in system["content"] + user["content"]
            assert re.search(r"<reference \w+>\n\d+\n</reference", user["content"])
        else:
            assert [m["role"] for m in body["messages"]] == ["system", "user"]
            assert "response_format" not in body


def test_the_judge_sees_the_answers_in_a_shuffled_order(
    collect: Run, server: OpenAIServer, out: Path
) -> None:
    def orders() -> list[tuple[str, ...]]:
        shown = [
            r.body["messages"][1]["content"] for r in server.requests if r.body["model"] == "judge"
        ]
        found = [re.findall(r"<answer \w+ \w+>\n(.*)\n</answer", text) for text in shown]
        return sorted(
            (text.split("What is ")[1][:1], *one) for text, one in zip(shown, found, strict=True)
        )

    assert collect("--yes")[0] == 0
    first = orders()
    assert {one[1:] for one in first} == {("good", "so so"), ("so so", "good")}
    seen = [first]
    for seed in (0, 1):
        out.unlink()
        out.with_suffix(".answers.jsonl").unlink()
        server.requests.clear()
        assert collect("--yes", "--seed", seed)[0] == 0
        seen.append(orders())
    assert seen[0] == seen[1] != seen[2]


def test_the_server_bills_no_more_than_the_budget(
    collect: Run, server: OpenAIServer, bill: Bill, out: Path
) -> None:
    # Every answer is as long as it may be.
    def longest(text: str) -> Answer:
        return bill(lambda body: Reply(text, output_tokens=body["max_completion_tokens"]))

    server.answers |= {"small": longest("so so"), "large": longest("good")}
    budget = 0.032
    code, _, err = collect("--yes", "--budget-usd", budget, "--max-tokens", 1000)
    assert code == 0, err
    assert f"Stopped at the budget of ${budget}" in err
    assert 0 < bill.usd <= budget
    found = json.loads(collect("--yes", "--budget-usd", budget, "--max-tokens", 1000, "--json")[1])
    assert found["is_out_of_budget"] is True
    assert found["spent_usd"] == pytest.approx(bill.usd)
    assert 0 < found["scored_prompts"] < COUNT
    # A higher one goes on, and pays for nothing twice.
    code, _, err = collect("--yes", "--budget-usd", 1, "--max-tokens", 1000)
    assert code == 0, err
    assert asked(server) == {"small": 6, "large": 6, "judge": 6}
    assert len(RoutingData.load([out])) == COUNT


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ")
def test_after_ctrl_c_the_same_command_goes_on(
    collect: Run, server: OpenAIServer, bill: Bill, out: Path
) -> None:
    def stopping(body: dict[str, Any]) -> Reply:
        if asked(server)["large"] == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return Reply("good")

    server.answers["large"] = bill(stopping)
    code, _, err = collect("--yes", "--concurrency", 1)
    assert code == 130
    assert "Stopped. The same command goes on" in err
    assert len(out.read_text().splitlines()) == 3
    before = asked(server)
    server.answers["large"] = bill(says("good"))
    code, said, err = collect("--yes", "--concurrency", 1)
    assert code == 0, err
    assert "12 scored answers to 6 of 6 prompts" in said
    # The one that broke off is asked again, nothing else.
    assert asked(server) == {"small": 6, "large": 7, "judge": 6}
    assert before["large"] == 4


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ")
def test_after_a_kill_the_same_command_goes_on(
    collect: Run, server: OpenAIServer, bill: Bill, out: Path, prompts: Path, folder: Path
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def killing(body: dict[str, Any]) -> Reply:
        if asked(server)["judge"] == 3:
            started[0].kill()
        return judging(body)

    server.answers["judge"] = bill(killing)
    options = ("--judge", "carat/judge", "--budget-usd", 1, "--yes", "--concurrency", 1)
    given = ("collect", prompts, "--models", folder, "--out", out, *options)
    command = [sys.executable, "-c", "from crossroute.cli.app import main; main()"]
    started.append(subprocess.Popen([*command, *map(str, given)], stderr=subprocess.DEVNULL))
    assert started[0].wait(120) == -signal.SIGKILL
    assert len(out.read_text().splitlines()) == 2
    code, said, err = collect("--yes", "--concurrency", 1, "--json")
    assert code == 0, err
    # The verdict under way is asked for again, and counted as the most that it can have cost.
    assert asked(server) == {"small": 6, "large": 6, "judge": 7}
    found = json.loads(said)
    assert found["scored_answers"] == 12
    assert found["spent_usd"] > bill.usd
    assert len(RoutingData.load([out])) == COUNT


def test_as_many_calls_at_once_as_are_allowed(
    collect: Run, server: OpenAIServer, bill: Bill
) -> None:
    # Each call waits for two others: three are always under way, and never four.
    bill.wait = threading.Barrier(3)
    assert collect("--yes", "--concurrency", 3)[0] == 0
    assert bill.most_at_once == 3


@pytest.mark.parametrize(("typed", "said"), [("", "give --yes to say yes"), ("n\n", "Aborted")])
def test_nothing_is_asked_before_somebody_says_yes(
    typed: str,
    said: str,
    collect: Run,
    server: OpenAIServer,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    code, _, err = collect()
    assert code == 1
    assert said in err
    assert not server.requests
    assert [*out.parent.glob("scored*")] == []


def test_a_server_without_schemas_is_asked_in_words(
    collect: Run, server: OpenAIServer, bill: Bill
) -> None:
    def words_only(body: dict[str, Any]) -> Reply:
        if "response_format" in body:
            return Reply("response_format is not supported", status=400)
        found = judging(body)
        return Reply(f"My verdict:\n```json\n{found.text}\n```")

    server.answers["judge"] = bill(words_only)
    code, said, err = collect("--yes", "--concurrency", 1)
    assert code == 0, err
    assert "12 scored answers" in said
    # It is tried once only.
    assert asked(server)["judge"] == COUNT + 1


def test_broken_verdicts_are_refused_and_told(
    collect: Run, server: OpenAIServer, bill: Bill, out: Path
) -> None:
    def broken(body: dict[str, Any]) -> Reply:
        if "What is 3 + 3" in body["messages"][1]["content"]:
            return Reply('{"A": {"reason": "", "grade": 70}, "B": {"reason": "", "grade": 1}}')
        return judging(body)

    server.answers["judge"] = bill(broken)
    code, said, err = collect("--yes")
    assert code == 1
    assert "10 scored answers to 5 of 6 prompts" in said
    assert "1 x carat/judge: the grade of A is 70, not one from 0 to 10" in err
    assert "the same command asks for them again" in err
    server.answers["judge"] = bill(judging)
    assert collect("--yes")[0] == 0
    assert asked(server) == {"small": 6, "large": 6, "judge": 5 + 3 + 1}
    assert len(RoutingData.load([out])) == COUNT


def test_failures_are_tried_again_and_told_without_keys(
    collect: Run, server: OpenAIServer, bill: Bill, out: Path
) -> None:
    failed = Counter[str]()

    def flaky(body: dict[str, Any]) -> Reply:
        prompt = body["messages"][-1]["content"]
        failed[prompt] += 1
        if failed[prompt] == 1 and "1 + 1" in prompt:
            return Reply("busy", status=500)
        if "2 + 2" in prompt:
            return Reply(f"the key {KEY} may not ask this", status=403)
        return Reply("so so")

    server.answers["small"] = bill(flaky)
    code, said, err = collect("--yes")
    assert code == 1
    # The client does not try again by itself; of a lasting error, nobody does.
    assert (failed["What is 1 + 1?"], failed["What is 2 + 2?"]) == (2, 1)
    assert "11 scored answers to 6 of 6 prompts" in said
    assert "1 x acme/small: " in err
    written = out.read_text() + out.with_suffix(".answers.jsonl").read_text()
    assert KEY not in err + said + written


def test_a_function_of_the_user_scores(
    collect: Run, server: OpenAIServer, out: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_scores_of_collect.py").write_text(
        "def good(prompt, answer, reference):\n"
        "    assert prompt[1]['content'].startswith('What is') and reference.isdigit()\n"
        "    return 0.75 if answer == 'good' else 2\n"
    )
    code, _, err = collect("--yes", "--score", "my_scores_of_collect:good")
    assert code == 1
    assert "my_scores_of_collect:good gave 2 for the answer to" in err
    code, _, err = collect("--yes", "--score", "my_scores_of_collect:good", "-m", "bravo/large")
    assert code == 1
    assert "was collected from acme/small, too" in err
    assert "judge" not in asked(server)


def test_references_and_checks_need_no_judge(
    collect: Run, server: OpenAIServer, bill: Bill, out: Path
) -> None:
    server.answers["large"] = bill(
        lambda body: Reply(str(2 * int(body["messages"][-1]["content"].split()[2])))
    )
    code, _, err = collect("--yes", "--score", "reference")
    assert code == 0, err
    assert asked(server) == {"small": 6, "large": 6}
    assert RoutingData.load([out]).score.mean(axis=0).tolist() == [0.0, 1.0]
    code, _, err = collect("--yes", "--score", "check")
    assert code == 1
    assert "6 of 6 prompts have no check" in err


def test_judges_are_found_by_id_provider_and_file(
    collect: Run, run: Run, server: OpenAIServer, folder: Path, prompts: Path, out: Path
) -> None:
    options = ("--models", folder, "--out", out, "--budget-usd", 1, "--yes")
    assert run("collect", prompts, *options, "--judge", "openai:judge")[0] == 0
    # It is the one of the folder: all is done already.
    code, _, err = run("collect", prompts, *options, "--judge", folder / "judge.yaml")
    assert code == 0, err
    assert "All 6 prompts are asked and scored." in err
    code, _, err = run("collect", prompts, *options, "--judge", "carat/jugde")
    assert code == 1
    assert "There is no judge 'carat/jugde'" in err


def test_a_judge_does_not_judge_its_own_vendor(
    collect: Run, run: Run, server: OpenAIServer, folder: Path, prompts: Path, out: Path
) -> None:
    options = ("--models", folder, "--out", out, "--budget-usd", 1, "--yes")
    code, _, err = run("collect", prompts, *options, "--judge", "acme/small")
    assert code == 1
    assert "No judge may judge acme/small: acme/small is of the same vendor" in err
    assert "--judge-own-vendor" in err
    assert not server.requests
    server.answers["small"] = judging_or("so so")
    server.answers["large"] = judging_or("good")
    code, _, err = run(
        "collect", prompts, *options, "--judge", "acme/small", "--judge", "bravo/large"
    )
    assert code == 0, err
    assert "not all models have the same judges" in err
    data = RoutingData.load([out])
    assert data.score.mean(axis=0).tolist() == pytest.approx([0.3, 0.9])


def judging_or(text: str) -> Answer:
    def answer(body: dict[str, Any]) -> Reply:
        return judging(body) if "response_format" in body else Reply(text)

    return answer


def test_a_model_that_cannot_be_asked_is_refused_before_anything_is_spent(
    collect: Run, server: OpenAIServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACME_KEY")
    code, _, err = collect("--yes")
    assert code == 1
    assert "its API key is taken from the environment variable ACME_KEY" in err
    path = folder / "small.yaml"
    path.write_text(path.read_text().replace("price:", "retired: 2020-01-01\nprice:"))
    assert ModelDescriptor.load(path).retired
    monkeypatch.setenv("ACME_KEY", KEY)
    code, _, err = collect("--yes", "-m", "acme/small", "-m", "bravo/large")
    assert code == 1
    assert "Model 'acme/small' cannot be asked: retired 2020-01-01" in err
    assert not server.requests


def test_the_shipped_pool_needs_names(run: Run, prompts: Path, out: Path) -> None:
    given = ("--judge", "gpt-5.5", "--budget-usd", 1, "--out", out)
    code, _, err = run("collect", prompts, *given)
    assert code == 1
    assert "Name the candidates with --model" in err
