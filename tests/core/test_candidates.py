"""The candidates that a folder names, whatever framework builds their clients."""

# ruff: noqa: ANN401  # Settings are whatever a class takes.

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from crossroute import CrossRouter, DescriptorError, MissingExtraError, PoolError, Provider
from crossroute.candidates import (
    FromYaml,
    LazyClient,
    buildable,
    check,
    distribution,
    follow_candidates,
    load_candidates,
)

LARGE, SMALL = "gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18"


class Named(LazyClient[str]):
    """Its client is the name of what it was built for."""

    packages: ClassVar = {"there": "json", "missing": "no_such.package_at_all"}
    builds: ClassVar[int] = 0

    def _build(self) -> str:
        self.key()
        type(self).builds += 1
        return self.provider.chat_model


def put(folder: Path, model: str, **changes: Any) -> None:
    descriptor = CrossRouter.shipped().pool[model]
    provider = Provider(chat_model=f"there:{model}")
    path = descriptor.model_copy(update={"retired": None, "provider": provider, **changes}).save(
        folder
    )
    then = time.time() - 3600
    os.utime(path, (then, then))
    os.utime(folder, (then, then))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path, LARGE)
    put(tmp_path, SMALL)
    return tmp_path


def lazy(**settings: Any) -> Named:
    return Named("me", Provider(chat_model="there:x", **settings))


def test_a_client_is_built_once_when_it_is_first_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Named, "builds", 0)
    one = lazy()
    assert one.built is None
    threads = [threading.Thread(target=one.load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert one.built == asyncio.run(one.aload()) == "there:x"
    assert Named.builds == 1


def test_a_key_is_asked_for_again_until_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    one = lazy(api_key_env="MY_KEY")
    with pytest.raises(DescriptorError, match=r"'me'.*MY_KEY, which is not set") as raised:
        one.load()
    assert "'me'" in raised.value.__notes__[0]
    assert one.secrets == []
    monkeypatch.setenv("MY_KEY", "sk-SECRET")
    assert one.load() == "there:x"
    key = one.key()
    assert key is not None
    assert key.get_secret_value() == "sk-SECRET"
    assert one.secrets == ["sk-SECRET"]
    assert "SECRET" not in f"{key!r} {vars(one)!r}"


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))]
)
def test_a_copy_builds_a_client_of_its_own(copied: Callable[[Named], Named]) -> None:
    first = lazy()
    first.load()
    again = copied(first)
    assert first.built is not None
    assert again.built is None
    assert again.load() == first.built


def test_what_is_missing_is_told_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    check([lazy()])
    assert caplog.messages == []
    for one, said in (
        (lazy(api_key_env="MY_KEY"), "MY_KEY is not set"),
        (Named("me", Provider(chat_model="missing:x")), "pip install no-such-package-at-all"),
    ):
        check([one])
        check([one])
        assert len(caplog.messages) == 1
        assert said in caplog.messages[0]
        caplog.clear()


def test_a_provider_of_nobody_needs_no_known_package(caplog: pytest.LogCaptureFixture) -> None:
    one = Named("me", Provider(chat_model="somebody:x"))
    assert one.package is None
    check([one])
    assert caplog.messages == []


def test_candidates_of_a_folder(folder: Path) -> None:
    put(folder, "gpt-4-1106-preview", provider=None)
    found = load_candidates(folder, Named.of)
    assert set(found.models) == set(found.router.pool) == {LARGE, SMALL}
    assert found.models[SMALL].load() == f"there:{SMALL}"


def test_a_followed_folder_keeps_the_clients_whose_provider_stays(folder: Path) -> None:
    live = follow_candidates(folder, Named.of)
    live._check_seconds = live._due = 0
    before = live.current
    put(folder, SMALL, note="The same.")
    put(folder, LARGE, provider=Provider(chat_model="there:other"))
    after = live.current
    assert after is not before
    assert after.models[SMALL] is before.models[SMALL]
    assert after.models[LARGE] is not before.models[LARGE]
    assert before.models[LARGE].load() == f"there:{LARGE}"
    put(folder, LARGE, provider=None)
    assert live.current is after
    assert isinstance(live.error, PoolError)


def test_there_must_be_a_folder_to_follow() -> None:
    with pytest.raises(PoolError, match="No folder is named to follow"):
        follow_candidates(None, Named.of)


def test_a_class_gets_router_models_and_live(folder: Path) -> None:
    class Routed(FromYaml):
        lazy_client = Named

        def __init__(self, **given: Any) -> None:
            self.given = given

    still = Routed.from_yaml(folder, attempts=2).given
    assert still["live"] is None
    assert still["attempts"] == 2
    followed = Routed.from_yaml(folder, follow=True).given
    assert followed["live"].current.models is followed["models"]
    with pytest.raises(TypeError, match="router"):
        Routed.from_yaml(folder, router=CrossRouter.default())


def test_what_to_install() -> None:
    assert distribution("llama_index.llms.openai_like") == "llama-index-llms-openai-like"
    assert distribution("langchain_openai") == "langchain-openai"
    assert str(MissingExtraError("some-package")).endswith("pip install some-package.")
    assert str(MissingExtraError("torch", "train")).endswith("pip install 'crossroute[train]'.")


def test_many_that_miss_the_same_are_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    some = [Named(str(number), Provider(chat_model="missing:x")) for number in range(3)]
    check([lazy(), *some])
    (said,) = caplog.messages
    assert "The chat models of '0', '1', '2' cannot be built" in said


def test_who_cannot_be_built_is_no_candidate_while_another_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    decision = CrossRouter.default().subset([LARGE, SMALL]).route("Why?", 0)
    first, second = (candidate.model for candidate in decision.candidates)
    with_key, without = (
        Provider(chat_model="there:x"),
        Provider(chat_model="there:x", api_key_env="MY_KEY"),
    )
    models = {first: Named(first, without), second: Named(second, with_key)}
    found = buildable(decision, models)
    assert [candidate.model for candidate in found.candidates] == [second] == [found.model]
    assert (found.quality, found.cost_usd) == found.candidates[0][1:3]
    assert found.removed == {first: "cannot be built: the environment variable MY_KEY is not set"}
    # Where none can, building them says more.
    assert buildable(decision, {first: models[first], second: Named(second, without)}) is decision
    # What is no lazy client is there.
    assert buildable(decision, {first: "a client", second: models[second]}) is decision
    monkeypatch.setenv("MY_KEY", "now")
    assert buildable(decision, models) is decision
