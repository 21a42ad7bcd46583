from __future__ import annotations

from pathlib import Path

import pytest

from crossroute import DescriptorError, ModelDescriptor, ModelPool, PoolError, UnknownModelError

GOOD = """\
id: acme/small
description: Acme Small.
provider:
  chat_model: openai:acme-small
  api_key_env: ACME_KEY
price:
  input_usd_per_1m: 0.5
  output_usd_per_1m: 1.5
  date: 2026-01-31
  source: acme.example/prices
context_window_tokens: 8192
capabilities: [tools]
learned:
  checkpoint: abc
  cost_target: output_tokens
  examples: 12
  embedding: [0.5, -1.25, 3.0]
"""


def write(folder: Path, text: str, name: str = "model.yaml") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_a_descriptor_survives_saving(tmp_path: Path) -> None:
    loaded = ModelDescriptor.load(write(tmp_path, GOOD))
    saved = loaded.save(tmp_path)
    assert saved.name == "acme_small.yaml"
    assert ModelDescriptor.load(saved) == loaded
    assert "embedding: [0.5, -1.25, 3.0]" in saved.read_text("utf-8")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("context_window_tokens", "context_windw_tokens", "did you mean 'context_window_tokens'"),
        ("  input_usd_per_1m", "  input_usd_per_M", r"price\.input_usd_per_M: unknown field"),
        ("  input_usd_per_1m: 0.5\n", "", r"price\.input_usd_per_1m: missing"),
        ("1.5", "-1.5", r"price\.output_usd_per_1m: .*greater than or equal to 0, got -1\.5"),
        ("1.5", ".nan", r"price\.output_usd_per_1m: .*finite"),
        ("8192", "0", "context_window_tokens: .*greater than 0"),
        ("[tools]", "[telepathy]", "capabilities.*got 'telepathy'"),
        ("id: acme/small", "id: ''", "id: .*at least 1 character"),
        ("openai:acme-small", "acme-small", r"provider\.chat_model: .*got 'acme-small'"),
        ("  api_key_env: ACME_KEY", "  api_key: sk-1", r"provider\.api_key: unknown field"),
        ("2026-01-31", "someday", r"price\.date"),
        ("  api_key_env: ACME_KEY", "  base_url: http://x/v1", r"provider: .*needs api_key_env"),
        ("[0.5, -1.25, 3.0]", "[]", r"learned\.embedding"),
        ("[0.5, -1.25, 3.0]", "[.inf]", r"learned\.embedding\.0"),
    ],
)
def test_a_mistake_is_named_with_file_and_field(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(DescriptorError, match=said) as caught:
        ModelDescriptor.load(path)
    assert str(path) in str(caught.value)


def test_a_secret_is_refused_and_not_repeated(tmp_path: Path) -> None:
    secret = "sk-very-secret-0123456789"
    text = GOOD.replace(
        "  api_key_env: ACME_KEY", f"  arguments: {{openai_api_key: {secret}, temperature: 0}}"
    )
    with pytest.raises(DescriptorError, match="api_key_env") as caught:
        ModelDescriptor.load(write(tmp_path, text))
    assert secret not in str(caught.value)


def test_a_secret_deeper_down_is_refused_too(tmp_path: Path) -> None:
    text = GOOD.replace(
        "  api_key_env: ACME_KEY", "  arguments: {default_headers: {Authorization: Bearer s3cr3t}}"
    )
    with pytest.raises(DescriptorError, match="'Authorization' looks like a secret") as caught:
        ModelDescriptor.load(write(tmp_path, text))
    assert "s3cr3t" not in str(caught.value)


def test_token_limits_are_no_secrets(tmp_path: Path) -> None:
    arguments = "{max_tokens: 512, max_completion_tokens: 9, tokenizer: x}"
    text = GOOD.replace("  api_key_env: ACME_KEY", f"  arguments: {arguments}")
    assert ModelDescriptor.load(write(tmp_path, text)).provider is not None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id: a\nretired: 2024-13-45\n", "not valid YAML: month"),
        ("id: " + "[" * 5000, "not valid YAML"),
        ("", "mapping"),
        ("- a\n- b\n", "mapping"),
        ("id: [unclosed", "not valid YAML"),
        ("id: !!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_what_is_no_descriptor_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DescriptorError, match=said):
        ModelDescriptor.load(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DescriptorError, match=r"nothing\.yaml: cannot be read"):
        ModelDescriptor.load(tmp_path / "nothing.yaml")


def test_a_pool_is_a_folder(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "a.yaml")
    write(tmp_path, "id: other\n", "b.yml")
    write(tmp_path, "not read", "notes.txt")
    pool = ModelPool.load(tmp_path)
    assert list(pool) == ["acme/small", "other"]
    assert "other" in pool
    assert pool.get("nobody") is None


def test_one_id_in_two_files_is_refused(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "a.yaml")
    write(tmp_path, GOOD, "b.yaml")
    with pytest.raises(PoolError, match=r"b\.yaml.*taken by.*a\.yaml"):
        ModelPool.load(tmp_path)


def test_an_empty_or_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="holds no model descriptor"):
        ModelPool.load(tmp_path)
    with pytest.raises(PoolError, match="no such folder"):
        ModelPool.load(tmp_path / "missing")


def test_ids_that_would_share_a_file_are_refused() -> None:
    with pytest.raises(PoolError, match="both be saved"):
        ModelPool([ModelDescriptor(id="a/b"), ModelDescriptor(id="a_B")])


def test_an_unknown_model_comes_with_a_suggestion() -> None:
    pool = ModelPool([ModelDescriptor(id="gpt-large"), ModelDescriptor(id="gpt-small")])
    with pytest.raises(UnknownModelError, match="did you mean 'gpt-large'"):
        pool["gpt-larg"]
    with pytest.raises(UnknownModelError):
        pool.subset(["gpt-small", "elsewhere"])
