"""The page of a plan: what is in it, and what never gets out of its data."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes_core import Run, make_rows, write_rows
from fakes_plan import as_log, made_plan

from crossroute.errors import DataError
from crossroute.traffic.goal import Goal
from crossroute.traffic.planning import Plan, Verdict, plan
from crossroute.traffic.report import page, write_report
from crossroute.traffic.report_content import EXAMPLES, MOST_ROWS, MOST_SETTINGS, MOST_TOPICS
from crossroute.traffic.wording import verdict

HOSTILE = "</script><img src=x onerror=\"document.title='pwned'\"><!-- {{style}} {{data}} \u202e"


def data_of(text: str) -> Any:  # noqa: ANN401
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1])


def hostile_rows(count: int = 120) -> list[dict[str, Any]]:
    return [
        {**row, "prompt": f"{HOSTILE} {row['prompt']}", "task": HOSTILE[:90]}
        for row in make_rows(count)
    ]


def figures(found: Plan) -> tuple[Any, Any]:
    assert found.evidence is not None
    content = data_of(page(found))
    return content, content["curve"]


@pytest.mark.parametrize("kind", ["route", "fixed", "more data"])
def test_the_verdict_is_on_top_whatever_it_is(kind: Verdict) -> None:
    found = made_plan(kind)
    text = page(found).replace("&nbsp;", " ")
    headline, _, rest = verdict(found).partition(". ")
    assert f"<h1>{headline}.</h1>" in text
    assert f'<p class="lead">{rest}</p>' in text
    assert text.index("<h1>") < text.index('id="slider"') < text.index("What this rests on")


def test_too_few_prompts_are_a_page_of_sentences() -> None:
    text = page(plan(make_rows(10), baseline="sage"))
    assert "10 prompts can be compared, which is too few" in text
    assert "<svg" not in text
    assert data_of(text) is None


def test_each_setting_has_the_figures_that_the_plan_has() -> None:
    found = made_plan()
    content, curve = figures(found)
    assert curve["start"] == curve["recommended"]
    place = curve["start"]
    assert curve["willingness"][place] == pytest.approx(found.willingness_to_pay, rel=1e-5)
    assert curve["saving"][place] == pytest.approx(found.saving, rel=1e-5)
    assert curve["loss"][place] == pytest.approx(found.loss, rel=1e-5)
    assert curve["quality"][place] == pytest.approx(found.quality, rel=1e-5)
    cost, base = found.costs()
    assert curve["cost"][place] == pytest.approx(cost, rel=1e-5)
    assert content["base"]["cost"] == pytest.approx(base, rel=1e-5)
    shares = {content["models"][model]: share for model, share in curve["shares"][place]}
    assert shares == pytest.approx(found.shares())
    assert curve["willingness"] == sorted(curve["willingness"])


def test_kinds_of_change_add_up_to_what_is_lost() -> None:
    _, curve = figures(made_plan())
    kinds = {name: np.array(shares) for name, shares in curve["kinds"].items()}
    assert sum(kinds.values()) == pytest.approx(np.ones(len(curve["loss"])))
    # The scores are 0 or 1.
    assert kinds["worse"] - kinds["better"] == pytest.approx(np.array(curve["loss"]), abs=1e-5)
    assert kinds["worse"].max() > 0


def test_topics_add_up_to_the_whole() -> None:
    rows = [{**row, "task": f"kind {i % 40}"} for i, row in enumerate(make_rows(400))]
    content, curve = figures(made_plan(rows=rows))
    topics = content["topics"]
    assert len(topics) == MOST_TOPICS
    assert topics[-1]["topic"] == "(other topics)"
    prompts = np.array([topic["prompts"] for topic in topics])
    loss = np.array([topic["loss"] for topic in topics])
    assert prompts @ loss / prompts.sum() == pytest.approx(np.array(curve["loss"]), abs=1e-4)


def test_examples_are_what_they_are_called_at_every_setting() -> None:
    content, curve = figures(made_plan())
    base = str(content["baseline"])
    for place in range(len(curve["loss"])):
        shown = dict.fromkeys(curve["kinds"], 0)
        for example in content["examples"]:
            model, kind = [x[1:] for x in example["asked"] if x[0] <= place][-1]
            (score, cost), (before, paid) = example["answers"][str(model)], example["answers"][base]
            expected = {
                "same": str(model) == base,
                "worse": score < before,
                "better": score > before,
                "cheaper": score == before and cost < paid,
                "dearer": score == before and cost >= paid,
            }
            assert expected[kind]
            shown[kind] += 1
        for kind in ("cheaper", "worse", "better"):
            existing = round(curve["kinds"][kind][place] * 100)
            assert shown[kind] >= min(EXAMPLES, existing)


def test_the_diagram_counts_every_answer() -> None:
    content, _ = figures(made_plan())
    assert sum(content["reliability"]["counts"]) == content["reliability"]["answers"] == 300


def test_a_log_has_no_examples() -> None:
    content, curve = figures(as_log(made_plan()))
    assert content["examples"] is None
    assert content["reliability"]["answers"] == 100
    assert curve["loss"] == figures(made_plan())[1]["loss"]


def test_without_a_router_there_are_the_single_models() -> None:
    found = made_plan("fixed")
    assert found.evidence is not None
    evidence = found.evidence._replace(
        families=found.evidence.families[:1], choice=found.evidence.choice._replace(routing=None)
    )
    content = data_of(page(replace(found, evidence=evidence)))
    assert content["curve"] is None
    assert len(content["singles"]) == 3


def test_a_model_with_few_answers_is_placed_beside_the_baseline() -> None:
    # It answered the easy prompts alone, as well as the baseline, at half of its price.
    rows = make_rows(400)
    for row in rows:
        outputs = row["outputs"]
        assert isinstance(outputs, dict)
        if outputs["sage"]["score"] == 1.0 and "*" in str(row["prompt"]):
            half = outputs["sage"]["cost_usd"] / 2
            outputs["twin"] = {"score": 1.0, "cost_usd": half}
    content, _ = figures(made_plan(rows=rows))
    twin = next(one for one in content["singles"] if content["models"][one["model"]] == "twin")
    assert twin["loss"] == pytest.approx(0)
    assert twin["quality"] == pytest.approx(content["base"]["quality"], rel=1e-5)
    assert twin["cost"] == pytest.approx(content["base"]["cost"] / 2, rel=1e-5)


def test_prompts_of_strangers_stay_data() -> None:
    found = made_plan(rows=hostile_rows())
    text = page(found)
    assert text.count("</script>") == 2
    assert "<img" not in text
    content = data_of(text)
    assert content["examples"][0]["text"].startswith("</script><img src=x onerror=")
    assert "{{style}} {{data}}" in content["examples"][0]["text"]


def test_half_a_character_is_no_reason_to_fail() -> None:
    rows = [
        {**row, "prompt": [{"role": "user", "content": f"\ud800 {row['prompt']}"}]}
        for row in make_rows(120)
    ]
    assert page(made_plan(rows=rows)).encode()


def test_the_policy_knows_its_own_script_and_style_alone() -> None:
    text = page(made_plan())
    for kind, tag in (("script", "script"), ("style", "style")):
        inline = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert len(inline) == 1
        digest = base64.b64encode(hashlib.sha256(inline[0].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in text
    assert "default-src 'none'" in text
    assert "unsafe" not in text
    addresses = set(re.findall(r"https?://[^\"'\s]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}  # The name of SVG, which nobody asks for.


def test_the_page_is_small_however_much_it_rests_on() -> None:
    rows = [
        {
            **row,
            "prompt": f"{'words and words ' * 200} {row['prompt']}",
            "task": f"{'t' * 80} {i % 700}",
        }
        for i, row in enumerate(make_rows(3_000))
    ]
    text = page(made_plan(rows=rows))
    content = data_of(text)
    assert len(text.encode()) < 2_000_000
    assert len(content["examples"]) <= MOST_ROWS
    assert len(content["curve"]["willingness"]) <= MOST_SETTINGS
    assert max(len(example["text"]) for example in content["examples"]) < 310


def test_prompts_that_begin_alike_are_told_apart_by_their_ends() -> None:
    start = "The same long instructions for everybody. " * 20
    rows = [{**row, "prompt": f"{start}{row['prompt']}"} for row in make_rows(120)]
    content, _ = figures(made_plan(rows=rows))
    texts = [example["text"] for example in content["examples"]]
    assert len(set(texts)) == len(texts) > 1


def test_a_question_is_shown_without_what_comes_before_it() -> None:
    rows = [
        {
            **row,
            "prompt": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": row["prompt"]},
            ],
        }
        for row in make_rows(120)
    ]
    content, _ = figures(made_plan(rows=rows))
    assert all(not example["text"].startswith("Be brief.") for example in content["examples"])


def test_what_is_promised_is_said_with_its_interval() -> None:
    found = made_plan(goal=Goal(max_loss=0.2, confidence=0.9, shares={"poet": 0.6}))
    text = page(found).replace("&nbsp;", " ")
    assert f"it is at most {found.loss_high:.3f} below it" in text
    assert "at most 10 % of the plans would lose more" in text
    assert "poet 60 %" in text
    assert "Nothing is promised" not in text
    assert "Nothing is promised" in page(made_plan("more data"))


def test_a_page_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"The report .*missing.*cannot be written"):
        write_report(made_plan(), tmp_path / "missing" / "report.html")


def test_the_command_writes_it(run: Run, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "few.jsonl", make_rows(20))
    target = tmp_path / "report.html"
    code, out, err = run("plan", rows, "--out", target)
    assert code == 0, err
    assert f"Written: {target}" in out
    assert "too few" in target.read_text("utf-8")
