"""The command `crossroute models new`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from crossroute.cli.common import err, out
from crossroute.errors import DescriptorError, PoolError, did_you_mean
from crossroute.models.descriptor import ModelDescriptor, dump_yaml
from crossroute.models.efforts import expanded
from crossroute.models.price import ListedPrice, listed_model, listed_models
from crossroute.models.provider_arguments import BY_PROVIDER, effort_arguments

NOTE = (
    "Written by crossroute models new. Without a price table, its price is the one that "
    "genai-prices lists."
)


def models_new(
    chat_model: Annotated[
        str, typer.Argument(metavar="PROVIDER:MODEL", help="As init_chat_model takes it.")
    ],
    folder: Annotated[
        Path | None, typer.Option("--out", help="Folder to write it into; printed if absent.")
    ] = None,
    effort: Annotated[
        str | None, typer.Option(help="Reasoning effort; it becomes a part of the id.")
    ] = None,
    every_effort: Annotated[
        bool,
        typer.Option(
            "--every-effort", help="One file for each effort, so that each can be onboarded."
        ),
    ] = False,
) -> None:
    """Write the descriptor of a model from what genai-prices and LangChain know of it.

    A model with reasoning efforts lists them: each is a candidate. With --effort it is one of them
    alone. Nothing is asked of any network. The price is not copied: it is looked up when it is
    needed.
    """
    if every_effort and (effort is not None or folder is None):
        raise DescriptorError("--every-effort writes files: give --out, and no --effort.")
    model = _described(chat_model, effort)
    models = expanded([model]) if every_effort else [model]
    if every_effort and not model.efforts:
        raise DescriptorError(
            f"{chat_model}: nobody says which efforts it takes; give one with --effort."
        )
    if folder is None:
        sys.stdout.write(dump_yaml(model.as_written.model_dump(exclude_defaults=True)))
        return
    for path in (folder / one.file_name for one in models):
        if path.exists():
            raise PoolError(f"{path}: is there already; remove it, or write into another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    for one in models:
        out.print(escape(f"Wrote {one.save(folder)}"))


def _described(chat_model: str, effort: str | None) -> ModelDescriptor:
    provider, _, name = chat_model.partition(":")
    if provider not in BY_PROVIDER or not name:
        raise DescriptorError(
            f"{chat_model!r}: give PROVIDER:MODEL, such as openai:gpt-5.5"
            f"{did_you_mean(provider, BY_PROVIDER)} Providers are {', '.join(BY_PROVIDER)}."
        )
    listed, profile = listed_model(chat_model), _profile(chat_model)
    if listed is None and not profile:
        raise DescriptorError(
            f"{chat_model}: neither genai-prices nor LangChain knows such a model"
            f"{did_you_mean(name, listed_models(provider))} Of a newer or an own one, write the "
            "descriptor by hand (docs/descriptor.md)."
        )
    content: dict[str, Any] = {
        "id": name if effort is None else f"{name}@{effort}",
        "provider": {"chat_model": chat_model},
        "note": NOTE,
    }
    title = profile.get("name") or (listed and listed.name)
    if title:
        content["description"] = f"{title}{f' at {effort} effort' if effort else ''}."
    levels = profile.get("reasoning_effort_levels")
    if effort is None:
        content["efforts"] = _settable(provider, levels or ())
    else:
        if levels and effort not in levels:
            raise DescriptorError(
                f"effort is {effort!r}{did_you_mean(effort, levels)} {chat_model} has "
                f"{', '.join(levels)}."
            )
        try:
            content["provider"]["arguments"] = effort_arguments(provider, effort)
        except ValueError as error:
            raise DescriptorError(f"effort: {error}.") from None
    content |= {key: value for key, value in profile.items() if key in ModelDescriptor.model_fields}
    if listed and listed.context_window:
        content.setdefault("context_window_tokens", listed.context_window)
    model = ModelDescriptor.parse(dump_yaml(content), Path(chat_model))
    if not isinstance(model.price, ListedPrice):
        err.print(escape(f"genai-prices lists no price of {chat_model}; add a price table."))
    return model


def _settable(provider: str, levels: Sequence[str]) -> list[str]:
    """The efforts that a descriptor can set: none of a provider whose chat model takes none."""
    try:
        return [level for level in levels if effort_arguments(provider, level)]
    except ValueError:
        return []


def _profile(chat_model: str) -> dict[str, Any]:
    """What LangChain's profile says, in our words; empty, and said so, where there is none."""
    try:
        from langchain_crossroute.profiles import known_profile

        profile = known_profile(chat_model)
        reason = "it has none of this model"
    except Exception as error:
        # A vendor's package is missing, or raises what it likes.
        profile, reason = {}, str(error).partition("\n")[0]
    if not profile:
        err.print(
            escape(
                f"No LangChain profile of {chat_model}, so capabilities and limits are left out as "
                f"far as genai-prices does not know them: {reason}"
            )
        )
    return profile
