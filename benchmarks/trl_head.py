"""A Bradley-Terry head that TRL trains, beside our judges: python benchmarks/trl_head.py armorm.toml VERDICTS.jsonl

Then: armorm compare MODEL VERDICTS.jsonl

Protocol: one epoch of TRL's RewardTrainer on the store's training pairs, batches of 16, AdamW, a learning rate of 3e-3
that falls linearly, a head that begins at zero, seed 0; nothing is chosen by held-out pairs. The backbone is frozen and
has no dropout, so what the head sees of a conversation is one vector, which the store has: the trainer is given a
"language model" that looks it up. VERDICTS holds its scores of all held-out pairs.
"""

import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput
from trl import RewardConfig, RewardTrainer

from armorm.features.conversation import HELD_OUT
from armorm.features.embedding.fingerprint import read_fingerprint
from armorm.features.sample.backbone import sample_texts, write_backbone
from armorm.features.vectors.shards import FeatureReader
from armorm.flows.configuration.settings import load_settings
from armorm.stages.data import load_pairs


class Kept(PreTrainedModel):
    """A head on vectors that are there: the token of a conversation is its row."""

    config_class = PreTrainedConfig

    def __init__(self, config: PreTrainedConfig, vectors_ND: torch.Tensor) -> None:
        super().__init__(config)
        self.score = nn.Linear(vectors_ND.shape[1], 1, bias=False)
        self.register_buffer("vectors_ND", vectors_ND)
        nn.init.zeros_(self.score.weight)

    def forward(self, input_ids: torch.Tensor, **_: Any) -> SequenceClassifierOutput:
        """Score the conversations."""
        return SequenceClassifierOutput(logits=self.score(self.vectors_ND[input_ids[:, -1]]))


def main(config: Path, verdicts: Path) -> None:
    """Train the head, and write what it says of held-out pairs."""
    settings = load_settings(config)
    store = settings.open_store()
    backbone_id = read_fingerprint(settings.local_backbone()).backbone_id
    stored = load_pairs(store, backbone_id=backbone_id)
    training, held_out = (stored.select(stored.usable(*splits)) for splits in (("train",), HELD_OUT))
    answers = [of for pairs in (training, held_out) for of in (pairs.chosen_ids, pairs.rejected_ids)]
    ids = np.unique(np.concatenate(answers))
    reader = FeatureReader(store, backbone_id)
    vectors_ND = torch.tensor(np.asarray(reader.gather("conversation", ids), dtype=np.float32))
    rows = zip(np.searchsorted(ids, training.chosen_ids), np.searchsorted(ids, training.rejected_ids), strict=True)
    model = Kept(PreTrainedConfig(pad_token_id=0, num_labels=1), vectors_ND)
    with TemporaryDirectory() as folder:
        write_backbone(Path(folder) / "tokenizer", sample_texts())  # the trainer wants one, though nothing is tokenised
        options: dict[str, Any] = {"report_to": [], "save_strategy": "no", "use_cpu": True, "bf16": False, "seed": 0}
        trainer = RewardTrainer(
            model=model,
            args=RewardConfig(
                output_dir=folder,
                num_train_epochs=1,
                per_device_train_batch_size=16,
                learning_rate=3e-3,
                gradient_checkpointing=False,
                **options,
            ),
            train_dataset=Dataset.from_list([{"chosen_ids": [int(c)], "rejected_ids": [int(r)]} for c, r in rows]),
            processing_class=AutoTokenizer.from_pretrained(
                Path(folder) / "tokenizer", trust_remote_code=False, local_files_only=True
            ),
        )
        began = time.perf_counter()
        trainer.train()
    print(f"{len(training.pair_ids):,} training pairs, {time.perf_counter() - began:.1f} s")
    with torch.no_grad():
        scores = model.score(vectors_ND)[:, 0].numpy()
    with verdicts.open("w") as file:
        for id, chosen, rejected in zip(held_out.pair_ids, held_out.chosen_ids, held_out.rejected_ids, strict=True):
            chosen_score, rejected_score = scores[np.searchsorted(ids, [chosen, rejected])].tolist()
            said = {"pair_id": id, "score_chosen": chosen_score, "score_rejected": rejected_score}
            file.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
