"""A model of the store as a folder that transformers loads without armorm, with a card from the lineage."""

import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from armorm.errors import ExportError
from armorm.export.card import Card, write_card
from armorm.export.layout import check_target, is_layout, require_stock_head, write_layout
from armorm.export.pattern import Sample, find_pattern
from armorm.features.catalog.views import connect
from armorm.features.conversation import Conversation, single_turn
from armorm.features.embedding.backbone import Backbone, load, read_architecture
from armorm.features.embedding.fingerprint import BackboneSettings, local_path
from armorm.features.embedding.render import render
from armorm.features.lineage.graph import Graph, Node, read_graph
from armorm.features.lineage.trace import trace
from armorm.features.store import Artifact, Store
from armorm.features.store.json_records import read_record
from armorm.features.vectors.shards import FeatureReader
from armorm.model.head import DESCRIPTION_FILE, RewardHead
from armorm.records.evaluation import Evaluation
from armorm.report.sections import (
    Section,
    decorrelation_section,
    missing_section,
    objective_section,
    own_scores_section,
    pair_section,
    rewardbench_sections,
    taken_out,
    untrained_section,
)
from armorm.scoring import reward_model as scoring
from armorm.scoring.backbones import require_backbone
from armorm.stages import evaluate
from armorm.stages.model import PARTS, load_model
from armorm.stages.pipeline import PIPELINE

SAMPLED: Final = 1000
"""Conversations of the store that the prompt's end is looked for in."""

PROMPTS_OF_MEAN: Final = 10_000
"""Training prompts, at most, that the gate's mean is taken over."""

AGREEING: Final = 0.99
"""Share of them in which it has to be where it was when they were embedded: an answer may imitate a turn's head."""

PROMPTS: Final = ("Hi", "What is 2 + 2?", "Ends in a newline\n", " in spaces ", "Say 7", "你好", "```\nx = 1\n```")
ANSWERS: Final = (
    *("Yes.", "no", "\n\nIndented", " spaced", "4", "<think>\nhm\n</think>\n\n4", "你好", "```\nx\n```", "- a", "(b)"),
    *("**bold**", '"quoted"', "\tx"),
)
"""Ends of prompts and beginnings of answers that a tokenizer may join with what a template writes beside them."""


def export_model(
    store: Store, artifact: Artifact, settings: BackboneSettings, folder: Path, *, max_shard_size: str
) -> bool:
    """Write a model with its backbone; False if the same model is there already.

    Raises:
        BackboneError: the configured backbone is not the model's.
        ModelFolderError: the folder holds something else, or the same model but damaged.
        ExportError: no folder in the published layout can be made of the backbone, which is told before it is loaded,
            or of its template.
    """
    model = load_model(store, artifact)
    description = folder / DESCRIPTION_FILE
    if is_layout(folder) and description.is_file() and description.read_bytes() == model.to_bytes()[1]:
        scoring.RewardModel.load(folder)  # what is there has to be whole
        return False
    check_target(folder, max_shard_size)
    fingerprint = require_backbone(settings, model)
    require_stock_head(read_architecture(settings, fingerprint), model.W_KD.shape[1])
    backbone = load(settings, fingerprint)
    probes = rendered(backbone, probe_conversations())
    prompt_end = find_pattern(probes)
    stored = rendered(backbone, _sampled(store))
    n_found = sum(map(prompt_end.finds, stored))
    if n_found < AGREEING * len(stored):
        raise ExportError(
            f"got {len(stored) - n_found} of {len(stored)} conversations in which token ids alone do not tell the "
            f"prompt's end; expected at most {1 - AGREEING:.0%}; set chat_template in [backbone] to one whose turns "
            "begin with special tokens, and embed with it"
        )
    write_layout(
        folder,
        model,
        backbone=backbone.model,
        tokenizer=backbone.tokenizer,
        prompt_end=prompt_end,
        mixture_K=mean_gate(store, model),
        texts=[sample.token_ids for sample in (*probes, *stored)],
        card=write_card(_card(store, artifact, model, settings, (n_found, len(stored)))),
        max_shard_size=max_shard_size,
    )
    return True


def mean_gate(store: Store, model: RewardHead) -> NDArray[np.floating]:
    """`[K]` mean of the gate over training prompts, at most `PROMPTS_OF_MEAN` of them: the best single mixture at hand.

    Of a store that has no vectors of them any more, all objectives alike.
    """
    with connect(store) as connection:
        found = connection.execute(
            "SELECT id FROM features WHERE kind = 'prompt' AND backbone = ? AND id IN "
            "(SELECT prompt_id FROM training_pairs WHERE split = 'train') ORDER BY id LIMIT ?",
            [model.backbone_id, PROMPTS_OF_MEAN],
        ).fetchall()
    if not found:
        return np.full(len(model.objectives), 1 / len(model.objectives))
    prompts_ND = FeatureReader(store, model.backbone_id).gather("prompt", [id for (id,) in found])
    return np.asarray(model.gating(prompts_ND).mean(axis=0))


def probe_conversations() -> list[Conversation]:
    """One and more turns, with a system turn and without, that begin and end in many ways."""
    pairs = [single_turn(prompt, answer) for prompt, answer in product(PROMPTS, ANSWERS)]
    longer = [(*first, *second) for first, second in zip(pairs, pairs[::-1], strict=True)]
    return [*pairs, *longer, *((("system", "Be kind."), *messages) for messages in (pairs[0], longer[1]))]


def rendered(backbone: Backbone, conversations: Sequence[Conversation]) -> list[Sample]:
    """Return those that the template renders, with their prompt's end as it was when the features were taken."""
    rendering = render(backbone.tokenizer, conversations, system=backbone.fingerprint.system)
    known = [one for one in rendering.rendered if one.n_prompt_tokens]
    return [Sample(one.token_ids, one.n_prompt_tokens) for one in known]


def _sampled(store: Store) -> list[Conversation]:
    with connect(store) as connection:
        rows = connection.execute(
            "SELECT messages FROM conversations ORDER BY conversation_id LIMIT ?", [SAMPLED]
        ).fetchall()
    return [tuple((turn["role"], turn["content"]) for turn in messages) for (messages,) in rows]


def _card(
    store: Store, artifact: Artifact, model: RewardHead, settings: BackboneSettings, found: tuple[int, int]
) -> Card:
    """Return what the lineage says of the model."""
    graph = read_graph(store)
    node = graph.find(artifact.artifact_id)
    stages = {of.stage: of for of in graph.ancestors(node.number)}
    base_model = settings.path if local_path(settings) is None else None
    with trace(store, artifact.artifact_id, stages=PIPELINE, n_rows=0) as traced:
        rows = traced.datasets.records
    shown = ("dataset", "stage", "usage", "rows", "upstream", "revision", "licence")
    return Card(
        model_id=artifact.artifact_id,
        base_model=base_model,
        hub_datasets=sorted({row["upstream"] for row in rows if HUB_ID.fullmatch(row["upstream"] or "")}),
        facts=[
            f"backbone {base_model or 'of its own'} ({model.backbone['architecture']}, hidden size "
            f"{model.backbone['hidden_size']}, {model.backbone['dtype']}), frozen; id {model.backbone_id}",
            f"{len(model.objectives)} objectives; taken out of them: {taken_out(model.nuisances)}",
            f"beta {model.beta:.4g}",
            f"made {artifact.created_at} by armorm {node.run.code_version if node.run else 'of an unknown version'}; "
            f"model {artifact.artifact_id}",
        ],
        data=Section(
            "data",
            "Data",
            list(shown),
            [tuple(row[name] for name in shown) for row in rows],
            "each row of it can be listed by `armorm trace` over the store that the model was made in",
        ),
        settings={name: _settings_of(of) for name, of in stages.items() if name in PARTS},
        results=_results(store, graph, node, model),
        limits=_limits(model, settings, found),
    )


HUB_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")


def _settings_of(node: Node) -> dict[str, object]:
    settings: dict[str, object] = node.artifact.recipe.parameters["settings"]
    return settings


def _results(store: Store, graph: Graph, node: Node, model: RewardHead) -> list[Section]:
    """Return the results of the training, and of the newest evaluation of this model."""
    training = model.training
    sections = [objective_section(training.regression), untrained_section(model.untrained)]
    sections += [decorrelation_section(training.decorrelation)] if training.decorrelation else []
    evaluated = [of for of in graph.nodes.values() if of.stage == evaluate.STAGE and node.number in of.inputs.values()]
    if evaluated:
        record = read_record(store, max(evaluated, key=lambda of: of.last).artifact, Evaluation)
        sections += [pair_section(record.pairs), *rewardbench_sections(record.rewardbench, record.pairs)]
        sections += [own_scores_section(record.benchmarks), missing_section(record)]
    return sections


def _limits(model: RewardHead, settings: BackboneSettings, found: tuple[int, int]) -> list[str]:
    n_found, n_stored = found
    texts = {
        "cut_left": "lost their first tokens",
        "drop_turns": "lost their oldest exchanges",
        "refuse": "were left out",
    }
    limits = [
        "Scores compare answers to the same prompt. They are no probabilities, and across prompts they say little.",
        "The rewards are predictions of what the judges of each dataset rated, with these judges' habits.",
        f"Texts of more than {model.backbone['max_tokens']:,} tokens {texts[settings.over_long]} in training; here "
        "they are taken as they come.",
        "The prompt's end is found by token ids: the last place where the chat template begins an answer. It was where "
        f"it should be in {n_found:,} of {n_stored:,} conversations of the training store. A tokenizer that reads "
        "special tokens in plain text lets an answer imitate that place, and so choose what the gate reads: take "
        "special tokens out of answers that you do not trust, or pass `prompt_lengths`. armorm itself compares an "
        "answer with its prompt, and is not misled.",
        "The licences of the backbone and of the data above apply.",
    ]
    if not model.nuisances:
        limits.append(
            "The objectives were not decorrelated from length or anything else: where judges prefer longer answers, so "
            "may the scores."
        )
    if settings.system == "first_user":
        limits.append(
            "System turns stood at the head of the first user turn in training; put them there before scoring."
        )
    return limits
