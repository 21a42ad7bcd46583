"""ModelDescriptor: what one YAML file says of one model."""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    Field,
    FiniteFloat,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from crossroute.errors import DescriptorError, problems
from crossroute.files import replace_file
from crossroute.models.fields import (
    LONGEST_ID,
    Count,
    ModelId,
    PositiveCount,
    Strict,
    Text,
    Usd,
    printable,
)
from crossroute.models.price import ListedPrice, Price, listed_price
from crossroute.models.provider_arguments import (
    KNOWN_ARGUMENTS,
    check_arguments,
    check_key_goes_home,
    effort_arguments,
    effort_in,
    home_of,
)
from crossroute.query import Capability
from crossroute.yaml_file import parse_yaml, read_yaml

LanguageTag = Annotated[
    str, StringConstraints(strip_whitespace=True, pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{1,8})*$")
]
Region = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[A-Za-z0-9-]+$")]
Kind = Literal["model", "agent", "chain", "retriever", "tool"]
Effort = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[a-z][a-z0-9_]{0,29}$")]

_ADDRESS = re.compile(
    r"https?://(?:[\w.-]+|\[[\da-f:.]+\])(?::\d{1,5})?(?:/[\w.~%!$&'()*+,;=:@/-]*)?",
    re.ASCII | re.IGNORECASE,
)

DISABLED = "disabled in its descriptor"
"""Why such a model is no candidate."""

SHOWN_PROBLEMS = 20
"""How many problems of a file an error lists."""

ANSWER_SHARE = 0.25
"""How much of a context window is left to the answer, at most, where nobody says how long it is."""

MOST_TEXTS = 200
"""Skills, or examples, of one descriptor."""

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""The efforts that vendors have, the least first."""

LIKE_AN_EFFORT = 0.75
"""A word so like one of them is taken for a slip."""

MOST_EFFORTS = 20
"""Of one model."""

LINE_WIDTH = 100
"""Of a file that is written."""

LONGEST_NAME = 200
"""Of a file, in bytes and without its ending: systems take 255, and a new file has a longer one."""


class Provider(Strict):
    """Where a model is reached."""

    chat_model: Annotated[
        str,
        StringConstraints(pattern=r"^[a-z0-9_]+:.+$", max_length=500),
        AfterValidator(printable),
    ]
    """`provider:model`, as LangChain's `init_chat_model` takes it."""
    base_url: Annotated[str, StringConstraints(strip_whitespace=True, max_length=1000)] | None = (
        None
    )
    """Address of an OpenAI-compatible server, where it is not the provider's own: `http` or
    `https`, without a user, a password or a query."""
    api_key_env: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = (
        None
    )
    """NAME of the environment variable with the key, where it is not the integration's default. A
    key itself is never written in a descriptor."""
    arguments: dict[str, Any] = Field(
        default_factory=dict, json_schema_extra={"propertyNames": {"enum": [*KNOWN_ARGUMENTS]}}
    )
    """Further constructor arguments, such as `temperature`; which ones, depends on the provider."""

    @field_validator("chat_model")
    @classmethod
    def _no_address(cls, chat_model: str) -> str:
        # Some providers take an address in place of a name, and would send their key there.
        if "://" in chat_model:
            raise ValueError("must be a name, not an address")
        return chat_model

    @field_validator("base_url")
    @classmethod
    def _plain_address(cls, base_url: str | None) -> str | None:
        if base_url is not None and not _ADDRESS.fullmatch(base_url):
            raise ValueError(
                "must be an address like https://host.example/v1, without a user, a password, a "
                "query or a fragment"
            )
        return base_url

    @field_validator("arguments")
    @classmethod
    def _allowed(cls, arguments: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        # Without a valid chat_model, that is the error.
        if chat_model := info.data.get("chat_model"):
            check_arguments(chat_model.partition(":")[0], arguments)
        return arguments

    @model_validator(mode="after")
    def _own_key(self) -> Provider:
        if self.base_url is not None and self.api_key_env is None:
            raise ValueError(
                "base_url needs api_key_env beside it, the name of the variable with that server's "
                "key; without it the provider's default key would be sent there"
            )
        if self.api_key_env is not None:
            address = self.base_url or home_of(self.chat_model.partition(":")[0])
            if address is not None:
                check_key_goes_home(self.api_key_env, address)
        return self


class Learned(Strict):
    """What training learned of a model; it fits one checkpoint only."""

    checkpoint: Text
    """Id of the checkpoint whose network reads this embedding."""
    cost_target: Literal["output_tokens", "usd"]
    """What the network predicts for this model: `output_tokens`, of which the price table makes
    USD, or `usd` where the training data had no token counts."""
    examples: Count
    """Scored answers that it was learned from."""
    source: Literal["training", "scores", "guess"] = "training"
    """How it was made: by training, from a few scores, or by a guess without any."""
    scores_file: Text | None = None
    """Where the scores are, beside the descriptor, from which `crossroute models rebase` makes the
    embedding again for another checkpoint."""
    mean_quality: Annotated[FiniteFloat, Field(ge=0, le=1)] | None = None
    """Estimate of the model's mean quality over the prompts that it was scored on."""
    quality_error: Annotated[FiniteFloat, Field(ge=0, le=100)] = 0.0
    """Standard error of that mean, in logits; predictions are held back by it."""
    # Training makes numbers below 10, of which some are logarithms: larger ones could overflow.
    embedding: Annotated[
        tuple[Annotated[FiniteFloat, Field(ge=-100, le=100)], ...],
        Field(min_length=1, max_length=10_000),
    ]
    """The model's embedding."""


def rounded(embedding: Iterable[float]) -> tuple[float, ...]:
    """An embedding as it stands in a file: four decimals are more than training can tell apart."""
    return tuple(round(float(number), 4) for number in embedding)


class Likeness(Strict):
    """What a model without scores is taken to be like."""

    model: ModelId
    """Id of a known model."""
    quality_offset: Annotated[FiniteFloat, Field(ge=-1, le=1)] = 0.0
    """How much better it is thought to be, in quality (0.05: five points)."""


class ModelDescriptor(Strict):
    """One model of a pool."""

    id: ModelId
    """The model's id, in the pool and in the data it was trained on."""
    kind: Kind = "model"
    """What it is. All but a `model` serve only what is like their description, skills and
    examples."""
    description: Text | None = None
    """One sentence on what it is, or on what it serves."""
    skills: Annotated[tuple[Text, ...], Field(max_length=MOST_TEXTS)] = ()
    """What an agent, a chain, a retriever or a tool can do, a sentence each."""
    examples: Annotated[tuple[Text, ...], Field(max_length=MOST_TEXTS)] = ()
    """Queries that it serves."""
    provider: Provider | None = None
    """Where it is reached; None for a model that is only predicted."""
    retired: datetime.date | None = None
    """The day on which the provider stops serving it: from then on it is no candidate."""
    disabled: bool = False
    """Whether it is left out of every decision, without being removed."""
    note: Text | None = None
    """Anything a reader of the file should know."""
    price: Price | None = Field(default=None, validate_default=True)
    """Its price table; without one, the price that genai-prices lists for the provider's model."""
    cost_usd_a_call: Usd | None = None
    """What a call of an agent, a chain, a retriever or a tool costs in the mean, in USD."""
    expected_quality: Annotated[FiniteFloat, Field(ge=0, le=1)] | None = None
    """Mean quality of its answers to what it serves, 0..1, of all but a model, whose quality is
    learned."""
    efforts: Annotated[tuple[Effort, ...], Field(max_length=MOST_EFFORTS)] = ()
    """The reasoning efforts that the model takes, the least first: each is a candidate of its own,
    `id@effort`."""
    effort: Effort | None = None
    """The reasoning effort that it is asked with, where its `id` is `model@effort`. It need not be
    said where the arguments of its `provider` say it."""
    context_window_tokens: PositiveCount | None = None
    """Input and output tokens that fit in one request."""
    max_output_tokens: PositiveCount | None = None
    """Longest answer."""
    capabilities: tuple[Capability, ...] = ()
    """What it can do beside text to text."""
    languages: tuple[LanguageTag, ...] = ()
    """The languages that it knows, as BCP 47 tags such as `de` or `pt-BR`."""
    region: Region | None = None
    """Where its provider processes requests, such as `eu` or `us`."""
    data_retention_days: Count | None = None
    """For how long its provider keeps requests; 0 if not at all."""
    expected_latency_seconds: Annotated[FiniteFloat, Field(gt=0)] | None = None
    """Median time that a whole answer takes."""
    family: Text | None = None
    """Models of one family are alike."""
    parameters_in_billions: Annotated[FiniteFloat, Field(gt=0)] | None = None
    """Its size, where it is known."""
    behaves_like: Likeness | None = None
    """The known model that it is taken for as long as it has no scores."""
    learned: Learned | None = None
    """Its learned embedding; None before training or onboarding."""

    @field_validator("price")
    @classmethod
    def _or_listed(cls, price: Price | None, info: ValidationInfo) -> Price | None:
        provider = info.data.get("provider")
        if price is not None or provider is None:
            return price
        return listed_price(provider.chat_model, provider.base_url)

    @model_validator(mode="after")
    def _of_its_kind(self) -> ModelDescriptor:
        if self.kind == "model":
            for name in ("skills", "examples", "cost_usd_a_call", "expected_quality"):
                if name in self.model_fields_set and getattr(self, name) not in (None, ()):
                    raise ValueError(
                        f"{name} is of an agent, a chain, a retriever or a tool; write its kind, "
                        f"or remove {name}"
                    )
        elif self.efforts:
            raise ValueError(f"efforts are of a model, this is of kind {self.kind}; remove them")
        elif not (self.description or self.skills or self.examples):
            raise ValueError(
                f"one of kind {self.kind} needs a description, skills or examples, which say what "
                "it serves"
            )
        self._check_efforts()
        return self

    def _check_efforts(self) -> None:
        if len(set(self.efforts)) < len(self.efforts):
            raise ValueError("efforts names one twice; remove it")
        known = [EFFORTS.index(effort) for effort in self.efforts if effort in EFFORTS]
        if known != sorted(known):
            least_first = ", ".join(sorted(self.efforts, key=_rank_of_effort))
            raise ValueError(f"efforts stand the least first: [{least_first}]")
        for effort in self.efforts:
            # A vendor may have others, but none that only looks like one of these.
            if effort not in EFFORTS and (
                meant := get_close_matches(effort, EFFORTS, 1, LIKE_AN_EFFORT)
            ):
                raise ValueError(f"efforts names {effort!r}; did you mean {meant[0]!r}?")
        if self.effort is not None and not self.id.endswith(f"@{self.effort}"):
            raise ValueError(
                f"effort is {self.effort}, so that the id must end with @{self.effort}"
            )
        if self.efforts and self.effort is not None:
            raise ValueError(f"efforts stands beside the effort {self.effort}; remove one")
        if self.efforts and len(self.id) + 1 + max(map(len, self.efforts)) > LONGEST_ID:
            raise ValueError(f"efforts make ids of more than {LONGEST_ID} characters; shorten id")
        if self.provider is None:
            return
        told = effort_in(self.provider.arguments)
        if self.effort is not None and self.effort != told:
            raise ValueError(
                f"effort is {self.effort}, provider.arguments must set it; remove effort, or set "
                "it there, as crossroute models new --effort does"
            )
        if self.efforts and told is not None:
            raise ValueError(
                f"efforts stands beside the effort {told} in provider.arguments; remove one"
            )
        if self.efforts:
            vendor = self.provider.chat_model.partition(":")[0]
            try:
                effort_arguments(vendor, self.efforts[0])
            except ValueError as error:
                raise ValueError(f"efforts: {error}; remove efforts") from None

    @property
    def as_written(self) -> ModelDescriptor:
        """The descriptor as it stands in a file: a price that is listed elsewhere does not."""
        if not isinstance(self.price, ListedPrice):
            return self
        return self.model_copy(update={"price": None})

    @property
    def room_for_answer(self) -> int:
        """Tokens of the context window that are left to an answer of unknown length; 0 without one.

        A conversation that is shortened to fit gets the rest.
        """
        room = int(ANSWER_SHARE * (self.context_window_tokens or 0))
        return min(room, self.max_output_tokens or room)

    def unreachable(self, today: datetime.date) -> str | None:
        """Why the model cannot be called on that day, or None if it can.

        An agent, a chain, a retriever or a tool needs no provider: the application calls it.
        """
        if self.disabled:
            return DISABLED
        if self.provider is None and self.kind == "model":
            return "no provider"
        return f"retired {self.retired}" if self.is_retired(today) else None

    def is_retired(self, today: datetime.date) -> bool:
        """Whether the provider no longer serves it on that day."""
        return self.retired is not None and self.retired <= today

    @property
    def file_name(self) -> str:
        """The name of the file that this descriptor is saved as, one that every system takes."""
        # Files that begin with a dot are not read; Windows keeps some names for devices.
        name = re.sub(r"[^\w.-]|^\.", "_", self.id)
        name = re.sub(r"^(?i:con|prn|aux|nul|com\d|lpt\d)(?=\.|$)", r"_\g<0>", name)
        if len(name.encode()) > LONGEST_NAME:
            end = "-" + hashlib.sha256(self.id.encode()).hexdigest()[:12]
            name = name.encode()[: LONGEST_NAME - len(end)].decode("utf-8", "ignore") + end
        return name + ".yaml"

    @classmethod
    def load(cls, path: str | Path) -> ModelDescriptor:
        """Read one descriptor file.

        Raises:
            DescriptorError: If the file cannot be read or is not valid; names file and field.
        """
        path = Path(path)
        return cls._of(read_yaml(path, DescriptorError), path)

    @classmethod
    def parse(cls, text: str, path: Path) -> ModelDescriptor:
        """Read a descriptor's YAML.

        Args:
            text: The YAML.
            path: The file that errors name.

        Raises:
            DescriptorError: If it is not valid; names file and field.
        """
        return cls._of(parse_yaml(text, path, DescriptorError), path)

    @classmethod
    def _of(cls, content: object, path: Path) -> ModelDescriptor:
        if not isinstance(content, Mapping):
            raise DescriptorError(
                f"{path}: a descriptor is a mapping with at least `id:`, "
                f"this file holds {type(content).__name__}."
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            said = problems(
                error, cls, most=SHOWN_PROBLEMS, between=".\n  ", unquoted=("provider",)
            )
            raise DescriptorError(f"{path}: not a valid model descriptor.\n  {said}.") from None

    def save(self, folder: str | Path) -> Path:
        """Write the descriptor into `folder` as YAML, whole or not at all; returns the file."""
        path = Path(folder) / self.file_name
        replace_file(path, dump_yaml(self.as_written.model_dump(exclude_defaults=True)))
        return path


def _rank_of_effort(effort: str) -> int:
    """Where an effort stands; one that nobody knows stands last."""
    return EFFORTS.index(effort) if effort in EFFORTS else len(EFFORTS)


def dump_yaml(content: object) -> str:
    """Fields of a descriptor as they stand in a file."""
    text: str = yaml.dump(
        content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=LINE_WIDTH
    )
    return text


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a descriptor file, for editors."""
    schema = ModelDescriptor.model_json_schema()
    for model in (schema, *schema["$defs"].values()):
        for field in model["properties"].values():
            # None where Python runs without its source files.
            if text := field.get("description"):
                field["description"] = " ".join(text.split())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema


class _Dumper(yaml.SafeDumper):
    """Mappings one field a line, lists (an embedding) on few lines."""


def _represent_list(dumper: yaml.SafeDumper, data: Iterable[object]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", list(data), flow_style=True)


_Dumper.add_representer(list, _represent_list)
_Dumper.add_representer(tuple, _represent_list)
