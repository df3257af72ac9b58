"""Memory of an export: does it grow with the backbone?

    python benchmarks/export_memory.py [--layers 16 48 96]

Each backbone, of random bfloat16 weights in shards of about 200 MB, is loaded and written in the published layout by a
process of its own. Told are the bytes of the export, the largest memory of that process which is its own (RssAnon), and
the largest of all, with the pages of the files that it maps (VmHWM), which the system takes back when it needs them.
"""

import argparse
import json
import platform
import tempfile
import threading
from importlib.metadata import version
from multiprocessing import get_context
from multiprocessing.queues import Queue
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaModel

from armorm.export.layout import write_layout
from armorm.export.pattern import find_pattern
from armorm.features.embedding.backbone import load
from armorm.features.embedding.fingerprint import BackboneSettings, read_fingerprint
from armorm.stages.export import probe_conversations, rendered
from tests.armorm.exported import fixed_mixture, random_heads
from tests.features import tiny

EVERY_S = 0.01
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


def status_mb(field: str) -> float:
    """A figure of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


def export(folder: Path, max_shard_size: str, results: "Queue[tuple[float, float]]") -> None:
    """Loads and writes, and says the peaks in MB: its own memory, and with the files that it maps."""
    peaks, has_ended = [0.0], threading.Event()

    def sample() -> None:
        while not has_ended.wait(EVERY_S):
            peaks.append(status_mb("RssAnon"))

    sampler = threading.Thread(target=sample)
    sampler.start()
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
    has_ended.set()
    sampler.join()
    results.put((max(peaks), status_mb("VmHWM")))


def main() -> None:
    """Prints a table as markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=[16, 48, 96])
    parser.add_argument("--max-shard-size", default="5GB")
    given = parser.parse_args()
    print(
        f"Python {platform.python_version()}, torch {version('torch')}, transformers {version('transformers')}, "
        f"safetensors {version('safetensors')}; files of weights of at most {given.max_shard_size}"
    )
    print("| layers | bytes of the export | largest RssAnon | largest resident memory (VmHWM) |")
    print("| --- | --- | --- | --- |")
    context = get_context("spawn")
    for n_layers in given.layers:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            write_backbone(folder / "backbone", n_layers)
            results = context.Queue()
            process = context.Process(target=export, args=(folder, given.max_shard_size, results))
            process.start()
            own_mb, all_mb = results.get()
            process.join()
            size = sum(path.stat().st_size for path in (folder / "export").glob("*.safetensors"))
        print(f"| {n_layers} | {size / 1e9:.2f} GB | {own_mb:.0f} MB | {all_mb:.0f} MB |", flush=True)


if __name__ == "__main__":
    main()
