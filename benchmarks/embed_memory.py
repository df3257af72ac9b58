"""Memory of a long embedding: does it grow with the number of conversations?

    python benchmarks/embed_memory.py [--conversations 200000] [--shard 4096]

A run over short conversations on a backbone of one layer and 32 numbers a vector, so that what can grow is not the
model but all around it: tables, chunks, manifests, parts. Told is the resident memory of the process, its peak in every
tenth of the texts, and the peak of all over that of the first tenth. Another process has ingested.
"""

import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaModel

from armorm.features.conversation import SplitFractions
from armorm.features.embedding.embed import EmbedSettings, Progress, embed_missing
from armorm.features.embedding.fingerprint import BackboneSettings
from armorm.features.ingest.dataset import DatasetFiles, ingest_dataset
from armorm.features.sources import find_source
from armorm.features.store import Store
from benchmarks.measure import Peaks, in_process, memory_mb, options, packages
from tests.features import tiny


def write_rows(folder: Path, n: int) -> None:
    """Two answers a prompt, 20 to 60 characters a conversation."""
    folder.mkdir()
    with (folder / "rows.jsonl").open("w") as file:
        for number in range(n):
            safe = str(number % 2 == 0).lower()
            file.write(
                f'{{"prompt": "q {number // 2}", "response": "a {number} {"x" * (number % 30)}", "is_safe": {safe}}}\n'
            )


def prepare(folder: Path, n: int) -> None:
    """A backbone, and a store that holds conversations."""
    sizes = tiny.SIZES | {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    torch.manual_seed(0)
    LlamaModel(LlamaConfig(**sizes)).save_pretrained(folder / "backbone")
    tiny.write_tokenizer(folder / "backbone", "bos")
    write_rows(folder / "data", n)
    files = DatasetFiles(find_source("beavertails-30k"), folder / "data", {})
    with Store(folder / "store").writing("benchmark") as writer:
        ingest_dataset(writer, files, splits=SplitFractions())


def main() -> None:
    """Print a table as markdown."""
    given = options(__doc__, conversations=200_000, shard=EmbedSettings().shard_conversations).parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        in_process(prepare, folder, given.conversations)
        backbone = BackboneSettings(str(folder / "backbone"))
        settings = EmbedSettings(token_budget=4096, shard_conversations=given.shard)
        started = time.perf_counter()
        with Store(folder / "store").writing("benchmark") as writer, Peaks(partial(memory_mb, "VmRSS")) as peaks:

            def on_progress(done: Progress) -> None:
                peaks.share = done.texts / done.total_texts

            result = embed_missing(writer, backbone, settings, on_progress=on_progress)
    print(f"{packages('torch')}, {torch.get_num_threads()} threads")
    print(
        f"{result.n_conversations:,} conversations, {result.n_shards} shards, {result.n_forwarded:,} tokens forwarded, "
        f"{time.perf_counter() - started:.0f} s"
    )
    peaks.print_tenths()


if __name__ == "__main__":
    main()
