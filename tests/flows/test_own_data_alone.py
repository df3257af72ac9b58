"""Own data alone, in every shape: a model and a report that says what is missing, or a refusal before any embedding."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from armorm.config import PREFERENCE
from armorm.errors import ArmormError
from armorm.features.sample.backbone import sample_texts, write_backbone
from armorm.features.store import Store
from armorm.flows.configuration.settings import ConfigError, load_settings
from armorm.flows.plan import plan_run
from armorm.model.head import RewardHead
from armorm.release.export import export_model
from armorm.release.report import load_report
from armorm.report.sections import taken_out
from docs.examples import plain

pytestmark = pytest.mark.usefixtures("in_process")

WORDS = (
    "the",
    "a",
    "cat",
    "dog",
    "house",
    "river",
    "slowly",
    "runs",
    "green",
    "small",
    "very",
    "long",
    "bright",
    "code",
)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "backbone"
    write_backbone(folder, sample_texts())
    return folder


def text(seed: object, n_words: int) -> str:
    rng = random.Random(str(seed))
    return " ".join(rng.choice(WORDS) for _ in range(n_words))


def ratings(n: int) -> Iterator[dict[str, object]]:
    """Ratings that count words of the answer, or its length, so that features can tell them."""
    for row in range(n):
        answer = text(f"a{row}", 3 + row * 7 % 28)
        words = answer.split()
        x, y = (1 + min(4, sum(word in of for word in words)) for of in (("cat", "dog"), ("green", "long", "code")))
        question = f"query {row // 2} {text(row // 2, 5)}"
        yield {"q": question, "a": answer, "x": x, "y": y, "v": 1 + len(words) // 7}


def pairs(n: int) -> Iterator[dict[str, object]]:
    for row in range(n):
        win, lose = (text(f"{side}{row}", 3 + row * step % 28) for side, step in (("w", 7), ("l", 11)))
        yield {"q": f"pair {row} {text(row, 5)}", "win": win, "lose": lose}


@dataclass(frozen=True)
class Case:
    """One shape of own data, and what comes of it."""

    objectives: str = "xyv"
    n_ratings: int = 160
    n_pairs: int = 80
    pairs_from: str = ""
    nuisance: str = "my-v"
    scarce: str = ""
    """Objectives that the first row alone rates."""
    equal: str = ""
    """Objectives that every row rates alike."""
    ratings_split: str = ""
    pairs_split: str = ""
    gate: str = ""
    missing: tuple[str, ...] = ("RewardBench",)
    """What the report says is not measured."""
    refused: type[Exception] | None = None

    def write(self, folder: Path, backbone: Path) -> Path:
        """The data and their configuration."""
        parts = [f'[backbone]\npath = "{backbone}"', f'[decorrelation]\nnuisance = "{self.nuisance}"']
        parts[1] += '\nreference = "rated"'
        parts += [f"[gate]\nhidden_dim = 8\nn_hidden = 1\nsteps = 10\nbatch_size = 16\n{self.gate}"]
        parts += ["[evaluation]\nn_resamples = 20"]
        if self.n_ratings:
            split = f'split = "{self.ratings_split}"\n' if self.ratings_split else ""
            chosen = [f"my-{name}" for name in self.pairs_from]
            parts += [
                f'[datasets.rated]\npath = "rated.jsonl"\nform = "ratings"\nprompt = "q"\nresponse = "a"\n{split}'
                f"pairs_from = {json.dumps(chosen)}",
                "[datasets.rated.objectives]",
                *(f'my-{name} = {{ column = "{name}", lo = 1, hi = 5 }}' for name in self.objectives),
            ]
        if self.n_pairs:
            split = f'split = "{self.pairs_split}"\n' if self.pairs_split else ""
            parts += [
                '[datasets.duels]\npath = "duels.jsonl"\nform = "pairs"\nprompt = "q"\nchosen = "win"\n'
                f'rejected = "lose"\n{split}'
            ]
        rated = list(ratings(self.n_ratings))
        rated[1:] = [row | dict.fromkeys(self.scarce) for row in rated[1:]]
        rated = [row | dict.fromkeys(self.equal, 3) for row in rated]
        for name, rows in (("rated", rated), ("duels", pairs(self.n_pairs))):
            (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        config = folder / "armorm.toml"
        config.write_text("\n".join(parts))
        return config


NO_BIAS = ("RewardBench", "bias towards longer answers")
"""What few held-out pairs do not show, whose better answer happens to be the longer one each time."""

CASES = {
    "ratings and pairs": Case(),
    "ratings that make pairs": Case(n_pairs=0, pairs_from="x", missing=NO_BIAS),
    "one objective": Case(objectives="x", nuisance="none"),
    "one objective from one dataset of 50 rows": Case(
        objectives="x", n_ratings=50, n_pairs=0, pairs_from="x", nuisance="none", missing=NO_BIAS
    ),
    "no verbosity": Case(objectives="xy", nuisance="none"),
    "three objectives and length": Case(nuisance="n_tokens"),
    "no held-out pairs": Case(pairs_split="train", missing=("RewardBench", "held-out pairs", "Bradley-Terry probe")),
    "ratings alone": Case(n_pairs=0, refused=ConfigError),
    "pairs alone": Case(n_ratings=0, nuisance="none", refused=ConfigError),
    "one objective and length": Case(objectives="x", nuisance="n_tokens", refused=ConfigError),
    "two objectives and length": Case(objectives="xy", nuisance="n_tokens", refused=ConfigError),
    "a nuisance that nobody rates": Case(nuisance="helpsteer-verbosity", refused=ConfigError),
    "one objective, which is the nuisance": Case(objectives="v", refused=ConfigError),
    "a nuisance and objectives with too few ratings": Case(scarce="xy", refused=ArmormError),
    "a nuisance with too few ratings": Case(scarce="v", refused=ArmormError),
    "ratings that are all equal": Case(equal="xyv", nuisance="none", refused=ArmormError),
    "a nuisance whose ratings are all equal": Case(equal="v", refused=ArmormError),
    "no training pairs": Case(pairs_split="test", refused=ArmormError),
    "no validation ratings": Case(ratings_split="train", refused=ArmormError),
    "no validation pairs to stop by": Case(
        pairs_split="train", gate='start = "random"\nbeta = 1.0', refused=ArmormError
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_own_data_alone(name: str, backbone: Path, tmp_path: Path) -> None:
    case = CASES[name]
    config = case.write(tmp_path, backbone)
    settings = load_settings(config)
    if case.refused is ConfigError:
        with pytest.raises(ConfigError):
            plan_run(settings)
        assert not (tmp_path / "store").exists()
        return
    plan_run(settings)
    if case.refused:
        with pytest.raises(case.refused):
            plain.run(config)
        store = Store(tmp_path / "store")
        assert not store.head().within("backbone"), "refused before anything is embedded"
        with pytest.raises(case.refused):  # what is ingested is known now
            plan_run(settings)
        return
    plain.run(config)
    store = Store(tmp_path / "store")
    report = load_report(store)
    assert report is not None
    (section,) = [of for of in report.sections if of.id == "not-measured"]
    assert {str(row[0]) for row in section.rows} == {*case.missing}
    (folder,) = (tmp_path / "models").iterdir()
    model = RewardHead.load(folder)
    assert {*model.objectives} - {PREFERENCE} == {f"my-{name}" for name in case.objectives}
    if case.nuisance == "none":
        assert np.array_equal(model.transform_KK, np.eye(len(model.objectives)))
        assert taken_out(()) in {cell for of in report.sections for row in of.rows for cell in row}
        for page in ("report.md", "report.html"):
            assert taken_out(()) in (folder / page).read_text()


def test_the_card_says_that_nothing_was_taken_out(backbone: Path, tmp_path: Path) -> None:
    config = CASES["one objective"].write(tmp_path, backbone)
    plain.run(config)
    store, settings = Store(tmp_path / "store"), load_settings(config).backbone
    export_model(store, store.find("model"), settings, tmp_path / "export", max_shard_size="5GB")
    card = (tmp_path / "export" / "README.md").read_text()

    assert card.count(taken_out(())) == 2, "and where the correlations would stand"
