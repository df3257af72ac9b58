"""What a backbone's folder holds, told before anything is loaded. Loads no torch.

What is no whole backbone, or would become another one with another package installed, is refused by name.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from armorm.features.documents import parse_object, require_regular
from armorm.features.errors import BackboneError

CONFIG: Final = "config.json"
ADAPTER: Final = "adapter_config.json"
INDEX: Final = "model.safetensors.index.json"

WIDTHS: Final = ("hidden_size", "n_embd", "d_model")
"""Names under which kinds of backbone state their width: those of transformers' attribute maps."""

LENGTHS: Final = ("max_position_embeddings", "n_positions", "max_seq_len", "context_length")
"""And how many positions they have."""

LAYERS: Final = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
"""Names under which they state how many layers they have."""

MOST: Final[Mapping[tuple[str, ...], int]] = {WIDTHS: 2**24, LENGTHS: 2**24, LAYERS: 1000}
"""What they may state: of more layers a model would be built for hours before it is found that weights are missing, and
for more positions tables of them would be."""

Json = Mapping[str, Any]


def read_config(folder: Path) -> Json:
    """Return the configuration of a folder that can be loaded as a backbone, as far as its files tell.

    Raises:
        BackboneError: it is an adapter or quantized, holds a GGUF, its weights are no safetensors, or lie elsewhere.
    """
    try:
        require_regular(folder)
    except ValueError as error:
        raise BackboneError(str(folder), f"got a folder in which {error}; expected files; restore them") from error
    refuse_other_formats(folder)
    config = read_json(folder, CONFIG)
    if quantization := config.get("quantization_config") or text_config(config).get("quantization_config"):
        method = quantization.get("quant_method", "an unknown method") if isinstance(quantization, dict) else "some"
        raise BackboneError(
            str(folder),
            f"got weights that are quantized ({method}), whose vectors depend on the packages that are installed; "
            "expected weights in floats; name the original, or save it with dequantize() and save_pretrained()",
        )
    check_stated(folder, config)
    _check_weights(folder, config)
    return config


def check_stated(place: Path, config: Json) -> None:
    """Refuse a configuration whose sizes are no numbers, or larger than those of any model.

    Raises:
        BackboneError: it states such a size.
    """
    for name, most in ((name, most) for names, most in MOST.items() for name in names):
        stated = text_config(config).get(name)
        if stated is not None and not (isinstance(stated, int) and 0 < stated <= most):
            raise BackboneError(
                str(place), f"got {name} {stated!r} in {CONFIG}; expected 1 to {most:,}; restore the file"
            )


def refuse_other_formats(folder: Path) -> None:
    """Say of an adapter, and of a folder with a GGUF, what it is and what makes a backbone of it.

    Raises:
        BackboneError: it is one.
    """
    has_config = (folder / CONFIG).is_file()
    if (folder / ADAPTER).is_file():
        beside, expected = (
            ("beside full weights, which changes vectors where peft is installed", "weights alone")
            if has_config
            else ("without its base model", "full weights")
        )
        raise BackboneError(
            str(folder),
            f"got an adapter ({ADAPTER}) {beside}; expected {expected}; merge it with peft's merge_and_unload() and "
            "save_pretrained(), the tokenizer too, and name that folder",
        )
    if not has_config and (gguf := sorted(folder.glob("*.gguf"))):
        raise BackboneError(
            str(folder),
            f"got {gguf[0].name} without {CONFIG}; expected a Hugging Face model folder, or a GGUF file itself; as a "
            f"backbone, name {gguf[0]}",
        )


def weight_files(folder: Path) -> list[Path]:
    """Return the folder's safetensors, by name."""
    return sorted(folder.glob("*.safetensors"))


def text_config(config: Json) -> Json:
    """Return the part of a configuration that is the decoder's."""
    nested = config.get("text_config")
    return nested if isinstance(nested, dict) else config


def width_of(config: Json) -> int | None:
    """Return the length of a vector, as the configuration states it."""
    return _stated(config, WIDTHS)


def most_tokens(config: Json) -> int | None:
    """Return the longest text in which a token's state depends on the tokens before it, and on nothing after it.

    That is what positions allow; with LongRoPE what they were trained on first: a longer text changes the positions of
    all its tokens, and of all texts beside it.
    """
    of_decoder = text_config(config)
    allowed = _stated(config, LENGTHS)
    firsts = [
        rope.get("original_max_position_embeddings") or of_decoder.get("original_max_position_embeddings")
        for rope in _ropes(of_decoder)
        if rope.get("rope_type", rope.get("type")) in ("longrope", "su")
    ]
    return min([first for first in firsts if isinstance(first, int)] + ([allowed] if allowed else []), default=None)


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Return a JSON object of the folder.

    Raises:
        BackboneError: the file is missing or damaged.
    """
    try:
        return parse_object(read_text(folder / name))
    except FileNotFoundError as error:
        raise BackboneError(str(folder), f"{name} is missing; expected a Hugging Face model folder") from error
    except ValueError as error:
        raise BackboneError(str(folder), f"{name} is not valid JSON ({error}); restore the file") from error


def read_text(path: Path) -> str:
    """Return a file in UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BackboneError(str(path.parent), f"{path.name} is not UTF-8 text ({error}); restore the file") from error


def _check_weights(folder: Path, config: Json) -> None:
    """Refuse weights other than safetensors beside the configuration: those alone are hashed, and hold no code."""
    there = {path.name for path in weight_files(folder)}
    if not there:
        others = [path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.gguf") for path in folder.glob(pattern)]
        told = f" (it has {min(others)}, which is not read)" if others else ""
        raise BackboneError(str(folder), f"no *.safetensors in {folder}{told}; convert it with save_pretrained()")
    named = config.get("transformers_weights")
    index = named if isinstance(named, str) and named.endswith(".index.json") else INDEX
    places = read_json(folder, index).get("weight_map") if (folder / index).is_file() else None
    asked = {str(name) for name in places.values()} if isinstance(places, dict) else set()
    if named and named != index:
        asked.add(str(named))
    if elsewhere := sorted(asked - there):
        raise BackboneError(
            str(folder),
            f"got weights in {elsewhere[0]}; expected *.safetensors in the folder itself; restore the files",
        )


def _stated(config: Json, names: tuple[str, ...]) -> int | None:
    of_decoder = text_config(config)
    return next((of_decoder[name] for name in names if of_decoder.get(name) is not None), None)


def _ropes(config: Json) -> Iterator[Json]:
    """Yield how positions are scaled: one way, or one for each type of layer."""
    for name in ("rope_scaling", "rope_parameters"):
        found = config.get(name)
        if isinstance(found, dict):
            yield found
            yield from (of_layers for of_layers in found.values() if isinstance(of_layers, dict))
