"""`crossroute.batch.Decide` in real Ray, on this machine."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes_core import make_rows

from crossroute.batch import COST, MODEL, Decide

ray: Any = pytest.importorskip("ray", reason="Ray is not installed: pip install 'crossroute[ray]'")

# Ray's own: it sets settings of its own that it has deprecated, and leaves files open.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

EXAMPLE = Path(__file__).parents[1] / "examples" / "ray_batch.py"
PROMPTS = [str(row["prompt"]) for row in make_rows(120, seed=8)]


def test_the_example_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """First, as it starts a cluster of its own."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    said = capsys.readouterr().out
    assert "simulated" in said
    assert "The decisions are those of one process." in said


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=100 * 2**20,
        )
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield
        ray.shutdown()


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("batch_format", ["numpy", "pandas", "pyarrow"])
def test_ray_decides_as_one_process_does(toy_folder: Path, batch_format: str) -> None:
    rows = ray.data.from_items([{"prompt": prompt, "n": n} for n, prompt in enumerate(PROMPTS)])
    decide = Decide(toy_folder, willingness_to_pay=0.001)
    decided = rows.map_batches(decide, batch_size=32, batch_format=batch_format).take_all()
    alone = decide({"prompt": PROMPTS})
    found = {row["n"]: row for row in decided}
    assert [found[n][MODEL] for n in range(len(PROMPTS))] == [*alone[MODEL]]
    assert [found[n][COST] for n in range(len(PROMPTS))] == pytest.approx([*alone[COST]])


@pytest.mark.usefixtures("cluster")
def test_ray_keeps_a_router_in_each_of_its_actors(toy_folder: Path) -> None:
    rows = ray.data.from_items([{"prompt": prompt} for prompt in PROMPTS])
    decided = rows.map_batches(
        Decide,
        fn_constructor_args=(str(toy_folder),),
        batch_size=32,
        compute=ray.data.ActorPoolStrategy(size=2),
    ).take_all()
    alone = dict(zip(PROMPTS, Decide(toy_folder)({"prompt": PROMPTS})[MODEL], strict=True))
    assert len(decided) == len(PROMPTS)
    assert all(row[MODEL] == alone[row["prompt"]] for row in decided)
