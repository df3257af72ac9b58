"""What differs between two snapshots, and between two backbones: every answer is known by construction."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from armorm.features.catalog.diff import count_changes, diff
from armorm.features.conversation import SplitFractions
from armorm.features.errors import NotInStore
from armorm.features.ingest.dataset import DatasetFiles, ingest_dataset
from armorm.features.sources import complete_options, find_source
from armorm.features.store import Made, Recipe, Store, Writer
from armorm.features.store.manifests import EMPTY
from armorm.features.store.names import find_named
from armorm.features.vectors.drift import Drift, cosines, drift, linear_cka
from armorm.features.vectors.shards import Feature, write_shard
from tests.features.test_ingest import write

Rows = list[dict[str, Any]]

SAFETY: Rows = [{"prompt": f"p{n // 2}", "response": f"Answer {n}.", "is_safe": n % 2 == 0} for n in range(8)]
PAIRS: Rows = [
    {side: f"\n\nHuman: q{n}\n\nAssistant: {answer} {n}" for side, answer in (("chosen", "A"), ("rejected", "B"))}
    for n in range(4)
]


def ingest(store: Store, folder: Path, **datasets: Rows) -> None:
    with store.writing("test") as writer:
        for name, rows in datasets.items():
            dataset = name.replace("_", "-")
            path = write(folder / f"{dataset}.jsonl", *rows)
            source = find_source(dataset)
            ingest_dataset(writer, DatasetFiles(source, path, complete_options(source, {})), splits=SplitFractions())


def test_rows_are_added_removed_edited_and_relabelled(store: Store, tmp_path: Path) -> None:
    ingest(store, tmp_path, beavertails_30k=SAFETY, hh_rlhf=PAIRS)
    unsafe = SAFETY[2] | {"is_safe": False}  # moves down by one line, so that texts alone tell what it was
    edited = SAFETY[5] | {"response": "Another one."}
    added = {"prompt": "new", "response": "New.", "is_safe": True}
    changed = [*SAFETY[:2], added, unsafe, SAFETY[3], edited, *SAFETY[6:]]
    swapped = dict(zip(PAIRS[3], reversed(PAIRS[3].values()), strict=True))
    ingest(store, tmp_path, beavertails_30k=changed, hh_rlhf=[*PAIRS[:3], swapped])
    found = diff(store, store.snapshot("previous"), store.head())
    assert [(row.dataset, row.change, row.line) for row in found.rows] == [
        ("beavertails-30k", "added", 3),
        ("beavertails-30k", "relabelled", 4),
        ("beavertails-30k", "removed", 5),
        ("beavertails-30k", "edited", 6),
        ("hh-rlhf", "relabelled", 4),
    ]
    assert found.datasets["hh-rlhf"] == {"added": 0, "removed": 0, "edited": 0, "relabelled": 1}
    (mean,) = found.means
    assert (mean.objective, mean.n_before, mean.n_after) == ("beavertails-is_safe", 8, 8)
    assert (mean.mean_before, mean.mean_after, mean.moved) == (4 / 8, 3 / 8, -1 / 8)
    back = diff(store, store.head(), store.snapshot("previous"))
    assert back.datasets["hh-rlhf"]["relabelled"] == 1
    assert back.datasets["beavertails-30k"] == {"added": 1, "removed": 1, "edited": 1, "relabelled": 1}
    counts = {name: {kind: n for kind, n in kinds.items() if n} for name, kinds in found.datasets.items()}
    assert count_changes(store, store.snapshot("previous"), store.head()) == counts
    first = count_changes(store, EMPTY, store.head())
    assert first == {"beavertails-30k": {"added": len(changed)}, "hh-rlhf": {"added": 4}}
    same = diff(store, store.head(), store.head())
    assert (list(same.rows), list(same.means), same.conversations_added) == ([], [], 0)


def turned(rng: np.random.Generator, width: int) -> np.ndarray[Any, Any]:
    return np.linalg.qr(rng.normal(size=(width, width)))[0]


def test_cka_sees_through_turns_scales_and_widths_and_not_into_noise(seed: int) -> None:
    rng = np.random.default_rng(seed)
    X_ND = rng.normal(size=(300, 64)) + 5.0
    wider_DE = np.linalg.qr(rng.normal(size=(400, 64)))[0].T
    assert linear_cka(X_ND, 3.0 * X_ND @ turned(rng, 64) + 1.0) == pytest.approx(1)
    assert linear_cka(X_ND, X_ND @ wider_DE) == pytest.approx(1)
    noise_NE = rng.normal(size=(300, 400))
    assert abs(linear_cka(X_ND, noise_NE) or 0) < 0.05
    centred = [A - A.mean(axis=0) for A in (X_ND, noise_NE)]
    plain = [np.linalg.norm(one.T @ other) ** 2 for one, other in (centred, centred[:1] * 2, centred[1:] * 2)]
    assert plain[0] / np.sqrt(plain[1] * plain[2]) > 0.25  # the biased estimator takes the same noise for likeness
    assert linear_cka(X_ND[:3], X_ND[:3]) is None


def test_cka_is_that_of_the_unbiased_estimator(seed: int) -> None:
    """HSIC as the mean over all fours of different texts, of which it is the U-statistic."""
    rng = np.random.default_rng(seed)
    X_ND, Y_NE = rng.normal(size=(7, 3)), rng.normal(size=(7, 5))
    Y_NE[:, :3] += 2 * X_ND
    i, j, q, r = np.array(list(itertools.permutations(range(7), 4))).T

    def hsic(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
        K_NN, L_NN = one @ one.T, other @ other.T
        return float((K_NN[i, j] * (L_NN[i, j] + L_NN[q, r] - 2 * L_NN[i, q])).mean())

    expected = hsic(X_ND, Y_NE) / np.sqrt(hsic(X_ND, X_ND) * hsic(Y_NE, Y_NE))
    assert linear_cka(X_ND, Y_NE) == pytest.approx(expected)


def test_cosines_of_known_angles() -> None:
    angles = np.linspace(0, np.pi / 2, 101)
    found = cosines(np.tile([2.0, 0.0], (101, 1)), np.stack([np.cos(angles), np.sin(angles)], axis=1))
    assert found["max"] == pytest.approx(1)
    assert found["min"] == pytest.approx(0)
    assert found["median"] == pytest.approx(np.cos(np.pi / 4))
    assert found["mean"] == pytest.approx(np.cos(angles).mean())


def embedded(writer: Writer, backbone_id: str, vectors: dict[str, np.ndarray[Any, Any]]) -> None:
    features = [Feature("conversation", id, 1, False, vector) for id, vector in vectors.items()]
    width = len(features[0].vector)
    record = {"record": writer.store.objects.put_bytes("json", b"{}")}
    summary = {"hidden_size": width, "name": backbone_id, "architecture": "llama"}
    writer.commit(Recipe(f"backbone/{backbone_id}", "backbone", 1, {"id": backbone_id}, {}), Made(record, summary))
    shard = write_shard(writer.store, backbone_id, {}, features)
    made = Made(shard, {"rows": len(features), "tokens": 1, "width": width})
    writer.commit(Recipe(f"features/{backbone_id}/0", "embed", 1, {}, {}), made)


def test_backbones_are_compared_on_what_both_have(store: Store, writer: Writer) -> None:
    rng = np.random.default_rng(0)
    vectors = {f"{n:032x}": rng.normal(size=8).astype(np.float32) for n in range(40)}
    embedded(writer, "a" * 32, vectors)
    embedded(
        writer, "b" * 32, {id: -vector for id, vector in list(vectors.items())[10:]} | {"f" * 32: vectors["0" * 32]}
    )
    embedded(writer, "c" * 32, {id: np.tile(vector, 2) for id, vector in vectors.items()})
    head = store.head()
    turned_over, prompts = drift(store, ("a" * 32, head), ("b" * 32, head))
    assert (turned_over.n_shared, turned_over.n_compared) == (30, 30)
    assert turned_over.cosine is not None
    assert set(np.round(list(turned_over.cosine.values()), 6)) == {-1}
    assert turned_over.cka == pytest.approx(1)
    assert prompts == Drift("prompt", 0, 0, None, None)
    wider, _ = drift(store, ("a" * 32, head), ("c" * 32, head))
    assert (wider.n_shared, wider.cosine) == (40, None)
    assert wider.cka == pytest.approx(1)


def test_a_name_may_mean_a_snapshot_a_model_or_a_backbone(store: Store, writer: Writer) -> None:
    embedded(writer, "ab" * 16, {"0" * 32: np.ones(4, np.float32)})
    record = {"record": store.objects.put_bytes("json", b"{}")}
    model = writer.commit(Recipe("model", "model", 1, {}, {}), Made(record))
    assert find_named(store, "1").number == 1
    assert find_named(store, "abab") == find_named(store, "ab" * 16)
    assert find_named(store, "abab").kind == "backbone"
    assert (find_named(store, model.artifact_id[:8]).kind, find_named(store, "head").kind) == ("model", "snapshot")
    writer.point("approved", replace(find_named(store, model.artifact_id), number=1))
    assert find_named(store, "approved").id == model.artifact_id
    with pytest.raises(NotInStore, match=r"\bsnapshot\b.*\bnothing\b"):
        find_named(store, "nothing")
