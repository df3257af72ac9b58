"""The reward model: everything that scoring needs, as one value that can be saved, moved and loaded.

Suffixes: N rows, D feature size, K objectives. A saved model is two files: `model.safetensors`, with the tensors under
the published model's names in float32, and `model.json`, with all that has names and digests of both. The same model
gives the same bytes. `uncertainty.safetensors` beside them, with the errors of the rewards, is read when asked for.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from armorm.config import TOKEN_LENGTH, GateConfig, nuisances_of
from armorm.errors import ModelError, ModelFolderError
from armorm.features.documents import decode, encode, jsonable, parse_object, require_regular
from armorm.features.lineage.training_rows import RowSet
from armorm.features.store.storage import whole_folder
from armorm.maths.ridge import Untrained, predict
from armorm.maths.score import coefficients, contributions, score
from armorm.maths.steering import Steering
from armorm.maths.uncertainty import RewardErrors, lower_bounds
from armorm.records.training import Training

if TYPE_CHECKING:
    from armorm.maths.gate import Gate, Vectors

Floats = NDArray[np.floating]
Json = dict[str, Any]

FORMAT_VERSION: Final = 3
READ_VERSIONS: Final = (1, 2, FORMAT_VERSION)
"""What can be read; the first has no `training_rows`, the first two have no digests."""

TENSORS_FILE: Final = "model.safetensors"
DESCRIPTION_FILE: Final = "model.json"
UNCERTAINTY_FILE: Final = "uncertainty.safetensors"

_RECORDS: Final = ("objectives", "untrained", "nuisance", "backbone_id", "backbone", "scales", "metrics", "inputs")
"""Fields that the description keeps as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a model makes of N conversations."""

    score: Floats
    """`[N]`."""
    rewards: Floats
    """`[N, K]` predicted by the regression, in 0..1, before the transform."""
    gating: Floats
    """`[N, K]` the gate's weights, or what steering has made of them."""
    coefficients: Floats
    """`[N, K]` of the raw rewards: `sum(rewards * coefficients) == score`."""
    contributions: Floats
    """`[N, K + 1]` what sums to the score: each reward times the gate's weight, and what decorrelation takes out."""
    deviations: Floats | None = None
    """`[N, K]` standard deviations of the rewards; None where no bound was asked for, as the next two."""
    deviation: Floats | None = None
    """`[N]` standard deviation of the score."""
    lower: Floats | None = None
    """`[N]` the bound that the score under perfectly known rewards is below with the probability that was given."""


@dataclass(frozen=True, eq=False, kw_only=True)
class RewardHead:
    """Regression layer, transform and gate, with what is known of them.

    Arrays may be given in any float type and are kept in float32, so that a model scores the same once it is loaded.
    """

    objectives: tuple[str, ...]
    """Trained objectives, in the order of all arrays."""
    untrained: Mapping[str, Untrained | str]
    """Objective -> why it was not trained; a sentence in an older model."""
    W_KD: Floats
    """`[K, D]` the regression layer."""
    transform_KK: Floats
    """`[K, K]` the decorrelation's T, `r' = r T`."""
    gate_state: Mapping[str, Floats]
    """Parameter name -> array, of a gate for raw features."""
    gate_config: GateConfig
    beta: float
    nuisance: str | Sequence[str]
    """What the objectives were decorrelated from: one of them or `n_tokens`, or several; `none` for nothing."""
    backbone_id: str
    backbone: Json
    """The backbone's record: what has to be the same for features to fit."""
    scales: Json
    """Objective -> its native rating scales."""
    metrics: Json
    """What is known of its training, as it was written; `training` reads it."""
    inputs: Json
    """Ids of what the model was made of."""
    training_rows: Mapping[str, RowSet] | None = None
    """Set of rows that training saw -> their number and digest; None for a model of format version 1."""
    format_version: int = FORMAT_VERSION
    """The version of the description. A model that was read in an earlier one is written in it again, so the bytes are
    the same."""
    uncertainty_sha256: str | None = None
    """The SHA-256 of the file with the errors of the rewards; None for a model that has none."""
    read_uncertainty: Callable[[], bytes] | None = field(default=None, repr=False)
    """Reads that file; None where it is not at hand."""

    def __post_init__(self) -> None:
        for name in ("W_KD", "transform_KK"):
            object.__setattr__(self, name, _float32(getattr(self, name)))
        object.__setattr__(self, "gate_state", {name: _float32(array) for name, array in self.gate_state.items()})
        object.__setattr__(self, "objectives", tuple(self.objectives))
        _check(self)

    @cached_property
    def gate(self) -> "Gate":
        """The gate as a module."""
        from armorm.maths.gate import Gate  # torch, seconds to import

        return Gate.from_state(self.gate_state, self.gate_config)

    @cached_property
    def training(self) -> Training:
        """What is known of its training.

        Raises:
            ModelError: it is of another form.
        """
        try:
            return decode(Training, self.metrics)
        except ValueError as error:
            raise ModelError(
                f"got records of its training that cannot be read ({error}); expected those that were written; "
                "copy the model again"
            ) from error

    @property
    def nuisances(self) -> tuple[str, ...]:
        """By name, also where it is one; empty where nothing was taken out."""
        return nuisances_of(self.nuisance)

    @property
    def digested(self) -> bool:
        """Whether its files say what they have to hold; those of an earlier format version do not."""
        return self.format_version > 2

    def rewards(self, X_ND: Floats) -> Floats:
        """Return `[N, K]` predicted raw rewards of features f(x+y)."""
        self._check_features(X_ND)
        return predict(X_ND, self.W_KD)

    def gating(self, H_ND: "Vectors") -> NDArray[np.float32]:
        """Return `[N, K]` gate weights of prompt features f(x)."""
        from armorm.maths.gate import gate_weights

        self._check_features(H_ND)
        return gate_weights(self.gate, H_ND)

    @cached_property
    def errors(self) -> RewardErrors:
        """How far off the rewards may be.

        Raises:
            ModelError: the model has no such file, or it is damaged.
        """
        if self.uncertainty_sha256 is None or self.read_uncertainty is None:
            raise ModelError(
                f"got a model without {UNCERTAINTY_FILE} (of an earlier release, exported, or downloaded); expected "
                "one below models/ with it, to tell how sure a score is; run `armorm train`, or ask for no bound"
            )
        with _refusing():
            content = self.read_uncertainty()
            if hashlib.sha256(content).hexdigest() != self.uncertainty_sha256:
                raise ValueError(f"the digest of its {UNCERTAINTY_FILE} is not the one that was written")
            found = RewardErrors.of_tensors(load_tensors(content))
            if (len(found.noise_K), found.centres_MD.shape[1]) != self.W_KD.shape:
                raise ValueError(f"its {UNCERTAINTY_FILE} is of other objectives or features")
            return found

    def require_bound(self, level: float) -> RewardErrors:
        """Return the errors that a lower bound is told from, before any work.

        Raises:
            ModelError: the level is no probability, or the model has no errors.
        """
        if not 0 < level < 1:
            raise ModelError(f"got a lower bound at {level}; expected a probability above 0 and below 1, such as 0.05")
        return self.errors

    @property
    def decorrelated_K(self) -> NDArray[np.bool_]:
        """`[K]` the objectives that are taken out of none."""
        return np.array([name not in self.nuisances for name in self.objectives])

    def terms(self, contributions_K: Floats) -> dict[str, float]:
        """What sums to one score, by name: the objectives, and in one term what decorrelation takes out of them."""
        names = [*self.objectives, f"{', '.join(self.nuisances)} (taken out)"]
        kept = [*self.decorrelated_K, bool(self.nuisances)]
        return {n: float(c) for n, c, keep in zip(names, contributions_K, kept, strict=True) if keep}

    def score_features(
        self, X_ND: Floats, H_ND: Floats, steering: Steering | None = None, *, lower: float | None = None
    ) -> Scores:
        """Scores conversations from the features of their last token and of their prompt's last token.

        Args:
            X_ND: `[N, D]` features of conversations.
            H_ND: `[N, D]` of their prompts.
            lower: the probability with which a score may be below its bound; None for no bound.

        Raises:
            ModelError: features are not the model's, or it has no errors to tell a bound from.
        """
        rewards_NK: Floats = self.rewards(X_ND)
        gating_NK: Floats = self.gating(H_ND)
        if steering is not None:
            gating_NK = steering.apply(gating_NK, self.objectives)
        if len(rewards_NK) != len(gating_NK):
            raise ModelError(f"got {len(X_ND)} conversations and {len(H_ND)} prompts; expected one prompt each")
        scores = Scores(
            score=score(rewards_NK, self.transform_KK, gating_NK),
            rewards=rewards_NK,
            gating=gating_NK,
            coefficients=coefficients(self.transform_KK, gating_NK),
            contributions=contributions(rewards_NK, self.transform_KK, gating_NK, self.decorrelated_K),
        )
        if lower is None:
            return scores
        errors = self.require_bound(lower)
        deviations_NK, _ = errors.deviations(X_ND)
        deviation_N = errors.score_deviations(deviations_NK, scores.coefficients)
        bound_N = lower_bounds(scores.score, deviation_N, lower)
        return replace(scores, deviations=deviations_NK, deviation=deviation_N, lower=bound_N)

    def tensors(self) -> dict[str, Floats]:
        """Return all arrays, by the published model's names."""
        gating = {f"gating.{name}": array for name, array in self.gate_state.items()}
        return {
            "regression_layer.weight": self.W_KD,
            "reward_transform_matrix": self.transform_KK,
            "beta": np.array([self.beta], np.float32),
            **gating,
        }

    def description(self) -> Json:
        """Return all that is no array, as JSON; figures that are not defined are null."""
        records = {name: getattr(self, name) for name in _RECORDS} | {"untrained": encode(self.untrained)}
        versioned: Json = {"format_version": self.format_version}
        if self.format_version > 1:
            versioned["training_rows"] = encode(self.training_rows)
        described: Json = jsonable({**versioned, "gate": self.gate_config.record(), **records})
        if self.format_version > 2:
            described["digests"] = digests(self.tensors(), described)
            if self.uncertainty_sha256:
                described["digests"]["uncertainty"] = self.uncertainty_sha256
        return described

    def to_bytes(self) -> tuple[bytes, bytes]:
        """Return the contents of `model.safetensors` and `model.json`; equal models give equal bytes."""
        return save_tensors(self.tensors()), _text(self.description())

    @classmethod
    def from_bytes(cls, tensors: bytes, description: bytes) -> Self:
        """Read the two files' contents.

        Raises:
            ModelError: if they are damaged, of another format version, or do not fit each other.
        """
        with _refusing():
            arrays, described = load_tensors(tensors), parse_object(description)
            if not_finite := [name for name, array in arrays.items() if not np.isfinite(array).all()]:
                raise ValueError(f"{not_finite[0]} holds what is no number")
            return cls.from_parts(arrays, described)

    @classmethod
    def from_parts(cls, arrays: Mapping[str, Floats], described: Json) -> Self:
        """Put a model together from its arrays, by the published names, and its description.

        Raises:
            ModelError: if something is missing, damaged, of another format version, or they do not fit each other.
        """
        with _refusing():
            check_description(described)
            _check_tensors(arrays, described)
            rows = described.get("training_rows")
            gate_state = {name.removeprefix("gating."): a for name, a in arrays.items() if name.startswith("gating.")}
            model = cls(
                W_KD=arrays["regression_layer.weight"],
                transform_KK=arrays["reward_transform_matrix"],
                gate_state=gate_state,
                gate_config=GateConfig.of_record(described["gate"]),
                beta=float(arrays["beta"][0]),
                training_rows=None if rows is None else decode(dict[str, RowSet], rows),
                format_version=described["format_version"],
                untrained=decode(dict[str, Untrained | str], described["untrained"]),
                uncertainty_sha256=described.get("digests", {}).get("uncertainty"),
                **{name: described[name] for name in _RECORDS if name != "untrained"},
            )
            _check_digests(arrays, described)
            return model

    def save(self, folder: Path) -> None:
        """Write the model as a folder, all of it or nothing; the same model there is left alone.

        Raises:
            ModelFolderError: if the folder holds something else.
        """
        files = dict(zip((TENSORS_FILE, DESCRIPTION_FILE), self.to_bytes(), strict=True))
        if self.read_uncertainty:
            files[UNCERTAINTY_FILE] = self.read_uncertainty()
        if folder.exists():
            if any(
                not (folder / name).is_file() or (folder / name).read_bytes() != data for name, data in files.items()
            ):
                raise ModelFolderError(
                    folder, "got a folder with something else; expected a new one; choose another name"
                )
            return
        with whole_folder(folder) as unfinished:
            for name, data in files.items():
                (unfinished / name).write_bytes(data)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a saved model.

        Raises:
            ModelFolderError: if the folder or a file is missing, damaged, or of another format version.
        """
        if not folder.is_dir():
            raise ModelFolderError(folder, "got no such folder; expected a saved model; check the path")
        for name in (TENSORS_FILE, DESCRIPTION_FILE):
            if not (folder / name).is_file():
                raise ModelFolderError(folder, f"got no {name}; expected a saved model; copy it again")
        try:
            require_regular(folder)
        except ValueError as error:
            raise ModelFolderError(folder, f"got a folder in which {error}; expected files; copy it again") from error
        try:
            model = cls.from_bytes((folder / TENSORS_FILE).read_bytes(), (folder / DESCRIPTION_FILE).read_bytes())
            path = folder / UNCERTAINTY_FILE
            return replace(model, read_uncertainty=path.read_bytes) if path.is_file() else model
        except ModelError as error:
            raise ModelFolderError(folder, str(error)) from error

    def _check_features(self, features_ND: "Vectors") -> None:
        if len(features_ND.shape) != 2 or features_ND.shape[1] != self.W_KD.shape[1]:
            raise ModelError(
                f"got features {features_ND.shape}; expected [N, {self.W_KD.shape[1]}]; "
                f"embed with the model's own backbone, {self.backbone_id}"
            )


def digests(arrays: Mapping[str, Floats], described: Json) -> dict[str, str]:
    """Return the SHA-256 of a model's tensors and of its description, whatever files hold them.

    Args:
        arrays: by name; the digest is over names, shapes and float32 values in the order of names.
        described: as JSON values; its own `digests` do not count.
    """
    of_tensors = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name], "<f4")
        of_tensors.update(f"{name} F32 {list(array.shape)}\n".encode())
        of_tensors.update(array.tobytes())
    rest = {name: value for name, value in described.items() if name != "digests"}
    return {"tensors": of_tensors.hexdigest(), "description": hashlib.sha256(_text(rest)).hexdigest()}


def check_description(described: Json) -> None:
    """Check that a description has what readers rely on, each of its type.

    Raises:
        ModelError: it is of another format version.
        ValueError: something is missing or of another type.
    """
    version = described.get("format_version")
    if type(version) is not int or version not in READ_VERSIONS:
        raise ModelError(
            f"got format version {str(version)[:40]}; expected 1 to {FORMAT_VERSION}; load it with the "
            "release that wrote it"
        )
    rows = described["training_rows"] if version > 1 else None
    for name, value in {**{name: described[name] for name in _TYPES}, "training_rows": rows or {}}.items():
        if not isinstance(value, _TYPES.get(name, dict)):
            raise ValueError(f"{name} is {str(value)[:40]!r}")
    objectives, nuisance = described["objectives"], described["nuisance"]
    names = [*objectives, *([nuisance] if isinstance(nuisance, str) else nuisance)]
    if not objectives or not all(isinstance(name, str) and name for name in names):
        raise ValueError("objectives and nuisance hold what is no name")
    if len(set(objectives)) < len(objectives):
        raise ValueError("an objective is named twice")
    GateConfig.of_record(described["gate"])


_TYPES: Final[Mapping[str, Any]] = {
    "objectives": list,
    "untrained": dict,
    "gate": dict,
    "nuisance": str | list,
    "backbone_id": str,
    "backbone": dict,
    "scales": dict,
    "metrics": dict,
    "inputs": dict,
}


def _check_tensors(arrays: Mapping[str, Floats], described: Json) -> None:
    """Refuse tensors that are not those that a description is of."""
    for name, array in arrays.items():
        if array.dtype != np.float32:
            raise ValueError(f"{name} is {array.dtype}, where float32 was written")
    known = ("regression_layer.weight", "reward_transform_matrix", "beta")
    if unknown := [name for name in arrays if name not in known and not name.startswith("gating.")]:
        raise ValueError(f"{unknown[0]:.60} is no tensor of a model")
    if missing := [name for name in known if name not in arrays]:
        raise ValueError(f"{missing[0]} is missing")
    n_hidden, n_layers = described["gate"].get("n_hidden"), sum(name.startswith("gating.layers.") for name in arrays)
    if type(n_hidden) is not int or 2 * (n_hidden + 1) != n_layers:
        raise ValueError(f"the gate has {n_layers} tensors of layers, where its n_hidden is {str(n_hidden)[:40]}")


def _check_digests(arrays: Mapping[str, Floats], described: Json) -> None:
    """Refuse what is not as it was written. A model of an earlier format version has no digests to tell it by."""
    if described["format_version"] > 2 or "digests" in described:
        for what, digest in digests(arrays, described).items():
            if described["digests"][what] != digest:
                raise ValueError(f"the digest of its {what} is not the one that was written")


@contextmanager
def _refusing() -> Iterator[None]:
    """Whatever is wrong with a model's files is a ModelError of one line."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError, SafetensorError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise ModelError(
            f"got files that are no model, or damaged ({what[:300]}); expected those of an export; copy it again"
        ) from error


def _text(described: Json) -> bytes:
    return (json.dumps(described, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _check(model: RewardHead) -> None:
    """Refuse parts that do not fit each other."""
    for nuisance in model.nuisances:
        if nuisance not in (*model.objectives, TOKEN_LENGTH):
            raise ModelError(f"got nuisance {nuisance}; expected one of {', '.join(model.objectives)}")
    n_objectives, n_features = len(model.objectives), model.W_KD.shape[-1]
    sizes = [n_features, *[model.gate_config.hidden_dim] * model.gate_config.n_hidden, n_objectives]
    expected: dict[str, tuple[int, ...]] = {
        "regression_layer.weight": (n_objectives, n_features),
        "reward_transform_matrix": (n_objectives, n_objectives),
        "beta": (1,),
        "gating.logit_scale": (1,),
    }
    for layer, (columns, rows) in enumerate(pairwise(sizes)):
        expected |= {f"gating.layers.{layer}.weight": (rows, columns), f"gating.layers.{layer}.bias": (rows,)}
    got = {name: array.shape for name, array in model.tensors().items()}
    for name in sorted(expected.keys() | got.keys()):
        if got.get(name) != expected.get(name):
            raise ModelError(
                f"got {name} of shape {got.get(name)}; expected {expected.get(name)}; check the parts' origin"
            )
    for name, array in model.tensors().items():  # a beta that is not stated is NaN
        if name != "beta" and not np.isfinite(array).all():
            raise ModelError(f"got {name} with what is no number; expected numbers; check the parts' origin")


def _float32(array: Floats) -> Floats:
    return np.ascontiguousarray(array, dtype=np.float32)
