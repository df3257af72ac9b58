"""Embedding of real text against the loop of the public scripts: processor seconds, wall seconds, tokens, agreement.

    python benchmarks/embed_real.py CONFIG [--datasets hh-rlhf,..] [--every-row] [--threads 1] [--rounds 5] [--texts 64]

CONFIG is a configuration after `armorm ingest`. A round takes a run of texts that stand together in the order in which
`armorm embed` takes them, so that they share beginnings as they do in a shard, at another place each round; both ways
embed it, one after the other, each in a process of its own. Ratios are of the same round; told are their median, the
least and the greatest. The first round does not count. Processor seconds are the process's own, whatever else is at
work on the machine; with several threads wait loops count too, and wall seconds on a quiet machine say more.

- `loop`: a conversation at a time through transformers' `AutoModel` as it comes, `apply_chat_template` and one forward
  pass, as RLHFlow's `stage-1_prepare.py` and `stage-2_prepare.py` do; both vectors are taken from that pass, and where
  the prompt ends is told for nothing. It computes each distinct conversation once, or with `--every-row` as often as it
  stands in the native rows (duplicates of pairs, which no row of the store names, are not counted).
- `armorm`: what a shard does between reading and writing: render, plan, forward.

`computed` is how many tokens the loop computes to one of ours: the gain by sharing; the rest of a ratio is that of the
tokens a second. `apart` is the largest distance of two vectors as a share of the length of ours.
"""

import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import torch
from transformers import AutoModel, AutoTokenizer

from armorm.features.catalog.views import connect
from armorm.features.conversation import Conversation, conversation_id, prompt_id
from armorm.features.embedding.backbone import load
from armorm.features.embedding.chunks import BEGINNING
from armorm.features.embedding.embed import EmbedSettings
from armorm.features.embedding.fingerprint import BackboneSettings, read_fingerprint
from armorm.features.embedding.packs import Rendered
from armorm.features.embedding.render import render
from armorm.features.embedding.vectors import plan_texts, run_passes
from armorm.features.store import Store
from armorm.features.vectors.shards import Name, Vector
from armorm.flows.configuration.settings import load_settings
from benchmarks.embed import Prepare, Turn, Way, apart
from benchmarks.measure import options, packages, print_row, print_table

TEXTS: Final = f"""
WITH wanted AS (
    SELECT conversation_id, count(*) AS n FROM occurrences JOIN native_rows USING (dataset, source_row)
    WHERE list_contains(?, dataset) GROUP BY ALL
)
SELECT messages, n FROM conversations JOIN wanted USING (conversation_id)
ORDER BY {BEGINNING}, prompt_id, conversation_id
"""
"""Conversations in the order of `armorm embed`, and in how many native rows each stands."""

Texts = list[tuple[Conversation, int]]
"""Messages, and how often the loop embeds them."""

Embedded = tuple[dict[Name, Vector], int]
"""Vectors, and how many tokens were computed."""


def open_loop(settings: BackboneSettings, threads: int) -> Prepare:
    """Return the way of the public scripts."""
    torch.set_num_threads(threads)
    folder = read_fingerprint(settings).folder
    model = AutoModel.from_pretrained(
        folder, dtype=getattr(torch, settings.dtype), trust_remote_code=False, local_files_only=True
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)

    def embed(texts: Texts, ends: Sequence[Rendered]) -> Embedded:
        vectors, n_tokens = {}, 0
        for (messages, times), end in zip(texts, ends, strict=True):
            turns = [{"role": role, "content": content} for role, content in messages]
            for _ in range(times):
                encoded = tokenizer.apply_chat_template(turns, return_tensors="pt", return_dict=True)
                with torch.no_grad():
                    states_LD = model(**encoded).last_hidden_state[0]
                vectors["conversation", end.conversation_id] = states_LD[-1].float().numpy().copy()
                vectors["prompt", end.prompt_id] = states_LD[end.n_prompt_tokens - 1].float().numpy().copy()
                n_tokens += len(states_LD)
        return vectors, n_tokens

    return lambda texts: partial(embed, texts, render(tokenizer, [messages for messages, _ in texts]).rendered)


def open_ours(settings: BackboneSettings, threads: int) -> Prepare:
    """Return our way."""
    torch.set_num_threads(threads)
    backbone = load(settings, read_fingerprint(settings))

    def embed(texts: Texts) -> Embedded:
        conversations = [messages for messages, _ in texts]
        wanted, prompts = ({id_of(messages) for messages in conversations} for id_of in (conversation_id, prompt_id))
        sequences = plan_texts(backbone, conversations, wanted, prompts).sequences
        passes = list(run_passes(backbone, sequences, token_budget=EmbedSettings().token_budget))
        vectors = {(of.kind, of.id): vector for one in passes for of, vector in one.vectors}
        return vectors, sum(one.n_forwarded for one in passes)

    return lambda texts: partial(embed, texts)


def main() -> None:
    """Print a row as markdown."""
    datasets = ["hh-rlhf", "pku-saferlhf-30k", "beavertails-30k"]
    parser = options(__doc__, datasets=datasets, every_row=False, threads=1, rounds=5, texts=64)
    parser.add_argument("config", type=Path)
    given = parser.parse_args()
    settings = load_settings(given.config)
    backbone = settings.local_backbone()
    loop = Way(partial(open_loop, backbone, given.threads))
    ours = Way(partial(open_ours, backbone, given.threads))
    with connect(Store(settings.root / settings.store)) as catalog:
        rows = catalog.execute(TEXTS, [given.datasets]).fetchall()
    rounds = []
    for start in range(0, len(rows) - given.texts, len(rows) // (given.rounds + 1)):
        texts = [
            (tuple((turn["role"], turn["content"]) for turn in messages), times if given.every_row else 1)
            for messages, times in rows[start : start + given.texts]
        ]
        rounds.append((loop(texts), ours(texts)))
    loop.close()
    ours.close()
    print(packages("torch", "transformers"))
    columns = ["ratio, processor", "wall", "computed", "loop, tokens/s", "armorm, tokens/s", "apart"]
    print_table(["datasets", "threads", *columns])
    print_row(",".join(given.datasets), given.threads, *_cells(rounds[1:]))


def _cells(rounds: list[tuple[Turn, Turn]]) -> list[str]:
    """Return the figures of rounds, each the loop's turn and ours; tokens a second are by processor seconds."""
    ratios = [sorted(getattr(loop, s) / getattr(ours, s) for loop, ours in rounds) for s in ("processor_s", "wall_s")]
    seconds = [sum(turn.processor_s for turn in turns) for turns in zip(*rounds, strict=True)]
    computed = [sum(turn.result[1] for turn in turns) for turns in zip(*rounds, strict=True)]
    most_apart = max(apart(ours.result[0], loop.result[0]) for loop, ours in rounds)
    return [
        *(f"{statistics.median(clock):.2f} ({clock[0]:.2f} to {clock[-1]:.2f})" for clock in ratios),
        f"{computed[0] / computed[1]:.2f}",
        *(f"{tokens / second:.0f}" for tokens, second in zip(computed, seconds, strict=True)),
        f"{most_apart:.1e}",
    ]


if __name__ == "__main__":
    main()
