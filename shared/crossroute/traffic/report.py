"""A plan as one page to look at: a single HTML file that asks no network for anything.

What is in it: the verdict, and where there is something to compare, a curve with a slider of the
willingness to pay (`crossroute.traffic.report_content` has its figures). Its policy lets run its
own script and style alone, known by their hashes, and lets nothing be loaded or sent. It shows
excerpts of prompts.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import html
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from crossroute.errors import DataError
from crossroute.files import replace_file
from crossroute.traffic.planning import Plan
from crossroute.traffic.report_content import content
from crossroute.traffic.wording import meaning, verdict, warnings

ASSETS = files("crossroute") / "assets"


def write_report(plan: Plan, path: str | Path, calls_per_month: int | None = None) -> None:
    """Write the page of a plan; an old one is replaced whole.

    Args:
        plan: What it shows.
        path: Of the HTML file.
        calls_per_month: For sums a month.

    Raises:
        DataError: If the file cannot be written.
    """
    text = page(plan, calls_per_month)
    try:
        replace_file(Path(path), text)
    except (OSError, ValueError) as error:
        raise DataError(f"The report {path} cannot be written: {error}") from error


def page(plan: Plan, calls_per_month: int | None = None) -> str:
    """The page of a plan as HTML."""
    style, script, figures, data = _asset("report.css"), "", "", "null"
    if plan.evidence is not None:
        script, figures = _asset("report.js"), _asset("report_figures.html")
        found = content(plan, plan.evidence, calls_per_month)
        data = json.dumps(found, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    headline, rest = _sentences(verdict(plan))
    today = datetime.date.today()
    return _filled(
        _asset("report.html"),
        {
            "title": html.escape(f"CrossRoute plan: {headline}"),
            "date": f"{today.day} {today:%B %Y}",
            "headline": _escaped(headline),
            "rest": _escaped(rest),
            "warnings": _warnings(warnings(plan)),
            "figures": figures,
            "basis": _basis(plan),
            # Neither an end tag nor a comment begins within it.
            "data": data.replace("<", "\\u003c"),
            "style": style,
            "style-hash": _hash(style),
            "script": script,
            "script-hash": _hash(script),
        },
    )


def _asset(name: str) -> str:
    return (ASSETS / name).read_text("utf-8")


def _filled(template: str, values: Mapping[str, str]) -> str:
    # In one go: what is filled in may look like a place to fill.
    return re.sub(r"\{\{([a-z-]+)\}\}", lambda found: values[found[1]], template)


def _escaped(text: str) -> str:
    # A number and its sign stay on one line.
    return html.escape(text).replace(" %", "&nbsp;%")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _sentences(text: str) -> tuple[str, str]:
    """The first sentence, which is the headline, and the rest."""
    first, dot, rest = text.partition(". ")
    return f"{first}." if dot else first, rest


def _warnings(lines: list[str]) -> str:
    items = "".join(f"<li>{_escaped(line)}</li>\n" for line in lines)
    return f'<ul class="warnings" aria-label="Warnings">\n{items}</ul>' if items else ""


def _basis(plan: Plan) -> str:
    """What the page rests on, and what its intervals mean."""
    goal = plan.goal
    kept = f"{100 * goal.kept:g} % of " if goal.kept < 1 else ""
    facts = {
        "Prompts compared": f"{plan.prompts:,}",
        "Learned from": f"{plan.prompts - plan.calibration:,}",
        "Measured on": f"{plan.calibration:,}, from which nothing was learned",
        "Goal": f"a mean score at most {goal.max_loss:g} below {kept}that of {plan.baseline}",
        "Confidence": f"{100 * goal.confidence:g} %",
    }
    if goal.usd_a_prompt is not None:
        facts["Budget"] = f"${goal.usd_a_prompt:.6g} a prompt"
    if goal.shares:
        facts["Shares at most"] = ", ".join(f"{m} {100 * s:g} %" for m, s in goal.shares.items())
    if plan.evidence is None:
        facts = {"Prompts that can be compared": f"{plan.prompts:,}"}
    rows = "\n".join(f"<dt>{name}</dt><dd>{_escaped(value)}</dd>" for name, value in facts.items())
    said = "" if plan.evidence is None else _meaning(plan)
    return f"<h2>What this rests on</h2>\n<dl>\n{rows}\n</dl>\n{said}"


def _meaning(plan: Plan) -> str:
    figures, sure = plan.figures, f"{100 * plan.goal.confidence:g} %"
    parts, promise = [], "Nothing is promised here."
    if plan.verdict != "more data" and plan.model != plan.baseline:
        promise = "The promise is of what is recommended alone."
        parts = [
            (
                "The loss",
                f"On the prompts measured, the mean score was {abs(figures.loss):.3f} "
                f"{'below' if figures.loss >= 0 else 'above'} the baseline's. With {sure} "
                f"confidence it is at most {max(figures.loss_high, 0):.3f} below it on prompts "
                "like these: were the whole plan made many times over with other prompts of the "
                f"same kind, at most {100 * plan.goal.error:.3g} % of the plans would lose more "
                "than the goal allows.",
            ),
            (
                "The saving",
                f"The saving was {100 * figures.saving:.0f} % of the baseline's cost. On as many "
                f"fresh prompts of the same kind it will be between {100 * figures.saving_low:.0f} "
                f"% and {100 * figures.saving_high:.0f} %, {sure} of the time.",
            ),
        ]
    if said := meaning(plan):
        parts.append(("The strategies", said))
    parts += [
        (
            "The other settings",
            f"{promise} What the slider shows elsewhere is what came out on the prompts measured: "
            "the best of many looks better than it is.",
        ),
        (
            "What no interval holds",
            "Other traffic than these prompts, new prices, or a model that its vendor changes. "
            "Watch what happens with crossroute monitor, and plan again.",
        ),
        ("Who may see this", "This file holds excerpts of the prompts."),
    ]
    return "\n".join(f"<h3>{name}</h3>\n<p>{_escaped(text)}</p>" for name, text in parts)
