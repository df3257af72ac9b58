"""Which backbone made a vector: a readable record over files' hashes and settings. Loads no torch.

The record holds content only, so that a moved or renamed folder is the same backbone.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from armorm.features import hub
from armorm.features.embedding import gguf_file
from armorm.features.embedding.folder import (
    CONFIG,
    WIDTHS,
    most_tokens,
    read_config,
    read_json,
    read_text,
    weight_files,
    width_of,
)
from armorm.features.embedding.template import DATE, dated
from armorm.features.errors import BackboneError, HubError
from armorm.features.hub import HubRepo
from armorm.features.store import content_id
from armorm.features.store.hashes import file_sha256

Dtype = Literal["float32", "bfloat16", "float16"]

SystemTurns = Literal["template", "first_user"]
"""Where a system turn goes: into the template, or to the head of the first user turn."""

OverLong = Literal["cut_left", "drop_turns", "refuse"]
"""What becomes of a text longer than `max_tokens`: it loses its first tokens or its oldest exchanges, or is refused."""

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")

SLOW_TOKENIZER_FILES = ("vocab.txt", "added_tokens.json", "tekken.json", "*.tiktoken")
"""What else makes a tokenizer, where there is no tokenizer.json."""

HUB_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt")
"""What is fetched of a repository: no pickles and no code."""


@dataclass(frozen=True, slots=True)
class BackboneSettings:
    """The settings of `[backbone]`: which one, and how it is run."""

    path: str
    """A local folder or GGUF file, or a Hub id such as `sfairXC/FsfairX-LLaMA3-RM-v0.1`."""
    revision: str | None = None
    """The commit, tag or branch of a Hub id."""
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


def read_fingerprint(settings: BackboneSettings) -> Fingerprint:
    """Find the backbone's folder and hash what a vector depends on.

    Raises:
        BackboneError: no such folder or Hub id, or a file that is needed is missing.
    """
    folder = find_folder(settings)
    config = read_config(folder)
    template, as_given = chat_template(folder, settings), _template(folder, settings)
    record = {
        "architecture": config.get("model_type"),
        "hidden_size": _width(settings, config),
        **_hashes(local_path(settings), folder),
        "chat_template": content_id(template if isinstance(template, str) else json.dumps(template)),
        "dtype": settings.dtype,
        "layer": "last, after the final norm",
        "attention": "sdpa",
        "max_tokens": _max_tokens(settings, config),
    }
    # Named only where they are not what they always were: the ids of backbones stay what they are.
    own = {
        "over_long": (settings.over_long, "cut_left"),
        "system": (settings.system, "template"),
        "date": (None if template == as_given else str(DATE.date()), None),
    }
    return Fingerprint(folder, record | {name: value for name, (value, usual) in own.items() if value != usual})


def find_folder(settings: BackboneSettings) -> Path:
    """Return the local folder; of a GGUF file, that of its tensors in floats, in the cache; of a Hub id, the snapshot.

    What the cache lacks is made, or downloaded.
    """
    path = local_path(settings)
    if path is None:
        return _download(settings)
    return gguf_file.in_floats(path) if path.is_file() else path


def local_path(settings: BackboneSettings) -> Path | None:
    """Return the folder, or the GGUF file, on this machine; None for a Hub id.

    Raises:
        BackboneError: it is none of these.
    """
    folder = Path(settings.path).expanduser()
    if folder.is_dir():
        return folder
    if folder.suffix == gguf_file.SUFFIX:
        if folder.is_file():
            return folder
        raise BackboneError(settings.path, "no such file; expected a GGUF file on this machine; correct the path")
    if folder.is_file():
        raise BackboneError(
            settings.path, f"got a file; expected a Hugging Face model folder, or a file *{gguf_file.SUFFIX}; name one"
        )
    if folder.is_absolute() or settings.path.startswith(".") or settings.path.count("/") != 1:
        raise BackboneError(
            settings.path,
            f"nothing is there; expected a Hugging Face model folder, a file *{gguf_file.SUFFIX}, or a Hub id such as "
            "owner/name; correct the path",
        )
    if folder.parent.is_dir() and settings.revision is None:
        raise BackboneError(
            settings.path,
            f"no such folder in {folder.parent}, which is a folder here; the Hub was not asked; correct the name, or "
            "set revision in [backbone] for the Hub's",
        )
    return None


def hub_repo(settings: BackboneSettings) -> HubRepo:
    """Return what a Hub id stands for."""
    return HubRepo("model", settings.path, settings.revision or "main")


Template = str | list[dict[str, str]]
"""Jinja, or several by name, as tokenizer_config.json may hold them."""


def chat_template(folder: Path, settings: BackboneSettings) -> Template:
    """Return the template that renders conversations: the one that is set, else the backbone's own.

    Where it asks for today's date it is given a fixed one.

    Raises:
        BackboneError: there is none, the file cannot be read, or what it writes depends on the clock or on chance.
    """
    template = _template(folder, settings)
    try:
        if isinstance(template, str):
            return dated(template)
        return [one | {"template": dated(one["template"])} for one in template]
    except ValueError as error:
        raise BackboneError(
            settings.path,
            f"got a chat template that writes something else each time ({error}); expected the same text for the same "
            "conversation; set chat_template in [backbone] to a copy with a fixed text in its place",
        ) from error
    except (TypeError, KeyError) as error:
        raise BackboneError(
            settings.path, "got a chat_template in tokenizer_config.json that is no text; restore the file"
        ) from error


def _template(folder: Path, settings: BackboneSettings) -> Template:
    """Return the template as it is given, dates and all."""
    if settings.chat_template:
        try:
            return read_text(Path(settings.chat_template))
        except OSError as error:
            raise BackboneError(
                settings.path,
                f"got chat_template {settings.chat_template}, which cannot be read ({error.strerror}); expected a "
                "Jinja file; change it in [backbone]",
            ) from error
    if (folder / "chat_template.jinja").is_file():
        return read_text(folder / "chat_template.jinja")
    template: Template | None = read_json(folder, "tokenizer_config.json").get("chat_template")
    if not template:
        raise BackboneError(
            settings.path,
            f"{folder} has no chat template; expected chat_template.jinja or a chat_template in tokenizer_config.json; "
            "set chat_template in [backbone] to a file with the template that the model was trained with",
        )
    return template


def _download(settings: BackboneSettings) -> Path:
    try:
        return hub.download(hub_repo(settings), HUB_FILES).folder
    except HubError as error:
        raise BackboneError(settings.path, f"no such local folder, and not to be had from the Hub: {error}") from error


def _hashes(path: Path | None, folder: Path) -> dict[str, Any]:
    """Return the SHA-256 of the files that make the backbone: of a GGUF the file's own, which decides what is made."""
    if path is not None and path.is_file():
        whole = file_sha256(path)
        return {"config": whole, "weights": {gguf_file.NAME: whole}, "tokenizer": {gguf_file.NAME: whole}}
    return {
        "config": file_sha256(folder / CONFIG),
        "weights": {path.name: file_sha256(path) for path in weight_files(folder)},
        "tokenizer": _tokenizer_hashes(folder),
    }


def _tokenizer_hashes(folder: Path) -> dict[str, str]:
    files = [folder / name for name in TOKENIZER_FILES] + sorted(folder.glob("*.model"))
    files += sorted(folder.glob("tokenizer.*.json"))  # by transformers' version
    if not (folder / "tokenizer.json").is_file():
        files += [path for pattern in SLOW_TOKENIZER_FILES for path in sorted(folder.glob(pattern))]
    return {path.name: file_sha256(path) for path in files if path.is_file()}


def _width(settings: BackboneSettings, config: Mapping[str, Any]) -> int:
    width = width_of(config)
    if width is None:
        raise BackboneError(
            settings.path,
            f"got no {' or '.join(WIDTHS)} in {CONFIG}; expected the width of its vectors; write the whole "
            "configuration: AutoConfig.from_pretrained(..).save_pretrained(..)",
        )
    return width


def _max_tokens(settings: BackboneSettings, config: Mapping[str, Any]) -> int:
    allowed = most_tokens(config) or 2**31
    if settings.max_tokens is None:
        return allowed
    if not 2 <= settings.max_tokens <= allowed:
        raise BackboneError(settings.path, f"got max_tokens {settings.max_tokens}; expected 2..{allowed}; change it")
    return settings.max_tokens
