"""The one bridge between the feature store and the mathematics: stored rows and vectors become arrays.

Shapes: N rated rows, P pairs, D feature size, K objectives.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from armorm.config import ALL_ANSWERS
from armorm.features.catalog.views import Catalog, connect
from armorm.features.embedding.rejected import OF_BACKBONE
from armorm.features.sources.described import RECIPES
from armorm.features.store import Snapshot, Store
from armorm.features.vectors.shards import FeatureReader
from armorm.maths.ridge import predict

Floats = npt.NDArray[np.floating]
Names = npt.NDArray[np.object_]

BLOCK_PAIRS = 2048
"""Pairs whose differences are in memory at once, while they are worked on in float64."""


@dataclass(frozen=True, slots=True)
class RatedRows:
    """Rated conversations, a row for each native row and conversation."""

    objectives: tuple[str, ...]
    rows: pl.DataFrame
    """`[N]` dataset, source_row, conversation_id, split."""
    dataset_N: Names
    conversation_ids: Names
    prompt_ids: Names
    Y_NK: Floats
    """`[N, K]` values in 0..1, NaN where the dataset does not rate the objective."""
    split_N: Names
    n_contaminated: int
    """Rows left out because their prompt stands in an evaluation dataset, exactly or nearly."""
    n_rejected: int
    """Rows left out because the backbone gives their conversation no usable vector."""

    @property
    def keys(self) -> pl.DataFrame:
        """One row a rating: dataset, source_row, conversation_id, objective, split."""
        row_C, column_C = np.nonzero(~np.isnan(self.Y_NK))
        rated = self.rows[row_C].with_columns(objective=pl.Series(self.objectives, dtype=pl.String)[column_C])
        return rated.select("dataset", "source_row", "conversation_id", "objective", "split")


@dataclass(frozen=True, slots=True)
class StoredPairs:
    """Preference pairs, with all that evaluation groups by."""

    pair_ids: Names
    datasets: Names
    source_rows: Names
    subsets: Names
    prompt_ids: Names
    chosen_ids: Names
    rejected_ids: Names
    split_P: Names
    n_chars_difference_P: Floats
    """`[P]` characters of chosen minus rejected; they share the prompt, so this is about the answers."""
    contaminated_P: npt.NDArray[np.bool_]
    """`[P]` training or held-out pairs whose prompt stands in an evaluation dataset, exactly or nearly."""
    n_rejected: int
    """Pairs left out because the backbone gives their prompt or one of their answers no usable vector."""
    benchmarks: Mapping[str, str] = field(default_factory=dict)
    """Dataset to the recipe of the benchmark that it is."""

    def usable(self, *splits: str) -> npt.NDArray[np.bool_]:
        """`[P]` the pairs of some splits, without the contaminated ones."""
        return np.asarray(np.isin(self.split_P, splits) & ~self.contaminated_P)

    def select(self, chosen_P: npt.NDArray[np.bool_]) -> Self:
        """Some of the pairs."""
        columns = [of.name for of in fields(self) if of.name not in ("n_rejected", "benchmarks")]
        return replace(self, **{name: getattr(self, name)[chosen_P] for name in columns})

    def keys(self, chosen_P: npt.NDArray[np.bool_]) -> pl.DataFrame:
        """Return the keys of some pairs: dataset, source_row, pair_id, split."""
        columns = {
            "dataset": self.datasets,
            "source_row": self.source_rows,
            "pair_id": self.pair_ids,
            "split": self.split_P,
        }
        return pl.DataFrame(
            {name: values[chosen_P] for name, values in columns.items()}, dict.fromkeys(columns, pl.String)
        )


@dataclass(frozen=True, slots=True)
class Responses:
    """The responses that objectives are decorrelated on."""

    conversation_ids: Names
    """Distinct, in order."""
    keys: pl.DataFrame
    """One row for each native row that holds one: dataset, source_row, conversation_id."""


def load_ratings(store: Store, objectives: Sequence[str], *, backbone_id: str) -> RatedRows:
    """Ratings of the given objectives as a matrix, of conversations that have a vector of the backbone.

    Rows whose prompt stands in an evaluation dataset are left out, and so are those whose conversation the backbone
    has rejected. One that just was not embedded yet is no such thing: to ask for its vector is an error.
    """
    with connect(store) as connection:
        connection.execute(f"CREATE TEMP TABLE no_vector AS {OF_BACKBONE}", [backbone_id, "conversation"])
        cells = connection.sql(
            """
            SELECT dataset, source_row, conversation_id, any_value(prompt_id) AS prompt_id, any_value(split) AS split,
                list({place: list_position(?, objective)::TINYINT - 1::TINYINT, value: value}) AS labels
            FROM (FROM training_ratings UNION ALL FROM held_out_ratings)
            WHERE list_contains(?, objective) AND conversation_id NOT IN (FROM no_vector)
            GROUP BY dataset, source_row, conversation_id ORDER BY ALL
            """,
            params=[list(objectives), list(objectives)],
        ).to_arrow_table()
        ((n_rejected, n_contaminated),) = connection.execute(
            """
            SELECT count(*) FILTER (without_vector), count(*) FILTER (NOT without_vector)
            FROM (
                SELECT DISTINCT
                    dataset, source_row, conversation_id, conversation_id IN (FROM no_vector) AS without_vector
                FROM (
                    FROM ratings WHERE conversation_id IN (FROM no_vector)
                    UNION ALL
                    FROM ratings SEMI JOIN contamination USING (prompt_id)
                    ANTI JOIN held_out_ratings USING (dataset, source_row, conversation_id)
                )
                WHERE list_contains(?, objective)
            )
            """,
            [list(objectives)],
        ).fetchall()
    rows = pl.DataFrame(cells)
    labels = rows["labels"].explode().struct.unnest()
    Y_NK = np.full((len(rows), len(objectives)), np.nan)
    Y_NK[np.repeat(np.arange(len(rows)), rows["labels"].list.len()), labels["place"].to_numpy()] = labels["value"]
    return RatedRows(
        objectives=tuple(objectives),
        rows=rows.select("dataset", "source_row", "conversation_id", "split"),
        dataset_N=_shared(rows["dataset"]),
        conversation_ids=rows["conversation_id"].to_numpy(),
        prompt_ids=rows["prompt_id"].to_numpy(),
        Y_NK=Y_NK,
        split_N=_shared(rows["split"]),
        n_contaminated=n_contaminated,
        n_rejected=n_rejected,
    )


def _shared(column: pl.Series) -> Names:
    """`[N]` texts, of equal ones a single object: a few names on many rows are then no more than their places."""
    distinct = column.unique()
    index = column.to_frame("name").join(distinct.to_frame("name").with_row_index(), on="name", maintain_order="left")
    return np.asarray(distinct.to_numpy()[index["index"].to_numpy()])


def load_pairs(store: Store, *, backbone_id: str) -> StoredPairs:
    """All pairs, benchmarks included, in order of dataset and id, without those that the backbone has rejected."""
    with connect(store) as connection:
        for table, kind in (("no_vector", "conversation"), ("no_prompt_vector", "prompt")):
            connection.execute(f"CREATE TEMP TABLE {table} AS {OF_BACKBONE}", [backbone_id, kind])
        cells = connection.execute(
            """
            SELECT pair_id, dataset, source_row, coalesce(subset, '') AS subset, p.prompt_id, chosen_id, rejected_id,
                split, chosen.n_chars - rejected.n_chars AS n_chars_difference,
                pair_id NOT IN (SELECT pair_id FROM training_pairs UNION ALL SELECT pair_id FROM held_out_pairs)
                    AS contaminated,
                chosen_id IN (FROM no_vector) OR rejected_id IN (FROM no_vector)
                    OR p.prompt_id IN (FROM no_prompt_vector) AS without_vector
            FROM preferences AS p
            JOIN conversations AS chosen ON chosen.conversation_id = chosen_id
            JOIN conversations AS rejected ON rejected.conversation_id = rejected_id
            ORDER BY dataset, pair_id
            """
        ).fetchnumpy()
        benchmarks = benchmark_recipes(connection)
    without_P = cells["without_vector"].astype(bool)
    rows = {name: column[~without_P] for name, column in cells.items()}
    return StoredPairs(
        pair_ids=rows["pair_id"],
        datasets=rows["dataset"],
        source_rows=rows["source_row"],
        subsets=rows["subset"],
        prompt_ids=rows["prompt_id"],
        chosen_ids=rows["chosen_id"],
        rejected_ids=rows["rejected_id"],
        split_P=rows["split"],
        n_chars_difference_P=rows["n_chars_difference"].astype(np.float64),
        contaminated_P=rows["contaminated"].astype(bool),
        n_rejected=int(without_P.sum()),
        benchmarks=benchmarks,
    )


def benchmark_recipes(connection: Catalog) -> dict[str, str]:
    """Return of each dataset that is a published benchmark which recipe it was read by."""
    recipes = {recipe.upstream: name for name, recipe in RECIPES.items() if recipe.evaluation}
    datasets = connection.execute("SELECT dataset, upstream FROM datasets ORDER BY dataset").fetchall()
    return {dataset: recipes[upstream] for dataset, upstream in datasets if upstream in recipes}


_TRAINING, _HELD_OUT = (
    " UNION ".join(
        f"SELECT dataset, source_row, {column} AS conversation_id, split FROM {use}_{table}"
        for table, column in (("ratings", "conversation_id"), ("pairs", "chosen_id"), ("pairs", "rejected_id"))
    )
    for use in ("training", "held_out")
)
"""Every rated answer and every answer of a pair, with its row and split."""


def load_responses(store: Store, reference: str, *, backbone_id: str) -> Responses:
    """The reference responses of the decorrelation that have a vector.

    Args:
        reference: a dataset, for its rated responses; or `all`, for the answers to all training prompts.
    """
    chosen, of = "ratings WHERE dataset = ?", reference
    if reference == ALL_ANSWERS:
        chosen, of = f"({_TRAINING}) WHERE split = ?", "train"
    with connect(store) as connection:
        rows = connection.sql(
            f"SELECT DISTINCT dataset, source_row, conversation_id FROM {chosen} "
            f"AND conversation_id NOT IN ({OF_BACKBONE})",
            params=[of, backbone_id, "conversation"],
        ).to_arrow_table()
    keys = pl.DataFrame(rows)
    return Responses(keys["conversation_id"].unique().sort().to_numpy(), keys)


def load_trained_prompts(store: Store, snapshot: Snapshot, prompt_ids: Names) -> Names:
    """Those of some prompts that weights of a model which was trained in a snapshot may depend on."""
    with connect(store, snapshot) as connection:
        connection.register("asked", pa.table({"prompt_id": pa.array(prompt_ids, pa.string())}))
        trained = "SELECT prompt_id FROM training_ratings UNION ALL SELECT prompt_id FROM training_pairs"
        cells = connection.execute(f"SELECT DISTINCT prompt_id FROM asked SEMI JOIN ({trained}) USING (prompt_id)")
        return np.asarray(cells.fetchnumpy()["prompt_id"], dtype=object)


def load_answers(store: Store, *, backbone_id: str) -> pl.DataFrame:
    """The distinct answers to prompts of training, validation and test that have a vector: conversation_id, split."""
    with connect(store) as connection:
        rows = connection.sql(
            f"""
            SELECT DISTINCT conversation_id, split FROM ({_TRAINING} UNION {_HELD_OUT})
            WHERE split <> 'evaluation' AND conversation_id NOT IN ({OF_BACKBONE})
            ORDER BY conversation_id
            """,
            params=[backbone_id, "conversation"],
        ).to_arrow_table()
    return pl.DataFrame(rows)


def load_held_out(store: Store, *, backbone_id: str) -> pl.DataFrame:
    """The held-out answers of each dataset, rated or in pairs, that have a vector: dataset, conversation_id."""
    with connect(store) as connection:
        rows = connection.sql(
            f"""
            SELECT DISTINCT dataset, conversation_id FROM ({_HELD_OUT})
            WHERE conversation_id NOT IN ({OF_BACKBONE}) ORDER BY dataset, conversation_id
            """,
            params=[backbone_id, "conversation"],
        ).to_arrow_table()
    return pl.DataFrame(rows)


def load_lengths(store: Store, conversation_ids: Names, *, backbone_id: str) -> tuple[Names, Floats]:
    """`[N]` prompt ids and `[N]` tokens of the last answer alone; NaN where the prompt has no vector, so no count."""
    with connect(store) as connection:
        connection.register("asked", pa.table({"conversation_id": pa.array(conversation_ids, pa.string())}))
        rows = connection.sql(
            """
            WITH counted AS (SELECT kind, id, n_tokens FROM features WHERE backbone = ?)
            SELECT conversation_id, prompt_id, whole.n_tokens - prompt.n_tokens AS n_tokens
            FROM conversations SEMI JOIN asked USING (conversation_id)
            LEFT JOIN counted AS whole ON whole.kind = 'conversation' AND whole.id = conversation_id
            LEFT JOIN counted AS prompt ON prompt.kind = 'prompt' AND prompt.id = prompt_id
            """,
            params=[backbone_id],
        ).to_arrow_table()
    asked = pl.DataFrame({"conversation_id": conversation_ids}, schema={"conversation_id": pl.String})
    found = asked.join(pl.DataFrame(rows), on="conversation_id", how="left", maintain_order="left")
    return found["prompt_id"].to_numpy(), found["n_tokens"].cast(pl.Float64).fill_null(np.nan).to_numpy()


def predict_rewards(reader: FeatureReader, W_KD: Floats, conversation_ids: Names) -> Floats:
    """`[N, K]` predicted raw rewards of conversations; each distinct one is read once, a block at a time."""
    distinct, index_N = np.unique(conversation_ids, return_inverse=True)
    return predict(reader.rows("conversation", distinct.tolist()), W_KD)[index_N]


def reward_differences(reader: FeatureReader, W_KD: Floats, pairs: StoredPairs) -> Floats:
    """`[P, K]` raw rewards of the chosen answers minus those of the rejected ones."""
    both = np.concatenate([pairs.chosen_ids, pairs.rejected_ids])
    chosen_PK, rejected_PK = np.split(predict_rewards(reader, W_KD, both), 2)
    return np.asarray(chosen_PK - rejected_PK)


def feature_differences(
    reader: FeatureReader, pairs: StoredPairs, rows: npt.NDArray[np.integer]
) -> Callable[[], Iterator[npt.NDArray[np.float32]]]:
    """Features of the chosen answers minus those of the rejected ones, of some pairs by their rows, `[B, D]` blocks.

    Whatever is returned reads them from the shards anew whenever it is called.
    """
    chosen, rejected = (
        reader.rows("conversation", ids[rows].tolist()) for ids in (pairs.chosen_ids, pairs.rejected_ids)
    )
    parts = [slice(start, start + BLOCK_PAIRS) for start in range(0, len(rows), BLOCK_PAIRS)]
    return lambda: (chosen[part] - rejected[part] for part in parts)
