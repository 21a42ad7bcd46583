"""TRL's own trainers take what is exported, where TRL is installed: `pip install trl`."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import pytest

trl: Any = pytest.importorskip("trl")

pytestmark = pytest.mark.filterwarnings("ignore")

TEMPLATE = (
    "{% for tool in tools or [] %}[tool]{{ tool | tojson }}{% endfor %}"
    "{% for message in messages %}[{{ message.role }}]{{ message.content }}"
    "{% for call in message.tool_calls or [] %}"
    "[call]{{ call.function.name }} {{ call.function.arguments | tojson }}"
    "{% endfor %}[end]{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
QUESTION = {"role": "user", "content": "Is it warm in Bonn?"}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def said(text: str, **arguments: object) -> list[dict[str, Any]]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if arguments:
        function = {"name": "weather", "arguments": arguments}
        message["tool_calls"] = [{"type": "function", "id": "1", "function": function}]
    return [message]


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A tiny one whose tokens are characters, with weights at random."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers: Any = pytest.importorskip("transformers")
    vocabulary = {text: n for n, text in enumerate(["<end>", "<unk>", *string.printable])}
    characters = tokenizers.models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(characters), eos_token="<end>", pad_token="<end>"
    )
    tokenizer.chat_template = TEMPLATE
    ends = dict.fromkeys(("eos_token_id", "bos_token_id", "pad_token_id"), 0)
    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 32, "vocab_size": len(vocabulary) + 1}
    config = transformers.GPT2Config(**sizes, **ends)
    for one in (transformers.GPT2LMHeadModel(config), tokenizer):
        one.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


@pytest.mark.parametrize("name", ["SFT", "DPO"])
def test_a_trainer_learns_from_rows(name: str, model: str, tmp_path: Path) -> None:
    import datasets

    from crossroute.traces.export import write_rows

    first, second = said("", city="Bonn"), said("No.")
    tools = json.dumps([TOOL])
    plain = {"prompt": [QUESTION], "completion": second, "tools": None}
    # An agent calls tools that nobody knows.
    agent = {**plain, "completion": [*first, {"role": "tool", "content": "20"}, *second]}
    rows = [{"prompt": [QUESTION], "completion": first, "tools": tools}, plain, agent]
    if name == "DPO":
        pair = {"prompt": [QUESTION], "chosen": first, "rejected": second, "tools": tools}
        rows = [pair, {**pair, "chosen": said("Yes."), "rejected": said("", town=3)}]
    write_rows(rows, tmp_path / "rows.jsonl")
    loaded = datasets.load_dataset(
        "json",
        data_files=str(tmp_path / "rows.jsonl"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    args = getattr(trl, f"{name}Config")(
        output_dir=str(tmp_path / "trained"),
        max_steps=2,
        per_device_train_batch_size=2,
        report_to=[],
        use_cpu=True,
        bf16=False,
    )
    trainer = getattr(trl, f"{name}Trainer")(model=model, args=args, train_dataset=loaded)
    assert trainer.train().training_loss > 0
