"""Embedding against the other ways of getting the same vectors: seconds, ratios, share of the machine's peak.

    python benchmarks/embed.py [--shapes 256x4,512x8] [--dtypes float32,bfloat16] [--answers 2,4] [--rounds 7]
    python benchmarks/embed.py --shapes llama-3-8b --dtypes bfloat16 --device cuda --prompts 64

Weights are random, texts are token ids of realistic lengths: prompts 20 to 400 (log-normal, median 110), answers 20 to
600 (median 200). Every way computes the same vectors, f(x) of each prompt and f(x+y) of each answer, all compared
with one at a time. Ways take turns; a ratio is the median of those of each turn, to one conversation at a time as the
public scripts do it.

- `one at a time`: transformers' model on one conversation, which gives both of its vectors
- `padded`: batches sorted by length and padded to the right, by the same budgets as ours, the best of them
- `sentence-transformers`: `encode` with last-token pooling, where the extra `bench` is installed; f(x+y) alone, the
  best of some batch sizes
- `armorm`: packs, the best of some token budgets

Peak is the best rate of a square matrix product in the same type. `floor` is the time that the fewest operations would
take at that rate, as a share of the time taken: every token once, in the last layer the wanted ones alone (see
`features/embedding/flops.py`).
"""

import argparse
import math
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaModel

from features.embedding.backbone import Backbone, load
from features.embedding.fingerprint import BackboneSettings, fingerprint
from features.embedding.flops import cost_of, least_flops, peak_flops
from features.embedding.plan import TokenSequence, Wanted, plan_packs

VOCABULARY = 4096

Vectors = dict[Wanted, np.ndarray]  # type: ignore[type-arg]


def config(shape: str) -> LlamaConfig:
    """Of `256x4`: hidden size and layers; or of Llama-3-8B."""
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


def corpus(n_prompts: int, answers: int, seed: int = 0) -> list[TokenSequence]:
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
    """As the public scripts do."""
    vectors: Vectors = {}
    for one in sequences:
        states = backbone.last_hidden_state(torch.tensor([one.token_ids]), torch.ones((1, len(one.token_ids))).long())
        vectors |= {wanted: states[0, wanted.position].float().cpu().numpy() for wanted in one.wanted}
    return vectors


def sentence_transformer(folder: Path, dtype: str, device: str) -> Callable[[list[TokenSequence], int], Vectors] | None:
    """`encode` over the same token ids, f(x+y) alone; None where it is not installed."""
    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    except ImportError:
        return None
    transformer = Transformer(
        str(folder),
        max_seq_length=4096,
        model_kwargs={"dtype": getattr(torch, dtype)},
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


def measure(shape: str, dtype: str, answers: int, rounds: int, n_prompts: int, device: str) -> None:
    """Prints a row for every way."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    sequences = corpus(n_prompts, answers)
    n_tokens = sum(len(one.token_ids) for one in sequences)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        torch.manual_seed(0)
        LlamaModel(config(shape)).to(getattr(torch, dtype)).save_pretrained(folder)
        vocabulary = Tokenizer(models.WordLevel({f"t{id}": id for id in range(VOCABULARY)}, unk_token="t0"))
        vocabulary.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=vocabulary, pad_token="t0", chat_template="{{ messages }}")
        tokenizer.save_pretrained(folder)
        settings = BackboneSettings(str(folder), dtype=dtype, device=device)  # type: ignore[arg-type]
        packed = load(settings, fingerprint(settings))
        plain = load(settings, fingerprint(settings))
        plain.model.set_attn_implementation("sdpa")
        padded = replace(plain, last_layer=None)
        encode = sentence_transformer(folder, dtype, device)
        budgets = (1024, 2048, 4096, 8192) if device == "cpu" else (4096, 16384, 65536)
        ways: dict[str, Callable[[], Vectors]] = {"one at a time": lambda: one_at_a_time(padded, sequences)}
        for budget in budgets:
            ways[f"padded {budget}"] = lambda b=budget: dict(padded.embed(sequences, token_budget=b))
            ways[f"armorm {budget}"] = lambda b=budget: dict(packed.embed(sequences, token_budget=b))
        for batch in (1, 8, 32) if encode else ():
            ways[f"sentence-transformers {batch}"] = lambda b=batch: encode(sequences, b)  # type: ignore[misc]
        expected = ways["one at a time"]()
        apart = {name: _apart(expected, way()) for name, way in ways.items()}  # also warms up
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                _synchronise(device)
                start = time.perf_counter()
                way()
                _synchronise(device)
                times[name].append(time.perf_counter() - start)
    (whole,) = plan_packs(sequences, token_budget=10**9)
    floor = least_flops(cost_of(plain.model), whole) / peak_flops(dtype, device)
    medians = {name: statistics.median(of) for name, of in times.items()}
    for kind in ("one at a time", "padded", "sentence-transformers", "armorm"):
        of_kind = {name: seconds for name, seconds in medians.items() if name.startswith(kind)}
        if not of_kind:
            continue
        best = min(of_kind, key=lambda name: of_kind[name])
        paired = [one / other for one, other in zip(times["one at a time"], times[best], strict=True)]
        print(
            f"| {shape} | {dtype} | {answers} | {best} | {of_kind[best]:.2f} | {statistics.median(paired):.2f} | "
            f"{n_tokens / of_kind[best]:,.0f} | {floor / of_kind[best]:.0%} | {apart[best]:.1e} |",
            flush=True,
        )


def _apart(expected: Vectors, got: Vectors) -> float:
    """The largest distance of two vectors, to the length of the first."""
    return max(float(np.linalg.norm(expected[w] - v) / np.linalg.norm(expected[w])) for w, v in got.items())


def _synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def main() -> None:
    """Prints a table as markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default="256x4,512x8")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--answers", default="2,4")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    versions = []
    for name in ("torch", "transformers", "sentence-transformers"):
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            versions.append(f"{name} not installed")
    print(
        f"Python {platform.python_version()}, {', '.join(versions)}; {torch.get_num_threads()} threads, {given.device}"
    )
    print("| shape | type | answers | way | s | ratio | tokens/s of all texts | floor | apart |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for shape in given.shapes.split(","):
        for dtype in given.dtypes.split(","):
            for answers in map(int, given.answers.split(",")):
                measure(shape, dtype, answers, given.rounds, given.prompts, given.device)


if __name__ == "__main__":
    main()
