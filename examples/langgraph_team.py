"""A small team on LangGraph, with routed models and budgeted context, and without. No key.

    python examples/langgraph_team.py

A planner says what to look up, workers look it up, a reviewer writes the answer; what they know is
in a `SharedMemory`. Five runs over the same questions: with one dear model or with a router, and
with all of the memory or as much of it as a budget for each role allows. All of it is traced, and
the traces are ranked. The models' server is simulated: a worker finds a note if, and only if, it is
in what it was sent, and every model can do that. So tokens, USD and which answers were lost are
what such a team would have; that the cheap model answers as well as the dear one is taken for
granted here, not shown.
"""

import operator
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig
from langchain_openai import ChatOpenAI
from langgraph.config import get_config
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Send
from openai_server import OpenAIServer, Reply
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from crossroute.context import SharedMemory, count_tokens
from crossroute.traces.export import Selection, export
from crossroute.traces.rank import rank
from crossroute.traffic.records import read_records
from langchain_crossroute import ChatCrossRoute, CrossRouteRecorder

DEAR, CHEAP = MODELS = ("gpt-5.5", "gemini-3.1-flash-lite")

WILLINGNESS_TO_PAY = {"planner": 0.01, "worker": 0.01, "reviewer": 0.5}
"""USD a unit of quality: what the reviewer writes is what the user reads."""

PROMPTS = {
    "planner": "You plan. Say which facts are to be looked up next, a question a line, or DONE.",
    "worker": "You look up one fact in the notes. Quote the note that has it, or say UNKNOWN.",
    "reviewer": "You review. Write the answer from what was found, or say that a fact is missing.",
}
BUDGETS = {"planner": 120, "worker": 160, "reviewer": 120}
"""Tokens of the memory that each role gets, where there are budgets."""

SMALL_BUDGETS = {"planner": 80, "worker": 40, "reviewer": 50}
"""Too few: here facts are lost."""

STAGES = {
    "planner": {"plan": 0.5, "finding": 1.0},
    "worker": {"note": 1.0},
    "reviewer": {"finding": 1.0},
}
"""What the stages of the memory are worth to each role."""


class Case(NamedTuple):
    """A question, what has to be looked up for it, step by step, and its answer."""

    question: str
    steps: tuple[tuple[tuple[str, str], ...], ...]
    answer: str


CASES = (
    Case(
        "When is the bill of the firm due that mended the roof?",
        (
            (("Which firm mended the roof?", "The roof was mended by Brandt & Sons in March."),),
            (("When is the bill of Brandt & Sons due?", "Brandt & Sons: bill 88, due 14 May."),),
        ),
        "It is due on 14 May.",
    ),
    Case(
        "Is the boiler or the lift inspected first?",
        (
            (
                ("When is the boiler inspected?", "The boiler is inspected on 3 September."),
                ("When is the lift inspected?", "The lift is inspected on 21 August by Veritas."),
            ),
        ),
        "The lift, on 21 August.",
    ),
    Case(
        "Whom does the tenant of flat 7 call when the heating fails?",
        (
            (("Who rents flat 7?", "Flat 7 is rented by Mrs Okafor since 2021."),),
            (
                (
                    "What was agreed with Mrs Okafor?",
                    "Mrs Okafor has the emergency line of Kessler.",
                ),
            ),
        ),
        "Kessler's emergency line.",
    ),
    Case(
        "How much did the two storms cost together?",
        (
            (
                ("What did the storm in January cost?", "The storm in January cost 1,900 EUR."),
                ("What did the storm in April cost?", "The storm in April cost 640 EUR."),
            ),
        ),
        "2,540 EUR.",
    ),
    Case(
        "Does the firm that cleans the stairs have a key to the cellar?",
        (
            (("Which firm cleans the stairs?", "The stairs are cleaned by Lindqvist on Mondays."),),
            (
                (
                    "Which keys does Lindqvist have?",
                    "Lindqvist has keys to the yard, not the cellar.",
                ),
            ),
        ),
        "No, only to the yard.",
    ),
)

LOOKUPS = tuple(lookup for case in CASES for step in case.steps for lookup in step)

OTHER_NOTES = tuple(
    f"{place} {what} in {month}, as {who} wrote; nothing had to be done."
    for place, month in (
        ("Flat 1", "May"),
        ("Flat 2", "June"),
        ("Flat 3", "July"),
        ("The yard", "August"),
        ("The attic", "October"),
        ("The garage", "November"),
    )
    for what, who in (
        ("had its windows cleaned", "the caretaker"),
        ("was painted in a light grey", "the owner"),
        ("had a visit of the chimney sweep", "the office"),
        ("was measured for new blinds", "the caretaker"),
        ("had its meters read", "the utility"),
        ("was shown to a photographer", "the office"),
    )
)


class State(TypedDict):
    """What the nodes hand on: the question, what is to be looked up, all answers of models."""

    question: str
    lookups: list[str]
    said: Annotated[list[AIMessage], operator.add]


class Lookup(TypedDict):
    """What one worker gets."""

    lookup: str


def simulated(body: dict[str, Any]) -> Reply:
    """What a model says, by its role and by what it was sent; its tokens are counted."""
    system, text = (str(message["content"]) for message in body["messages"])
    said = _said(system, text)
    return Reply(
        said,
        input_tokens=count_tokens(system) + count_tokens(text),
        output_tokens=count_tokens(said),
    )


def _said(system: str, text: str) -> str:
    memory, _, asked = text.rpartition("\n\n")
    found = [line for line in memory.splitlines() if line.startswith("worker (finding):")]
    if system == PROMPTS["worker"]:
        note = next(
            note for case in CASES for step in case.steps for look, note in step if look == asked
        )
        return note if note in memory else "UNKNOWN"
    (case,) = (one for one in CASES if one.question == asked)
    missing = [
        [look for look, note in step if not any(note in line for line in found)]
        for step in case.steps
    ]
    if system == PROMPTS["planner"]:
        is_hopeless = any("UNKNOWN" in line for line in found)
        return "\n".join(next((step for step in missing if step and not is_hopeless), ["DONE"]))
    return "A fact is missing." if any(missing) else case.answer


def team(
    chat: ChatCrossRoute, memory: SharedMemory, budgets: Mapping[str, int] | None
) -> CompiledStateGraph[State, None, State, State]:
    """The graph: planner, workers at once, planner again, and in the end the reviewer."""

    def ask(role: str, question: str) -> AIMessage:
        settings: dict[str, Any] = {}
        if budgets is not None:
            settings = {"budget_tokens": budgets[role], "stage": STAGES[role]}
        known = "\n".join(item.text for item in memory.items(question=question, **settings))
        messages = [SystemMessage(PROMPTS[role]), HumanMessage(f"{known}\n\n{question}")]
        return chat.invoke(messages, _in_role(role))

    def planner(state: State) -> dict[str, Any]:
        plan = ask("planner", state["question"])
        memory.add(plan.text, author="planner", stage="plan")
        lookups = [] if plan.text == "DONE" else plan.text.splitlines()
        return {"lookups": lookups, "said": [plan]}

    def worker(task: Lookup) -> dict[str, Any]:
        finding = ask("worker", task["lookup"])
        memory.add(finding.text, author="worker", stage="finding")
        return {"said": [finding]}

    def reviewer(state: State) -> dict[str, Any]:
        return {"said": [ask("reviewer", state["question"])]}

    def next_of(state: State) -> list[Send] | str:
        return [Send("worker", {"lookup": one}) for one in state["lookups"]] or "reviewer"

    graph = StateGraph(State)
    graph.add_node("planner", planner)
    graph.add_node("worker", worker)
    graph.add_node("reviewer", reviewer)
    graph.add_edge(START, "planner")
    graph.add_conditional_edges("planner", next_of, ["worker", "reviewer"])
    graph.add_edge("worker", "planner")
    graph.add_edge("reviewer", END)
    return graph.compile()


def _in_role(role: str) -> RunnableConfig:
    """The config of a call in a node: that of the node, at what the role is worth."""
    config = get_config()
    configurable = {**config["configurable"], "willingness_to_pay": WILLINGNESS_TO_PAY[role]}
    return {**config, "configurable": configurable}


class Run(NamedTuple):
    """What answering all questions came to."""

    calls: Counter[str]
    input_tokens: int
    output_tokens: int
    usd: float
    right: int


def run(
    chat: ChatCrossRoute,
    budgets: Mapping[str, int] | None,
    config: RunnableConfig,
    recorder: CrossRouteRecorder,
) -> Run:
    """Answer all questions, and tell the recorder which answers were right."""
    said: list[AIMessage] = []
    right = 0
    for case in CASES:
        memory = SharedMemory()
        for note in _notes():
            memory.add(note, author="archive", stage="note")
        graph = team(chat, memory, budgets)
        state = graph.invoke({"question": case.question, "lookups": [], "said": []}, config)
        is_right = state["said"][-1].text == case.answer
        right += is_right
        for message in state["said"]:
            recorder.feedback(message.response_metadata["crossroute"]["call_id"], float(is_right))
        said += state["said"]
    bills = [ask for one in said for ask in one.response_metadata["crossroute"]["bill"]["asks"]]
    return Run(
        Counter(one["model"] for one in bills),
        sum(one["input_tokens"] for one in bills),
        sum(one["output_tokens"] for one in bills),
        sum(one["cost_usd"] for one in bills),
        right,
    )


def _notes() -> Iterator[str]:
    """All notes, those that are needed among the others."""
    needed = [note for _, note in LOOKUPS]
    for place, note in enumerate(OTHER_NOTES):
        yield note
        if place % 3 == 0 and needed:
            yield needed.pop()
    yield from needed


RUNS = (
    (DEAR, "all of it", None),
    (DEAR, "budgets", BUDGETS),
    (None, "all of it", None),
    (None, "budgets", BUDGETS),
    (None, "small budgets", SMALL_BUDGETS),
)
"""The model that always answers, or None; what is kept of the memory."""


def main() -> None:
    table = Table("models", "memory")
    for column in (*MODELS, "input tokens", "output tokens", "USD", "right"):
        table.add_column(column, justify="right")
    with (
        tempfile.TemporaryDirectory() as folder,
        OpenAIServer(dict.fromkeys(MODELS, simulated)) as server,
    ):
        models = {
            model: ChatOpenAI(model=model, base_url=server.url, api_key=SecretStr("none"))
            for model in MODELS
        }
        chat = ChatCrossRoute(models=models)
        recorder = CrossRouteRecorder(Path(folder) / "records.jsonl", traces=True)
        for forced, kept, budgets in RUNS:
            config: RunnableConfig = {
                "callbacks": [recorder],
                "configurable": {"crossroute_model": forced},
                # One worker after the other, so that each run is the same.
                "max_concurrency": 1,
            }
            found = run(chat, budgets, config, recorder)
            table.add_row(
                "routed" if forced is None else f"always {forced}",
                kept,
                *(f"{found.calls[model]} calls" for model in MODELS),
                f"{found.input_tokens:,}",
                f"{found.output_tokens:,}",
                f"{found.usd:.4f}",
                f"{found.right} of {len(CASES)}",
            )
        ranking = rank(read_records(recorder.path))
    lessons = export(ranking, Selection(format="sft")).rows
    print("One team, the same questions; the answers are simulated, prices and routing are real.")
    Console(width=130).print(table)
    print(
        f"{len(ranking.traces)} traces, with rewards from {ranking.traces[-1].reward:.2f} to "
        f"{ranking.traces[0].reward:.2f}: {len(lessons)} lessons to train a small model with, as "
        "`crossroute traces export` writes them."
    )


if __name__ == "__main__":
    main()
