"""Damage: every byte that is not what was written is found, named, set aside, and made again by the next run."""

import atexit
import random
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

from armorm.features.catalog.query import query
from armorm.features.catalog.views import connect
from armorm.features.conversation import SplitFractions
from armorm.features.embedding.embed import EmbedSettings, embed_missing
from armorm.features.embedding.fingerprint import BackboneSettings
from armorm.features.errors import FeatureStoreError, QueryError, StoreError
from armorm.features.ingest.dataset import DatasetFiles, ingest_dataset
from armorm.features.sources import complete_options, find_source
from armorm.features.store import Store, manifests
from armorm.features.upkeep.verify import quarantine, verify
from armorm.features.vectors.shards import FeatureReader, read_vectors, shards_of
from tests.damage import overwrite
from tests.features import tiny

LINES = "".join(
    f'{{"prompt": "p{n // 2}", "response": "{n % 7} answers {n}", "helpfulness": {n % 5}, "correctness": 1, '
    f'"coherence": 2, "complexity": 3, "verbosity": {n % 4}}}\n'
    for n in range(40)
)


def build(store: Store, folder: Path) -> None:
    """Makes whatever the store lacks: ingest, then embed."""
    (folder / "helpsteer.jsonl").write_text(LINES)
    source = find_source("helpsteer")
    dataset = DatasetFiles(source, folder / "helpsteer.jsonl", complete_options(source, {}))
    backbone = folder / "backbone"
    if not backbone.exists():
        tiny.write_backbone(backbone)
    with store.writing("test") as writer:
        ingest_dataset(writer, dataset, splits=SplitFractions())
        embed_missing(writer, BackboneSettings(str(backbone)), EmbedSettings(shard_conversations=16))


@cache
def template() -> Path:
    """What `build` makes of nothing, made once by each process of the tests."""
    folder = Path(mkdtemp(prefix="built-"))
    atexit.register(shutil.rmtree, folder)
    build(Store(folder / "store"), folder)
    return folder


def put_built(store: Store, folder: Path) -> None:
    """The same as `build` of a store in that folder that nothing was written to, by a copy."""
    assert Path(store.place) == folder / "store"
    shutil.copytree(template(), folder, dirs_exist_ok=True)


def use_all(store: Store) -> None:
    """Reads every table and every vector."""
    with connect(store) as catalog:
        for view in ("conversations", "ratings", "preferences", "rejects", "native_rows"):
            catalog.execute(f"SELECT max(t) FROM {view} AS t").fetchall()
        catalog.execute("SELECT sum(vector[1]), max(n_tokens) FROM features").fetchall()
        ids = [id for (id,) in catalog.execute("SELECT conversation_id FROM conversations").fetchall()]
    for shards in shards_of(store.head()):
        FeatureReader(store, shards.backbone_id).gather("conversation", ids)
    for canaries in store.head().within("canary").values():
        read_vectors(store, canaries.objects["vectors"])


def flip(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


def truncate(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def zero(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    end = min(len(content), start + rng.choice([1, 64, 4096]))
    filled = content[:start] + bytes(end - start) + content[end:]
    return filled if filled != content else flip(content, rng)


def damage(path: Path, rng: random.Random, others: list[Path]) -> str:
    """Does one of five things to a file."""
    kind = rng.choice(["flip", "truncate", "zero", "swap", "delete"])
    changes: dict[str, Callable[[bytes, random.Random], bytes]] = {"flip": flip, "truncate": truncate, "zero": zero}
    if kind == "delete":
        path.unlink()
    elif kind == "swap":
        overwrite(path, rng.choice([other for other in others if other.read_bytes() != path.read_bytes()]).read_bytes())
    else:
        overwrite(path, changes[kind](path.read_bytes(), rng))
    return kind


def damage_at_random(store: Store, n: int, seed: int) -> None:
    """Damages one file at a time and puts it back; each is found by `verify`, and by whoever reads it."""
    rng, root = random.Random(seed), Path(store.place)
    files = [*root.glob("objects/*/*"), *root.glob("snapshots/*.json")]
    assert verify(store).damages == ()
    kinds = set()
    for _ in range(n):
        path = rng.choice(files)
        content = path.read_bytes()
        kinds.add((path.parent.name == "snapshots", path.suffix, damage(path, rng, files)))
        name = path.relative_to(root).as_posix()
        found = {damage.name: damage.problem for damage in verify(Store(root)).damages}
        assert name in found, name
        assert "got" in found[name]
        if path.suffix in (".parquet", ".arrow") and name in in_use(store):
            with pytest.raises(FeatureStoreError, match="got"):
                use_all(Store(root))
        overwrite(path, content)
    assert verify(Store(root)).damages == ()
    assert n < 200 or len(kinds) == 20  # every kind of object in every way


def in_use(store: Store) -> set[str]:
    refs = [ref for a in store.head().artifacts.values() for ref in {**a.objects, **a.provenance}.values()]
    return {f"objects/{ref.sha256[:2]}/{ref.sha256}.{ref.format}" for ref in refs}


def test_damage_is_found(store: Store, tmp_path: Path, seed: int) -> None:
    put_built(store, tmp_path)
    damage_at_random(store, 25, seed)


@pytest.mark.slow
def test_a_thousand_damages_are_found(store: Store, tmp_path: Path) -> None:
    put_built(store, tmp_path)
    damage_at_random(store, 1000, 0)


@pytest.mark.usefixtures("in_process")
def test_a_metadata_query_opens_no_vectors(store: Store, tmp_path: Path) -> None:
    put_built(store, tmp_path)
    for path in Path(store.place).glob("objects/*/*.arrow"):
        path.unlink()
    assert query(Store(store.place), "SELECT count(*), max(n_tokens) > 0 FROM features").rows == [(60, True)]
    with pytest.raises(FeatureStoreError, match=r"\.arrow: "):
        query(Store(store.place), "SELECT vector FROM features")


@pytest.mark.parametrize("pattern", ["objects/*/*.parquet", "objects/*/*.arrow", "objects/*/*.json"])
def test_what_is_damaged_is_set_aside_and_made_again(store: Store, tmp_path: Path, pattern: str) -> None:
    put_built(store, tmp_path)
    before = store.head()
    for path in Path(store.place).glob(pattern):
        overwrite(path, flip(path.read_bytes(), random.Random(0)))
    damaged = Store(store.place)
    found = verify(damaged)
    with damaged.writing("repair") as writer:
        assert quarantine(writer, found.damages)
    assert len(list(Path(store.place).glob(f"quarantine/{pattern}"))) == len(found.damages) > 0
    build(damaged, tmp_path)
    assert damaged.head().snapshot_id == before.snapshot_id
    assert verify(Store(store.place)).damages == ()  # the same bytes came out: earlier snapshots are whole too


@pytest.mark.parametrize("lost", [[2], [1, 2], [-1], [2, 3, -1]])
def test_lost_manifests_cost_their_snapshots_alone(store: Store, tmp_path: Path, lost: list[int]) -> None:
    put_built(store, tmp_path)
    before, numbers = store.head(), store.manifests.numbers()
    gone = [numbers[place] if place < 0 else place for place in lost]
    for number in gone:
        (Path(store.place) / f"snapshots/{number:08}.json").unlink()
    damaged = Store(store.place)
    found = verify(damaged).damages
    assert [damage.name for damage in found] == [f"snapshots/{number:08}.json" for number in gone]
    with damaged.writing("repair") as writer:
        quarantine(writer, found)
    build(damaged, tmp_path)
    assert damaged.head().snapshot_id == before.snapshot_id
    assert verify(Store(store.place)).damages == ()


def test_a_sample_is_drawn(store: Store, tmp_path: Path) -> None:
    put_built(store, tmp_path)
    counts = [verify(store, share=0.3, seed=seed).n_objects for seed in range(20)]
    assert 0 < sum(counts) / 20 < verify(store).n_objects * 0.5
    assert len(set(counts)) > 1


@pytest.mark.usefixtures("in_process")
def test_a_damaged_head_is_an_error_for_readers_and_not_for_verify(store: Store, tmp_path: Path) -> None:
    put_built(store, tmp_path)
    last = max(Path(store.place).glob("snapshots/*.json"))
    overwrite(last, b"{}")
    with pytest.raises((FeatureStoreError, QueryError)):
        query(Store(store.place), "SELECT 1")
    assert [damage.name for damage in verify(Store(store.place)).damages] == [f"snapshots/{last.name}"]


def test_a_manifest_of_a_later_version_is_no_damage(store: Store, tmp_path: Path) -> None:
    put_built(store, tmp_path)
    later = manifests.body_of(store.head(), {}) | {"format": manifests.FORMAT + 1}
    store.storage.replace(manifests.name_of(store.head().number), manifests._document(later))
    with pytest.raises(StoreError, match=rf"\bformat {manifests.FORMAT + 1};"):  # else a repair would set it aside
        verify(Store(store.place))
