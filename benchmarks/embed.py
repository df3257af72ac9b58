"""Embedding against the other ways of getting the same vectors: seconds, ratios, share of the machine's peak.

    python benchmarks/embed.py [--shapes 256x4,512x8] [--dtypes float32,bfloat16] [--answers 2,4] [--rounds 7]
    python benchmarks/embed.py --shapes llama-3-8b --dtypes bfloat16 --device cuda --prompts 64

Weights are random, texts are token ids of realistic lengths: prompts 20 to 400 (log-normal, median 110), answers 20 to
600 (median 200). Every way computes the same vectors, f(x) of each prompt and f(x+y) of each answer, compared with one
at a time. Ways take turns, each in a process of its own; a ratio is the median of those of each turn, to one
conversation at a time as the public scripts do it. Every turn is about texts that no way has seen before, as embedding
is: a text is embedded once, and oneDNN compiles kernels of 16 bits for each new length. Some turns without a clock go
first, so that what is kept of earlier lengths is there.

- `one at a time`: transformers' model on one conversation, which gives both of its vectors; on a CPU also with the
  allocator set as ours sets it
- `padded`: batches sorted by length and padded to the right, by the same budgets as ours, the best of them
- `sentence-transformers`: `encode` with last-token pooling, where the extra `bench` is installed; f(x+y) alone, the
  best of some batch sizes
- `armorm`: packs, the best of some token budgets

Peak is the best rate of a square matrix product in the same type. `floor` is the time that the fewest operations would
take at that rate, as a share of the time taken: every token once, in the last layer the wanted ones alone (see
`benchmarks/flops.py`).
"""

import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import product
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer, LlamaConfig, LlamaModel

from armorm.features.embedding.backbone import Backbone, Floats, load
from armorm.features.embedding.fingerprint import BackboneSettings, read_fingerprint
from armorm.features.embedding.memory import keep_freed_memory
from armorm.features.embedding.packs import TokenSequence, Wanted, plan_packs
from benchmarks.flops import cost_of, least_flops, product_flops
from benchmarks.measure import options, packages, print_row, print_table

VOCABULARY = 4096

WARM_UP = 10
"""Turns without a clock."""

Vectors = dict[Wanted, np.ndarray]  # type: ignore[type-arg]


def config(shape: str) -> LlamaConfig:
    """Return the configuration of `256x4` (hidden size and layers), or of Llama-3-8B."""
    if shape == "llama-3-8b":
        return LlamaConfig(
            vocab_size=VOCABULARY,  # embeddings are looked up: their number changes no time
            hidden_size=4096,
            intermediate_size=14336,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
            max_position_embeddings=8192,
        )
    hidden, layers = map(int, shape.split("x"))
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=hidden * 11 // 4 // 8 * 8,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=max(1, hidden // 128),
        max_position_embeddings=2048,
    )


def corpus(n_prompts: int, answers: int, seed: int) -> list[TokenSequence]:
    """Token ids of conversations; each prompt's vector is wanted once."""
    rng = random.Random(seed)

    def tokens(median: int, least: int, most: int) -> tuple[int, ...]:
        length = int(min(most, max(least, math.exp(rng.gauss(math.log(median), 0.65)))))
        return tuple(rng.randrange(VOCABULARY) for _ in range(length))

    sequences = []
    for number in range(n_prompts):
        prompt = tokens(110, 20, 400)
        for answer in range(answers):
            text = (*prompt, *tokens(200, 20, 600))
            wanted = [Wanted("conversation", f"{number} {answer}", len(text) - 1, len(text))]
            if not answer:
                wanted.append(Wanted("prompt", f"{number}", len(prompt) - 1, len(prompt)))
            sequences.append(TokenSequence(text, tuple(wanted)))
    return sequences


def one_at_a_time(backbone: Backbone, sequences: list[TokenSequence]) -> Vectors:
    """Return the vectors as the public scripts compute them."""
    vectors: Vectors = {}
    for one in sequences:
        states = backbone.last_hidden_state(torch.tensor([one.token_ids]), torch.ones((1, len(one.token_ids))).long())
        vectors |= {wanted: states[0, wanted.position].float().cpu().numpy() for wanted in one.wanted}
    return vectors


def sentence_transformer(folder: Path, dtype: str, device: str) -> Callable[[list[TokenSequence], int], Vectors]:
    """`encode` over the same token ids, f(x+y) alone."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    alone = {"trust_remote_code": False, "local_files_only": True}
    transformer = Transformer(
        str(folder),
        max_seq_length=4096,
        model_kwargs={"dtype": getattr(torch, dtype), "use_safetensors": True, **alone},
        config_kwargs=alone,
        processor_kwargs=alone,
        # text as it is: with a chat template there, it would be taken for a message
        modality_config={"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        module_output_name="token_embeddings",
    )
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="lasttoken")
    model = SentenceTransformer(modules=[transformer, pooling], device=device)

    def encode(sequences: list[TokenSequence], batch: int) -> Vectors:
        texts = [" ".join(f"t{id}" for id in one.token_ids) for one in sequences]
        vectors = model.encode(texts, batch_size=batch, show_progress_bar=False)
        return {one.wanted[0]: vector for one, vector in zip(sequences, vectors, strict=True)}

    return encode


def make_backbone(shape: str, dtype: str, folder: Path) -> None:
    """Random weights, and a tokenizer whose words are token ids."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    torch.manual_seed(0)
    LlamaModel(config(shape)).to(getattr(torch, dtype)).save_pretrained(folder)
    vocabulary = Tokenizer(models.WordLevel({f"t{id}": id for id in range(VOCABULARY)}, unk_token="t0"))
    vocabulary.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=vocabulary, pad_token="t0", chat_template="{{ messages }}")
    tokenizer.save_pretrained(folder)


def open_way(kind: str, folder: Path, dtype: str, device: str) -> Callable[[list[TokenSequence], int], Vectors]:
    """Return a way of getting vectors, in passes of so many tokens, or batches of so many texts."""
    if kind == "sentence-transformers":
        return sentence_transformer(folder, dtype, device)
    settings = BackboneSettings(str(folder), dtype=dtype, device=device)  # type: ignore[arg-type]
    if kind == "armorm":
        packed = load(settings, read_fingerprint(settings))
        return lambda sequences, budget: dict(packed.embed(sequences, token_budget=budget))
    model = AutoModel.from_pretrained(
        folder, dtype=getattr(torch, dtype), use_safetensors=True, trust_remote_code=False, local_files_only=True
    )
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    plain = Backbone(kind, read_fingerprint(settings), model.to(device).eval(), tokenizer)
    if kind == "padded":
        return lambda sequences, budget: dict(plain.embed(sequences, token_budget=budget))
    if kind == "one at a time, memory kept":
        keep_freed_memory()
    return lambda sequences, budget: one_at_a_time(plain, sequences)


@dataclass(frozen=True, slots=True)
class Turn:
    """What a way has got of some texts, and in what time."""

    wall_s: float
    processor_s: float
    result: Any


Prepare = Callable[..., Callable[[], Any]]
"""Takes texts, without a clock; what it returns embeds them."""


def serve(connection: Connection, open_way: Callable[[], Prepare], device: str) -> None:
    """A process that takes what to embed, and answers with seconds and vectors."""
    prepare = open_way()
    while asked := connection.recv():
        embed = prepare(*asked)
        _synchronise(device)
        wall, processor = time.perf_counter(), time.process_time()
        result = embed()
        _synchronise(device)
        connection.send(Turn(time.perf_counter() - wall, time.process_time() - processor, result))


class Way:
    """A process of its own, so that each way has the allocator, and the state of torch, that its users have."""

    def __init__(self, open_way: Callable[[], Prepare], device: str = "cpu") -> None:
        self._connection, other = Pipe()
        self._process = get_context("spawn").Process(target=serve, args=(other, open_way, device), daemon=True)
        self._process.start()

    def __call__(self, *asked: Any) -> Turn:
        """What it makes of these texts."""
        self._connection.send(asked)
        answer: Turn = self._connection.recv()
        return answer

    def close(self) -> None:
        """End the process."""
        self._connection.send(None)
        self._process.join()


def prepare_way(kind: str, folder: Path, dtype: str, device: str, corpus_of: tuple[int, int]) -> Prepare:
    """A way for texts that a seed makes."""
    way = open_way(kind, folder, dtype, device)

    def prepare(size: int, seed: int) -> Callable[[], Vectors]:
        return partial(way, corpus(*corpus_of, seed), size)

    return prepare


def sizes(device: str) -> dict[str, tuple[int, ...]]:
    """Way to the sizes that it is tried with."""
    small, large = ((1024, 4096), (2048, 8192)) if device == "cpu" else ((4096, 16384), (16384, 65536))
    ways: dict[str, tuple[int, ...]] = {"one at a time": (1,)}
    if device == "cpu":
        ways["one at a time, memory kept"] = (1,)
    ways["padded"] = small
    if find_spec("sentence_transformers"):
        ways["sentence-transformers"] = (1, 8)
    return ways | {"armorm": large}


def measure(shape: str, dtype: str, answers: int, rounds: int, n_prompts: int, device: str) -> None:
    """Print a row for every way."""
    with tempfile.TemporaryDirectory() as made:
        make_backbone(shape, dtype, Path(made))
        corpus_of = n_prompts, answers
        opened = {kind: partial(prepare_way, kind, Path(made), dtype, device, corpus_of) for kind in sizes(device)}
        ways = {kind: Way(one, device) for kind, one in opened.items()}
        runs = [(kind, size) for kind in ways for size in sizes(device)[kind]]
        for seed in range(WARM_UP):
            vectors = {(kind, size): ways[kind](size, seed).result for kind, size in runs}
        times: dict[tuple[str, int], list[float]] = {run: [] for run in runs}
        seeds = range(WARM_UP, WARM_UP + rounds)
        for seed in seeds:
            for kind, size in runs:
                times[kind, size].append(ways[kind](size, seed).wall_s)
        for way in ways.values():
            way.close()
    expected = "one at a time", 1
    whole = [plan_packs(corpus(n_prompts, answers, seed), token_budget=10**9)[0] for seed in seeds]
    n_tokens = sum(len(one.token_ids) for seed in seeds for one in corpus(n_prompts, answers, seed))
    with torch.device("meta"):
        cost = cost_of(LlamaModel(config(shape)))
    floor = sum(least_flops(cost, pack) for pack in whole) / product_flops(dtype, device)
    for kind in ways:
        best = min((run for run in runs if run[0] == kind), key=lambda run: statistics.median(times[run]))
        seconds = sum(times[best])
        ratios = [one / other for one, other in zip(times[expected], times[best], strict=True)]
        named = kind if len(sizes(device)[kind]) == 1 else f"{kind} {best[1]}"
        cells = [shape, dtype, answers, named, f"{seconds / rounds:.2f}", f"{statistics.median(ratios):.2f}"]
        cells += [f"{min(ratios):.2f} to {max(ratios):.2f}", f"{n_tokens / seconds:,.0f}", f"{floor / seconds:.0%}"]
        print_row(*cells, f"{apart(vectors[expected], vectors[best]):.1e}")


def apart(expected: Mapping[Any, Floats], got: Mapping[Any, Floats]) -> float:
    """Return the largest distance of two vectors, to the length of the first."""
    return max(float(np.linalg.norm(expected[w] - v) / np.linalg.norm(expected[w])) for w, v in got.items())


def _synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def main() -> None:
    """Print a table as markdown."""
    given = options(
        __doc__,
        shapes=["256x4", "512x8"],
        dtypes=["float32", "bfloat16"],
        answers=[2, 4],
        rounds=7,
        prompts=24,
        device="cpu",
    ).parse_args()
    versions = packages("torch", "transformers", "sentence-transformers")
    print(f"{versions}; {torch.get_num_threads()} threads, {given.device}")
    columns = ["shape", "type", "answers", "way", "s", "ratio", "of all turns", "tokens/s of all texts"]
    print_table([*columns, "floor", "apart"])
    for shape, dtype, answers in product(given.shapes, given.dtypes, given.answers):
        measure(shape, dtype, answers, given.rounds, given.prompts, given.device)


if __name__ == "__main__":
    main()
