"""A run's configuration: one frozen object, read once from `armorm.toml` and the environment.

Every value can be overridden: `ARMORM_GATE__STEPS=400` is `steps` in `[gate]`. Paths are relative to the
folder of the file.
"""

import os
import tomllib
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from armorm.config import DecorrelationConfig, EvaluationConfig, GateConfig, RegressionConfig
from features.conversation import SplitFractions
from features.embedding.embed import EmbedSettings
from features.embedding.fingerprint import BackboneSettings
from features.errors import InputError
from features.ingest.dataset import DatasetFiles
from features.objectives import OBJECTIVES
from features.sources import find_source

CONFIG_NAME = "armorm.toml"
PREFIX = "ARMORM_"
"""Of environment variables that override the file."""


class ConfigError(InputError):
    """The configuration is missing, malformed or holds a value that is not allowed."""


def strict(section: type) -> BeforeValidator:
    """Refuses unknown names in a table whose type is a plain dataclass."""
    allowed = [field.name for field in fields(section)]

    def check(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if unknown := sorted(value.keys() - allowed):
            raise ValueError(f"got {', '.join(unknown)}; expected only {', '.join(allowed)}")
        return {name: _list_of_the_environment(item) for name, item in value.items()}

    return BeforeValidator(check)


def _list_of_the_environment(item: Any) -> Any:
    """A list in an environment variable is written as in the file: `[0.1, 1.0]`."""
    return tomllib.loads(f"item = {item}")["item"] if isinstance(item, str) and item.startswith("[") else item


class DatasetSection(BaseModel):
    """`[datasets.NAME]`: where its native files lie; more keys are the dataset's own settings."""

    model_config = ConfigDict(frozen=True, extra="allow")
    path: Path


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
    store: Path = Path("store")
    models: Path = Path("models")
    backbone: Annotated[BackboneSettings, strict(BackboneSettings)]
    datasets: dict[str, DatasetSection]
    split: Annotated[SplitFractions, strict(SplitFractions)] = SplitFractions()
    embed: Annotated[EmbedSettings, strict(EmbedSettings)] = EmbedSettings()
    regression: Annotated[RegressionConfig, strict(RegressionConfig)] = RegressionConfig()
    decorrelation: Annotated[DecorrelationConfig, strict(DecorrelationConfig)] = DecorrelationConfig()
    gate: Annotated[GateConfig, strict(GateConfig)] = GateConfig()
    evaluation: Annotated[EvaluationConfig, strict(EvaluationConfig)] = EvaluationConfig()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment goes before the file, whose values are given to the constructor."""
        return env_settings, init_settings

    @property
    def store_path(self) -> Path:
        """The store's folder."""
        return self.root / self.store

    @property
    def models_path(self) -> Path:
        """The folder that finished models are written to."""
        return self.root / self.models

    def dataset_files(self) -> list[DatasetFiles]:
        """The configured datasets, in the order of the file."""
        return [
            DatasetFiles(name, self.root / section.path, {k: str(v) for k, v in (section.model_extra or {}).items()})
            for name, section in self.datasets.items()
        ]

    def local_backbone(self) -> BackboneSettings:
        """The backbone; a folder that exists below the file's own is taken before a Hub id."""
        local = self.root / self.backbone.path
        return replace(self.backbone, path=str(local)) if local.is_dir() else self.backbone


def load_settings(path: Path) -> Settings:
    """Reads the file and the environment.

    Raises:
        ConfigError: with one line for every value that is wrong.
    """
    try:
        document = tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; run `armorm init` to write one, or say --config FILE") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}; mend the line") from error
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
    _check_names(path, settings)
    return settings


def _check_names(path: Path, settings: Settings) -> None:
    """Names of datasets and objectives that no type can check."""
    for name in settings.datasets:
        find_source(name)
    nuisance = settings.decorrelation.nuisance
    if nuisance not in OBJECTIVES:
        raise ConfigError(f"{path}: decorrelation.nuisance: got {nuisance}; expected one of {', '.join(OBJECTIVES)}")


def check_trainable(settings: Settings) -> None:
    """Says before a long run what would stop its last stages.

    Raises:
        ConfigError: the decorrelation's reference is no configured dataset with ratings.
    """
    rated = [name for name in settings.datasets if find_source(name).scales]
    reference = settings.decorrelation.reference
    if reference not in rated:
        raise ConfigError(
            f"decorrelation.reference: got {reference}; expected a configured dataset with ratings: "
            f"{', '.join(rated) or 'there is none'}; configure it or name another"
        )


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
            return (
                f"{path}: {where}: got {error['input']!r}; {error['msg']}; change it in the file or in the environment"
            )
