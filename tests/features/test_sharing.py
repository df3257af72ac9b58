"""What datasets share, against a count by hand."""

from pathlib import Path

import pytest

from armorm.features.catalog.savings import sharing
from armorm.features.conversation import single_turn
from armorm.features.embedding.embed import EmbedSettings, embed_missing
from armorm.features.embedding.fingerprint import BackboneSettings
from armorm.features.store import Store, Writer
from tests.features import tiny
from tests.features.canonical import Dataset

pytestmark = pytest.mark.usefixtures("in_process")


def fill(writer: Writer) -> None:
    ratings = Dataset("ratings")
    for row in ("r0", "r1"):  # one conversation of 8 characters in two rows, rated by two objectives
        for objective in ("helpsteer-helpfulness", "helpsteer-coherence"):
            ratings.rate(row, single_turn("abcd", "efgh"), 2, objective=objective)
    pairs = Dataset("pairs")
    pairs.prefer("p0", "efgh", "efghijkl", prompt="abcd")  # 8 and 12 characters
    pairs.prefer("p1", "efgh", "efgh" * 4, prompt="abcd")  # 8 and 20
    alone = Dataset("alone")
    alone.prefer("p0", "efgh", "ijkl", prompt="mnop")
    for dataset in (ratings, pairs, alone):
        dataset.commit(writer)


def test_each_pair_of_datasets_that_share_a_prompt_is_counted(store: Store, writer: Writer) -> None:
    fill(writer)
    assert sharing(store)["overlap"].columns == ["dataset", "other", "conversations", "prompts"]
    assert sharing(store)["overlap"].rows == [
        ("alone", "alone", 2, 1),
        ("pairs", "pairs", 3, 1),
        ("pairs", "ratings", 1, 1),
        ("ratings", "ratings", 1, 1),
    ]


def test_savings_count_each_row_and_each_side_of_a_pair(store: Store, writer: Writer) -> None:
    fill(writer)
    table = sharing(store)["savings"]
    rows = {row[0]: dict(zip(table.columns[1:], row[1:], strict=True)) for row in table.rows}
    assert list(rows) == ["alone", "pairs", "ratings", "total"]
    assert rows["pairs"] == {
        "sequences": 4,
        "conversations": 3,
        "sequences_saved": 0.25,
        "tokens_of_sequences": (8 + 12 + 8 + 20) // 4,
        "tokens_of_conversations": (8 + 12 + 20) // 4,
        "tokens_saved": pytest.approx(1 - 40 / 48),
        "tokens_from": "n_chars / 4",
    }
    assert (rows["ratings"]["sequences"], rows["ratings"]["conversations"]) == (2, 1)
    assert (rows["total"]["sequences"], rows["total"]["conversations"]) == (8, 5)


def test_tokens_are_those_of_the_embedding_where_there_is_one(store: Store, writer: Writer, tmp_path: Path) -> None:
    fill(writer)
    backbone = BackboneSettings(str(tiny.write_backbone(tmp_path / "backbone")))
    embed_missing(writer, backbone, EmbedSettings())
    later = Dataset("later")
    later.rate("r", single_turn("abcd", "new"), 2)
    later.commit(writer)
    table = sharing(store)["savings"]
    tokens_from = table.columns.index("tokens_from")
    assert {row[0]: row[tokens_from] for row in table.rows} == {
        "alone": "embedding",
        "later": "n_chars / 4",
        "pairs": "embedding",
        "ratings": "embedding",
        "total": "both",
    }


def test_an_empty_store_shares_nothing(store: Store) -> None:
    assert [table.rows for table in sharing(store).values()] == [[], []]
