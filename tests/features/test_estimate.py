"""What a plan says is what was measured: exact where it can be computed, unknown where nothing was measured."""

import re
from pathlib import Path

import pytest

from armorm.features.conversation import single_turn
from armorm.features.embedding.embed import EmbedSettings, embed_missing
from armorm.features.embedding.fingerprint import BackboneSettings, read_fingerprint
from armorm.features.embedding.forecast import plan_embedding, plan_embedding_at_most
from armorm.features.errors import InputError
from armorm.features.store import Made, Recipe, Store, Writer
from armorm.features.store.estimate import UNKNOWN, Planned, estimate, last_time, measured, speed_of, total
from armorm.features.units import in_words, parse_duration
from tests.features import tiny
from tests.features.canonical import Dataset


def recipe(slot: str, n: int = 1) -> Recipe:
    return Recipe(slot, "stage", 1, {"n": n}, {})


def commit(writer: Writer, slot: str, **amounts: float) -> None:
    record = writer.store.objects.put_bytes("json", slot.encode())
    writer.commit(recipe(slot), Made({"record": record}, {"measured": amounts}))


def test_what_a_stage_took_is_kept_and_changes_no_id(writer: Writer) -> None:
    def make() -> Made:
        return Made({"record": writer.store.objects.put_bytes("json", b"{}")}, {"measured": {"rows": 7}})

    timed = writer.ensure(recipe("a"), make, work={"bytes": 10}).artifact
    assert measured(timed)["seconds"] >= 0
    assert measured(timed) | {"seconds": 0} == {"seconds": 0, "bytes": 10, "rows": 7}
    assert writer.commit(recipe("b"), make()).artifact_id == timed.artifact_id


def test_a_speed_is_that_of_the_newest_run(store: Store) -> None:
    for run, seconds in (("old", 1.0), ("new", 4.0)):
        with store.writing(run) as writer:
            commit(writer, f"features/x/{run}1", seconds=seconds, tokens=100)
            commit(writer, f"features/x/{run}2", seconds=seconds, tokens=300)
    shards = store.head().within("features").values()
    speed = speed_of(shards, "tokens", called="shards")
    assert speed is not None
    assert speed.per_s == 400 / 8
    assert re.search(rf"\b50 tokens/s\b.*\b{writer.run.run_id[:8]}\b.*\b2 shards\b", speed.basis)
    assert speed_of(shards, "rows") is None


def test_a_time_goes_with_the_work(writer: Writer) -> None:
    commit(writer, "ingest/a", seconds=2.0, bytes=1000, rows=50)
    head = writer.store.head()
    again = estimate(head, "ingest a", "input file 1 changed", {"bytes": 4000}, slot="ingest/a")
    assert (again.rows, again.bytes, again.seconds) == (200, 4000, 8.0)
    other = estimate(head, "ingest b", "first time", {"bytes": 500}, slot="ingest/b")
    assert (other.rows, other.seconds) == (None, 1.0)
    never = estimate(head, "regress", "first time", {"rows": 5})
    assert (never.rows, never.seconds, never.basis) == (5, None, UNKNOWN)
    stands = estimate(head, "regress", None, {"rows": 5})
    assert stands == Planned("regress", None)
    whole = total([again, other, stands])
    assert (whole.rows, whole.bytes, whole.seconds) == (None, 4500, 9.0)
    assert re.search(r"\b2 of 3\b", str(whole.reason))


def test_what_there_is_to_embed_is_counted_and_never_made_up(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = BackboneSettings(str(tiny.write_backbone(tmp_path / "backbone")))
    fingerprint = read_fingerprint(settings)
    first, second = Dataset("first"), Dataset("second")
    for n in range(6):
        first.rate(str(n), single_turn(f"question {n // 2}", f"answer {n}"), 1)
    second.rate("0", single_turn("question 0", "another answer"), 1)
    with store.writing("test") as writer:
        first.commit(writer)
        new = plan_embedding(store, fingerprint, "float32")
        n_chars = sum(cells["n_chars"] for cells in first.conversations.values())
        assert (new.rows, new.tokens, new.seconds) == (6 + 3, round(n_chars / 4), None)
        assert new.bytes == 9 * 32 * 4
        assert re.search(rf"^{UNKNOWN}; .*\bcharacters, 4 to\b", new.basis)

        embed_missing(writer, settings, EmbedSettings(shard_conversations=2))
        shards = [shard.summary["measured"] for shard in store.head().within("features").values()]
        n_tokens = sum(shard["tokens"] for shard in shards)
        assert len(shards) == 3
        assert sum(shard["rows"] for shard in shards) == 9
        second.commit(writer)
        added = plan_embedding(store, fingerprint, "float16")
        (cells,) = second.conversations.values()
        assert (added.rows, added.bytes) == (1, 32 * 2)
        assert added.tokens == round(cells["n_chars"] * n_tokens / n_chars)
        assert added.seconds == pytest.approx(added.tokens * sum(shard["seconds"] for shard in shards) / n_tokens)
        assert re.search(rf"\b3 shards; .*\bcharacters, {n_chars / n_tokens:.3g} to\b", added.basis)

        other = read_fingerprint(BackboneSettings(settings.path, max_tokens=64))
        assert re.search(r"\b3 shards\b.*\banother\b", plan_embedding(store, other, "float32").basis)
        assert plan_embedding_at_most(store, fingerprint, "float32", "after ingest", {"first": 10}).rows is None

        assert "predicted" not in added.basis  # when no speed was known
        embed_missing(writer, settings, EmbedSettings())
        (took,) = (m for s in store.head().within("features").values() if "predicted_seconds" in (m := measured(s)))
        assert took["predicted_tokens"] == pytest.approx(added.tokens, abs=1)
        assert took["predicted_seconds"] == pytest.approx(added.seconds, abs=1e-3)
    monkeypatch.setattr("armorm.features.embedding.forecast.connect", lambda store: pytest.fail("opened the tables"))
    done = plan_embedding(Store(store.place), fingerprint, "float32")
    assert (done.reason, done.seconds) == (None, 0)
    predicted = rf"\b{in_words(took['predicted_seconds'])} .*\b{took['predicted_tokens']:.0f} tokens\b"
    assert re.search(rf"{predicted}.*\b{in_words(took['seconds'])} .*\b{took['tokens']}$", done.basis)


def test_what_was_predicted_is_told_of_the_newest_run_that_was(store: Store) -> None:
    for run, amounts in (("first", {}), ("second", {"predicted_seconds": 30.0, "predicted_tokens": 900.0})):
        with store.writing(run) as writer:
            commit(writer, f"features/x/{run}1", seconds=20.0, tokens=500, **amounts)
            commit(writer, f"features/x/{run}2", seconds=50.0, tokens=700, **amounts)
    shards = store.head().within("features").values()
    assert re.search(r"\b1 min .*\b1,800 tokens\b.*\b1 min 10 s .*\b1,200$", last_time(shards))
    assert last_time(shard for shard in shards if "first" in shard.recipe.slot) == ""


def test_durations_are_read_and_said() -> None:
    assert [parse_duration(text) for text in ("90s", "30m", "1h30m", "36h", "0.5d")] == [90, 1800, 5400, 129600, 43200]
    assert [in_words(s) for s in (0.04, 59.6, 90, 3600, 7500, 129600)] == [
        *("0.0 s", "1 min", "1 min 30 s", "1 h", "2 h 5 min", "1 d 12 h")
    ]
    for wrong in ("", "30", "m", "-1h", "1 h", "1w"):
        with pytest.raises(InputError, match=rf"\bduration {re.escape(wrong)};.*\b1h30m\b"):
            parse_duration(wrong)
