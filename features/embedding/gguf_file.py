"""A GGUF file as a backbone: its tensors in float32, as an ordinary Hugging Face folder in the user's cache.

The folder is made once for each content of a file. It is read only if all of it is there as it was written, so the
file's hash alone decides which backbone it is. Loads torch only to make the folder.
"""

import io
import json
import tempfile
from contextlib import redirect_stderr
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from armorm.features.documents import parse_object
from armorm.features.embedding.folder import CONFIG, check_stated, read_json
from armorm.features.errors import BackboneError
from armorm.features.store.hashes import file_sha256
from armorm.features.store.storage import default_cache

SUFFIX: Final = ".gguf"
MAGIC: Final = b"GGUF"
NEEDED: Final = ("gguf", "accelerate")
"""Packages without which transformers reads none."""

CHECKSUMS: Final = "checksums.json"
"""In the folder: file to SHA-256, of all others."""

PARAMETERS_PER_BYTE: Final = 8
"""More than the smallest quantization has, of 1.56 bits each."""

NAME: Final = "model.gguf"
"""What the file is called while it is read, and in records: its own name is no part of its content."""


def in_floats(path: Path) -> Path:
    """Return the folder with a file's tensors in float32; it is made where the cache has none, or a damaged one.

    Raises:
        BackboneError: it is no whole GGUF, of a kind that transformers cannot read, or a package is missing.
    """
    folder = cached(path)
    return folder if is_whole(folder) else _make(path, folder)


def cached(path: Path) -> Path:
    """Return where the folder of a file is, or would be made.

    Raises:
        BackboneError: it does not begin like a GGUF.
    """
    with path.open("rb") as file:
        start = file.read(len(MAGIC))
    if start != MAGIC:
        raise BackboneError(str(path), f"got a file that begins with {start!r}; expected a GGUF; restore the file")
    return default_cache() / "gguf" / file_sha256(path)[:32]


def is_whole(folder: Path) -> bool:
    """Return whether all files of a folder are there as they were written."""
    try:
        written = parse_object((folder / CHECKSUMS).read_bytes())
        return written == _checksums(folder)
    except (OSError, ValueError):
        return False


def require_packages(path: Path) -> None:
    """Refuse a file that cannot be read here.

    Raises:
        BackboneError: a package is missing.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise BackboneError(
            str(path),
            f"got a GGUF file, which takes the package {' and '.join(missing)} to read; expected it to be installed; "
            "run `pip install 'armorm[gguf]'`",
        )


def _make(path: Path, folder: Path) -> Path:
    """Write the folder under another name first; of two that do so at once, the second takes what the first made."""
    require_packages(path)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder.parent, ignore_cleanup_errors=True) as scratch:
        made = Path(scratch, "made")
        _write(path, Path(scratch), made)
        (made / CHECKSUMS).write_text(json.dumps(_checksums(made), indent=2) + "\n", encoding="utf-8")
        if not is_whole(folder):
            if folder.exists():
                folder.rename(Path(scratch, "damaged"))
            try:
                made.rename(folder)
            except OSError:  # another process was faster
                if not is_whole(folder):
                    raise
    return folder


def _write(path: Path, scratch: Path, made: Path) -> None:
    """Read the file alone, whatever lies beside it, and write tokenizer, configuration and weights."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    from armorm.features.embedding.remote_code import quiet, refuse_larger

    source = scratch / "source"
    source.mkdir()
    (source / NAME).symlink_to(path.resolve())
    try:
        with quiet(), redirect_stderr(io.StringIO()):  # of progress bars that cannot be turned off
            stated = AutoConfig.from_pretrained(source, gguf_file=NAME, trust_remote_code=False, local_files_only=True)
            stated.save_pretrained(made)
            check_stated(path, read_json(made, CONFIG))  # before a model of that size is built
            refuse_larger(stated, PARAMETERS_PER_BYTE * path.stat().st_size)
            tokenizer = AutoTokenizer.from_pretrained(
                source, gguf_file=NAME, trust_remote_code=False, local_files_only=True
            )
            read, found = AutoModel.from_pretrained(
                source,
                gguf_file=NAME,
                dtype=torch.float32,
                output_loading_info=True,
                trust_remote_code=False,
                local_files_only=True,
            )
            if missing := sorted(found["missing_keys"]):
                raise ValueError(f"{len(missing)} weights are not in it, for example {missing[0]}")
            config = read.config
            del config.quantization_config
            with torch.device("meta"):  # a model that does not know that it was quantized
                model = AutoModel.from_config(config, trust_remote_code=False)  # type: ignore[no-untyped-call]
            model.load_state_dict(read.state_dict(), assign=True)
    except BackboneError:
        raise
    except Exception as error:  # whatever the reader of any kind raises
        said = " ".join(str(error).split())[:200]
        raise BackboneError(
            str(path),
            f"got a GGUF file that transformers cannot read ({type(error).__name__}: {said}); expected a whole file of "
            "a kind that it knows; restore the file, or name a Hugging Face folder of the same model",
        ) from error
    with quiet():
        tokenizer.save_pretrained(made)
        model.save_pretrained(made)


def _checksums(folder: Path) -> dict[str, str]:
    return {path.name: file_sha256(path) for path in sorted(folder.iterdir()) if path.name != CHECKSUMS}
