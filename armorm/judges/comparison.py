"""Judges on the same held-out pairs and benchmarks of a store, side by side.

What a judge was asked before is read from the store. A tie and a pair without a verdict count as not correct, so all
judges are measured on the same pairs. Suffix: P pairs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from armorm.config import EvaluationConfig
from armorm.features.catalog.views import Catalog, connect
from armorm.features.conversation import HELD_OUT
from armorm.features.errors import InputError, NotInStore
from armorm.features.store import Store
from armorm.features.vectors.shards import FeatureReader
from armorm.judges.compared import Compared, Judged, Order
from armorm.judges.judge import Judge, Question
from armorm.maths.metrics import bootstrap_accuracy, wins
from armorm.maths.paired import paired_test
from armorm.stages import preference
from armorm.stages.data import Names, StoredPairs, load_pairs, reward_differences
from armorm.stages.judge import KEY, Verdict, judge_id, keep_verdicts, read_verdicts
from armorm.stages.pair_figures import benchmark_pairs, benchmark_scores, rewardbench_scores

Floats = npt.NDArray[np.floating]

LONGER: Final = "longer answer"
"""The baseline that every judge has to beat."""

PROBE: Final = "probe"
"""The newest Bradley-Terry probe of the store, where it has one."""

ALL: Final = "held-out"


@dataclass(frozen=True, slots=True)
class _Answers:
    """What a judge says of pairs."""

    preference_P: Floats
    """`[P]` above 0 for the chosen answer; NaN without a verdict."""
    scores_2P: Floats | None
    """`[2, P]` of the chosen and the rejected answer; None of a judge that scores none."""
    orders_2P: Floats | None
    """`[2, P]` preferences with the chosen answer shown first, and second; None of a judge that was not asked twice."""
    verdicts: pl.DataFrame
    """Verdicts on the distinct pairs of answers."""


def compare_judges(
    store: Store,
    judges: Sequence[Judge],
    config: EvaluationConfig,
    *,
    datasets: Sequence[str] = (),
    n_pairs: int | None = None,
    published: bool = False,
    with_probe: bool = True,
    on_progress: Callable[[str, int, int], None] = lambda judge, done, total: None,
) -> Compared:
    """Ask judges about the newest snapshot's held-out pairs and benchmarks, and compare them.

    Verdicts are kept as they come, so that whoever is stopped goes on from there.

    Args:
        store: whose pairs.
        judges: the others are tested against the first.
        config: bootstrap.
        datasets: of which pairs; all by default.
        n_pairs: of each dataset, at most: those with the smallest ids, so that more include fewer.
        published: whether to show what others have published beside.
        with_probe: whether the store's newest probe is a baseline.
        on_progress: called with a judge's name, questions that are done and questions in all.

    Raises:
        NotInStore: there are no such pairs.
        InputError: a dataset is not known, or two judges have one name.
    """
    names = [judge.name for judge in judges]
    if len(set(names)) < len(names) or {LONGER, PROBE} & set(names):
        raise InputError(
            f"got judges {', '.join(names)}; expected different names, and none of {LONGER} and {PROBE}; rename one"
        )
    pairs = _chosen_pairs(store, datasets, n_pairs)
    answers = {judge.name: _ask(store, judge, pairs, on_progress) for judge in judges}
    said = {name: of.preference_P for name, of in answers.items()}
    preferences = said | _baselines(store, pairs, with_probe=with_probe)
    ranked = {name: np.nan_to_num(of_P) for name, of_P in preferences.items()}
    benchmark_P = benchmark_pairs(pairs)
    of_benchmark = pairs.select(benchmark_P)
    scores = {
        name: rewardbench_scores(of_benchmark, {"gate": of_P[benchmark_P]}, config)
        for name, of_P in ranked.items()
        if benchmark_P.any()
    }
    return Compared(
        rows=tuple(_rows(pairs, preferences, config)),
        orders=tuple(_orders(answers)),
        rewardbench=scores,
        own={
            name: benchmark_scores(pairs, of.preference_P, config, scores_2P=of.scores_2P, orders_2P=of.orders_2P)
            for name, of in answers.items()
        },
        why_not={name: reasons for name, of in answers.items() if (reasons := _reasons(of.verdicts))},
        published=published,
    )


def _chosen_pairs(store: Store, datasets: Sequence[str], n_pairs: int | None) -> StoredPairs:
    pairs = load_pairs(store, backbone_id="")
    pairs = pairs.select(pairs.usable(*HELD_OUT))
    known = sorted(set(pairs.datasets))
    if unknown := sorted(set(datasets) - set(known)):
        raise InputError(
            f"got dataset {', '.join(unknown)}; expected of those with held-out pairs: {', '.join(known) or 'none'}; "
            "correct the name"
        )
    if datasets:
        pairs = pairs.select(np.isin(pairs.datasets, list(datasets)))
    if n_pairs is not None:
        order = np.lexsort([pairs.pair_ids, pairs.datasets])
        starts = np.searchsorted(pairs.datasets[order], pairs.datasets[order])
        few_P = np.zeros(len(order), dtype=bool)
        few_P[order] = np.arange(len(order)) - starts < n_pairs
        pairs = pairs.select(few_P)
    if not len(pairs.pair_ids):
        raise NotInStore(
            "got a store without held-out pairs; expected some; configure a preference dataset and ingest it"
        )
    return pairs


def _ask(store: Store, judge: Judge, pairs: StoredPairs, on_progress: Callable[[str, int, int], None]) -> _Answers:
    """Ask a judge what it was not asked yet, and return all that it says of the pairs."""
    ids = pl.DataFrame(
        {"chosen": pairs.chosen_ids, "rejected": pairs.rejected_ids}, {"chosen": pl.String, "rejected": pl.String}
    ).with_columns(first_id=pl.min_horizontal("chosen", "rejected"), second_id=pl.max_horizontal("chosen", "rejected"))
    asked = ids.select(KEY).unique(maintain_order=True)
    known = read_verdicts(store, judge_id(judge.identity))
    missing = asked.join(known, on=KEY, how="anti").rows()
    unheard: list[Verdict] = []
    with connect(store) as catalog:
        for start in range(0, len(missing), judge.n_at_once):
            chunk = missing[start : start + judge.n_at_once]
            got: list[Verdict] = []
            try:
                got.extend(judge.answer(list(_questions(catalog, chunk))))
            finally:  # what was said before an error has cost as much
                keep_verdicts(store, judge.name, judge.identity, got)
            unheard += [verdict for verdict in got if not verdict.kept]
            on_progress(judge.name, start + len(chunk), len(missing))
    verdicts = asked.join(read_verdicts(store, judge_id(judge.identity)), on=KEY, how="left")
    if unheard:
        reasons = pl.DataFrame([(of.first_id, of.second_id, of.why_not) for of in unheard], [*KEY, "why"], orient="row")
        verdicts = verdicts.join(reasons, on=KEY, how="left").with_columns(why_not=pl.coalesce("why_not", "why"))
    of_pairs = ids.join(verdicts, on=KEY, how="left", maintain_order="left")
    first_P = (of_pairs["first_id"] == of_pairs["chosen"]).to_numpy()

    def chosen_first(sign: int, *columns: str) -> Floats:
        """Return two columns, exchanged where the chosen answer is the second one; its sign changes there, too."""
        one_P, other_P = (of_pairs[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in columns)
        return np.stack([np.where(first_P, one_P, sign * other_P), np.where(first_P, other_P, sign * one_P)])

    scores_2P = chosen_first(1, "score_first", "score_second")
    orders_2P = chosen_first(-1, "shown_first", "shown_second")
    return _Answers(
        chosen_first(-1, "preference", "preference")[0],
        None if np.isnan(scores_2P).all() else scores_2P,
        None if np.isnan(orders_2P).all() else orders_2P,
        verdicts,
    )


def _questions(catalog: Catalog, keys: Sequence[tuple[str, str]]) -> Iterator[Question]:
    """Yield the texts of some pairs of answers."""
    asked = pl.DataFrame({"conversation_id": sorted({id for key in keys for id in key})})
    catalog.register("asked", asked.to_arrow())
    rows = catalog.execute(
        "SELECT conversation_id, messages FROM conversations SEMI JOIN asked USING (conversation_id)"
    )
    texts = {id: tuple((turn["role"], turn["content"]) for turn in messages) for id, messages in rows.fetchall()}
    for first, second in keys:
        yield Question(first, second, texts[first], texts[second])


def _baselines(store: Store, pairs: StoredPairs, *, with_probe: bool) -> dict[str, Floats]:
    """Return `[P]` what no judge says: the longer answer, and the probe where the store has one with all vectors."""
    found: dict[str, Floats] = {}
    artifact = store.head().artifacts.get(preference.STAGE) if with_probe else None
    fitted = preference.read_preference(store) if artifact else None
    if artifact and fitted:
        reader = FeatureReader(store, str(artifact.recipe.parameters["backbone"]))
        known_P = reader.has("conversation", pairs.chosen_ids.tolist())
        known_P &= reader.has("conversation", pairs.rejected_ids.tolist())
        margins_P = np.full(len(known_P), np.nan)
        margins_P[known_P] = reward_differences(reader, fitted.probe_D[None], pairs.select(known_P))[:, 0]
        found[PROBE] = margins_P
    return found | {LONGER: pairs.n_chars_difference_P}


def _rows(pairs: StoredPairs, preferences: Mapping[str, Floats], config: EvaluationConfig) -> Iterator[Judged]:
    """Yield every judge on all held-out pairs together, and on those of each dataset."""
    options = {"n_resamples": config.n_resamples, "seed": config.seed}
    names = sorted(set(pairs.datasets))
    groups: dict[str, npt.NDArray[np.bool_]] = {name: pairs.datasets == name for name in names}
    if (held_out_P := pairs.split_P != "evaluation").any() and len(set(pairs.datasets[held_out_P])) > 1:
        groups = {ALL: held_out_P} | groups
    first = next(iter(preferences))
    for group, here_P in groups.items():
        prompts_P: Names = pairs.prompt_ids[here_P]
        won = {name: wins(np.nan_to_num(of_P[here_P])) for name, of_P in preferences.items()}
        for name, won_P in won.items():
            of_P = preferences[name][here_P]
            yield Judged(
                name,
                group,
                len(won_P),
                bootstrap_accuracy(won_P, prompts_P, **options),
                int((of_P == 0).sum()),
                int(np.isnan(of_P).sum()),
                paired_test(won[first], won_P, prompts_P, **options) if name != first else None,
            )


def _orders(answers: Mapping[str, _Answers]) -> Iterator[Order]:
    for name, of in answers.items():
        shown = of.verdicts.drop_nulls(["shown_first", "shown_second"])
        if not len(shown):
            continue
        first, second = shown["shown_first"].to_numpy(), shown["shown_second"].to_numpy()
        # the answer that stands first is the first one of the one order, and the second one of the other
        stands_first = np.concatenate([first, -second])
        decided = stands_first[stands_first != 0]
        same = float((np.sign(first) == np.sign(second)).mean())
        yield Order(name, len(shown), same, float((decided > 0).mean()) if len(decided) else float("nan"))


def _reasons(verdicts: pl.DataFrame) -> dict[str, int]:
    counted = verdicts.filter(pl.col("preference").is_null())["why_not"].fill_null("not asked").value_counts(sort=True)
    return dict(counted.rows())
