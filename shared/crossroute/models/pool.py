"""ModelPool: the models that a router chooses from."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cached_property, lru_cache
from importlib.resources import as_file, files
from pathlib import Path

from crossroute.errors import DescriptorError, PoolError, UnknownModelError
from crossroute.models.descriptor import ModelDescriptor, Provider
from crossroute.models.efforts import arm_of, expanded

logger = logging.getLogger(__name__)

MODELS = "models"
"""The folder of a checkpoint's descriptors, in it."""


class ModelPool(Mapping[str, ModelDescriptor]):
    """An immutable mapping from model id to descriptor, in the order of the ids.

    Args:
        descriptors: The models; ids must differ.

    Raises:
        PoolError: If two descriptors have one id, or would be saved as one file.
    """

    def __init__(self, descriptors: Iterable[ModelDescriptor]) -> None:
        models: dict[str, ModelDescriptor] = {}
        files: dict[str, str] = {}
        for descriptor in descriptors:
            if descriptor.id in models:
                raise PoolError(f"Two descriptors have the id {descriptor.id!r}; remove one.")
            # Some file systems do not tell capitals apart.
            file = descriptor.file_name.lower()
            if file in files:
                raise PoolError(
                    f"The ids {files[file]!r} and {descriptor.id!r} would both be saved as "
                    f"{descriptor.file_name}; rename one."
                )
            models[descriptor.id], files[file] = descriptor, descriptor.id
        self._models = dict(sorted(models.items()))

    @classmethod
    def load(cls, folder: str | Path) -> ModelPool:
        """Load every `*.yaml` and `*.yml` of a folder as one model each.

        Args:
            folder: Holds the descriptors, or is a checkpoint, which has them in `models/`.

        Raises:
            PoolError: If there is no such folder, it holds no descriptor, or two share an id.
            DescriptorError: If a descriptor is not valid.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise PoolError(f"{folder}: no such folder of model descriptors.")
        folder = descriptor_folder(folder)
        paths = descriptor_files(folder)
        if not paths:
            raise PoolError(f"{folder}: holds no model descriptor (*.yaml); add one a model.")
        loaded: dict[str, Path] = {}
        descriptors = []
        for path in paths:
            try:
                descriptor = ModelDescriptor.load(path)
            except DescriptorError as error:
                # It was removed since the folder was listed.
                if isinstance(error.__cause__, FileNotFoundError):
                    continue
                raise
            if descriptor.id in loaded:
                raise PoolError(
                    f"{path}: the id {descriptor.id!r} is taken by {loaded[descriptor.id]}; "
                    "an id stands in one file."
                )
            loaded[descriptor.id] = path
            descriptors.append(descriptor)
        return cls(descriptors)

    @classmethod
    def shipped(cls) -> ModelPool:
        """The models of the shipped checkpoint, retired ones too; read once a process."""
        return _shipped()

    def save(self, folder: str | Path) -> None:
        """Write one YAML file a model into `folder`, which is made if it is missing."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        for descriptor in self.values():
            descriptor.save(folder)

    def subset(self, models: Iterable[str]) -> ModelPool:
        """The pool of only these models.

        Raises:
            UnknownModelError: If an id is not in this pool.
        """
        return ModelPool(self[model] for model in dict.fromkeys(models))

    def expanded(self) -> ModelPool:
        """The pool of what can be asked: an arm for each effort that a model lists, in its place.

        That is what a router chooses from; a folder keeps what it says. A descriptor with the id of
        an arm, such as one that was onboarded, takes the place of that arm.
        """
        if not any(model.efforts for model in self.values()):
            return self
        return ModelPool(expanded(self.values()))

    def arms(self, model: str) -> list[str]:
        """The ids that one means: itself, else those of its efforts; none if it is unknown."""
        if model in self:
            return [model]
        return self._arms.get(model, [])

    @cached_property
    def _arms(self) -> Mapping[str, list[str]]:
        """The arms of each model; limits of calls ask for them."""
        found: dict[str, list[str]] = {}
        for one in self.values():
            if (arm := arm_of(one)) is not None:
                found.setdefault(arm.model, []).append(one.id)
        return found

    def reachable(self) -> list[str]:
        """Ids of the models whose provider still serves them today, and of all that need none."""
        today = datetime.date.today()
        return [model.id for model in self.values() if model.unreachable(today) is None]

    def providers(self) -> dict[str, Provider]:
        """The providers of the models that can be asked, by their ids; disabled models included.

        A disabled model is a candidate that the router removes, so that enabling it builds nothing.

        Raises:
            PoolError: If there are fewer than two; says why the others were left out.
        """
        today = datetime.date.today()
        found: dict[str, Provider] = {}
        left_out = []
        for model in self.values():
            if model.provider is None and model.kind != "model":
                continue  # The application calls it.
            reason = model.unreachable(today)
            if model.provider is not None and model.is_retired(today):
                tell_retired(model)
            if model.provider is None or (reason is not None and not model.disabled):
                left_out.append(f"{model.id} ({reason})")
            else:
                found[model.id] = model.provider
        if len(found) < 2:
            raise PoolError(
                f"Chat models can be built for {len(found)} of the {len(self)} descriptors"
                f"{': ' + ', '.join(found) if found else ''}; a router needs at least two. "
                f"Left out: {', '.join(left_out)}. Add a descriptor with a provider."
            )
        return found

    def __getitem__(self, model: str) -> ModelDescriptor:
        try:
            return self._models[model]
        except KeyError:
            raise UnknownModelError(model, self._models) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def __repr__(self) -> str:
        return f"ModelPool({', '.join(self)})"


@lru_cache(maxsize=1)
def _shipped() -> ModelPool:
    with shipped_folder() as folder:
        return ModelPool.load(folder)


def shipped_folder() -> AbstractContextManager[Path]:
    """The folder of the shipped descriptors, for as long as it is open."""
    return as_file(files("crossroute") / "assets" / "default" / MODELS)


def tell_retired(model: ModelDescriptor) -> None:
    """Warn, once a process, that a model is no candidate any more."""
    _tell_retired(model.id, model.retired)


@lru_cache(maxsize=4096)
def _tell_retired(model: str, retired: datetime.date | None) -> None:
    logger.warning("%r is no candidate any more: its descriptor says retired: %s", model, retired)


def descriptor_folder(folder: str | Path) -> Path:
    """Where the descriptors are that a folder holds: in it, or in a checkpoint's `models/`."""
    inner = Path(folder) / MODELS
    return inner if inner.is_dir() else Path(folder)


def descriptor_files(folder: Path) -> list[Path]:
    """The files of a folder that are read as descriptors.

    A pipe, say, is no file: reading it would wait for whoever writes to it.
    """
    return [path for path in listed_descriptors(folder) if path.is_file()]


def listed_descriptors(folder: Path) -> list[Path]:
    """What is named like a descriptor in a folder, file or not; hidden ones are editors' own."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in (".yaml", ".yml") and not path.name.startswith(".")
    )
