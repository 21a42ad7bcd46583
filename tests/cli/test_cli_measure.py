"""The command `crossroute models measure`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes_core import Run

from crossroute import CrossRouter, ModelDescriptor, PoolError
from crossroute.traffic.measured_agents import measure_agents
from crossroute.traffic.records import CallRecord, Feedback

BOOKING = """\
# Who wrote this comment wants to keep it.
id: booking
kind: agent
description: Books trains.
expected_quality: 0.9  # a guess
"""


def call(number: int, **facts: object) -> CallRecord:
    """A call that booking answered for a cent, in 1 s, or 3 s where the number is odd."""
    ask = {"model": "booking", "role": "answer", "input_tokens": 1, "output_tokens": 1}
    candidate = {"model": "booking", "quality": 0.9, "cost_usd": 0.0, "reward": 0.9}
    said = {
        "id": str(number),
        "at": "2026-01-01T00:00:00Z",
        "decision": {
            **candidate,
            "candidates": [candidate],
            "willingness_to_pay": 0.01,
            "reward": "exponential",
            "input_tokens": 1,
        },
        "model": "booking",
        "outcome": "answered",
        "asks": [{**ask, "cost_usd": 0.01 + 0.02 * (number % 2)}],
        "latency_s": 1 + 2 * (number % 2),
    }
    return CallRecord.model_validate({**said, **facts})


@pytest.fixture
def folder(toy_router: CrossRouter, tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    toy_router.pool.save(folder)
    (folder / "booking.yaml").write_text(BOOKING, "utf-8")
    return folder


def feedback(number: int) -> Feedback:
    score = float(number % 2)
    return Feedback(id=str(number), at="2026-01-01T00:00:00Z", score=score)  # type: ignore[arg-type]


def test_it_writes_what_records_say_and_nothing_else(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    records = tmp_path / "records.jsonl"
    lines = [call(number) for number in range(21)] + [feedback(number) for number in range(20)]
    records.write_text("".join(line.model_dump_json() + "\n" for line in lines), "utf-8")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    code, said, _ = run("models", "measure", folder, "--records", records)
    assert code == 0
    assert "Nothing was written" in said
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    code, said, _ = run("models", "measure", folder, "--records", records, "--write", "--json")
    assert code == 0
    (found,) = json.loads(said)
    assert found["written"]
    assert found["figures"]["expected_quality"]["calls"] == 20
    assert found["figures"]["cost_usd_a_call"]["low"] < 0.0195
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name for name in after if after[name] != before[name]} == {"booking.yaml"}
    text = after["booking.yaml"].decode()
    assert text.startswith("# Who wrote this comment wants to keep it.")
    assert "# a guess" in text
    written = ModelDescriptor.load(folder / "booking.yaml")
    assert written.cost_usd_a_call == pytest.approx((11 * 0.01 + 10 * 0.03) / 21, rel=1e-3)
    assert written.expected_latency_seconds == 1.0
    assert written.expected_quality == 0.5
    code, said, _ = run("models", "measure", folder, "--records", records, "--write")
    assert "Changed: nothing" in said


def test_only_calls_that_an_agent_answered_alone_count(folder: Path) -> None:
    other = call(0).asks[0].model_copy(update={"model": "sage"})
    found = [
        call(1),
        call(2, outcome="failed", model=None),
        call(3, asks=[other, call(0).asks[0]]),
        call(4, model="sage", asks=[other]),
        call(5, asks=[call(0).asks[0].model_copy(update={"cost_usd": None})]),
    ]
    (measured,) = measure_agents(folder, found, least=2)
    assert measured.calls == 2
    # The cost of one of them is not known.
    assert set(measured.figures) == {"expected_latency_seconds"}
    assert measured.updated.cost_usd_a_call is None


def test_what_a_descriptor_states_or_nobody_counted_is_no_cost_that_was_measured(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    ask = call(0).asks[0]
    stated, estimated = (ask.model_copy(update={name: True}) for name in ("stated", "estimated"))
    found = [call(number, asks=[[stated, estimated, ask][number % 3]]) for number in range(6)]
    (measured,) = measure_agents(folder, found, least=2)
    assert (measured.calls, measured.stated) == (6, 2)
    assert measured.figures["cost_usd_a_call"].calls == 2
    path = folder / "booking.yaml"
    path.write_text(f"{BOOKING}cost_usd_a_call: 0.02\n", "utf-8")
    records = tmp_path / "records.jsonl"
    lines = [call(number, asks=[stated]).model_dump_json() + "\n" for number in range(20)]
    records.write_text("".join(lines), "utf-8")
    code, out, _ = run("models", "measure", folder, "--records", records, "--write")
    said = "booking: its cost in records is what its descriptor says: nothing measured."
    assert (code, said in out.replace("\n", " ")) == (0, True)
    assert "cost_usd_a_call: 0.02\n" in path.read_text("utf-8")


def test_a_latency_of_0_is_not_written(folder: Path) -> None:
    calls = [call(number, latency_s=2.0 * (number > 1)) for number in range(3)]
    (measured,) = measure_agents(folder, calls, least=2)
    assert "expected_latency_seconds" not in measured.figures


def test_an_id_that_is_there_twice_is_refused(folder: Path) -> None:
    (folder / "again.yaml").write_text(BOOKING, "utf-8")
    with pytest.raises(PoolError, match="booking"):
        measure_agents(folder, [])


def test_a_folder_of_models_alone_is_refused(toy_folder: Path) -> None:
    with pytest.raises(PoolError, match="none of its 3 descriptors is of an agent"):
        measure_agents(toy_folder, [])
