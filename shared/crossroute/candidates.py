"""The candidates that a folder names: each descriptor's client, built when it is first used.

Which package makes a client of a descriptor's provider is an integration's own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar, cast

from pydantic import SecretStr

from crossroute.decision import Decision
from crossroute.errors import ConstraintError, DescriptorError, PoolError
from crossroute.models.descriptor import ModelDescriptor, Provider
from crossroute.models.followed_folder import FollowedFolder
from crossroute.models.pool import ModelPool
from crossroute.router import CrossRouter, Ranking, follow

logger = logging.getLogger(__name__)

SHOWN_CANDIDATES = 5
"""How many a warning names."""

Client = TypeVar("Client")
Lazy = TypeVar("Lazy", bound="LazyClient[Any]")


class LazyClient(ABC, Generic[Client]):
    """The client of a descriptor's model, built when it is first used.

    Args:
        model: Id of the model, for error messages.
        provider: Where the model is reached.
    """

    packages: ClassVar[Mapping[str, str]]
    """The import name of the package that a provider needs, by the provider."""

    def __init__(self, model: str, provider: Provider) -> None:
        self._id = model
        self.provider = provider
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._has_warned = False

    def __getstate__(self) -> dict[str, Any]:
        """What a copy is made of, in another process too: it builds a client of its own."""
        # No lock can be copied, and the client holds the key; packages are those of the process.
        kept = {name: value for name, value in vars(self).items() if name != "unsuitable"}
        return {**kept, "_lock": None, "_client": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())

    @classmethod
    def of(cls, descriptor: ModelDescriptor) -> Self:
        """The client of a descriptor that has a provider."""
        assert descriptor.provider is not None  # noqa: S101  # For mypy: who calls has looked.
        return cls(descriptor.id, descriptor.provider)

    def is_of(self, descriptor: ModelDescriptor) -> bool:
        """Whether what it is built from still stands in a descriptor of its id."""
        return self.provider == descriptor.provider

    @abstractmethod
    def _build(self) -> Client:
        """Make the client."""

    def load(self) -> Client:
        """The client itself.

        Raises:
            MissingExtraError: If the framework's package that builds it is not installed.
            ImportError: If the package of the provider is not installed.
            DescriptorError: If the environment variable of the API key is not set.
        """
        with self._lock:
            if self._client is None:
                try:
                    self._client = self._build()
                except Exception as error:
                    error.add_note(f"While building the chat model of {self._id!r}.")
                    raise
            return self._client

    async def aload(self) -> Client:
        """`load` beside the event loop: importing a provider's package takes seconds."""
        if self._client is None:
            await asyncio.to_thread(self.load)
        return self.load()

    @property
    def built(self) -> Client | None:
        """The client, if it is built already."""
        return self._client

    @property
    def package(self) -> str | None:
        """The import name of the package that the provider needs; None if nobody knows."""
        return self.packages.get(self.provider.chat_model.partition(":")[0])

    @property
    def key_variable(self) -> str | None:
        """The environment variable with its API key; None if its package knows where it is."""
        return self.provider.api_key_env

    def key(self) -> SecretStr | None:
        """The API key; None if there is no variable for it.

        Raises:
            DescriptorError: If that variable is not set.
        """
        variable = self.key_variable
        if variable is None:
            return None
        key = os.environ.get(variable)
        if not key:
            raise DescriptorError(
                f"Model {self._id!r}: its API key is taken from the environment variable "
                f"{variable}, which is not set. Set it, or change api_key_env in its descriptor."
            )
        # An error about a client's arguments prints them, but not a SecretStr.
        return SecretStr(key)

    @property
    def secrets(self) -> list[str]:
        """Its API key, if it is set."""
        key = os.environ.get(self.key_variable or "")
        return [key] if key else []

    @cached_property
    def unsuitable(self) -> str | None:
        """Why this process cannot build it, whatever the keys; None where nothing is in the way."""
        package = self.package
        if package and not _is_installed(package):
            return f"its package is not installed: pip install {distribution(package)}"
        return None

    @property
    def missing(self) -> str | None:
        """Why it cannot be built now, as far as it shows without building it."""
        if self._client is not None:
            return None
        variable = self.key_variable
        if self.unsuitable is None and variable and not os.environ.get(variable):
            return f"the environment variable {variable} is not set"
        return self.unsuitable

    def warn(self, reason: str) -> None:
        """Warn, once, that it cannot be built."""
        if not self._has_warned:
            warn_of([self], reason)


def warn_of(clients: Sequence[LazyClient[Any]], reason: str) -> None:
    """Warn that clients cannot be built, all for one reason."""
    for client in clients:
        client._has_warned = True
    named = [repr(client._id) for client in clients[:SHOWN_CANDIDATES]]
    more = len(clients) - SHOWN_CANDIDATES
    logger.warning(
        "The chat model%s of %s cannot be built, others answer in %s place: %s",
        "" if len(clients) == 1 else "s",
        ", ".join([*named, *([f"{more} more"] if more > 0 else [])]),
        "its" if len(clients) == 1 else "their",
        reason,
    )


def check(clients: Iterable[LazyClient[Any]]) -> None:
    """Warn of what is missing, once for each thing, without building anything."""
    together: dict[str, list[LazyClient[Any]]] = {}
    for client in clients:
        if not client._has_warned and (reason := client.missing):
            together.setdefault(reason, []).append(client)
    for reason, found in together.items():
        warn_of(found, reason)


def buildable(decision: Decision, models: Mapping[str, object]) -> Decision:
    """A decision between the candidates that can be built now, where there are any.

    It says of the others what they lack. Nothing is built for it.

    Args:
        decision: Of a router over these models.
        models: The candidates by their ids, lazy clients or others.
    """
    missing = {
        candidate.model: f"cannot be built: {reason}"
        for candidate in decision.candidates
        if isinstance(client := models[candidate.model], LazyClient) and (reason := client.missing)
    }
    # Of all, the errors of building them say more.
    if not missing or len(missing) == len(decision.candidates):
        return decision
    return decision.without(missing)


def _is_installed(package: str) -> bool:
    if sys.modules.get(package) is not None:
        return True
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        # The package that it is a part of.
        return False


def distribution(package: str) -> str:
    """What to install for an import name, by the way that both frameworks name packages."""
    return package.replace("_", "-").replace(".", "-")


class Candidates(NamedTuple, Generic[Lazy]):
    """The candidates that a folder of descriptors names, and the router between them."""

    router: CrossRouter
    models: Mapping[str, Lazy]


def check_models_only(pool: Mapping[str, ModelDescriptor], name: str, other: str) -> None:
    """See that all candidates are models, for a class that stands where a model stood.

    Args:
        pool: The candidates by their ids.
        name: Of the class.
        other: What takes the others.

    Raises:
        PoolError: If one is an agent, a chain, a retriever or a tool.
    """
    for id_, one in pool.items():
        if one.kind != "model":
            raise PoolError(
                f"models: {id_!r} is of kind {one.kind} in the router's pool, and {name} takes "
                f"models only. Leave it out, or take {other}."
            )


def load_candidates(
    folder: str | Path | None,
    lazy: Callable[[ModelDescriptor], Lazy],
    agents: Mapping[str, Any] | None = None,
    ranking: Ranking | None = None,
) -> Candidates[Lazy]:
    """The candidates of a folder as it is now; None is the shipped checkpoint.

    Args:
        folder: See `CrossRouter.load`.
        lazy: Makes a lazy client of a descriptor, as `LazyClient.of`.
        agents: The agents, chains, retrievers and tools of the folder by their ids; None leaves
            them out.
        ranking: By what they are ordered; None is the usual way.

    Raises:
        UnknownModelError: If an id of `agents` is not in the folder.
        PoolError: If there are fewer than two candidates, or one of `agents` is a model.
        DescriptorError: If a descriptor is not valid.
        CheckpointError: If the checkpoint is damaged or of another version.
    """
    router = CrossRouter.load(folder)
    _check_agents(router, agents)
    return _candidates(_ranked(router, ranking), lazy, {}, agents)


def follow_candidates(
    folder: str | Path | None,
    lazy: Callable[[ModelDescriptor], Lazy],
    agents: Mapping[str, Any] | None = None,
    ranking: Ranking | None = None,
) -> FollowedFolder[Candidates[Lazy]]:
    """The candidates of a folder that may change.

    A client is kept for as long as what it is built from says the same. An agent is a candidate for
    as long as it has a descriptor.

    Raises:
        UnknownModelError: If an id of `agents` is not in the folder.
        PoolError: If there are fewer than two candidates, one of `agents` is a model, or no folder
            is named.
        DescriptorError: If a descriptor is not valid.
        CheckpointError: If the checkpoint is damaged or of another version.
    """
    if folder is None:
        raise PoolError("No folder is named to follow; the shipped descriptors do not change.")
    known: Mapping[str, Lazy] | None = None

    def make(router: CrossRouter) -> Candidates[Lazy]:
        nonlocal known
        if known is None:
            _check_agents(router, agents)
        found = _candidates(_ranked(router, ranking), lazy, known or {}, agents)
        known = {id_: one for id_, one in found.models.items() if isinstance(one, LazyClient)}
        return found

    return follow(folder, make)


def _ranked(router: CrossRouter, ranking: Ranking | None) -> CrossRouter:
    return router if ranking is None else router.with_ranking(ranking)


def _check_agents(router: CrossRouter, agents: Mapping[str, Any] | None) -> None:
    """See that what is given has a descriptor, and warn of descriptors without it."""
    if agents is None:
        return
    for id_ in agents:
        if router.pool[id_].kind == "model":
            raise PoolError(
                f"agents: {id_!r} is a model in the folder: write kind: agent (or chain, "
                "retriever, tool) into its descriptor, or leave it out."
            )
    others = [id_ for id_, one in router.pool.items() if one.kind != "model" and not one.disabled]
    if missing := [id_ for id_ in others if id_ not in agents]:
        logger.warning(
            "Nothing says how %s can be called, so they are no candidates: give them, as "
            "agents={%r: ...}",
            ", ".join(map(repr, missing)),
            missing[0],
        )


def _candidates(
    router: CrossRouter,
    lazy: Callable[[ModelDescriptor], Lazy],
    known: Mapping[str, Lazy],
    agents: Mapping[str, Any] | None,
) -> Candidates[Lazy]:
    models: dict[str, Lazy] = {}
    for model in router.pool.providers():
        descriptor, old = router.pool[model], known.get(model)
        if descriptor.kind != "model":
            continue
        if old is not None and old.is_of(descriptor):
            models[model] = old
            continue
        models[model] = lazy(descriptor)
    check(client for model, client in models.items() if not router.pool[model].disabled)
    given = {
        id_: one
        for id_, one in (agents or {}).items()
        if id_ in router.pool and router.pool[id_].kind != "model"
    }
    models |= cast("dict[str, Lazy]", given)
    return Candidates(router.subset(models), models)


def with_arms(
    models: Mapping[str, Any], pool: ModelPool, sets_effort: Callable[[Any], bool]
) -> Mapping[str, Any]:
    """Clients by the ids of candidates: one that is named by its model is that of all its efforts.

    Args:
        models: Clients, by the ids of candidates, or of models with efforts that are candidates.
            Who names an effort, too, gives it a client of its own. Unknown ids stay.
        pool: The candidates, and others perhaps.
        sets_effort: Whether a client can be asked with one effort or another.

    Raises:
        PoolError: If a client cannot be asked with the efforts that it would be shared by.
    """
    if all(model in pool for model in models):
        return models
    found: dict[str, Any] = {}
    for model, client in models.items():
        arms = pool.arms(model) or [model]
        if arms != [model] and not sets_effort(client):
            raise PoolError(
                f"{model!r} means {', '.join(arms)}, but it is not known how a "
                f"{type(client).__name__} is asked with a reasoning effort, so that all of them "
                "would be the same: give each of them a client with that effort, or the one that "
                "you mean."
            )
        found |= {arm: client for arm in arms if arm == model or arm not in models}
    return found


class FromYaml:
    """Gives a class whose arguments are `router`, `models` and `live` the way in by descriptors."""

    lazy_client: ClassVar[type[LazyClient[Any]]]
    """What builds the clients."""
    takes_agents: ClassVar[bool] = False
    """Whether candidates may be agents, chains, retrievers and tools, too."""

    @classmethod
    def from_yaml(
        cls,
        folder: str | Path | None = None,
        *,
        follow: bool = False,
        agents: Mapping[str, Any] | None = None,
        ranking: Ranking | None = None,
        **settings: Any,  # noqa: ANN401  # Those of the class.
    ) -> Self:
        """Route between the models that the descriptors of a folder name.

        Candidates are the descriptors that have a provider and are not retired; one that retires
        later is none from that day on, which a warning says. A client is built
        when it is first chosen: only then are the packages that build it, and its API key, needed.
        Where one is missing, the next candidate answers: the decision says so, and a warning, here
        if it is cheap to see, else when it is first noticed.

        Without a folder it routes between the shipped models that can be called today.

        Args:
            folder: A checkpoint, or a folder of descriptors (`*.yaml`): for the checkpoint that
                they lie in, else for the shipped one. None is the shipped checkpoint.
            follow: Whether files of the folder that are added, changed or removed later change the
                candidates of later calls (`docs/pool.md`).
            agents: What the descriptors of another kind than `model` are of, by their ids: they
                name no provider. Without it they are no candidates.
            ranking: See the class.
            **settings: The other arguments of the class.

        Raises:
            UnknownModelError: If an id of `agents` is not in the folder.
            PoolError: If there are fewer than two candidates, one of `agents` is a model, or no
                folder is named to follow.
            ConstraintError: If there are `agents`, and the class takes models only.
            DescriptorError: If a descriptor is not valid.
            CheckpointError: If the checkpoint is damaged or of another version.
        """
        if agents is not None and not cls.takes_agents:
            raise ConstraintError(
                f"agents is given, and {cls.__name__} takes models only; leave it out, or take a "
                "class that takes agents."
            )
        if cls.takes_agents:
            agents = agents or {}
        lazy = cls.lazy_client.of
        live = follow_candidates(folder, lazy, agents, ranking) if follow else None
        found = live.current if live else load_candidates(folder, lazy, agents, ranking)
        # Apart, so that a setting which the folder gives is an error, not lost.
        given: dict[str, Any] = {**found._asdict(), "live": live, "ranking": ranking}
        return cls(**given, **settings)
