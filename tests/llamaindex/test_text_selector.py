"""CrossRouteTextSelector: of engines over different data, the one that a question is about."""

import asyncio
import doctest
import json
import math
import re
import runpy
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import CustomQueryEngine, RouterQueryEngine
from llama_index.core.retrievers import BaseRetriever, RouterRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.core.selectors import EmbeddingSingleSelector
from llama_index.core.tools import QueryEngineTool, RetrieverTool, ToolMetadata
from llama_index.core.workflow import Context, StartEvent, StopEvent, Workflow, step
from numpy.typing import NDArray

import llamaindex_crossroute.text_selector
from crossroute import PoolError, StaticEncoder
from llamaindex_crossroute import CrossRouteTextSelector, CrossRouteTextSelectorResult

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "llamaindex" / "selector.md").read_text("utf-8")
BENCHMARK: Any = runpy.run_path(str(ROOT / "benchmarks" / "selector.py"))
DESCRIPTIONS = {
    "leave": "Holidays, sick leave, parental leave and how to ask for time off.",
    "payroll": "Salaries, payslips, bonuses, taxes and expense claims.",
    "training": "Courses, certificates, mentoring and the budget for learning.",
}
TOOLS = [ToolMetadata(description, name) for name, description in DESCRIPTIONS.items()]
QUESTIONS = {
    "How many days of holiday are left?": "leave",
    "Why is my salary taxed so high?": "payroll",
    "Which courses lead to a certificate?": "training",
}


class Engine(CustomQueryEngine):
    """Answers with its name."""

    name: str

    def custom_query(self, query_str: str) -> str:
        return f"{self.name} answers"


class Retriever(BaseRetriever):
    """Retrieves one node with its name as text."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [NodeWithScore(node=TextNode(text=self.name), score=1.0)]


class Letters:
    """An encoder of one's own: how often each letter is in a text. It counts what it encodes."""

    name = "letters"
    dimension = 26

    def __init__(self) -> None:
        self.encoded: list[str] = []
        self.loop_is_free: threading.Event | None = None

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if self.loop_is_free is not None:
            assert self.loop_is_free.wait(timeout=5)
        self.encoded += texts
        counts = [[text.lower().count(chr(97 + i)) for i in range(26)] for text in texts]
        vectors = np.array(counts, np.float32)
        return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1), 1)[:, None])


# In LlamaIndex


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("question", QUESTIONS)
async def test_the_engine_that_the_question_is_about_answers(question: str, mode: str) -> None:
    tools = [QueryEngineTool(Engine(name=str(tool.name)), tool) for tool in TOOLS]
    engine = RouterQueryEngine(CrossRouteTextSelector(), tools, llm=MockLLM())
    response = engine.query(question) if mode == "sync" else await engine.aquery(question)
    assert str(response) == f"{QUESTIONS[question]} answers"
    result = response.metadata["selector_result"]
    assert isinstance(result, CrossRouteTextSelectorResult)
    assert result.inds == [list(DESCRIPTIONS).index(QUESTIONS[question])]
    assert sum(result.attention) == pytest.approx(1)


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("question", QUESTIONS)
async def test_the_retriever_that_the_question_is_about_retrieves(question: str, mode: str) -> None:
    tools = [RetrieverTool(Retriever(str(tool.name)), tool) for tool in TOOLS]
    router = RouterRetriever(CrossRouteTextSelector(), tools, llm=MockLLM())
    nodes = router.retrieve(question) if mode == "sync" else await router.aretrieve(question)
    assert [node.text for node in nodes] == [QUESTIONS[question]]


async def test_a_step_of_a_workflow() -> None:
    class Desk(Workflow):
        @step
        async def choose(self, ctx: Context, ev: StartEvent) -> StopEvent:
            result = await CrossRouteTextSelector().aselect(TOOLS, ev.question)
            return StopEvent(result=TOOLS[result.ind].name)

    for question, name in QUESTIONS.items():
        assert await Desk().run(question=question) == name


def test_prompts_can_be_read_and_updated() -> None:
    selector = CrossRouteTextSelector()
    assert selector.get_prompts() == {}
    selector.update_prompts({})


# The selection


def test_the_order_of_the_choices_does_not_matter() -> None:
    selector = CrossRouteTextSelector()
    for question, name in QUESTIONS.items():
        forwards = selector.select(TOOLS, question)
        backwards = selector.select(TOOLS[::-1], question)
        assert TOOLS[::-1][backwards.ind].name == name
        assert backwards.attention[::-1] == pytest.approx(forwards.attention)


def test_attention_is_scaled_dot_product_attention() -> None:
    question = "abba"
    encoder = Letters()
    result = CrossRouteTextSelector(encoder).select(["aaab", "bbba", "zzz"], question)
    cosine = encoder.encode(["aaab", "bbba", "zzz"]) @ encoder.encode([question])[0]
    # Vectors of length sqrt(d), over sqrt(d).
    share = np.exp(math.sqrt(26) * cosine)
    assert result.attention == pytest.approx(list(share / share.sum()), abs=1e-5)


def test_of_equal_choices_the_first_is_selected() -> None:
    twins = [ToolMetadata("The same", "one"), ToolMetadata("The same", "one")]
    result = CrossRouteTextSelector().select(twins, "Which?")
    assert result.ind == 0
    assert result.attention == pytest.approx([0.5, 0.5])


def test_the_reason_names_the_share_and_the_next() -> None:
    result = CrossRouteTextSelector().select(TOOLS, "Why is my salary taxed so high?")
    first, second = sorted(zip(result.attention, DESCRIPTIONS, strict=True), reverse=True)[:2]
    assert result.reason == (
        f"the query attends most to 'payroll', with {first[0]:.0%} of its attention; "
        f"the next is '{second[1]}' with {second[0]:.0%}"
    )


def test_choices_without_names() -> None:
    result = CrossRouteTextSelector().select(list(DESCRIPTIONS.values()), "Which tax do I pay?")
    assert result.ind == 1
    assert "attends most to choice 1," in result.reason


def test_the_name_is_read() -> None:
    # Nothing but the names tells these two apart.
    tools = [ToolMetadata("The handbook", name) for name in ("garden_plants", "tax_law")]
    selector = CrossRouteTextSelector()
    assert selector.select(tools, "When should I water the roses?").ind == 0
    assert selector.select(tools, "Do I have to declare this income?").ind == 1


def test_a_single_choice() -> None:
    result = CrossRouteTextSelector().select(TOOLS[:1], "What is 17 * 23?")
    assert (result.ind, result.attention) == (0, [1.0])
    assert "the only choice" in result.reason


@pytest.mark.parametrize("question", ["zxqj", "🜁🜂", "?", "a" * 100_000, "tax " * 50_000])
def test_odd_questions_get_finite_shares(question: str) -> None:
    result = CrossRouteTextSelector().select(TOOLS, question)
    assert sum(result.attention) == pytest.approx(1)
    assert all(0 <= share <= 1 for share in result.attention)


def test_a_choice_without_a_known_word() -> None:
    tools = [*TOOLS, ToolMetadata("", None)]
    result = CrossRouteTextSelector().select(tools, "Why is my salary taxed so high?")
    assert tools[result.ind].name == "payroll"
    assert all(math.isfinite(share) for share in result.attention)


def test_the_result_survives_json() -> None:
    result = CrossRouteTextSelector().select(TOOLS, "Why is my salary taxed so high?")
    text = json.dumps(result.model_dump(), allow_nan=False)
    assert CrossRouteTextSelectorResult.model_validate_json(text) == result


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_nothing_to_choose_from_and_nothing_asked(mode: str) -> None:
    async def select(tools: Sequence[ToolMetadata], question: str) -> object:
        selector = CrossRouteTextSelector()
        if mode == "sync":
            return selector.select(tools, question)
        return await selector.aselect(tools, question)

    with pytest.raises(PoolError, match="offer at least one tool"):
        await select([], "Why?")


def test_a_query_without_text_attends_to_all_alike() -> None:
    result = CrossRouteTextSelector().select(TOOLS, "  ")
    assert result.ind == 0
    assert result.attention == pytest.approx([1 / len(TOOLS)] * len(TOOLS))


# Cost of a selection


def test_choices_are_encoded_once() -> None:
    encoder = Letters()
    selector = CrossRouteTextSelector(encoder)
    for tools in (TOOLS, TOOLS[::-1], TOOLS[:2]):
        selector.select(tools, "Why?")
    choices = [f"{name}: {description}" for name, description in DESCRIPTIONS.items()]
    assert encoder.encoded == [*choices, "Why?", "Why?", "Why?"]
    # A tool whose description changes is another choice.
    selector.select([ToolMetadata("Something else", "leave")], "Why?")
    assert encoder.encoded[-2:] == ["leave: Something else", "Why?"]


async def test_aselect_does_not_hold_up_the_loop() -> None:
    encoder = Letters()
    encoder.loop_is_free = threading.Event()
    task = asyncio.create_task(CrossRouteTextSelector(encoder).aselect(TOOLS, "Why?"))
    while not task.done():
        await asyncio.sleep(0.001)
        encoder.loop_is_free.set()
    assert (await task).attention


def test_concurrent_selections_do_not_mix() -> None:
    selector = CrossRouteTextSelector()
    questions = list(QUESTIONS) * 20
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda question: selector.select(TOOLS, question), questions))
    assert [TOOLS[result.ind].name for result in results] == list(QUESTIONS.values()) * 20


# What is claimed


def test_it_is_more_often_right_than_cosine_on_the_same_encoder() -> None:
    questions = BENCHMARK["load"]("test")
    embedded = BENCHMARK["Encoded"](encoder=StaticEncoder())
    base, _ = BENCHMARK["measure"](EmbeddingSingleSelector(embedded), questions)
    ours, _ = BENCHMARK["measure"](CrossRouteTextSelector(), questions)
    assert ours > base + 0.05
    # The page says what the benchmark says.
    for name, share in (("EmbeddingSingleSelector", base), ("CrossRouteTextSelector", ours)):
        assert re.search(rf"\| `{name}` \| static, shipped \| \d+% \| {share:.0%} \|", PAGE)


def test_the_labelled_set_is_in_order() -> None:
    for half in ("tune", "test"):
        questions = BENCHMARK["load"](half)
        assert len(questions) == 84
        assert len({question.text for question in questions}) == len(questions)
        # Each tool of each set is asked for.
        asked = {(id(question.tools), question.right) for question in questions}
        tools = {id(question.tools): len(question.tools) for question in questions}
        assert len(asked) == sum(tools.values())


def test_the_code_of_the_page_runs() -> None:
    found: dict[str, Any] = {"quick": Engine(name="quick"), "thorough": Engine(name="thorough")}
    found |= {name: Engine(name=name) for name in DESCRIPTIONS}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(blocks) >= 2
    for code in blocks:
        exec(code, found)
    for name in re.findall(r"\]\(([^)]+)\)", PAGE):
        assert (ROOT / "docs" / "llamaindex" / name.split("#")[0]).exists(), name


def test_the_example_chooses_the_data_and_then_the_model() -> None:
    example = runpy.run_path(str(ROOT / "examples" / "llamaindex_query_engine.py"))
    paid, lamp, ratio, pump = (example["by_text"]().query(query) for query in example["QUERIES"])
    for response, index, corpus in (
        (paid, 0, "HANDBOOK"),
        (lamp, 1, "MANUAL"),
        (ratio, 0, "HANDBOOK"),
        (pump, 1, "MANUAL"),
    ):
        assert response.metadata["selector_result"].inds == [index]
        assert any(str(response).endswith(text) for text in example[corpus])
    quick, thorough = example["MODELS"].values()
    for short in (paid, lamp):
        assert thorough in str(short)
    for long in (ratio, pump):
        assert quick in str(long)


def test_the_docstring_example_runs() -> None:
    module = llamaindex_crossroute.text_selector
    assert doctest.testmod(module) == doctest.TestResults(failed=0, attempted=5)
