"""The model card: README.md of an exported model. Built from records; no figure is computed here."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from armorm.report.sections import Cell, Report, Section, to_markdown

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Card:
    """What there is to say of a model."""

    model_id: str
    base_model: str | None
    """Its id on the Hub, where it has one."""
    hub_datasets: Sequence[str]
    """Ids on the Hub of what it was trained on."""
    facts: Sequence[str]
    data: Section
    settings: Json
    """The settings by stage, then by name."""
    results: Sequence[Section]
    limits: Sequence[str] = field(default_factory=list)


def write_card(card: Card) -> str:
    """Return the card: front matter for the Hub, then text for people; what comes from data is escaped."""
    settings = Section(
        "settings",
        "Settings",
        ["stage", "setting", "value"],
        [(stage, name, _value(value)) for stage, of in card.settings.items() for name, value in of.items()],
    )
    sections = [section for section in (card.data, settings, *card.results) if section.rows]
    report = Report(f"Reward model {card.model_id[:12]}", list(card.facts), sections)
    limits = "\n".join(f"- {limit}" for limit in card.limits)
    return f"{_front_matter(card)}\n{to_markdown(report)}\n{USAGE}\n## Limits\n\n{limits}\n"


def _front_matter(card: Card) -> str:
    """Return YAML, of which JSON is a part."""
    fields: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["reward-model", "armorm", "multi-objective", "mixture-of-experts", "rlhf"],
    }
    if card.base_model:
        fields["base_model"] = card.base_model
    if card.hub_datasets:
        fields["datasets"] = list(card.hub_datasets)
    return "\n".join(["---", *(f"{name}: {json.dumps(value)}" for name, value in fields.items()), "---", ""])


def _value(value: Any) -> Cell:
    return value if isinstance(value, str | int | float | bool) else json.dumps(value)


USAGE = """## Use

The layout, parameters and outputs are those of RLHFlow/ArmoRM-Llama3-8B-v0.1
([arXiv 2406.12845](https://arxiv.org/abs/2406.12845)).

```python
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

path = "."  # this folder, or its name on the Hub
model = AutoModelForSequenceClassification.from_pretrained(path, trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)

conversations = [
    [{"role": "user", "content": "Name a river."}, {"role": "assistant", "content": answer}]
    for answer in ("The Danube.", "No.")
]
texts = tokenizer.apply_chat_template(conversations, tokenize=False)
batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
with torch.no_grad():
    output = model(**batch)

coefficients = output.gating_output @ model.reward_transform_matrix.T
assert torch.allclose((output.rewards * coefficients).sum(dim=1), output.score, atol=1e-5)
for row, score in zip(coefficients, output.score):
    top = row.abs().topk(min(3, len(row))).indices.tolist()
    print(f"{score:.4f}", {model.config.objectives[k]: round(row[k].item(), 5) for k in top})
```

Loaded without `trust_remote_code=True`, the folder is transformers' own classifier on this backbone. Its logit is the
score under one fixed mixture of the objectives (`stock_mixture` in the configuration: the gate's mean over training
prompts) in place of the gate's for each prompt; it says less than the score above, and is the same every time.

The objectives, in order: `model.config.objectives`. `model.json` has their native scales.

Steering: `model(**batch, weights=w)` multiplies the gate's weights by `w` [K] and keeps their sum, so 0 leaves an
objective out; `model(**batch, mixture=m)` takes `m` [K] in their place. Coefficients and contributions still sum to the
score.

With armorm, from messages:

```python
from armorm import RewardModel

scores = RewardModel.load(path).score(conversations)
```
"""
