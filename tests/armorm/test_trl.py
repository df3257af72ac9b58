"""TRL takes an export where it takes a reward model: by its own loading path, on its own texts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, dynamic_module_utils

from armorm import RewardModel
from armorm.release.export import probe_conversations
from tests.armorm.exported import as_messages, export
from tests.features.tiny import SIZES, write_tokenizer

trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")

pytestmark = [pytest.mark.trl, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def modules_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))


@pytest.mark.parametrize("trainer", ["GRPO", "RLOO"])
def test_a_trainer_rewards_by_an_export(trainer: str, tmp_path: Path) -> None:
    made = export(tmp_path)
    policy = tmp_path / "policy"
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**SIZES)).save_pretrained(policy)
    write_tokenizer(policy, "bos")
    config: Any = getattr(trl, f"{trainer}Config")(
        output_dir=str(tmp_path / "out"),
        trust_remote_code=True,
        per_device_train_batch_size=2,
        num_generations=2,
        max_completion_length=8,
        max_steps=1,
        report_to=[],
        use_cpu=True,
        bf16=False,
        logging_steps=1,
    )
    prompts = datasets.Dataset.from_list([{"prompt": [{"role": "user", "content": f"Say {n}."}]} for n in range(4)])
    it = getattr(trl, f"{trainer}Trainer")(
        model=str(policy), reward_funcs=str(made.folder), args=config, train_dataset=prompts
    )
    (reward_model,) = it.reward_funcs
    assert type(reward_model).__name__ == "RewardModelWithGating"
    conversations = probe_conversations()[::20]
    inputs = [{"prompt": as_messages(messages[:-1])} for messages in conversations]
    found = it._calculate_rewards(
        inputs,
        [one["prompt"] for one in inputs],
        [as_messages(messages[-1:]) for messages in conversations],
        [[1]] * len(conversations),
    )
    expected = RewardModel.load(made.folder).score(conversations).score
    np.testing.assert_allclose(np.asarray(found)[:, 0], expected, atol=1e-5)
    it.train()
    logged = [entry["reward"] for entry in it.state.log_history if "reward" in entry]
    assert len(logged) == 1
    assert np.isfinite(logged).all()
