"""Memory of an export: does it grow with the backbone?

    python benchmarks/export_memory.py [--layers 16,48,96]

Each backbone, of random bfloat16 weights in shards of about 200 MB, is loaded and written in the published layout by a
process of its own. Told are the bytes of the export, the largest memory of that process which is its own (RssAnon), and
the largest of all, with the pages of the files that it maps (VmHWM), which the system takes back when it needs them.
"""

import json
import tempfile
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaModel

from armorm.export.layout import write_layout
from armorm.export.pattern import find_pattern
from armorm.features.embedding.backbone import load
from armorm.features.embedding.fingerprint import BackboneSettings, read_fingerprint
from armorm.release.export import probe_conversations, rendered
from benchmarks.measure import Peaks, in_process, memory_mb, options, packages, print_row, print_table
from tests.armorm.exported import fixed_mixture, random_heads
from tests.features import tiny

D = 1024
SHARD_BYTES = 200_000_000


def write_backbone(folder: Path, n_layers: int) -> None:
    """A Llama of random weights, a tensor in memory at a time but for one shard's."""
    sizes = tiny.SIZES | {"hidden_size": D, "intermediate_size": 4 * D, "num_hidden_layers": n_layers}
    config = LlamaConfig(**sizes, bos_token_id=1, eos_token_id=3, dtype="bfloat16")
    config.save_pretrained(folder)
    tiny.write_tokenizer(folder, "bos")
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in LlamaModel(config).state_dict().items()}
    places: dict[str, str] = {}
    waiting: dict[str, torch.Tensor] = {}
    for number, (name, shape) in enumerate(shapes.items()):
        waiting[name] = torch.randn(shape, dtype=torch.bfloat16) * 0.02
        if sum(tensor.nbytes for tensor in waiting.values()) > SHARD_BYTES or number == len(shapes) - 1:
            file = f"model-{len(set(places.values())) + 1:05}.safetensors"
            save_file(waiting, folder / file, {"format": "pt"})
            places |= dict.fromkeys(waiting, file)
            waiting.clear()
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def export(folder: Path, max_shard_size: str) -> tuple[float, float]:
    """Load and write; return the peaks in MB: of its own memory, and with the files that it maps."""
    with Peaks(partial(memory_mb, "RssAnon")) as own:
        settings = BackboneSettings(str(folder / "backbone"), dtype="bfloat16")
        fingerprint = read_fingerprint(settings)
        backbone = load(settings, fingerprint)
        samples = rendered(backbone, probe_conversations())
        heads = random_heads(n_features=D, backbone_id=fingerprint.backbone_id, backbone=dict(fingerprint.record))
        write_layout(
            folder / "export",
            heads,
            backbone=backbone.model,
            tokenizer=backbone.tokenizer,
            prompt_end=find_pattern(samples),
            mixture_K=fixed_mixture(heads),
            texts=[sample.token_ids for sample in samples],
            card="---\n---\n",
            max_shard_size=max_shard_size,
        )
    return own.most_mb, memory_mb("VmHWM")


def main() -> None:
    """Print a table as markdown."""
    given = options(__doc__, layers=[16, 48, 96], max_shard_size="5GB").parse_args()
    used = packages("torch", "transformers", "safetensors")
    print(f"{used}; files of weights of at most {given.max_shard_size}")
    print_table(["layers", "bytes of the export", "largest RssAnon", "largest resident memory (VmHWM)"])
    for n_layers in given.layers:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            write_backbone(folder / "backbone", n_layers)
            own_mb, all_mb = in_process(export, folder, given.max_shard_size)
            size = sum(path.stat().st_size for path in (folder / "export").glob("*.safetensors"))
        print_row(n_layers, f"{size / 1e9:.2f} GB", f"{own_mb:.0f} MB", f"{all_mb:.0f} MB")


if __name__ == "__main__":
    main()
