"""What a descriptor may say of a provider: no key, no other address, and only listed arguments."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from crossroute import DescriptorError, ModelDescriptor, ModelPool
from crossroute.models.descriptor import Provider
from crossroute.models.provider_arguments import BY_PROVIDER, COMMON, allowed
from crossroute.secret_text import find_secret, looks_like_secret

PAGE = Path(__file__).parents[2] / "docs" / "descriptor.md"
FILE = Path("file.yaml")


def parse(arguments: Mapping[str, object], chat_model: str = "openai:x") -> ModelDescriptor:
    provider = {"chat_model": chat_model, "arguments": dict(arguments)}
    return ModelDescriptor.parse(yaml.safe_dump({"id": "x", "provider": provider}), FILE)


def refused(content: Mapping[str, object], match: str) -> str:
    """What is said of a descriptor that is refused, traceback and all."""
    with pytest.raises(DescriptorError, match=match) as caught:
        ModelDescriptor.parse(yaml.safe_dump(dict(content)), FILE)
    return "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "name",
    [
        "base_url",
        "api_base",
        "openai_api_base",
        "azure_endpoint",
        "endpoint",
        "endpoint_url",
        "api_endpoint",
        "anthropic_api_url",
        "client_options",
        "openai_proxy",
        "groq_proxy",
        "default_headers",
        "additional_headers",
        "default_query",
        "http_client",
        "client",
        "client_kwargs",
        "model_kwargs",
        "extra_body",
        "additional_model_request_fields",
        "mcp_servers",
        "credentials",
        "credentials_profile_name",
        "cache",
        "callbacks",
        "configurable_fields",
        "model_provider",
        "model",
    ],
)
def test_no_argument_leads_elsewhere(name: str) -> None:
    for provider in (*BY_PROVIDER, "unknown"):
        with pytest.raises(DescriptorError, match=rf"provider\.arguments: '{name}' ") as caught:
            parse({"temperature": 0, name: "https://elsewhere.example/v1"}, f"{provider}:x")
        assert "elsewhere.example" not in str(caught.value)


def test_an_argument_that_is_not_allowed_comes_with_those_that_are() -> None:
    with pytest.raises(DescriptorError, match="is not allowed for groq; did you mean") as caught:
        parse({"temprature": 0}, "groq:x")
    said = str(caught.value)
    assert "did you mean 'temperature'?" in said
    assert f"Allowed are {', '.join(allowed('groq'))}." in said
    assert "models={id: chat_model}" in said
    assert "did you mean" not in refused(
        {"id": "x", "provider": {"chat_model": "groq:x", "arguments": {"q" * 500: 1}}},
        "is not allowed",
    )


@pytest.mark.parametrize(
    ("chat_model", "arguments"),
    [
        (
            "openai:x",
            {
                "temperature": 0,
                "max_tokens": 512,
                "max_completion_tokens": 9,
                "stop": ["\n\n", "END"],
                "logit_bias": {50256: -100},
                "reasoning": {"effort": "low", "summary": None},
                "use_responses_api": True,
                "timeout": 7.5,
            },
        ),
        ("anthropic:x", {"thinking": {"type": "enabled", "budget_tokens": 1024}, "top_k": 5}),
        ("azure_openai:x", {"azure_deployment": "gpt-4.1_eu", "api_version": "2024-10-21"}),
        ("bedrock_converse:x", {"region_name": "eu-central-1"}),
        ("google_vertexai:x", {"project": "my-project-1", "location": "europe-west4"}),
        ("ollama:x", {"num_ctx": 8192, "keep_alive": "5m"}),
        ("unknown:x", {"temperature": 1, "max_retries": 0}),
    ],
)
def test_what_is_allowed_is_read_and_saved(
    tmp_path: Path, chat_model: str, arguments: dict[str, Any]
) -> None:
    model = parse(arguments, chat_model)
    assert model.provider is not None
    assert model.provider.arguments == arguments
    assert ModelDescriptor.load(model.save(tmp_path)) == model


@pytest.mark.parametrize(
    ("chat_model", "arguments", "said"),
    [
        ("openai:x", {"temperature": float("nan")}, "not finite"),
        ("openai:x", {"max_tokens": 2**70}, "more than 64 bits"),
        ("openai:x", {"stop": [yaml.safe_load("2026-01-01")]}, "not date"),
        ("openai:x", {"stop": "a" * 20_000}, "longer than 10,000 characters"),
        ("openai:x", {"reasoning": {"api_key": "x"}}, "'api_key' looks like a secret"),
        ("openai:x", {"stop": [{"session_token": "x"}]}, "'session_token' looks like a secret"),
        ("azure_openai:x", {"azure_deployment": "../../x"}, "azure_deployment must be of letters"),
        ("google_vertexai:x", {"location": "evil.example/#"}, "location must be of letters"),
        ("google_vertexai:x", {"location": ["a"]}, "location must be of letters"),
        ("bedrock:x", {"region": "@evil.example"}, "region must be of letters"),
        ("bedrock:x", {"region_name": "eu\nx"}, "region_name must be of letters"),
    ],
)
def test_values_are_plain_and_small(
    chat_model: str, arguments: dict[str, object], said: str
) -> None:
    with pytest.raises(DescriptorError, match=rf"provider\.arguments: .*{said}"):
        parse(arguments, chat_model)


def test_values_do_not_nest_without_end() -> None:
    value: object = "x"
    for _ in range(20):
        value = [value]
    with pytest.raises(DescriptorError, match="nest more than"):
        parse({"stop": value})
    with pytest.raises(ValueError, match="not set"):
        Provider(chat_model="openai:x", arguments={"stop": {"a"}})


@pytest.mark.parametrize(
    "address",
    [
        "https://host.example",
        "http://localhost:11434/v1",
        "http://127.0.0.1:8000/v1/",
        "http://[::1]:8000/v1",
        "https://gateway.example/v1/@cf/meta~x/%20",
    ],
)
def test_addresses_that_are_taken(address: str) -> None:
    provider = Provider(chat_model="openai:x", base_url=address, api_key_env="KEY")
    assert provider.base_url == address


@pytest.mark.parametrize(
    "address",
    [
        "localhost:8000/v1",
        "ftp://host.example",
        "file:///etc/passwd",
        "http://",
        "https:///v1",
        "https://user@host.example/v1",
        "https://user:hunter2@host.example/v1",
        "https://host.example\\@evil.example/v1",
        "https://host.example/\\@evil.example/v1",
        "https://host.example/v1?api-key=hunter2",
        "https://host.example/v1#hunter2",
        "https://host.example/v1\nX-Header: hunter2",
        "https://host .example/v1",
        "https://host.example:port/v1",
        "https://h\u00f6st.example",
        "",
    ],
)
def test_addresses_that_are_refused(address: str) -> None:
    provider = {"chat_model": "openai:x", "base_url": address, "api_key_env": "KEY"}
    said = refused({"id": "x", "provider": provider}, r"provider\.base_url")
    assert "hunter2" not in said
    assert "evil.example" not in said


@pytest.mark.parametrize("name", ["huggingface:https://evil.example/v1", "openai:a\x1b[31m"])
def test_the_name_of_a_model_is_no_address(name: str) -> None:
    assert "evil" not in refused(
        {"id": "x", "provider": {"chat_model": name}}, r"provider\.chat_model"
    )


SECRETS = [
    "sk-very-secret-0123456789",
    "sk-proj-abcDEFghi",
    "sk-ant-api03-" + "x" * 20,
    "sk-abc123",
    "Bearer s3cr3t",
    "Authorization: Bearer abc",
    "Basic dXNlcjpwYXNz" + "MQ==",
    "AIza" + "Sy" * 17 + "x",
    "gsk_" + "a1" * 20,
    "xai-" + "b2" * 20,
    "hf_" + "Cd" * 17,
    "AKIA" + "EXAMPLE" + "012345678",
    "ghp_" + "e" * 36,
    "npm_" + "f" * 36,
    "SG." + "g1" * 11 + "." + "h2" * 21,
    "AccountKey=" + "aB3/" * 20 + "==",
    "https://hooks.slack.com/services/T0/B0/abc",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc",
    "-----BEGIN RSA PRIVATE KEY-----",
    "api_key=0123456789abcdef",
    '{"api-key": "0123456789abcdef"}',
    "password: hunter2222",
    "https://user:hunter2@host.example/v1",
    "https://host.example/v1?key=abcdef123456",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_key_is_refused_wherever_it_stands_and_not_repeated(secret: str) -> None:
    provider = {"chat_model": "openai:x", "arguments": {"stop": ["a", secret]}}
    for content, place in (
        ({"id": "x", "note": f"with {secret} in it"}, "note"),
        ({"id": secret}, "id"),
        ({"id": "x", "provider": provider}, r"provider\.arguments\.stop\.1"),
        ({"id": "x", "provider": provider | {"arguments": {"stop": {secret: 1}}}}, "provider"),
        ({"id": "x", "provider": provider | {"api_key_env": secret}}, "provider"),
        ({"id": "x", "languages": ["en", {"a": [secret]}]}, r"languages\.1\.a\.0"),
        ({"id": "x", secret: 1}, "a name"),
    ):
        said = refused(content, f"  {place}.* looks like a secret")
        assert secret not in said


def test_what_only_resembles_a_key_is_taken() -> None:
    for text in (
        "openai:gpt-4o-2024-08-06",
        "a risk-adjusted-comparison of task-1234567890",
        "sk-learn based features, sk-learn-1.5",
        "skt/A.X-4.0-Light-0123456789",
        "0123456789abcdef0123456789abcdef",
        "accounts/fireworks/models/llama-v3p1-405b-instruct",
        "us.anthropic.claude-3-5-sonnet-20241022-v2:0",
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude",
        "price per token: 0.0000025 USD",
        "max_tokens: 4096 and budget_tokens=10240000",
        "basic arithmetic, basic understanding; bearer authentication is used",
        "api_key_env: ACME_KEY_2024; needs an api_key: see the docs",
        "https://openrouter.ai/@user:8080/x and https://host.example:8080/v1/@cf/meta",
        "https://acme.example/prices?date=2026-01-01&page=3",
    ):
        assert not looks_like_secret(text), text
    assert find_secret(yaml.safe_load(PAGE.read_text("utf-8").split("```")[1][5:])) is None


def test_what_is_shipped_is_taken(tmp_path: Path) -> None:
    ModelPool.shipped().save(tmp_path)
    assert ModelPool.load(tmp_path) == ModelPool.shipped()
    text = (files("crossroute") / "assets" / "anchors.yaml").read_text("utf-8")
    assert find_secret(yaml.safe_load(text)) is None


@pytest.mark.parametrize("part", ["bearer ", "token=", "eyJ-", "a://", "http://a:", "?key="])
def test_a_long_text_is_searched_at_once(part: str) -> None:
    # With unbounded repetitions this would take hours.
    assert not looks_like_secret(part * 100_000)


def test_the_page_lists_what_is_allowed() -> None:
    section = PAGE.read_text("utf-8").partition("## Arguments")[2].partition("\n## ")[0]
    listed: dict[str, frozenset[str]] = {}
    for providers, names in re.findall(r"^\| ([a-z_ ,]+) \| (`.*`) \|$", section, re.MULTILINE):
        for provider in providers.split(", "):
            listed[provider] = frozenset(names.strip("`").split("`, `"))
    assert listed.pop("every one") == COMMON
    assert listed == BY_PROVIDER


def test_the_lists_know_the_arguments_of_openai() -> None:
    langchain_openai = pytest.importorskip("langchain_openai")
    for provider, cls in (
        ("openai", langchain_openai.ChatOpenAI),
        ("azure_openai", langchain_openai.AzureChatOpenAI),
    ):
        taken = {*cls.model_fields, *(field.alias for field in cls.model_fields.values())}
        assert set(allowed(provider)) <= taken
