"""Model folders that want to run something of their own: Python, a pickle, a template that leaves its sandbox.

Whatever is run writes a file that the folder's maker names.
"""

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from tests.features import tiny

CODE = """
from pathlib import Path
Path({marker!r}).write_text("run")
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

class Config(LlamaConfig):
    model_type = "hostile"

class Model(LlamaModel):
    config_class = Config

class Tokenizer(PreTrainedTokenizerFast):
    pass
"""

ESCAPE = "{{% set x = cycler.__init__.__globals__.os.system('touch {marker}') %}}{{{{ x }}}}"


class _Writes:
    """What writes the file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> Any:
        return Path.write_text, (self._marker, "run")


def change(path: Path, **values: object) -> None:
    """Sets values of a JSON file, which there may not be yet."""
    document = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(document | values))


def _code(folder: Path, marker: Path) -> None:
    (folder / "evil.py").write_text(CODE.format(marker=str(marker)))


def _configuration(folder: Path, marker: Path) -> None:
    _code(folder, marker)
    auto_map = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    change(folder / "config.json", model_type="hostile", auto_map=auto_map)


def _model(folder: Path, marker: Path) -> None:
    """A configuration that transformers knows, and no model of it: RAG is made of others."""
    _code(folder, marker)
    change(folder / "config.json", model_type="rag", auto_map={"AutoModel": "evil.Model"})


def _elsewhere(folder: Path, marker: Path) -> None:
    auto_map = {"AutoConfig": "nobody/evil--evil.Config", "AutoModel": "nobody/evil--evil.Model"}
    change(folder / "config.json", model_type="hostile", auto_map=auto_map)


def _tokenizer(folder: Path, marker: Path) -> None:
    """Llama has no tokenizer of its own in transformers."""
    _code(folder, marker)
    change(
        folder / "tokenizer_config.json",
        tokenizer_class="Hostile",
        auto_map={"AutoTokenizer": [None, "evil.Tokenizer"]},
    )


def _tokenizer_within(folder: Path, marker: Path) -> None:
    """RAG's tokenizer is made of two others, and does not pass on what its loader was told."""
    _code(folder, marker)
    usual = json.loads((folder / "tokenizer_config.json").read_text())
    for name in ("question_encoder_tokenizer", "generator_tokenizer"):
        (folder / name).mkdir()
        _code(folder / name, marker)
        (folder / name / "tokenizer_config.json").write_text(
            json.dumps(usual | {"tokenizer_class": "Hostile", "auto_map": {"AutoTokenizer": [None, "evil.Tokenizer"]}})
        )
    change(folder / "tokenizer_config.json", tokenizer_class="RagTokenizer")
    change(folder / "config.json", question_encoder={"model_type": "llama"}, generator={"model_type": "llama"})


def _model_within(model_type: str, part: str) -> Callable[[Path, Path], None]:
    """A model that is made of others, of which one wants code: loaders within do not hear what the outer one did."""

    def write(folder: Path, marker: Path) -> None:
        _code(folder, marker)
        text = json.loads((folder / "config.json").read_text())
        within = text | {"model_type": "rag", "question_encoder": {"model_type": "llama"}}
        within |= {"generator": {"model_type": "llama"}, "auto_map": {"AutoModel": f"{folder}--evil.Model"}}
        change(folder / "config.json", **{"model_type": model_type, "text_config": text, part: within})

    return write


def _processor(folder: Path, marker: Path) -> None:
    _code(folder, marker)
    for name in ("preprocessor_config.json", "processor_config.json"):
        change(folder / name, processor_class="Hostile", auto_map={"AutoProcessor": "evil.Tokenizer"})


def _generation(folder: Path, marker: Path) -> None:
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(CODE.format(marker=str(marker)))
    change(folder / "generation_config.json", custom_generate=str(folder))


def _pickle(name: str) -> Callable[[Path, Path], None]:
    def write(folder: Path, marker: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(pickle.dumps(_Writes(marker)))

    return write


def _pickle_by_index(folder: Path, marker: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "evil.bin").write_bytes(pickle.dumps(_Writes(marker)))
    change(folder / "model.safetensors.index.json", weight_map={"embed_tokens.weight": "evil.bin"}, metadata={})


def _pickle_by_configuration(folder: Path, marker: Path) -> None:
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(_Writes(marker)))
    change(folder / "config.json", transformers_weights="adapter_model.bin")


def _adapter(folder: Path, marker: Path) -> None:
    _code(folder, marker)
    change(
        folder / "adapter_config.json",
        peft_type="LORA",
        base_model_name_or_path="nobody/evil",
        auto_mapping={"base_model_class": "Model", "parent_library": "evil"},
    )
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(_Writes(marker)))


def _adapter_alone(folder: Path, marker: Path) -> None:
    _adapter(folder, marker)
    (folder / "config.json").unlink()


def _kernel(folder: Path, marker: Path) -> None:
    change(folder / "config.json", attn_implementation="nobody/evil", experts_implementation="nobody/evil")


def _template(folder: Path, marker: Path) -> None:
    (folder / "chat_template.jinja").write_text(ESCAPE.format(marker=marker))


def _quantized(folder: Path, marker: Path) -> None:
    change(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})


KINDS: Final[Mapping[str, Callable[[Path, Path], None]]] = {
    "configuration": _configuration,
    "model": _model,
    "code elsewhere": _elsewhere,
    "tokenizer": _tokenizer,
    "tokenizer within": _tokenizer_within,
    "vision within": _model_within("llava", "vision_config"),
    "text within": _model_within("llava", "text_config"),
    "vision within gemma": _model_within("gemma3", "vision_config"),
    "pickle": _pickle("pytorch_model.bin"),
    "pickle of torch": _pickle("consolidated.00.pth"),
    "pickle by index": _pickle_by_index,
    "pickle by configuration": _pickle_by_configuration,
    "adapter": _adapter,
    "adapter alone": _adapter_alone,
    "quantized": _quantized,
}
"""Each is refused."""

HARMLESS: Final[Mapping[str, Callable[[Path, Path], None]]] = {
    "processor": _processor,
    "generation": _generation,
    "kernel": _kernel,
}
"""What asks for something that a backbone does not need, and is not given it."""


def change_folder(folder: Path, kind: str, marker: Path) -> None:
    """Makes a folder with a backbone one of that kind."""
    (KINDS | HARMLESS | {"template": _template})[kind](folder, marker)


def write(folder: Path, kind: str, marker: Path) -> Path:
    """A backbone of that kind."""
    change_folder(tiny.write_backbone(folder), kind, marker)
    return folder
