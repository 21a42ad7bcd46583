"""What the modules of the command `crossroute` share."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from crossroute.checkpoint import models_folder
from crossroute.pool import ModelPool
from crossroute.router import CrossRouter

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)

CheckpointOption = Annotated[
    Path | None, typer.Option("--checkpoint", help="Checkpoint folder; the shipped one if absent.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def load_router(checkpoint: Path | None) -> CrossRouter:
    """The router of a checkpoint folder, or the shipped one."""
    return CrossRouter.load(checkpoint) if checkpoint else CrossRouter.default()


def descriptor_folder(folder: Path) -> Path:
    """A checkpoint folder is as good as the folder of models in it."""
    inner = models_folder(folder)
    return inner if inner.is_dir() else folder


def load_pool(folder: Path | None) -> ModelPool:
    """The models of a folder, or the shipped ones."""
    return ModelPool.shipped() if folder is None else ModelPool.load(descriptor_folder(folder))


def print_json(content: object) -> None:
    """Print JSON as it is, whatever the terminal's width."""
    sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
