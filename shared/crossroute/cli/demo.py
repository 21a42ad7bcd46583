"""The command `crossroute demo`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from crossroute.cli.common import out
from crossroute.errors import CrossRouteError, MissingExtraError, PoolError
from crossroute.failures import LEAST_SECRET, describe, masked


def demo(
    live: Annotated[
        bool, typer.Option("--live", help="Ask the descriptors' providers; needs their keys.")
    ] = False,
) -> None:
    """Route a couple of dozen prompts through a LangChain chain at three willingnesses to pay."""
    try:
        from langchain_crossroute.demo import run
    except ImportError as error:
        raise MissingExtraError("langchain-core", "langchain") from error
    try:
        run(out, live=live)
    except CrossRouteError:
        raise
    except Exception as error:
        if not live:
            raise
        # A provider's package raises what it likes: it is missing, lacks a key, or was refused.
        keys = [
            value
            for name, value in os.environ.items()
            if name.endswith("_API_KEY") and len(value) >= LEAST_SECRET
        ]
        # The last note names every candidate that was tried.
        said = masked("\n".join([describe(error), *getattr(error, "__notes__", [])[-1:]]), keys)
        raise PoolError(
            f"The providers could not be asked: {said}\nInstall the package of each provider and "
            "set its key, or leave out --live: the answers are simulated then."
        ) from error
