"""The reward model as a value: one formula, the same bytes for the same model, one-line errors."""

import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load, save

import armorm
from armorm import RewardModel
from armorm.config import GateConfig
from armorm.errors import ModelError, ModelFolderError
from armorm.features.lineage.training_rows import RowSet
from armorm.features.store import Store
from armorm.maths.gate import Gate
from armorm.model.head import DESCRIPTION_FILE, FORMAT_VERSION, TENSORS_FILE, UNCERTAINTY_FILE
from armorm.model.inspection import inspect
from armorm.stages.model import load_model
from tests.armorm.exported import with_errors

GOLDEN = Path(__file__).parent.parent / "golden" / "store-1.tar.xz"
D, K = 6, 3
CONFIG = GateConfig(hidden_dim=5, n_hidden=2)


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def model(rng: np.random.Generator) -> RewardModel:
    transform_KK = np.eye(K)
    transform_KK[1] -= [0.4, 1.0, -0.2]
    return RewardModel(
        objectives=("helpful", "verbose", "safe"),
        untrained={"style": "got 0 training ratings"},
        W_KD=rng.normal(size=(K, D)),
        transform_KK=transform_KK,
        gate_state={name: tensor.numpy() for name, tensor in Gate(D, K, CONFIG).state_dict().items()},
        gate_config=CONFIG,
        beta=93.25,
        nuisance="verbose",
        backbone_id="tiny-1",
        backbone={"name": "tiny", "revision": "1", "layers": [1, 2]},
        scales={"helpful": {"helpsteer": {"lo": 0, "hi": 4}}},
        metrics={"regression": [{"objective": "helpful", "test_r2": 0.5}], "note": "é"},
        inputs={"regress": "a1", "gate": "b2"},
        training_rows={"gate": RowSet(7, "c3")},
    )


def test_the_score_is_the_formula(model: RewardModel, rng: np.random.Generator) -> None:
    X_ND, H_ND = rng.normal(size=(2, 9, D))
    scores = model.score_features(X_ND, H_ND)
    decorrelated_NK = X_ND @ model.W_KD.T @ model.transform_KK
    np.testing.assert_allclose(scores.score, (scores.gating * decorrelated_NK).sum(axis=1), atol=1e-5)
    np.testing.assert_allclose((scores.rewards * scores.coefficients).sum(axis=1), scores.score, atol=1e-5)
    np.testing.assert_allclose(scores.contributions.sum(axis=1), scores.score, atol=1e-5)
    np.testing.assert_allclose(scores.rewards, X_ND @ model.W_KD.T, atol=1e-5)
    np.testing.assert_allclose(scores.gating.sum(axis=1), 1, atol=1e-6)


def test_saved_and_loaded_it_is_the_same_model(model: RewardModel, rng: np.random.Generator, tmp_path: Path) -> None:
    model.save(tmp_path / "new" / "model")
    loaded = RewardModel.load(tmp_path / "new" / "model")
    assert loaded.to_bytes() == model.to_bytes()
    assert loaded.description() == model.description()
    assert (loaded.objectives, loaded.gate_config, loaded.beta) == (model.objectives, CONFIG, 93.25)
    X_ND, H_ND = rng.normal(size=(2, 9, D))
    np.testing.assert_array_equal(loaded.score_features(X_ND, H_ND).score, model.score_features(X_ND, H_ND).score)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model"], "nothing unfinished is left behind"


def test_errors_are_read_when_asked_for_and_are_those_that_were_written(
    model: RewardModel, rng: np.random.Generator, tmp_path: Path
) -> None:
    X_ND, H_ND = rng.normal(size=(2, 9, D))
    noise_K = np.array([0.5, 1.0, 2.0])
    known = with_errors(model, noise_K)
    known.save(tmp_path / "model")
    scores = RewardModel.load(tmp_path / "model").score_features(X_ND, H_ND, lower=0.05)
    assert scores.deviations is not None
    assert scores.deviation is not None
    norms_N = np.linalg.norm(X_ND, axis=1)
    np.testing.assert_allclose(scores.deviations, norms_N[:, None] * noise_K, rtol=1e-5)
    np.testing.assert_allclose(scores.deviation, norms_N * np.linalg.norm(scores.coefficients * noise_K, axis=1))
    np.testing.assert_allclose(scores.lower, scores.score - 1.6448536 * scores.deviation, rtol=1e-5)
    assert known.score_features(X_ND, H_ND).lower is None
    for level in (0, 1, 5, float("nan")):
        with pytest.raises(ModelError, match="probability"):
            known.score_features(X_ND, H_ND, lower=level)

    said = [any("bound" in fact for fact in inspect(of, "model").facts) for of in (model, known)]
    assert said == [True, False]

    path = tmp_path / "model" / UNCERTAINTY_FILE
    content = path.read_bytes()
    for damaged in (bytes([content[0] ^ 1, *content[1:]]), bytes([*content[:-1], content[-1] ^ 1]), b""):
        path.write_bytes(damaged)
        loaded = RewardModel.load(tmp_path / "model")
        np.testing.assert_array_equal(loaded.score_features(X_ND, H_ND).score, scores.score)
        with pytest.raises(ModelError, match="digest"):
            loaded.score_features(X_ND, H_ND, lower=0.05)
    path.unlink()
    for without in (RewardModel.load(tmp_path / "model"), model):
        with pytest.raises(ModelError, match=rf"{UNCERTAINTY_FILE}.*\barmorm train\b"):
            without.score_features(X_ND, H_ND, lower=0.05)


def test_terms_are_by_name_and_length_is_one_of_them(model: RewardModel, rng: np.random.Generator) -> None:
    scores = model.score_features(*rng.normal(size=(2, 9, D)))
    for row in range(9):
        terms = model.terms(scores.contributions[row])
        assert list(terms) == ["helpful", "safe", "verbose (taken out)"]
        assert sum(terms.values()) == pytest.approx(scores.score[row], abs=1e-5)
        assert terms["safe"] == pytest.approx(scores.gating[row, 2] * scores.rewards[row, 2])
    kept = replace(model, nuisance="none", transform_KK=np.eye(K))
    assert list(kept.terms(scores.contributions[0])) == list(model.objectives)


def test_a_model_of_the_first_format_loads_and_keeps_its_bytes(model: RewardModel) -> None:
    """It says nothing of the rows that training saw."""
    older = replace(model, training_rows=None, format_version=1)
    tensors, description = older.to_bytes()
    described = json.loads(description)
    assert (described["format_version"], "training_rows" in described) == (1, False)
    loaded = RewardModel.from_bytes(tensors, description)
    assert loaded.training_rows is None
    assert loaded.to_bytes() == (tensors, description)
    assert json.loads(model.to_bytes()[1])["training_rows"] == {"gate": {"n_rows": 7, "sha256": "c3"}}


def test_the_model_of_an_older_store_loads(tmp_path: Path) -> None:
    with tarfile.open(GOLDEN) as archive:
        archive.extractall(tmp_path, filter="data")
    store = Store(tmp_path / "store")
    artifact = store.find("model")
    loaded = load_model(store, artifact)
    assert loaded.training_rows is None
    kept = tuple(store.objects.read_bytes(artifact.objects[name]) for name in ("tensors", "description"))
    assert loaded.to_bytes() == kept


def test_equal_models_give_equal_bytes(model: RewardModel) -> None:
    """Whatever order their parts were put together in."""
    again = replace(
        model,
        gate_state=dict(reversed(model.gate_state.items())),
        backbone=dict(reversed(model.backbone.items())),
        metrics=dict(reversed(model.metrics.items())),
        W_KD=np.asfortranarray(model.W_KD.astype(np.float64)),
    )
    assert again.to_bytes() == model.to_bytes()
    assert replace(model, beta=93.5).to_bytes() != model.to_bytes()


def test_the_files_hold_the_published_names(model: RewardModel) -> None:
    tensors, description = model.to_bytes()
    arrays = load(tensors)
    layers = {f"gating.layers.{n}.{part}" for n in range(3) for part in ("weight", "bias")}
    assert arrays.keys() == layers | {
        "beta",
        "gating.logit_scale",
        "regression_layer.weight",
        "reward_transform_matrix",
    }
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
    described = json.loads(description)
    assert list(described) == sorted(described)
    assert described["format_version"] == FORMAT_VERSION
    assert described["gate"]["hidden_dim"] == 5


def test_a_figure_that_is_not_defined_is_null(model: RewardModel) -> None:
    described = replace(model, metrics={"test_r2": float("nan"), "pair": (1, np.float64("inf"))}).description()
    assert described["metrics"] == {"test_r2": None, "pair": [1, None]}


def test_saving_never_overwrites(model: RewardModel, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    model.save(folder)
    (folder / "report.md").write_text("kept")
    model.save(folder)
    assert (folder / "report.md").read_text() == "kept"
    with pytest.raises(ModelFolderError) as caught:
        replace(model, beta=1.0).save(folder)
    assert caught.value.folder == folder
    assert RewardModel.load(folder).beta == model.beta
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelFolderError) as caught:
        model.save(tmp_path / "file")
    assert caught.value.folder == tmp_path / "file"


def test_a_save_that_fails_leaves_nothing(model: RewardModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, target: Path) -> None:
        raise OSError("ENOSPC")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="ENOSPC"):
        model.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_loaded_is_said_in_one_line(model: RewardModel, tmp_path: Path) -> None:
    def refused(facts: str, cause: type[Exception] | None = None) -> None:
        with pytest.raises(ModelFolderError, match=rf"^[^\n]*: [^\n]*{facts}[^\n]*$") as caught:
            RewardModel.load(folder)
        assert caught.value.folder == folder
        assert cause is None or isinstance(caught.value.__cause__.__cause__, cause)  # type: ignore[union-attr]

    folder = tmp_path / "model"
    refused(r"\bfolder\b")
    model.save(folder)
    tensors, description = model.to_bytes()

    def describe(**changes: Any) -> None:
        (folder / DESCRIPTION_FILE).write_text(json.dumps(json.loads(description) | changes))

    describe(format_version=99)
    refused(rf"\b99\b.*\b1 to {FORMAT_VERSION}\b")
    describe(objectives=["helpful", "verbose"])
    refused(r"gating\.layers\.2\.bias.*\(3,\).*\(2,\)")
    describe(gate={"hidden_dim": 5, "surprise": 1})
    refused("surprise")
    describe(gate={"hidden_dim": -5})
    refused("hidden_dim")
    (folder / DESCRIPTION_FILE).write_text("[]")
    refused(r"\bobject\b", ValueError)
    (folder / DESCRIPTION_FILE).write_bytes(description[:-20])
    refused("", ValueError)
    (folder / DESCRIPTION_FILE).write_bytes(description)
    (folder / TENSORS_FILE).write_bytes(tensors[:-20])
    refused("", SafetensorError)
    (folder / TENSORS_FILE).write_bytes(save({"beta": np.ones(1, np.float32)}))
    refused(r"regression_layer\.weight")
    (folder / TENSORS_FILE).unlink()
    refused(r"\bmodel\.safetensors\b")


def test_parts_that_do_not_fit_are_refused(model: RewardModel) -> None:
    with pytest.raises(ModelError, match=r"reward_transform_matrix.*\(2, 2\).*\(3, 3\)"):
        replace(model, transform_KK=np.eye(2))
    with pytest.raises(ModelError, match=r"gating\.layers\.0\.bias.*\(5,\).*\(7,\)"):
        replace(model, gate_config=replace(CONFIG, hidden_dim=7))
    with pytest.raises(ModelError, match=r"\blength\b.*\bhelpful, verbose, safe\b"):
        replace(model, nuisance="length")
    X_ND = np.zeros((2, D))
    with pytest.raises(ModelError, match=rf"\(2, {D + 1}\).*\[N, {D}\].*\btiny-1\b"):
        model.rewards(np.zeros((2, D + 1)))
    with pytest.raises(ModelError, match=r"\b2 conversations\b.*\b1 prompts\b"):
        model.score_features(X_ND, X_ND[:1])


def test_no_public_name_is_hidden_by_a_module() -> None:
    """`armorm.maths.score` is a module: a function of that name could not be exported beside it."""
    assert not {path.stem for path in Path(armorm.__file__).parent.glob("*.py")} & set(armorm.__all__)
    with pytest.raises(AttributeError, match="'nothing'"):
        _ = armorm.nothing
    assert set(armorm.__all__) <= set(dir(armorm))
