"""The views: each has the grain and key that its file states; queries are read-only and stay inside the store."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import duckdb
import pytest

import armorm
from armorm.features.catalog.notebook import Connection
from armorm.features.catalog.query import query
from armorm.features.catalog.questions import ask
from armorm.features.catalog.select_only import require_query
from armorm.features.catalog.views import VIEWS, connect, empty_connection
from armorm.features.conversation import SplitFractions, prompt_id, single_turn
from armorm.features.embedding.embed import EmbedSettings, embed_missing
from armorm.features.embedding.fingerprint import BackboneSettings
from armorm.features.errors import QueryError, StoreError
from armorm.features.ingest.dataset import DatasetFiles, ingest_dataset
from armorm.features.sources import complete_options, find_source
from armorm.features.store import Made, Pointer, Store
from armorm.features.store.artifacts import Recipe
from armorm.features.store.pointers import tag
from armorm.features.store.store import utc_now
from armorm.features.tables import make_table, write_parquet
from armorm.features.vectors.shards import Feature, FeatureReader, shards_of, slot_of, write_shard
from armorm.release.compare import compare
from tests.features import tiny

pytestmark = pytest.mark.usefixtures("in_process")

NAMES = sorted(path.stem for path in VIEWS.glob("*.sql"))

HELPSTEER = """\
{"prompt":"p","response":"a","helpfulness":3,"correctness":4,"coherence":4,"complexity":1,"verbosity":1}
{"prompt":"p","response":"b","helpfulness":1,"correctness":9,"coherence":4,"complexity":1,"verbosity":1}
{"prompt":"q","response":"a","helpfulness":1
{"prompt":"b","response":"a","helpfulness":3,"correctness":4,"coherence":4,"complexity":1,"verbosity":1}
{"prompt":"b","response":"b","helpfulness":1,"correctness":4,"coherence":4,"complexity":1,"verbosity":1}
{"prompt":"r","response":"a","helpfulness":3,"correctness":4,"coherence":4,"complexity":1,"verbosity":1}
{"prompt":"r","response":"b","helpfulness":1,"correctness":4,"coherence":4,"complexity":1,"verbosity":1}
"""
BEAVERTAILS = """\
{"prompt":"p","response":"a","is_safe":true}
{"prompt":"p","response":"c","is_safe":false}
{"prompt":"p","response":"c","is_safe":false}
"""


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with at least a row in every view."""
    folder = tmp_path_factory.mktemp("full")
    store = Store(folder / "store")
    with store.writing("test") as writer:
        for name, lines in (("helpsteer", HELPSTEER), ("beavertails-30k", BEAVERTAILS)):
            (folder / f"{name}.jsonl").write_text(lines)
            ingest_dataset(
                writer,
                DatasetFiles(find_source(name), folder / f"{name}.jsonl", complete_options(find_source(name), {})),
                splits=SplitFractions(),
            )
        for architecture in ("llama", "qwen2"):
            backbone = tiny.write_backbone(folder / architecture, architecture=architecture)
            embed_missing(writer, BackboneSettings(str(backbone)), EmbedSettings(shard_conversations=1))
        scores = {"model": "m", "pair_id": "x", "score_chosen": 1.0, "score_rejected": 0.0, "correct": True}
        predicted = {"model": "m", "conversation_id": "c", "objective": "o", "predicted": 0.5}
        asked = prompt_id(single_turn("p", "a"))
        similar = {"evaluation_prompt_id": "e", "evaluation_dataset": "benchmark", "similarity": 0.8}
        weighed = {"model": "m", "prompt_id": asked, "objective": "o", "weight": 1.0, "coefficient": 1.0}
        rows = {"pair_scores": scores, "predictions": predicted, "contamination": similar | {"prompt_id": asked}}
        rows["gate_coefficients"] = weighed
        near = {"evaluation_prompt_id": "e", "evaluation_dataset": "benchmark", "cosine": 0.95}
        rows["near_prompts"] = near | {"prompt_id": asked}
        with connect(store) as catalog:
            (first, second), *_ = catalog.sql(
                "SELECT least(chosen_id, rejected_id), greatest(chosen_id, rejected_id) FROM preferences"
            ).fetchall()
        rows["verdicts"] = {"judge": "j", "first_id": first, "second_id": second, "preference": 1.0}
        rows["correlations"] = {"part": "reference", "dataset": "d", "objective": "o", "nuisance": "n_tokens"}
        objects = {
            name: store.objects.put("parquet", lambda path, n=name, row=row: write_parquet(path, make_table(n, [row])))
            for name, row in rows.items()
        }
        writer.commit(Recipe("evaluate", "evaluate", 1, {}, {"model": "m"}), Made(objects))
        writer.point("baseline", Pointer("snapshot", store.head().snapshot_id, store.head().number, utc_now()))
    return store


def stated_key(view: str) -> list[str]:
    (key,) = re.findall(r"^-- key: (.+)$", (VIEWS / f"{view}.sql").read_text(), re.MULTILINE)
    return [] if key.startswith("none") else key.split(", ")


@pytest.mark.parametrize("view", NAMES)
def test_the_stated_key_is_a_key(full: Store, view: str) -> None:
    key = ", ".join(stated_key(view))
    assert query(full, f"SELECT count(*) > 0 FROM {view}").rows == [(True,)]
    if key:
        doubles = query(full, f"SELECT {key}, count(*) FROM {view} GROUP BY {key} HAVING count(*) > 1").rows
        assert doubles == []


@pytest.mark.parametrize("view", NAMES)
def test_an_empty_store_has_the_same_columns(full: Store, tmp_path: Path, view: str) -> None:
    columns = [row[:1] for row in query(full, f"DESCRIBE {view}").rows]
    assert [row[:1] for row in query(Store(tmp_path / "empty"), f"DESCRIBE {view}").rows] == columns


def test_what_datasets_share_is_one_conversation(full: Store) -> None:
    ((conversations, mentions),) = query(
        full, "SELECT (SELECT count(*) FROM conversations), (SELECT sum(conversations)::INT FROM datasets)"
    ).rows
    assert (conversations, mentions) == (7, 8)


def test_rows_are_conserved(full: Store) -> None:
    rows = query(full, "SELECT dataset, rows, kept, rejected, dropped, parts_refused FROM datasets ORDER BY 1").rows
    assert rows == [("beavertails-30k", 3, 2, 0, 1, 0), ("helpsteer", 7, 6, 1, 0, 1)]
    counted = query(full, "SELECT dataset, count(*) FROM native_rows GROUP BY 1 ORDER BY 1").rows
    assert counted == [(row[0], row[1]) for row in rows]


def test_vectors_are_fixed_size_and_comparable(full: Store) -> None:
    similarity = query(
        full,
        """
        SELECT array_cosine_similarity(a.vector, a.vector), array_cosine_similarity(a.vector, b.vector)
        FROM features AS a JOIN features AS b USING (backbone, kind) WHERE a.id < b.id
        """,
    ).rows
    assert all(same == pytest.approx(1) and -1 <= other < 1 for same, other in similarity)
    assert ("vector", "FLOAT[32]") in [row[:2] for row in query(full, "DESCRIBE features").rows]


def test_lineage_leads_from_vectors_to_native_files(full: Store) -> None:
    stages = query(
        full,
        """
        SELECT DISTINCT a.stage, coalesce(made_from.stage, 'native file') FROM artifacts AS a
        JOIN lineage USING (artifact_id) LEFT JOIN artifacts AS made_from ON made_from.artifact_id = input_id
        WHERE a.stage <> 'evaluate' ORDER BY ALL
        """,
    ).rows
    assert stages == [
        ("canary", "backbone"),
        ("coverage", "backbone"),
        ("coverage", "canary"),
        ("coverage", "embed"),
        ("coverage", "ingest"),
        ("embed", "backbone"),
        ("embed", "ingest"),
        ("ingest", "native file"),
    ]


HOSTILE = [
    "CREATE TABLE x AS SELECT 1",
    "DROP VIEW ratings",
    "INSERT INTO ratings SELECT * FROM ratings",
    "COPY (SELECT 1) TO '{outside}'",
    "ATTACH '{outside}' AS other",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "PRAGMA database_list; SELECT 1",
    "SELECT 1; SELECT 2",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('{outside}')",
    "SELECT * FROM store",
    "SELECT",
    "",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{outside}'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{objects}/evil.csv'",
    "SELECT INTERVAL 9999999 YEAR",
    "EXPORT DATABASE '{outside}'",
    "IMPORT DATABASE '{outside}'",
    "COPY ratings FROM '{outside}'",
    "DELETE FROM ratings",
    "UPDATE ratings SET value = 1",
    "TRUNCATE ratings",
    "ALTER TABLE ratings ADD COLUMN x INT",
    "CREATE OR REPLACE VIEW ratings AS SELECT 1",
    "CREATE MACRO m() AS 1",
    "CREATE TEMP TABLE x AS FROM ratings",
    "CREATE SECRET s (TYPE s3)",
    "DETACH memory",
    "USE memory.main",
    "RESET lock_configuration",
    "SET temp_directory = '{outside}'",
    "SET VARIABLE x = 1",
    "PREPARE p AS SELECT 1",
    "CALL pragma_version()",
    "CHECKPOINT",
    "FORCE CHECKPOINT",
    "VACUUM",
    "BEGIN",
    "FORCE INSTALL httpfs FROM '{outside}'",
    "SELECT * FROM read_parquet('{outside}')",
    "SELECT * FROM read_parquet('{objects}/*/*.parquet')",
    "SELECT * FROM parquet_metadata('{outside}')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM read_json('https://example.org/x.json')",
    "SELECT * FROM 's3://bucket/x.parquet'",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT vectors_main_0('x', 0) FROM features",
    "SELECT * FROM query('COPY (SELECT 1) TO ''{outside}''')",
    "SELECT getenv('HOME')",
    "SELECT \udcff",
    "COPY (SELECT 1) TO '{object}' (FORMAT parquet, USE_TMP_FILE false)",
    "COPY (SELECT 1) TO 'objects://{name}' (FORMAT parquet, USE_TMP_FILE false)",
    "COPY ratings TO 'objects://new.parquet'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO 'objects://{name}'",
    "ATTACH 'objects://new.db' AS other",
    "ATTACH ':memory:' AS other",
    "ATTACH OR REPLACE ':memory:' AS memory",
    "CREATE OR REPLACE TEMP VIEW ratings AS SELECT 1",
    "CREATE SCHEMA other",
    "CREATE TYPE mood AS ENUM ('a')",
    "CREATE SEQUENCE s",
    "CREATE INDEX i ON ratings (value)",
    "COMMENT ON VIEW ratings IS 'x'",
    "MERGE INTO ratings USING ratings AS r ON true WHEN MATCHED THEN DELETE",
    "INSERT INTO ratings VALUES (1) RETURNING *",
    "DEALLOCATE p",
    "EXECUTE p",
    "COMMIT",
    "ROLLBACK",
    "ANALYZE",
    "PRAGMA enable_profiling",
    "SET profile_output = '{outside}'",
    "SET log_query_path = '{outside}'",
    "SET allowed_directories = ['/']",
    "SET GLOBAL memory_limit = '1 TB'",
    "RESET memory_limit",
    "SELECT 1;; COPY (SELECT 1) TO '{outside}'",
    "SELECT 1 -- \n; DROP VIEW ratings",
    "WITH x AS (DELETE FROM ratings RETURNING *) FROM x",
    "FROM (COPY (SELECT 1) TO '{outside}')",
    "SELECT * FROM read_text('file:///etc/passwd')",
    "SELECT * FROM read_text('/proc/self/environ')",
    "SELECT * FROM read_csv(['/etc/passwd', '/etc/hosts'])",
    "SELECT * FROM parquet_scan('{outside}')",
    "SELECT * FROM parquet_kv_metadata('{object}')",
    "SELECT * FROM read_json_auto('{outside}')",
    "SELECT * FROM read_ndjson('/etc/passwd')",
    "SELECT * FROM query_table('/etc/passwd')",
    "SELECT * FROM sql_auto_complete('SEL')",
    "SELECT * FROM which_secret('s3://x', 's3')",
    "FROM arrow_scan(1, 2, 3)",
    "FROM pandas_scan(1)",
    "FROM python_map_function(1)",
    "SELECT getvariable('x'), getenv('HOME')",
    "SELECT 1 INTO OUTFILE '{outside}'",
    "LOAD '{outside}'",
    "INSTALL '{outside}'",
    "UPDATE EXTENSIONS",
    "WITH x AS (COPY (SELECT 1) TO '{outside}') SELECT 1",
    "WITH x AS MATERIALIZED (COPY (SELECT 1) TO '/dev/null') FROM x",
    "SELECT * FROM (WITH x AS (COPY (SELECT 1) TO '{outside}' (FORMAT parquet)) SELECT 1)",
    "WITH x AS (INSERT INTO ratings SELECT * FROM ratings RETURNING *) SELECT count(*) FROM x",
    "WITH x AS (UPDATE ratings SET value = 1 RETURNING *) FROM x",
    "WITH x AS (TRUNCATE ratings) FROM x",
    "SELECT (WITH x AS (COPY (SELECT 1) TO '{outside}') SELECT 1)",
    "FROM query('WITH x AS (COPY (SELECT 1) TO ''{outside}'') SELECT 1')",
    "FROM QUERY('SELECT ' || '1')",
    "FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "FROM system.main.\"json_execute_serialized_sql\"('x')",
    "FROM destroy_external_resource('query', 'SELECT 1')",
    "FROM destroy_external_resource('json_execute_serialized_sql', json_serialize_sql('SELECT 1'))",
    "FROM register_external_resource_type('a', kind := 'x', create_function := 'query')",
    "FROM duckdb_external_resources()",
    "PIVOT ratings ON dataset USING count(*)",
    "SELECT count(*) FROM empty_main_ratings",
    "FROM enable_logging(storage = 'file', storage_path = '{outside}')",
    "FROM disable_logging()",
    "FROM enable_profiling(save_location = '{outside}')",
    "FROM read_duckdb('{outside}', table_name = 'x')",
    "FROM read_single_csv_file('/etc/passwd')",
    "FROM parquet_bloom_probe('{outside}', 'x', 1)",
    "FROM parquet_full_metadata('{object}')",
    "FROM duckdb_secrets()",
    "FROM duckdb_extensions()",
    "SELECT json_deserialize_sql('x')",
    "{brackets}",
    "{commented}",
]
assert len(HOSTILE) >= 100

SAID = (
    "SELECT json_serialize_plan('FROM create_external_resource(1)')",
    "SELECT json_serialize_plan('FROM read_text(\"/etc/passwd\")')",
    "SELECT json_serialize_plan($$COPY (SELECT 1) TO '{outside}'$$)",
)
"""What is answered with an error as its value."""

NOTHING = (
    "SELECT * FROM glob('{objects}/**')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM glob('objects://*')",
    "FROM read_blob('objects://../x')",
)
"""What may be asked of the file system, and tells nothing of it."""


def test_names_that_are_put_together_are_mounted_too(full: Store) -> None:
    counted = query(full, "SELECT count(*) FROM ratings").rows
    assert counted != [(0,)]
    for sql in (
        "SELECT count(*) FROM query_table('rat' || 'ings')",
        "SELECT count(*) FROM RATINGS",
        'SELECT count(*) FROM main."ratings"',
        "SELECT sum(count) FROM histogram('rat' || 'ings', value)",
        "SELECT sum(count) FROM histogram_values(e'r\\x61tings', value)",
        "SELECT '\n--' AS x, count(*) FROM ratings",
    ):
        assert query(full, sql).rows[0][-1] == counted[0][0]


def test_views_of_two_snapshots_stand_side_by_side(full: Store) -> None:
    rows = query(
        full,
        "SELECT dataset, count(*) FROM ratings ANTI JOIN before.ratings USING (dataset) GROUP BY dataset",
        before=full.snapshot("1"),
    ).rows
    assert [dataset for dataset, _ in rows] == ["beavertails-30k"]


def hostile(statement: str, store: Store, outside: Path) -> str:
    """A statement with the paths of one store in place."""
    objects = Path(store.place) / "objects"
    known = min(objects.rglob("*.parquet"))
    brackets, commented = "(" * 100_000, "SELECT " + "(/*)*/" * 100_000  # the latter closed in comments alone
    return statement.format(
        outside=outside, objects=objects, object=known, name=known.name, brackets=brackets, commented=commented
    )


def contents(store: Store) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path(store.place, "objects").rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def opened(full: Store) -> Iterator[Connection]:
    with armorm.connect(full.place) as connection:
        yield connection


@pytest.mark.parametrize("way", ["query", "sql", "polars"])
def test_a_query_reads_the_store_and_nothing_else(full: Store, opened: Connection, tmp_path: Path, way: str) -> None:
    outside = tmp_path / "outside"
    ways: dict[str, Callable[[str], object]] = {
        "query": lambda sql: query(full, sql),
        "sql": lambda sql: opened.sql(sql).fetchall(),
        "polars": opened.polars,
    }
    before, head = contents(full), full.head().snapshot_id
    refused = Exception if way != "query" else QueryError  # DuckDB's own relation refuses in its own ways
    for statement in HOSTILE:
        with pytest.raises(refused) as error:
            print(ways[way](hostile(statement, full, outside)), statement)
        assert way != "query" or "\n" not in str(error.value)
    assert not outside.exists()
    assert contents(full) == before
    assert full.head().snapshot_id == head


@pytest.mark.parametrize("statement", SAID)
def test_what_takes_statements_apart_reads_and_writes_nothing(full: Store, tmp_path: Path, statement: str) -> None:
    outside = tmp_path / "outside"
    ((said,),) = query(full, hostile(statement, full, outside)).rows
    assert said.startswith('{"error":true')
    assert not outside.exists()


def test_brackets_within_texts_and_names_do_not_nest(full: Store) -> None:
    brackets = "(" * 1000
    sql = f"SELECT '{brackets}', $${brackets}$$ AS \"[{brackets}\" /* {brackets} */"
    assert query(full, sql).rows == [(brackets, brackets)]


def test_the_text_of_an_error_is_bounded(full: Store) -> None:
    with pytest.raises(QueryError, match="characters") as error:
        query(full, "SELECT error(repeat('x', 1000000))")
    assert len(str(error.value)) < 20_000


@pytest.mark.parametrize("way", ["query", "sql", "polars"])
def test_the_environment_cannot_be_read(full: Store, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://user:confidential@localhost:9")
    monkeypatch.setenv("HF_TOKEN", "confidential")
    with armorm.connect(full.place) as connection:
        ways: dict[str, Callable[[str], object]] = {
            "query": lambda sql: query(full, sql).rows,
            "sql": lambda sql: connection.sql(sql).fetchall(),
            "polars": lambda sql: connection.polars(sql).rows(),
        }
        assert ways[way]("SELECT current_setting('http_proxy')") == [("",)]
        assert ways[way]("SELECT count(*) FROM duckdb_settings() AS s WHERE s::VARCHAR LIKE '%confidential%'") == [(0,)]
        with pytest.raises((QueryError, duckdb.Error)) as error:
            ways[way]("FROM duckdb_secrets()")
        assert "confidential" not in str(error.value)


@pytest.mark.parametrize("statement", NOTHING)
def test_the_file_system_cannot_be_seen(full: Store, tmp_path: Path, statement: str) -> None:
    sql = hostile(statement, full, tmp_path)
    with suppress(QueryError):
        assert query(full, sql).rows == []


def test_what_a_relation_or_the_connection_is_told_reaches_no_file_and_no_other_query(
    full: Store, opened: Connection, tmp_path: Path
) -> None:
    outside, before, names = tmp_path / "outside", contents(full), set(Path(full.place).rglob("*"))
    name = f"objects://{min(path.name for path in before)}"
    counted = opened.sql("SELECT count(*) FROM ratings").fetchall()
    relation = opened.sql("FROM ratings")
    for method in (relation.to_parquet, relation.to_csv):
        for place in (str(outside), name, str(min(before))):
            with pytest.raises(duckdb.Error):
                method(place)
    for told in (partial(relation.query, "r"), opened.duckdb.execute):
        ((folder,),) = told("SELECT current_setting('temp_directory')").fetchall()
        for place in (folder, f"{folder}/x", full.place, f"{full.place}/tmp"):
            for statement in ("EXPORT DATABASE '{0}'", "COPY (SELECT 1) TO '{0}'", "ATTACH '{0}' AS u"):
                with suppress(Exception):
                    told(statement.format(place))
    for statement in HOSTILE:
        for told in (partial(relation.query, "r"), opened.duckdb.execute):
            with suppress(Exception):
                told(hostile(statement, full, outside) if statement not in {"{brackets}", "{commented}"} else "(")
    assert not outside.exists()
    assert {path for path in set(Path(full.place).rglob("*")) - names if "leases" not in path.parts} == set()
    assert contents(full) == before
    assert opened.sql("SELECT count(*) FROM ratings").fetchall() == counted
    assert opened.duckdb.execute("SELECT count(*) FROM ratings").fetchall() == counted


def test_a_relation_finds_nothing_empty_that_is_not(full: Store, opened: Connection) -> None:
    relation = opened.sql("SELECT count(*) AS n FROM ratings")
    assert relation.query("r", "SELECT count(*) FROM ratings").fetchall() == relation.fetchall()
    for ask_more in (
        partial(relation.query, "r", "SELECT count(*) FROM preferences"),
        partial(relation.project, "(SELECT count(*) FROM conversations)"),
        partial(opened.sql("SELECT 1").query, "r", "FROM datasets"),
    ):
        with pytest.raises(duckdb.Error):
            ask_more().fetchall()


def test_before_the_first_run_there_was_nothing(full: Store) -> None:
    assert full.snapshot("previous").number == 0
    with armorm.connect(full.place, before="previous") as connection:
        assert connection.sql("SELECT count(*) FROM before.ratings").fetchall() == [(0,)]
    assert [row["removed"] for row in ask(full, "changes_since").records] == [0, 0, 0]
    found = compare(full, "previous", "head")
    assert found.rows is not None
    assert {row.change for row in found.rows.rows} == {"added"}
    with full.writing("test") as writer, pytest.raises(StoreError):
        tag(writer, "nothing", full.snapshot("previous"))


@pytest.mark.parametrize(("shard", "row"), [("shard", -1), ("shard", 10**6), ("'none'", 0)])
def test_a_place_that_no_vector_has_is_refused(full: Store, shard: str, row: int) -> None:
    shards = shards_of(full.head())[0]
    named = shard if shard != "shard" else f"'{next(iter(shards.refs))}'"
    with pytest.raises(QueryError, match="got"):
        query(full, f"SELECT vectors_main_0({named}, {row}) FROM features LIMIT 1")


def test_a_text_that_two_machines_have_embedded_counts_once(full: Store, tmp_path: Path) -> None:
    full = Store(shutil.copytree(full.place, tmp_path / "store"))  # others read the one that it is copied from
    counted = query(full, "SELECT count(*), count(DISTINCT (kind, id)), sum(vector[1]) FROM features").rows
    shards = shards_of(full.head())[0]
    reader = FeatureReader(full, shards.backbone_id)
    ids = reader.ids("conversation")[:5].to_list()
    features = [
        Feature("conversation", id, 7, False, vector)
        for id, vector in zip(ids, reader.gather("conversation", ids), strict=True)
    ]
    with full.writing("another machine") as writer:
        objects = write_shard(full, shards.backbone_id, {}, features, vector_type="float32")
        slot = slot_of(shards.backbone_id, objects["shard"])
        first = shards.artifacts[0]
        made = Made(objects, first.summary | {"rows": len(features)})
        writer.commit_all([(replace(first.recipe, slot=slot), made)])
    assert query(full, "SELECT count(*), count(DISTINCT (kind, id)), sum(vector[1]) FROM features").rows == counted


def test_what_duckdb_cannot_take_apart_is_refused() -> None:
    """A statement where its memory ends while it serialises: it then answers with an error in place of the tree."""
    with empty_connection() as connection:
        require_query(connection, "SELECT 1")
        connection.execute("""CREATE MACRO json_serialize_sql(x) AS '{"error":true,"error_type":"out of memory"}'""")
        with pytest.raises(QueryError):
            require_query(connection, "SELECT 1")
