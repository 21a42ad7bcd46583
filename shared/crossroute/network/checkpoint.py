"""Checkpoint: what training learned, on disk as JSON, safetensors and YAML; never pickle.

FOLDER/checkpoint.json      format version, encoder, how it was trained, SHA-256 of the network
FOLDER/network.safetensors  the network's arrays
FOLDER/models/*.yaml        one descriptor a model, with its learned embedding
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from crossroute.errors import CheckpointError, PoolError, problems, shortened
from crossroute.files import read_file, replace_file
from crossroute.models.descriptor import ModelDescriptor
from crossroute.models.pool import MODELS, ModelPool, descriptor_files
from crossroute.network.encoders import EncoderSignature
from crossroute.network.features import FloatArray
from crossroute.network.predictor import Network

if sys.platform != "win32":
    import fcntl

FORMAT_VERSION: Literal[2] = 2
MANIFEST, NETWORK = "checkpoint.json", "network.safetensors"
MOST_BYTES = 256 * 2**20
"""Of a network, many times that of any that was trained; and of a manifest."""

_SAVING = threading.Lock()


class Manifest(BaseModel):
    """The content of `checkpoint.json`.

    Attributes:
        format_version: Of the files' layout.
        encoder: The encoder that the network reads.
        network_sha256: Of `network.safetensors`; its beginning is the checkpoint's id.
        training: How it was trained: data, settings, seed, losses.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: Literal[2] = 2
    encoder: EncoderSignature
    network_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    training: dict[str, Any]


class Checkpoint:
    """A trained network and what it is for; the models are a pool beside it.

    Args:
        network: The learned arrays.
        encoder: Signature of the encoder that it was trained on.
        training: How it was trained, JSON values only.
    """

    def __init__(
        self, network: Network, encoder: EncoderSignature, training: dict[str, Any]
    ) -> None:
        self.network = network
        self.encoder = encoder
        self.training = training

    @property
    def id(self) -> str:
        """What the learned embeddings of its models refer to it by."""
        return self._sha256[:12]

    @cached_property
    def _sha256(self) -> str:
        return hashlib.sha256(self._network_bytes).hexdigest()

    @cached_property
    def _network_bytes(self) -> bytes:
        return save(self.network.arrays())

    def save(self, folder: str | Path, pool: ModelPool) -> None:
        """Write the checkpoint and its models.

        Files that belong to no checkpoint are left alone. The manifest is written last, so that a
        save that was interrupted is noticed when loading. Of two saves at once, one waits.

        Args:
            folder: A new or empty folder, or that of an older checkpoint, which is replaced.
            pool: The models.

        Raises:
            CheckpointError: If the folder holds something else, or cannot be written.
        """
        folder = Path(folder)
        manifest = Manifest(
            encoder=self.encoder, network_sha256=self._sha256, training=self.training
        )
        if folder.is_file():
            check_target(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _alone(folder):
                # What another save has half written is no reason to refuse the folder.
                check_target(folder)
                self._write(folder, pool, manifest)
        except OSError as error:
            raise CheckpointError(f"{folder}: the checkpoint cannot be written: {error}") from error

    def _write(self, folder: Path, pool: ModelPool, manifest: Manifest) -> None:
        pool.save(folder / MODELS)
        kept = {model.file_name for model in pool.values()}
        for path in descriptor_files(folder / MODELS):
            if path.name not in kept:
                path.unlink()
        replace_file(folder / NETWORK, self._network_bytes)
        replace_file(folder / MANIFEST, (manifest.model_dump_json(indent=2) + "\n").encode())

    @classmethod
    def load(cls, folder: str | Path) -> Checkpoint:
        """Read a checkpoint.

        Raises:
            CheckpointError: If files are missing, damaged, or of another format version.
        """
        folder = Path(folder)
        manifest = _load_manifest(folder / MANIFEST)
        path = folder / NETWORK
        content = _read(path)
        found = hashlib.sha256(content).hexdigest()
        if found != manifest.network_sha256:
            raise CheckpointError(
                f"{path}: damaged or truncated ({len(content)} bytes; SHA-256 {found[:12]}..., "
                f"{MANIFEST} says {manifest.network_sha256[:12]}...). Copy the checkpoint again."
            )
        try:
            network = Network.from_arrays(_arrays(content))
        except (SafetensorError, ValueError) as error:
            raise CheckpointError(
                f"{path}: not a network of this version: {error}. Train again."
            ) from error
        checkpoint = cls(network, manifest.encoder, manifest.training)
        # The bytes as they were read: written anew they might differ, and so would the id.
        checkpoint.__dict__["_network_bytes"] = content
        return checkpoint


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until nobody else saves into a folder: no thread and, but on Windows, no process."""
    with _SAVING:
        if sys.platform == "win32":
            yield
            return
        opened = os.open(folder, os.O_RDONLY)
        try:
            # Some network file systems have no locks.
            with suppress(OSError):
                fcntl.flock(opened, fcntl.LOCK_EX)
            yield
        finally:
            # Which gives back the lock, too.
            os.close(opened)


def check_target(folder: str | Path) -> None:
    """Refuse a folder that `Checkpoint.save` would not write to.

    Raises:
        CheckpointError: If it is a file, or holds something other than a checkpoint.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder}: is a file; name a folder to save the checkpoint in.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise CheckpointError(
            f"{folder}: is not empty and holds no checkpoint; name another folder."
        )


def checkpoint_folder(folder: str | Path) -> Path | None:
    """The checkpoint that a folder is, or that its descriptors lie in; None if there is none."""
    folders = Path(folder), Path(folder).absolute().parent
    return next((one for one in folders if (one / MANIFEST).is_file()), None)


def fits(checkpoint: Checkpoint, model: ModelDescriptor) -> bool:
    """Whether a model has an embedding that this network can read."""
    learned = model.learned
    return (
        learned is not None
        and learned.checkpoint == checkpoint.id
        and len(learned.embedding) == checkpoint.network.embedding_size
    )


def check_fit(checkpoint: Checkpoint, pool: ModelPool) -> None:
    """Refuse models whose embedding this network cannot read.

    Raises:
        PoolError: If a model has an embedding of another checkpoint or size.
    """
    size = checkpoint.network.embedding_size
    for model in pool.values():
        learned = model.learned
        if learned and not fits(checkpoint, model):
            raise PoolError(
                f"Model {model.id!r}: its embedding ({len(learned.embedding)} numbers) was "
                f"made for checkpoint {learned.checkpoint!r}, this one is {checkpoint.id!r} "
                f"({size} numbers). Make it again from its scores with crossroute models rebase, "
                "use the descriptor of this checkpoint, or train again."
            )


def _load_manifest(path: Path) -> Manifest:
    if not path.exists():
        raise CheckpointError(
            f"{path}: no such file; a checkpoint folder holds {MANIFEST}, {NETWORK} and "
            f"{MODELS}/. Make one with: crossroute train FILE... --out {path.parent}"
        )
    try:
        return Manifest.model_validate_json(_read(path))
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            if problem["loc"] == ("format_version",):
                raise CheckpointError(
                    f"{path}: format version {shortened(problem['input'])}; this crossroute reads "
                    f"version {FORMAT_VERSION}. Install the crossroute it was made with, or train "
                    "again."
                ) from error
        raise CheckpointError(
            f"{path}: damaged: {problems(error, Manifest)}. Copy the checkpoint again, or train "
            "again."
        ) from None


def _read(path: Path) -> bytes:
    try:
        return read_file(path, MOST_BYTES)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error


def _arrays(content: bytes) -> dict[str, FloatArray]:
    """The arrays of a safetensors file.

    Raises:
        SafetensorError: If it is none.
        ValueError: If one is empty or not of 32-bit floats: the format has types that numpy lacks.
    """
    arrays = {}
    for name, tensor in deserialize(content):  # type: ignore[no-untyped-call]
        if tensor["dtype"] != "F32":
            raise ValueError(f"{shortened(name)} is of {shortened(tensor['dtype'])}, expected F32")
        if 0 in tensor["shape"]:
            raise ValueError(f"{shortened(name)} is empty: {tensor['shape']}")
        arrays[name] = np.frombuffer(tensor["data"], "<f4").reshape(tensor["shape"])
    return arrays
