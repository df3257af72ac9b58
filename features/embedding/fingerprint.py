"""Which backbone made a vector: a readable record over files' hashes and settings. Loads no torch.

The record holds content only, so that a moved or renamed folder is the same backbone.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from features import hub
from features.documents import parse_object
from features.errors import BackboneError, HubError
from features.hashes import file_sha256
from features.hub import HubRepo
from features.store import content_id

Dtype = Literal["float32", "bfloat16", "float16"]

SystemTurns = Literal["template", "first_user"]
"""Where a system turn goes: into the template, or to the head of the first user turn."""

OverLong = Literal["cut_left", "drop_turns", "refuse"]
"""What becomes of a text longer than `max_tokens`: it loses its first tokens or its oldest exchanges, or is refused."""

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")

HUB_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt")
"""What is fetched of a repository: no pickles and no code."""


@dataclass(frozen=True, slots=True)
class BackboneSettings:
    """Which backbone, and how it is run."""

    path: str
    """A local folder, or a Hub id such as `sfairXC/FsfairX-LLaMA3-RM-v0.1`."""
    revision: str | None = None
    """Of a Hub id: a commit, tag or branch."""
    dtype: Dtype = "float32"
    max_tokens: int | None = None
    """Longest conversation; by default what the backbone's configuration allows."""
    over_long: OverLong = "cut_left"
    """What becomes of longer ones."""
    chat_template: str | None = None
    """A Jinja file, in place of the template that comes with the backbone, or where none does."""
    system: SystemTurns = "template"
    """Where system turns go; a conversation that the template refuses is rejected by name."""
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a vector depends on, besides the conversation."""

    folder: Path
    """Where the backbone's files lie on this machine; no part of its identity."""
    record: Mapping[str, Any]

    @property
    def backbone_id(self) -> str:
        """32 hex digits over the record."""
        return content_id(dict(self.record))

    @property
    def max_tokens(self) -> int:
        """Longest conversation that is embedded whole."""
        return int(self.record["max_tokens"])

    @property
    def over_long(self) -> OverLong:
        """What becomes of longer ones."""
        over_long: OverLong = self.record.get("over_long", "cut_left")
        return over_long

    @property
    def system(self) -> SystemTurns:
        """Where system turns go."""
        system: SystemTurns = self.record.get("system", "template")
        return system


def fingerprint(settings: BackboneSettings) -> Fingerprint:
    """Finds the backbone's folder and hashes what a vector depends on.

    Raises:
        BackboneError: no such folder or Hub id, or a file that is needed is missing.
    """
    folder = find_folder(settings)
    config = _json(folder, "config.json")
    weights = {path.name: file_sha256(path) for path in sorted(folder.glob("*.safetensors"))}
    if not weights:
        raise BackboneError(settings.path, f"no *.safetensors in {folder}; convert it with save_pretrained()")
    record = {
        "architecture": config.get("model_type"),
        "hidden_size": _text_config(config).get("hidden_size"),
        "config": file_sha256(folder / "config.json"),
        "weights": weights,
        "tokenizer": _tokenizer_hashes(folder),
        "chat_template": content_id(chat_template(folder, settings)),
        "dtype": settings.dtype,
        "layer": "last, after the final norm",
        "attention": "sdpa",
        "max_tokens": _max_tokens(settings, config),
    }
    # Named only where they are not what they always were: the ids of backbones stay what they are.
    own = {"over_long": (settings.over_long, "cut_left"), "system": (settings.system, "template")}
    return Fingerprint(folder, record | {name: value for name, (value, usual) in own.items() if value != usual})


def find_folder(settings: BackboneSettings) -> Path:
    """The local folder; of a Hub id, the downloaded snapshot (from the cache when offline)."""
    return local_folder(settings) or _download(settings)


def local_folder(settings: BackboneSettings) -> Path | None:
    """The folder on this machine; None for a Hub id.

    Raises:
        BackboneError: it is neither.
    """
    folder = Path(settings.path).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or settings.path.startswith(".") or settings.path.count("/") != 1:
        raise BackboneError(
            settings.path, "no such folder; expected a Hugging Face model folder or a Hub id such as owner/name"
        )
    return None


def hub_repo(settings: BackboneSettings) -> HubRepo:
    """What a Hub id stands for."""
    return HubRepo("model", settings.path, settings.revision or "main")


def chat_template(folder: Path, settings: BackboneSettings) -> str:
    """The text of the template that renders conversations: the one that is set, else the backbone's own.

    Raises:
        BackboneError: there is none, or the file cannot be read.
    """
    if settings.chat_template:
        try:
            return _text(Path(settings.chat_template))
        except OSError as error:
            raise BackboneError(
                settings.path,
                f"got chat_template {settings.chat_template}, which cannot be read ({error.strerror}); expected a "
                "Jinja file; change it in [backbone]",
            ) from error
    if (folder / "chat_template.jinja").is_file():
        return _text(folder / "chat_template.jinja")
    template = _json(folder, "tokenizer_config.json").get("chat_template")
    if not template:
        raise BackboneError(
            settings.path,
            f"{folder} has no chat template; expected chat_template.jinja or a chat_template in tokenizer_config.json; "
            "set chat_template in [backbone] to a file with the template that the model was trained with",
        )
    return json.dumps(template) if isinstance(template, list) else str(template)


def _download(settings: BackboneSettings) -> Path:
    try:
        return hub.download(hub_repo(settings), HUB_FILES).folder
    except HubError as error:
        raise BackboneError(settings.path, f"no such local folder, and not to be had from the Hub: {error}") from error


def _json(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    try:
        document = parse_object(_text(path))
    except FileNotFoundError as error:
        raise BackboneError(str(folder), f"{name} is missing; expected a Hugging Face model folder") from error
    except ValueError as error:
        raise BackboneError(str(folder), f"{name} is not valid JSON ({error}); restore the file") from error
    return document


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BackboneError(str(path.parent), f"{path.name} is not UTF-8 text ({error}); restore the file") from error


def _tokenizer_hashes(folder: Path) -> dict[str, str]:
    files = [folder / name for name in TOKENIZER_FILES] + sorted(folder.glob("*.model"))
    return {path.name: file_sha256(path) for path in files if path.is_file()}


def _text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    nested = config.get("text_config")
    return nested if isinstance(nested, dict) else config


def _max_tokens(settings: BackboneSettings, config: Mapping[str, Any]) -> int:
    allowed = _text_config(config).get("max_position_embeddings") or 2**31
    if not isinstance(allowed, int):
        raise BackboneError(settings.path, f"got max_position_embeddings {allowed!r} in config.json; expected a number")
    if settings.max_tokens is None:
        return allowed
    if not 2 <= settings.max_tokens <= allowed:
        raise BackboneError(settings.path, f"got max_tokens {settings.max_tokens}; expected 2..{allowed}; change it")
    return settings.max_tokens
