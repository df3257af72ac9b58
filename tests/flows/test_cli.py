"""The command line as a user meets it: exit codes, one line for what is wrong, output that programs can read."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import polars
import pytest

from armorm.features.sources import SOURCES
from armorm.features.store import Made, Store
from armorm.flows.cli.app import main
from armorm.flows.runlog.console import MOST_ROWS

Run = Callable[..., subprocess.CompletedProcess[str]]

MESSAGES = [
    {"role": "user", "content": "Name a river."},
    {"role": "assistant", "content": "The Rhône is a fine river."},
]
OTHER = [MESSAGES[0], {"role": "assistant", "content": "No."}]


@pytest.fixture
def home(finished: Path) -> Path:
    """A folder with a configuration that has been run."""
    return finished.parent


FLOWS = ("run", "ingest", "embed", "train", "evaluate")
"""They need a process of their own, unless they are refused before they begin: Prefect begins and ends its temporary
server with it."""


@pytest.fixture
def armorm(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Calls the program in that folder, in this process where that makes no difference: imports take seconds."""

    def run(*words: str | Path, cwd: Path = home, begins: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        given = list(map(str, words))
        if given[0] in FLOWS and "--help" not in given and begins:
            code = "import sys; sys.argv[0] = 'armorm'; from armorm.flows.cli.program import main; main()"
            program = [sys.executable, "-c", code, *given]
            return subprocess.run(program, capture_output=True, text=True, cwd=cwd, env=os.environ | env)
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["armorm", *given])
            patch.chdir(cwd)
            for name, value in env.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                main()
        said = capsys.readouterr()
        return subprocess.CompletedProcess(given, int(ended.value.code or 0), said.out, said.err)

    return run


def refused(result: subprocess.CompletedProcess[str]) -> str:
    """What is said of a command that could not do its job: one line, no traceback, exit code 1."""
    lines = result.stderr.strip().splitlines()
    assert result.returncode == 1, result
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("armorm: ")
    return lines[0]


def test_every_command_has_help_with_an_example(armorm: Run) -> None:
    for command in (
        "init",
        "demo",
        "run",
        "plan",
        "ingest",
        "quality",
        "embed",
        "train",
        "evaluate",
        "inspect",
        "ask",
        "sql",
        "score",
        "compare",
        "bake-off",
        "export",
        "status",
        "trace",
        "impact",
        "forget",
    ):
        result = armorm(command, "--help")
        assert result.returncode == 0
        assert f"armorm {command}" in result.stdout, command


def test_init_writes_a_file_and_never_over_one(armorm: Run, tmp_path: Path) -> None:
    assert armorm("init", cwd=tmp_path).returncode == 0
    text = (tmp_path / "armorm.toml").read_text()
    assert "armorm.toml: " in refused(armorm("init", cwd=tmp_path))
    assert (tmp_path / "armorm.toml").read_text() == text


@pytest.mark.parametrize("command", [["run"], ["ingest"], ["status"], ["sql", "SELECT 1"], ["score", "x.jsonl"]])
def test_without_a_configuration_it_says_how_to_make_one(armorm: Run, tmp_path: Path, command: list[str]) -> None:
    assert re.search(r"\barmorm\.toml: .*`armorm init`", refused(armorm(*command, cwd=tmp_path, begins=False)))


@pytest.mark.parametrize("command", ["run", "train"])
def test_settings_that_no_model_comes_of_are_refused_before_a_server_is_started(
    armorm: Run, tmp_path: Path, command: str
) -> None:
    (tmp_path / "armorm.toml").write_text("[backbone]\npath = 'b'\n[datasets.hh-rlhf]\npath = 'd'\n")
    assert "ratings" in refused(armorm(command, cwd=tmp_path, begins=False))


def test_sql_prints_tables_csv_and_json(armorm: Run) -> None:
    query = "SELECT dataset, count(*) AS n FROM ratings GROUP BY 1 ORDER BY 1"
    assert "helpsteer" in armorm("sql", query).stdout
    assert armorm("sql", query, "--format", "csv").stdout.splitlines()[0] == "dataset,n"
    rows = json.loads(armorm("sql", query, "--format", "json").stdout)
    assert [row["dataset"] for row in rows] == sorted(name for name, source in SOURCES.items() if source.scales)


def test_sql_is_read_only(armorm: Run) -> None:
    assert "read-only" in refused(armorm("sql", "DROP VIEW ratings"))


@pytest.mark.usefixtures("in_process")
def test_json_is_json_and_loses_no_column(armorm: Run) -> None:
    result = armorm("sql", "SELECT 1/0 AS a, 'nan'::DOUBLE AS b", "--format", "json")
    assert json.loads(result.stdout, parse_constant=pytest.fail) == [{"a": None, "b": None}]
    assert re.search(r" a, a;.*\bJSON\b", refused(armorm("sql", "SELECT 1 AS a, 2 AS a", "--format", "json")))


@pytest.mark.usefixtures("in_process")
def test_ask_lists_the_questions_and_answers_one(armorm: Run) -> None:
    listed = {row["question"]: row for row in json.loads(armorm("ask", "--format", "json").stdout)}
    assert listed["longest"]["parameters"] == "n = 20"
    assert "hardest_pairs" in armorm("ask").stdout
    rows = json.loads(armorm("ask", "longest", "--set", "n=3", "--format", "json").stdout)
    assert [row["tokens"] for row in rows] == sorted((row["tokens"] for row in rows), reverse=True)
    assert len(rows) == 3
    histogram = armorm("ask", "rating_histogram", "-s", "objective=code-*", "-f", "csv").stdout
    assert histogram.startswith("dataset,objective,")
    assert re.search(r"\bwhy;.*\baccuracy, ", refused(armorm("ask", "why")))
    assert re.search(r"\bn = few;.*\bn=20\b", refused(armorm("ask", "longest", "--set", "n=few")))
    assert re.search(r"\bneighbours: .*\bconversation_id;", refused(armorm("ask", "neighbours")))
    assert re.search(r"--set n;.*\bname=value\b", refused(armorm("ask", "longest", "--set", "n")))


@pytest.mark.usefixtures("in_process")
def test_a_table_has_an_end_and_says_so(armorm: Run) -> None:
    n_rows = MOST_ROWS + 1
    many = armorm("sql", f"FROM range({n_rows})")
    assert len(many.stdout.splitlines()) < n_rows + 10
    assert f"{n_rows:,} rows" in many.stderr
    assert len(armorm("sql", f"FROM range({n_rows})", "--format", "csv").stdout.splitlines()) == n_rows + 1


@pytest.mark.parametrize("command", [["status", "--max-age", ""], ["score", "x.jsonl", "--only", ""], ["sql", ""]])
def test_an_empty_argument_is_not_taken_for_none(armorm: Run, command: list[str]) -> None:
    assert "empty" in refused(armorm(*command))


@pytest.mark.parametrize(
    "limit", ["--time-limit=inf", "--time-limit=1e9", "--time-limit=nan", "--memory-limit=nan", "--max-rows=0"]
)
def test_a_limit_that_is_none_is_a_wrong_option(armorm: Run, limit: str) -> None:
    assert armorm("sql", "SELECT 1", limit).returncode == 2


@pytest.mark.parametrize("out", ["/", "", ".", "nowhere/plan.json"])
def test_a_plan_needs_a_place_to_be_written_to(armorm: Run, out: str) -> None:
    refused(armorm("plan", "--out", out))


@pytest.mark.usefixtures("in_process")
def test_an_option_is_no_parameter_of_a_question(armorm: Run) -> None:
    for name in ("at", "before", "limits"):
        assert name in refused(armorm("ask", "longest", "--set", f"{name}=head"))


@pytest.mark.usefixtures("in_process")
def test_control_characters_never_reach_the_terminal(armorm: Run, tmp_path: Path) -> None:
    assert "\x1b" not in armorm("sql", "SELECT '\x1b[31m[red]x' AS \"\x1b[31m\"").stdout
    hostile = [{"role": "a\x1b[31m\nb", "content": "x"}]
    assert "\x1b" not in refused(armorm("score", write_lines(tmp_path / "in.jsonl", {"messages": hostile})))


def test_status_is_readable_by_programs(armorm: Run) -> None:
    state = json.loads(armorm("status", "--format", "json").stdout)
    assert {"ingest/helpsteer", "model", "evaluate"} <= {artifact["slot"] for artifact in state["artifacts"]}
    assert state["snapshot_id"] in armorm("status").stdout


def test_plan_says_what_a_run_would_do(armorm: Run) -> None:
    def planned(**env: str) -> dict[str, str | None]:
        return {
            step["name"]: step["reason"]
            for step in json.loads(armorm("plan", "--format", "json", **env).stdout)["steps"]
        }

    assert set(planned().values()) == {None}
    smaller = planned(ARMORM_GATE__STEPS="29")
    assert (smaller["decorrelate"], smaller["model"], smaller["evaluate"]) == (None, "after gate", "after model")
    assert "steps" in str(smaller["gate"])
    other = planned(ARMORM_BACKBONE__MAX_TOKENS="64")
    assert re.search(r"\d+ conversations\b.*\b\d+ prompts\b", str(other["embed"]))
    assert (other["statistics"], other["regress"]) == ("after embed", "after embed")
    solver = planned(ARMORM_REGRESSION__REFIT="false")
    assert solver["statistics"] is None
    assert re.search(r"\brefit True -> False$", str(solver["regress"]))
    gone = armorm("plan", "--format", "json", ARMORM_DATASETS__HELPSTEER__PATH="nowhere")
    assert "/nowhere: " in json.loads(gone.stdout)["files"][0]["problem"]
    assert "nowhere" in refused(gone)
    said = armorm("plan").stdout
    assert all(name in said for name in smaller)


def test_judges_are_compared_by_name_id_and_file(armorm: Run, home: Path) -> None:
    rows = json.loads(armorm("sql", "SELECT pair_id FROM held_out_pairs ORDER BY 1", "--format", "json").stdout)
    theirs = home / "theirs.jsonl"
    theirs.write_text("".join(json.dumps({**row, "winner": "chosen"}) + "\n" for row in rows))
    (model,) = (a for a in json.loads(armorm("status", "--format", "json").stdout)["artifacts"] if a["slot"] == "model")
    found = json.loads(armorm("compare", model["artifact"][:10], theirs, "--format", "json").stdout)
    of_all = {of["judge"]: of for of in found["rows"] if of["pairs"] == "held-out"}
    assert of_all["theirs"]["accuracy"]["estimate"] == 1
    assert of_all["longer answer"]["n"] == of_all[f"model {model['artifact'][:8]}"]["n"] == of_all["theirs"]["n"]
    said = armorm("compare", theirs, "--on", "helpsteer", "--pairs", "2").stdout
    assert "helpsteer" in said
    assert "rewardbench" not in said
    assert "helpsteer" in refused(armorm("compare", "--on", "nowhere"))
    assert "none-such" in refused(armorm("compare", "none-such"))
    assert "at least two" in refused(armorm("bake-off", "backbone"))
    assert "nowhere" in refused(armorm("bake-off", "nowhere/at/all", "backbone"))


def test_trace_and_impact_lead_to_each_other(armorm: Run) -> None:
    """Each names the other's id, and both say so in words."""
    (model,) = (a for a in json.loads(armorm("status", "--format", "json").stdout)["artifacts"] if a["slot"] == "model")
    id = model["artifact"]
    found = json.loads(armorm("trace", id, "--rows", "1", "--format", "json").stdout)
    assert found["agrees"]
    assert [check["name"] for check in found["training_rows"]] == ["regression", "decorrelation", "gate"]
    (row,) = found["rows"]
    assert json.loads(armorm("impact", row["native_row"], "--format", "json").stdout)["retrain"] == [id]
    said = armorm("impact", row["native_row"]).stdout
    assert re.search(rf"(?m)^.*\bdeleted\b.*: {id}\b", said)
    table = armorm("trace", id, "--texts", "--rows", "2", "--objective", row["objective"]).stdout
    assert len(re.findall(r"(?m)^(?:regression|decorrelation|gate): (?!.*\b(?:NOT|nothing)\b)", table)) == 3
    assert "  user: " in table
    lines = armorm("trace", id, "--objective", row["objective"], "--format", "csv").stdout.splitlines()
    assert lines[0].startswith("stage,usage,trained_on,dataset,source_row,native_row,file,line")
    assert re.search(r"\bnothing\b.*`armorm status`", refused(armorm("trace", "nothing")))


def test_trace_of_a_model_that_names_other_rows_fails(armorm: Run, home: Path) -> None:
    store = Store(home / "store")
    artifact = store.find("model")
    description = json.loads(store.objects.read_bytes(artifact.objects["description"]))
    description["training_rows"]["gate"]["n_rows"] += 1
    objects = {**artifact.objects, "description": store.objects.put_bytes("json", json.dumps(description).encode())}
    with store.writing("test") as writer:
        forged = writer.commit(replace(artifact.recipe, slot="forged"), Made(objects)).artifact_id
        writer.commit_all([], remove=["forged"])
    result = armorm("trace", forged)
    assert result.returncode == 1
    assert re.search(r"(?m)^gate: .*\bNOT\b", result.stdout)


def test_a_run_is_refused_before_it_begins_where_it_is_not_the_planned_one(armorm: Run, tmp_path: Path) -> None:
    file, more = tmp_path / "plan.json", {"ARMORM_GATE__STEPS": "3000"}
    before = json.loads(armorm("status", "--format", "json").stdout)
    planned = json.loads(armorm("plan", "--out", file, "--format", "json", **more).stdout)
    assert json.loads(file.read_text()) == planned
    gate = next(step for step in planned["steps"] if step["name"] == "gate")
    assert gate["runs"]
    assert re.search(r"\bsteps 30 -> 3000$", gate["reason"])
    assert gate["seconds"] > 0
    assert " steps/s" in gate["basis"]
    run = partial(armorm, "run", begins=False)
    assert re.search(rf"{file}: .*\bgate: ", refused(run("--plan", file)))
    assert "--max-time: " in refused(run("--max-time", "0.001s", **more))
    assert re.search(r"--max-rows: .*\b5 rows;", refused(run("--max-rows", "5", **more)))
    assert re.search(r" soon;.*\b1h30m\b", refused(run("--max-time", "soon")))
    assert json.loads(armorm("status", "--format", "json").stdout) == before


def test_a_run_with_nothing_to_do_is_fresh_without_a_commit(armorm: Run, home: Path, tmp_path: Path) -> None:
    assert armorm("plan", "--out", tmp_path / "plan.json").returncode == 0
    record = home / "store" / "runs" / "last.json"
    before, number = json.loads(record.read_text()), Store(home / "store").head().number
    record.write_text(json.dumps(before | {"finished_at": "2020-01-01T00:00:00+00:00"}))
    assert re.search(r" ago;.* 1 d 12 h;", refused(armorm("status", "--max-age", "36h")))
    ran = armorm("run", "--plan", tmp_path / "plan.json", "--max-rows", "0", "--max-time", "0s")
    assert ran.returncode == 0, ran.stderr
    assert armorm("status", "--max-age", "36h").returncode == 0
    after = json.loads(record.read_text())
    assert Store(home / "store").head().number == after["snapshot"] == number
    assert after["run_id"] != before["run_id"]
    record.unlink()
    assert re.search(r"^(?!.* ago;).* 1 d 12 h;", refused(armorm("status", "--max-age", "36h")))


@pytest.mark.usefixtures("in_process")
def test_quality_lists_the_checks_and_shows_what_one_has_found(armorm: Run) -> None:
    name = "safety_contradicts_categories"
    checks = {check["name"]: check for check in json.loads(armorm("quality", "--format", "json").stdout)}
    assert (checks["role_order"]["severity"], checks["role_order"]["n_rows"]) == ("stop", 0)
    rows = json.loads(armorm("quality", "--show", name, "--format", "json").stdout)
    assert len(rows) == checks[name]["n_rows"] > 0
    assert rows[: len(checks[name]["examples"])] == checks[name]["examples"]
    assert "is_safe is" in armorm("quality", "--show", name).stdout
    assert "role_order" in armorm("quality").stdout
    stopped = armorm("quality", ARMORM_CHECKS__SAFETY_CONTRADICTS_CATEGORIES="stop")
    assert (stopped.returncode, armorm("quality").returncode) == (1, 0)
    assert re.search(r" roles;.*\brole_order\b", refused(armorm("quality", "--show", "roles")))


def write_lines(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def test_score_explains_itself(armorm: Run, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "in.jsonl", {"messages": MESSAGES}, {"chosen": MESSAGES, "rejected": OTHER})
    result = armorm("score", file, "--explain", "--format", "json")
    scored = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(one["line"], one["side"]) for one in scored] == [(1, "conversation"), (2, "chosen"), (2, "rejected")]
    for one in scored:
        assert len(one["rewards"]) == 20
        assert sum(one["gating"].values()) == pytest.approx(1, abs=1e-5)
        mixed = sum(weight * one["rewards"][name] for name, weight in one["coefficients"].items())
        assert mixed == pytest.approx(one["score"], abs=1e-5)
        assert sum(one["contributions"].values()) == pytest.approx(one["score"], abs=1e-5)
    assert scored[0]["score"] == pytest.approx(scored[1]["score"], abs=1e-5)
    explained = armorm("score", file, "--explain", "--lower", "0.05").stdout
    for told in ("contribution", "deviation", "helpsteer-verbosity", "chosen"):
        assert told in explained
    bounded = armorm("score", file, "--lower", "0.05", "--format", "json").stdout.splitlines()
    for one, line in zip(scored, bounded, strict=True):
        found = json.loads(line)
        assert found["score"] == one["score"]
        assert found["lower"] == pytest.approx(found["score"] - 1.6448536 * found["deviation"])
        assert found["deviations"].keys() == one["gating"].keys()
        assert min(found["deviation"], *found["deviations"].values()) > 0
    assert re.search(r"\bbound\b.* 2\b.* 0\.05\b", refused(armorm("score", file, "--lower", "2")))


def test_prompt_and_texts_score_as_the_same_messages(armorm: Run, tmp_path: Path) -> None:
    prompt = {"prompt": MESSAGES[0]["content"]}
    texts = [message[1]["content"] for message in (MESSAGES, OTHER)]
    file = write_lines(
        tmp_path / "in.jsonl",
        {"messages": MESSAGES},
        prompt | {"response": texts[0]},
        prompt | {"chosen": texts[0], "rejected": texts[1]},
    )
    scored = [json.loads(line)["score"] for line in armorm("score", file, "--format", "json").stdout.splitlines()]
    assert scored[:3] == pytest.approx([scored[0]] * 3, abs=1e-5)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "malformed_row"),
        ({"text": "x"}, "unknown_form"),
        ({"messages": "x"}, "no_prompt"),
        ({"messages": [{"role": "user"}]}, "not_messages"),
        ({"messages": []}, "roles_out_of_order"),
        ({"messages": MESSAGES[::-1]}, "roles_out_of_order"),
        ({"messages": [MESSAGES[0], {"role": "assistant", "content": " "}]}, "empty_turn"),
        ({"chosen": MESSAGES, "rejected": [{"role": "user", "content": "?"}, OTHER[1]]}, "context_differs"),
    ],
)
def test_a_line_that_cannot_be_scored_is_named(armorm: Run, tmp_path: Path, line: object, message: str) -> None:
    file = write_lines(tmp_path / "in.jsonl", {"messages": MESSAGES}, line)
    said = refused(armorm("score", file))
    assert f"line 2: {message}" in said


@pytest.mark.slow
def test_a_parquet_file_scores_as_its_lines(armorm: Run, tmp_path: Path) -> None:
    lines = [{"messages": MESSAGES}, {"messages": OTHER}]
    polars.DataFrame(lines).write_parquet(tmp_path / "in.parquet")
    both = [tmp_path / "in.parquet", write_lines(tmp_path / "in.jsonl", *lines)]
    of_parquet, of_lines = (armorm("score", file, "--format", "json").stdout for file in both)
    assert of_parquet == of_lines
    assert len(of_lines.splitlines()) == 2


@pytest.mark.slow
def test_scores_can_be_steered(armorm: Run, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "in.jsonl", {"messages": MESSAGES})
    (tmp_path / "mixture.json").write_text('{"helpsteer-coherence": 0.75, "helpsteer-verbosity": -0.25}')

    def scored(*words: str | Path) -> dict[str, Any]:
        one: dict[str, Any] = json.loads(armorm("score", file, "--explain", "--format", "json", *words).stdout)
        assert sum(one["contributions"].values()) == pytest.approx(one["score"], abs=1e-5)
        return one

    gate = scored()["gating"]
    alone = scored("--only", "helpsteer-coherence")["gating"]
    assert alone == dict.fromkeys(gate, 0) | {"helpsteer-coherence": pytest.approx(1)}
    doubled = scored("--weights", "helpsteer-coherence=2, beavertails-is_safe=0")["gating"]
    assert doubled["beavertails-is_safe"] == 0
    ratio = gate["helpsteer-coherence"] / gate["helpsteer-helpfulness"]
    assert doubled["helpsteer-coherence"] / doubled["helpsteer-helpfulness"] == pytest.approx(2 * ratio)
    mixed = scored("--mixture", tmp_path / "mixture.json")["gating"]
    assert mixed == dict.fromkeys(gate, 0) | {"helpsteer-coherence": 0.75, "helpsteer-verbosity": -0.25}


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (["--only", "speed"], r" speed;.*\bhelpsteer-helpfulness\b"),
        (["--weights", "helpsteer-coherence"], r" --weights helpsteer-coherence;.*\bname=number\b"),
        (["--weights", "helpsteer-coherence=-1"], r" -1\.0\b.*\bhelpsteer-coherence;"),
        (["--mixture", "none.json"], r"\bnone\.json: .*\bmixture\b"),
    ],
)
def test_steering_that_makes_no_sense_is_one_line(armorm: Run, tmp_path: Path, words: list[str], facts: str) -> None:
    file = write_lines(tmp_path / "in.jsonl", {"messages": MESSAGES})
    assert re.search(facts, refused(armorm("score", file, *words)))


def test_a_model_that_is_named_is_evaluated_and_inspected(
    armorm: Run, home: Path, beside_server: dict[str, str]
) -> None:
    """The newest by its id has the figures that the run has stored; nothing is embedded for it, and nothing differs."""
    (folder,) = (home / "models").iterdir()
    words = ("--model", folder, "--against", folder.name[:8], "--format", "json")
    found = json.loads(armorm("evaluate", *words, **beside_server).stdout)
    stored = json.loads((folder / "evaluation.json").read_text())
    assert (found["n_embedded"], found["against"]) == (0, folder.name)
    gates = [of["pairs"]["rows"][0]["accuracy"]["gate"]["estimate"] for of in (found["evaluation"], stored)]
    assert gates[0] == gates[1]
    assert {test["only_first"] + test["only_second"] for test in found["paired"].values()} == {0}
    assert re.search(r"--against\b.*--model\b", refused(armorm("evaluate", "--against", folder.name)))
    told = json.loads(armorm("inspect", "--format", "json").stdout)
    assert len(told["reward_transform_matrix"]) == len(told["objectives"]) == 18
    assert re.search(r"\blambda\b.*\bhelpsteer-verbosity\b", armorm("inspect", folder).stdout)


@pytest.mark.slow
def test_an_export_needs_no_configuration(armorm: Run, home: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "in.jsonl", {"messages": MESSAGES})
    assert armorm("export", tmp_path / "export").returncode == 0
    elsewhere = armorm("score", file, "--model", tmp_path / "export", "--format", "json", cwd=tmp_path)
    assert not elsewhere.stderr
    found = json.loads(elsewhere.stdout)["score"]
    assert found == pytest.approx(json.loads(armorm("score", file, "--format", "json").stdout)["score"], abs=1e-5)
    (heads,) = (home / "models").iterdir()
    configured = armorm("score", file, "--model", heads, "--format", "json")
    assert found == pytest.approx(json.loads(configured.stdout)["score"], abs=1e-5)
    missing = refused(armorm("score", file, "--model", heads, cwd=tmp_path))
    assert re.search(r"\barmorm\.toml: .*`armorm init`", missing)
    assert f"{heads}: " in refused(armorm("export", heads))
    assert re.search(r" nothing;.*`armorm run`", refused(armorm("export", tmp_path / "new", "--model", "nothing")))
    assert re.search(r" big;.*\b5GB\b", refused(armorm("export", tmp_path / "new", "--max-shard-size", "big")))
    changed = {"ARMORM_BACKBONE__MAX_TOKENS": "64"}
    (backbone,) = Store(home / "store").head().within("backbone")
    assert backbone in refused(armorm("export", tmp_path / "new", **changed))
    assert not (tmp_path / "new").exists()


def test_what_is_not_there_is_named(armorm: Run, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "in.jsonl", {"messages": MESSAGES})
    for name in ("/no/such/folder", "**"):
        assert f" {name};" in refused(armorm("score", file, "--model", name))
    assert " nothing;" in refused(armorm("score", file, "--model", "nothing"))
    assert f"{tmp_path / 'none.jsonl'}: " in refused(armorm("score", tmp_path / "none.jsonl"))
    empty = write_lines(tmp_path / "empty.jsonl")
    assert re.search(rf"{empty}: .*\bconversations\b", refused(armorm("score", empty)))


def test_another_backbone_is_refused(armorm: Run, home: Path, tmp_path: Path, beside_server: dict[str, str]) -> None:
    file = write_lines(tmp_path / "in.jsonl", {"messages": MESSAGES})
    changed = {"ARMORM_BACKBONE__MAX_TOKENS": "64"}
    (backbone,) = Store(home / "store").head().within("backbone")
    assert backbone in refused(armorm("score", file, **changed))
    result = armorm("train", **changed, **beside_server)
    assert result.returncode == 1
    assert "`armorm embed`" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_a_text_that_is_too_long_is_scored_and_marked(armorm: Run, tmp_path: Path) -> None:
    long = [MESSAGES[0], {"role": "assistant", "content": "word " * 5000}]
    file = write_lines(tmp_path / "in.jsonl", {"messages": long})
    assert json.loads(armorm("score", file, "--format", "json").stdout)["truncated"] is True


def test_a_failing_run_is_one_line_and_leaves_the_store(armorm: Run, home: Path) -> None:
    before = json.loads(armorm("status", "--format", "json").stdout)
    (home / "broken.jsonl").write_text("{\n")
    result = armorm("ingest", ARMORM_DATASETS__HELPSTEER__PATH="broken.jsonl")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("armorm: ")
    assert f"{home}/broken.jsonl" in last
    assert "nowhere" in refused(armorm("ingest", ARMORM_DATASETS__HELPSTEER__PATH="nowhere"))
    assert json.loads(armorm("status", "--format", "json").stdout) == before
