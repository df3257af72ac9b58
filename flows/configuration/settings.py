"""A run's configuration: one frozen object, read once from `armorm.toml` and the environment.

Every value can be overridden: `ARMORM_GATE__STEPS=400` is `steps` in `[gate]`. Paths are relative to the
folder of the file.
"""

import os
import re
import tomllib
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from armorm.config import (
    ALL_ANSWERS,
    AUTO,
    DERIVED,
    LENGTH,
    NO_NUISANCE,
    TOKEN_LENGTH,
    DecorrelationConfig,
    EvaluationConfig,
    GateConfig,
    PreferenceConfig,
    PromotionConfig,
    RegressionConfig,
    check_nuisance,
)
from armorm.errors import DecorrelationError
from armorm.features.checks.change import RetrainSettings
from armorm.features.checks.contamination import ContaminationSettings
from armorm.features.checks.quality import Severity, read_checks
from armorm.features.conversation import SplitFractions
from armorm.features.embedding.embed import EmbedSettings
from armorm.features.embedding.fingerprint import BackboneSettings
from armorm.features.errors import HubError, InputError, NativeFileError
from armorm.features.hub import HubFiles
from armorm.features.ingest.dataset import DatasetFiles, dataset_files
from armorm.features.ingest.hub import DATA_FILES, parse_uri
from armorm.features.ingest.normalise import Rules
from armorm.features.lineage.openlineage import OpenLineageSettings
from armorm.features.objectives import in_order
from armorm.features.secrets import redact_logs
from armorm.features.sources import SOURCES, complete_options, find_source
from armorm.features.sources.base import Options, Source
from armorm.features.sources.described import RECIPES, Recipe, form_of
from armorm.features.sources.own import FORMS, Form, definition_of, source_of
from armorm.features.store import Store
from armorm.features.store.summaries import Origin
from armorm.features.upkeep.gc import RetentionSettings
from armorm.flows.configuration.schedule import ScheduleSettings
from armorm.judges.settings import KINDS, EndpointSettings, JudgeSettings

S = TypeVar("S", bound=BackboneSettings | JudgeSettings)

CONFIG_NAME = "armorm.toml"
PREFIX = "ARMORM_"
"""The prefix of environment variables that override the file."""


class ConfigError(InputError):
    """The configuration is missing, malformed or holds a value that is not allowed."""


def strict(section: type) -> BeforeValidator:
    """Refuse unknown names in a table whose type is a plain dataclass."""
    allowed = [field.name for field in fields(section)]

    def check(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if unknown := sorted(value.keys() - allowed):
            raise ValueError(f"got {', '.join(unknown)}; expected only {', '.join(allowed)}")
        return {name: _list_of_the_environment(item) for name, item in value.items()}

    return BeforeValidator(check)


def _list_of_the_environment(item: Any) -> Any:
    """Return the decoded value of an environment variable, where lists are written as in the file: `[0.1, 1.0]`."""
    return tomllib.loads(f"item = {item}")["item"] if isinstance(item, str) and item.startswith("[") else item


def _judge(value: Any) -> Any:
    """Return the settings of a judge, of the type that its `kind` says."""
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"got kind {kind!r}; expected {', '.join(KINDS)}; set kind")
    of_kind: Any = Annotated[KINDS[kind], strict(KINDS[kind])]
    return TypeAdapter(of_kind).validate_python(value)


class DatasetSection(BaseModel):
    """`[datasets.NAME]`: where its native files lie; more keys are the dataset's own settings."""

    model_config = ConfigDict(frozen=True, extra="allow")
    path: Path | None = None
    uri: str | None = None
    """The address of a dataset on the Hub: `hf://datasets/owner/name@revision/folder`."""
    files: tuple[str, ...] = ()
    """Patterns of the files to read; by default those that the paper's data is in, else all data files."""
    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the prompts to keep."""
    split: Literal["train", "validation", "test", "evaluation"] | None = None
    """The split of all rows, where it is not to follow from each prompt."""
    form: str | None = None
    """The form of one's own dataset: `ratings`, `pairs`, or a ready form; the other keys then describe it."""
    licence: str | None = None
    """The licence of one's own dataset."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (not self.uri):
            got = "neither path nor uri" if self.path is None else "path and uri"
            raise ValueError(f"got {got}; expected one of them")
        return self

    @model_validator(mode="after")
    def _described(self) -> Self:
        if self.form is None and self.licence is not None:
            raise ValueError("got licence without form; expected it for one's own dataset alone; remove it")
        self.own_form()
        return self

    def own_form(self) -> Form | None:
        """Return how one's own dataset is read; None for a known one."""
        return form_of(self.form, self.model_extra or {}) if self.form else None

    def source(self, name: str) -> Source:
        """Return the dataset, known or one's own."""
        form = self.own_form()
        if form is None:
            return find_source(name)
        recipe = RECIPES.get(str(self.form), Recipe(form))
        own = source_of(
            name,
            form,
            licence=self.licence or recipe.licence,
            evaluation=recipe.evaluation or self.split == "evaluation",
            upstream=recipe.upstream,
        )
        return replace(own, files=recipe.files)

    def options(self, name: str) -> Options:
        """Return a known dataset's own settings, complete."""
        given = {} if self.form else self.model_extra or {}
        return complete_options(self.source(name), {key: str(value) for key, value in given.items()})

    @field_validator("uri")
    @classmethod
    def _well_formed(cls, uri: str | None) -> str | None:
        try:
            return uri and str(parse_uri(uri))
        except HubError as error:
            raise ValueError(str(error)) from error


class Settings(BaseSettings):
    """All of `armorm.toml`."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )
    root: Path = Field(default=Path(), exclude=True)
    """The folder of the file."""
    store: str = "store"
    """A folder, or an address such as `s3://bucket/folder`."""
    cache: Path | None = None
    """Where files of a store with an address are kept on this machine; by default in the user's cache folder."""
    models: Path = Path("models")
    backbone: Annotated[BackboneSettings, strict(BackboneSettings)]
    datasets: dict[str, DatasetSection]
    split: Annotated[SplitFractions, strict(SplitFractions)] = SplitFractions()
    checks: dict[str, Severity] = Field(default_factory=dict)
    """Severities of checks, where they are not those that `sql/checks/` states."""
    contamination: Annotated[ContaminationSettings, strict(ContaminationSettings)] = ContaminationSettings()
    retention: Annotated[RetentionSettings, strict(RetentionSettings)] = RetentionSettings()
    embed: Annotated[EmbedSettings, strict(EmbedSettings)] = EmbedSettings()
    regression: Annotated[RegressionConfig, strict(RegressionConfig)] = RegressionConfig()
    decorrelation: Annotated[DecorrelationConfig, strict(DecorrelationConfig)] = DecorrelationConfig()
    preference: Annotated[PreferenceConfig, strict(PreferenceConfig)] = PreferenceConfig()
    gate: Annotated[GateConfig, strict(GateConfig)] = GateConfig()
    evaluation: Annotated[EvaluationConfig, strict(EvaluationConfig)] = EvaluationConfig()
    promotion: Annotated[PromotionConfig, strict(PromotionConfig)] = PromotionConfig()
    retrain: Annotated[RetrainSettings, strict(RetrainSettings)] = RetrainSettings()
    schedule: Annotated[ScheduleSettings, strict(ScheduleSettings)] = ScheduleSettings()
    openlineage: Annotated[OpenLineageSettings, strict(OpenLineageSettings)] = OpenLineageSettings()
    judges: dict[str, Annotated[JudgeSettings, BeforeValidator(_judge)]] = Field(default_factory=dict)
    """What `armorm compare` puts beside the models of the store."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources of settings: the environment goes before the file, which the constructor is given."""
        return env_settings, init_settings

    def open_store(self) -> Store:
        """Return the store, whether or not anything was written to it."""
        if "://" in self.store:
            return Store(self.store, cache=self.root / self.cache if self.cache else None)
        return Store(self.root / self.store)

    @property
    def models_path(self) -> Path:
        """The folder that finished models are written to."""
        return self.root / self.models

    def sources(self) -> dict[str, Source]:
        """Return the configured datasets by name."""
        return {name: section.source(name) for name, section in self.datasets.items()}

    def own_forms(self) -> list[Form]:
        """Return how the rows of one's own datasets are read, as far as their columns are described."""
        forms = [section.own_form() for section in self.datasets.values() if section.form not in FORMS]
        return [form for form in forms if form]

    def dataset(self, name: str, fetched: HubFiles | None = None) -> DatasetFiles:
        """Return a configured dataset; one of the Hub lies where it was fetched to."""
        section = self.datasets[name]
        folder, origin, form = fetched and fetched.folder, Origin(), section.own_form()
        if section.path is not None:
            folder = self.root / section.path
        elif fetched:
            origin = Origin(str(section.uri), fetched.revision)
        assert folder, f"{name} is to be fetched first"
        return DatasetFiles(
            section.source(name),
            folder,
            section.options(name),
            patterns=section.files,
            share=section.share,
            split=section.split,
            origin=origin,
            definition=definition_of(form) if form else {},
        )

    def rules(self) -> dict[str, Rules]:
        """Return how the rows of each configured dataset are read."""
        return {
            name: Rules(section.source(name), section.options(name), self.split, section.share, section.split)
            for name, section in self.datasets.items()
        }

    def hub_patterns(self, name: str) -> Sequence[str]:
        """Return which files of a dataset's repository on the Hub are read."""
        section = self.datasets[name]
        return section.files or section.source(name).files or DATA_FILES

    def local_backbone(self) -> BackboneSettings:
        """Return the backbone; a folder or file that exists below the file's own is taken before a Hub id."""
        return self._local(self.backbone)

    def local_judges(self) -> dict[str, JudgeSettings]:
        """Return the judges, their files found likewise."""
        return {name: self._local(judge) for name, judge in self.judges.items()}

    def _local(self, of: S) -> S:
        """Return settings with the paths that exist below the file's own folder."""
        names = ("prompt",) if isinstance(of, EndpointSettings) else ("path", "reference", "chat_template")
        paths = {name: getattr(of, name, None) for name in names}
        local: Any = {
            name: str(self.root / path) for name, path in paths.items() if path and (self.root / path).exists()
        }
        return replace(of, **local)


def load_settings(path: Path) -> Settings:
    """Read the file and the environment; from here on no logger of this process says a secret.

    Every process of ours begins with it, those that Prefect starts for a run as well.

    Raises:
        ConfigError: with one line for every value that is wrong.
    """
    redact_logs()
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; run `armorm init` to write one, or use --config FILE") from error
    except (ValueError, RecursionError) as error:  # also of no UTF-8, of numbers with thousands of digits, of [[[[..
        raise ConfigError(f"{path}: not valid TOML: {error}; correct the line") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); expected an armorm.toml") from error
    known = Settings.model_fields.keys() - {"root"}
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name.removeprefix(PREFIX).split("__")[0].lower() not in known:
            raise ConfigError(
                f"{name}: got an unknown variable; expected {PREFIX} and one of {', '.join(sorted(known))}"
            )
    try:
        settings = Settings(**document, root=path.resolve().parent)
    except SettingsError as error:
        raise ConfigError(
            f"{error}; expected e.g. {PREFIX}GATE__STEPS=400 for `steps` in [gate]; change the environment"
        ) from error
    except ValidationError as error:
        raise ConfigError("\n".join(map(partial(_line, path), error.errors()))) from error
    trained = {name: source for name, source in settings.sources().items() if not source.evaluation}
    fed = [objective for source in trained.values() for objective in source.scales]
    rated = [name for name, source in trained.items() if source.scales]
    decorrelation, preference = settings.decorrelation.resolved(fed, rated), settings.preference
    if preference.nuisance == AUTO:
        preference = replace(preference, nuisance=decorrelation.nuisance)
    settings = settings.model_copy(update={"decorrelation": decorrelation, "preference": preference})
    _check_names(path, settings)
    return settings


def _check_names(path: Path, settings: Settings) -> None:
    """Check the names of datasets, objectives and checks, which no type can check."""
    for name, section in settings.datasets.items():
        if section.form and name in (*SOURCES, ALL_ANSWERS):
            raise ConfigError(f"{path}: datasets.{name}: got form, and a name that is taken; rename it")
        if section.form and not re.fullmatch("[a-z0-9][a-z0-9._-]*", name):
            raise ConfigError(
                f"{path}: datasets.{name} contains characters that are not allowed; "
                "expected lower-case letters, digits and -_.; rename it"
            )
        folder = (settings.root / (section.path or "")).resolve()
        if section.path is not None and (settings.root / settings.store).resolve().is_relative_to(folder):
            raise ConfigError(
                f"{path}: datasets.{name}.path: got {section.path}, which holds the store; expected the data alone; "
                "move one of them"
            )
        if section.source(name).evaluation and section.split not in (None, "evaluation"):
            raise ConfigError(
                f"{path}: datasets.{name}.split: got {section.split}; expected none or evaluation: it is a "
                "benchmark, which is never trained on; remove the setting"
            )
        section.options(name)
    objectives = in_order(objective for source in settings.sources().values() for objective in source.scales)
    for nuisance in settings.decorrelation.nuisances:
        if nuisance not in (*objectives, TOKEN_LENGTH, LENGTH):
            raise ConfigError(
                f"{path}: decorrelation.nuisance: got {nuisance}; expected one of {', '.join(objectives)}, {LENGTH}, "
                f"{TOKEN_LENGTH} or {NO_NUISANCE}"
            )
    if reserved := [name for name in DERIVED if name in objectives]:
        raise ConfigError(
            f"{path}: got an objective named {reserved[0]}, which is that of one that is fitted to pairs or lengths; "
            "expected another name; rename it"
        )
    if unknown := [name for name in settings.gate.always if name not in objectives]:
        raise ConfigError(
            f"{path}: gate.always: got {', '.join(unknown)}; expected objectives that the datasets rate: "
            f"{', '.join(objectives)}; correct the names"
        )
    benchmarks = [name for name, section in settings.datasets.items() if section.source(name).evaluation]
    if unknown := sorted(set(settings.contamination.against) - set(benchmarks)):
        raise ConfigError(
            f"{path}: contamination.against: got {', '.join(unknown)}; expected configured evaluation datasets: "
            f"{', '.join(benchmarks) or 'there is none'}; correct the names, or leave them out"
        )
    try:
        read_checks(settings.checks)
    except InputError as error:
        raise ConfigError(f"{path}: checks: {error}") from error


def check_trainable(settings: Settings) -> None:
    """Refuse before a long run what the settings alone tell to stop its last stages.

    Raises:
        ConfigError: there are no ratings or no pairs, a nuisance cannot be taken out of the rated objectives, or the
            decorrelation's reference is no configured dataset with ratings.
    """
    trained = {name: source for name, source in settings.sources().items() if not source.evaluation}
    rated = [name for name, source in trained.items() if source.scales]
    if not rated:
        raise ConfigError(
            f"datasets: got {', '.join(trained) or 'none'}, none of which has ratings; expected ratings, which the "
            "objectives are learnt from; configure a dataset of them"
        )
    if not any(source.pairs for source in trained.values()):
        raise ConfigError(
            f"datasets: got {', '.join(trained)}, none of which gives pairs; expected some, which the gate is trained "
            "on; configure a dataset of pairs, or `pairs_from` of one of ratings"
        )
    fed = {objective: None for name in rated for objective in trained[name].scales}
    for table, nuisances in (
        ("decorrelation", settings.decorrelation.nuisances),
        ("preference", settings.preference.nuisances),
    ):
        try:
            check_nuisance(nuisances, list(fed))
        except DecorrelationError as error:
            raise ConfigError(f"{table}.nuisance: {error}") from error
    reference = settings.decorrelation.reference
    if settings.decorrelation.nuisances and reference not in (*rated, ALL_ANSWERS):
        raise ConfigError(
            f"decorrelation.reference: got {reference}; expected {ALL_ANSWERS}, or a configured dataset with "
            f"ratings: {', '.join(rated) or 'there is none'}; configure it or name another"
        )


def require_runnable(settings: Settings) -> None:
    """Refuse before a run what `check_trainable` does, and what a plan may name: a device or file not on this machine.

    Raises:
        ConfigError: by `check_trainable`; or `models` is a file.
        BackboneError: torch cannot embed on the device; or there is no such backbone.
        GateError: torch cannot train on the device.
    """
    check_trainable(settings)
    if settings.models_path.is_file():
        raise ConfigError(f"models: got {settings.models_path}, a file; expected a folder; change `models`")
    # Each is imported where it is needed: torch takes seconds.
    if settings.backbone.device != "cpu" and settings.embed.engine == "local":
        from armorm.features.embedding.backbone import require_device

        require_device(settings.local_backbone())
    if settings.gate.device != "cpu":
        from armorm.maths.gate import device_of

        device_of(settings.gate.device)
    from armorm.features.embedding.fingerprint import local_path

    local_path(settings.local_backbone())


def require_files(settings: Settings) -> None:
    """Refuse before an ingest what it would find out one dataset after another: files that are not there.

    Raises:
        ConfigError: with one line for every dataset of this machine that lacks its files.
    """
    problems = []
    for name in (name for name, section in settings.datasets.items() if section.path is not None):
        try:
            dataset_files(settings.dataset(name))
        except NativeFileError as error:
            problems.append(f"datasets.{name}: {error}")
    if problems:
        raise ConfigError("\n".join(problems))


def _line(path: Path, error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    match error["type"]:
        case "extra_forbidden":
            return (
                f"{path}: {where}: got an unknown setting; expected one that `armorm init` writes; rename or remove it"
            )
        case "missing":
            return f"{path}: {where}: got nothing; expected a value; see what `armorm init` writes"
        case "value_error":  # of a check that says itself what was given and what is allowed
            return f"{path}: {where}: {error['ctx']['error']}; change it in the file or in the environment"
        case _:
            expected = error["msg"].replace("Input should", "expected it to", 1)
            return f"{path}: {where}: got {error['input']!r}; {expected}; change it in the file or in the environment"
