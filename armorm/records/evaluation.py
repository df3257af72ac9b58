"""What the stage `evaluate` keeps beside its tables: all figures on held-out pairs and benchmarks."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from armorm.maths.benchmarks import OwnScores
from armorm.maths.diagnostics import CorrelationMatrices, KindRow, Part
from armorm.maths.evaluation import BASELINES, AccuracyRow, Benchmark, Calibration, LengthAccuracy
from armorm.maths.paired import PairedTest
from armorm.maths.probe import ProbeReport


@dataclass(frozen=True, slots=True)
class PairAccuracy:
    """Accuracy on held-out pairs: over all of them, then of each dataset; empty without pairs."""

    rows: tuple[AccuracyRow, ...] = ()
    best_objective: str | None = None
    """The baseline `single`, chosen on training pairs; None where these were not scored."""
    probe: ProbeReport | None = None
    """None without one."""
    against: Mapping[str, PairedTest] = field(default_factory=dict)
    """Every other scorer, then the gate, on all of the pairs; empty in older evaluations."""

    @property
    def strongest(self) -> str | None:
        """The baseline that ranks most of the pairs rightly; None without pairs."""
        accuracy = self.rows[0].accuracy if self.rows else {}
        found = [name for name in BASELINES if name in accuracy]
        return max(found, key=lambda name: accuracy[name].estimate) if found else None


@dataclass(frozen=True, slots=True)
class GateByKind:
    """What the gate turns to for each kind of prompt."""

    objectives: tuple[str, ...] = ()
    rows: tuple[KindRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Mistake:
    """A pair that the model gets wrong, by name alone: a record holds no text, so that texts can be forgotten."""

    pair_id: str
    dataset: str
    source_row: str
    score_chosen: float
    score_rejected: float
    wrong_by: float
    objectives: tuple[Part, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All figures; the defaults are what older evaluations lack."""

    pairs: PairAccuracy
    length: LengthAccuracy = field(default_factory=LengthAccuracy)
    rewardbench: Benchmark
    benchmarks: Mapping[str, OwnScores] = field(default_factory=dict)
    """The gate's scores of each dataset that is a benchmark with a rule of its own, by that rule."""
    calibration: Calibration | None = None
    """None where the model has no beta."""
    rejected_pairs: int | None = None
    """Left out, as the backbone gives no usable vectors."""
    reward_correlations: CorrelationMatrices | None = None
    gate_by_kind: GateByKind = field(default_factory=GateByKind)
    mistakes: tuple[Mistake, ...] = ()
