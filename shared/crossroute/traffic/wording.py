"""A plan in words: the verdict in two sentences, and what else to know."""

from __future__ import annotations

from crossroute.decision import usd
from crossroute.traffic.planning import Plan

LOPSIDED = 0.99
"""Share of the calls from which on one model is said to get everything."""


def verdict(plan: Plan) -> str:
    """The verdict in two sentences."""
    goal, figures = plan.goal, plan.figures
    sure = f"{100 * goal.confidence:g} % confidence"
    kept = f"{100 * goal.kept:g} % of " if goal.kept < 1 else ""
    most = f"at most {goal.max_loss:g} below {kept}that of {plan.baseline}"
    if plan.evidence is None:
        return (
            f"{plan.prompts} prompts can be compared, which is too few: give the scored answers of "
            f"two models or more to each of at least {plan.prompts + (plan.rows_needed or 0)} "
            "prompts. A log with one answer a prompt says nothing of what another model would have "
            "answered: collect its answers (crossroute collect), or record with explore= set."
        )
    if plan.passed_is_baseline:
        return (
            f"Use {plan.baseline} for all prompts: the budget affords it. Nothing else was shown, "
            f"with {sure}, to be within the budget and have a mean score {most}, and to score more."
        )
    other = "nothing cheaper was" if goal.usd_a_prompt is None else "nothing within the budget was"
    if goal.shares:
        other = f"{other.removesuffix(' was')} within the shares was"
    if plan.verdict == "more data":
        return (
            f"Stay with {plan.baseline} for now: on {plan.prompts:,} prompts {other} "
            f"shown, with {sure}, to have a mean score {most}. About {plan.rows_needed:,} more "
            "prompts with the scored answers of all models would tell."
        )
    if plan.verdict == "fixed" and plan.model == plan.baseline:
        return (
            f"Stay with {plan.baseline} for all prompts: {other} shown, with {sure}, "
            f"to have a mean score {most}. Nor does it seem that a few times as many prompts would "
            "show it."
        )
    how = (
        f"Use {plan.model} for all prompts"
        if plan.willingness_to_pay is None
        else f"Route{' among single models and strategies' if plan.panels.panels else ''} at a "
        f"willingness to pay of {usd(plan.willingness_to_pay)} a unit of quality"
    )
    return (
        f"{how}: that saves {_percent(figures.saving)} of the cost of {plan.baseline} "
        f"({_percent(figures.saving_low)} to {_percent(figures.saving_high)} on as many fresh "
        f"prompts). With {sure} its mean score is {most}; it was {_lost(figures.loss)} on "
        f"{plan.calibration:,} prompts from which nothing was learned."
    )


def meaning(plan: Plan) -> str:
    """What the name of a strategy means, by one that gets prompts; empty where none does."""
    if plan.evidence is None:
        return ""
    shares = plan.shares()
    arm = next((arm for arm in plan.evidence.problem.arms if arm.name in shares), None)
    if arm is None:
        return ""
    first, *others = arm.models
    then = ", then ".join(others)
    return (
        f"\u201c{arm.name}\u201d is a strategy: {first} is asked first, then {then}, "
        f"until an answer is right with a probability of {arm.until:g}, by who gave it and who "
        "gave another one. Whoever is not needed is not asked. The answer that is likeliest to be "
        "right is given, and all that were asked are paid."
    )


def warnings(plan: Plan) -> list[str]:
    """What to look at before the plan is followed."""
    found = []
    shares = plan.shares()
    model, share = max(shares.items(), key=lambda one: one[1], default=("", 0.0))
    is_model = plan.evidence is not None and model in plan.evidence.data.models
    if plan.verdict == "route" and is_model and share >= LOPSIDED:
        found.append(
            f"{model} gets {_percent(share)} of the calls at this willingness to pay: asking it "
            "for all prompts would be about the same, and simpler."
        )
    found += _broken(plan)
    today = sorted(plan.retired)
    if today:
        found.append(
            f"{', '.join(today)} can no longer be called, by their descriptors: what the answers "
            "in the rows say of them is of no use any more."
        )
    return found + list(plan.notes)


def _broken(plan: Plan) -> list[str]:
    """What the goal asks for and the plan does not keep: where nothing passed, the baseline."""
    if plan.evidence is None:
        return []
    goal, (cost, _) = plan.goal, plan.costs()
    broken = []
    if goal.usd_a_prompt is not None and cost > goal.usd_a_prompt:
        broken.append(
            f"The budget is not kept: a prompt costs {usd(cost)} in the mean, of the "
            f"{usd(goal.usd_a_prompt)} that it may. Allow a larger loss, or another baseline."
        )
    shares = plan.shares()
    broken += [
        f"{model} gets {_percent(shares[model])} of the calls, of the {_percent(most)} that it "
        "may. Allow a larger loss, or another baseline."
        for model, most in goal.shares.items()
        if shares.get(model, 0.0) > most
    ]
    return broken


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _lost(loss: float) -> str:
    return f"{abs(loss):.3f} {'below' if loss >= 0 else 'above'}"
