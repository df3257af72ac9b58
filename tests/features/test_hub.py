"""Backbones and datasets by their names on the Hub: fetched once from a stand-in, then taken from the cache offline."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from armorm.features.errors import HubError
from armorm.features.ingest.files import survey
from armorm.features.ingest.hub import parse_uri
from tests.features import tiny
from tests.features.hub_server import TOKEN, Hub, Published, serving

COMMIT = Published(Path()).commit
REFUSED = "http://127.0.0.1:9"
"""Where nobody listens."""

BACKBONE = "somebody/tiny-backbone"
DATASET = "hf://datasets/somebody/pairs"

FINGERPRINT = """
import json, sys
from armorm.features.embedding.fingerprint import BackboneSettings, read_fingerprint
from armorm.features.errors import BackboneError
try:
    print(json.dumps(read_fingerprint(BackboneSettings(sys.argv[1])).backbone_id))
except BackboneError as error:
    print(json.dumps(str(error)))
"""

DATASETS = """
import dataclasses, json, sys
from armorm.features.errors import HubError
from armorm.features.ingest.hub import download_dataset, plan_download
kinds = {"download": download_dataset, "plan": plan_download}
for kind, *arguments in json.loads(sys.argv[1]):
    try:
        print(json.dumps(dataclasses.asdict(kinds[kind](*arguments)), default=str))
    except HubError as error:
        print(json.dumps({"error": str(error), "kind": type(error).__name__}))
"""

Call = Callable[..., dict[str, Any]]
Calls = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A Hub with a backbone and a dataset of two folders."""
    backbone = tiny.write_backbone(tmp_path / "published" / "backbone")
    dataset = tmp_path / "published" / "pairs"
    for name in ("README.md", ".hidden.json", "30k/train.jsonl", "30k/test.jsonl", "raw/other.jsonl"):
        file = dataset / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"prompt": name}) + "\n")
    repos = {"models__somebody__tiny-backbone": Published(backbone), "datasets__somebody__pairs": Published(dataset)}
    with serving(**repos) as hub:
        yield hub


def run(code: str, home: Path, endpoint: str, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, since huggingface_hub reads its variables when it is imported."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    variables = {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1"}
    program = [sys.executable, "-c", code, *words]
    return subprocess.run(program, env=clean | variables | env, capture_output=True, text=True, check=True)


@pytest.fixture
def calls(hub: Hub, tmp_path: Path) -> Calls:
    """`download` and `plan` one after the other in one process; every test has a cache of its own."""

    def called(*each: tuple[object, ...], endpoint: str = hub.endpoint, **env: str) -> list[dict[str, Any]]:
        result = run(DATASETS, tmp_path / "home", endpoint, json.dumps(each), **env)
        assert TOKEN not in result.stdout + result.stderr
        answers: list[dict[str, Any]] = [json.loads(line) for line in result.stdout.splitlines()]
        assert len(answers) == len(each)
        assert not any("\n" in answer.get("error", "") for answer in answers)
        return answers

    return called


@pytest.fixture
def call(calls: Calls) -> Call:
    """One of them alone."""
    return lambda *one, **how: calls(one, **how)[0]


def test_a_branch_becomes_a_commit_and_only_the_chosen_files_come(call: Call, hub: Hub) -> None:
    got = call("download", DATASET, ["30k/*"])
    assert got["revision"] == COMMIT
    assert got["files"] == ["30k/test.jsonl", "30k/train.jsonl"]
    assert sorted(hub.contents) == got["files"]
    assert got["size_bytes"] == sum(Path(got["folder"], name).stat().st_size for name in got["files"])


def test_a_folder_of_the_uri_is_the_root(call: Call) -> None:
    got = call("download", f"{DATASET}@main/30k")
    assert got["files"] == ["test.jsonl", "train.jsonl"]
    assert Path(got["folder"]).name == "30k"


def test_all_data_files_come_by_default_and_the_cache_is_read_as_a_folder_is(call: Call) -> None:
    got = call("download", f"{DATASET}@{COMMIT}")
    assert got["files"] == ["30k/test.jsonl", "30k/train.jsonl", "raw/other.jsonl"]
    folder = Path(got["folder"])
    files = survey(folder).read
    assert all(file.is_symlink() for file in files)
    assert [file.relative_to(folder).as_posix() for file in files] == got["files"]
    assert [json.loads(file.read_text()) for file in files] == [{"prompt": name} for name in got["files"]]


def test_what_is_cached_is_not_fetched_again(call: Call, hub: Hub) -> None:
    call("download", DATASET, ["30k/*"])
    hub.requests.clear()
    call("download", DATASET)
    assert hub.contents == ["raw/other.jsonl"]
    hub.requests.clear()
    call("download", f"{DATASET}@{COMMIT}")
    assert hub.requests == []  # a commit never changes


def test_a_new_commit_fetches_only_files_that_changed(call: Call, hub: Hub) -> None:
    call("download", DATASET)
    repo = hub.repos["datasets/somebody/pairs"]
    repo.commit = "decade" * 6 + "cafe"
    (repo.folder / "raw" / "other.jsonl").write_text("{}\n")
    hub.requests.clear()
    assert call("plan", DATASET)["cached_bytes"] == sum(file.stat().st_size for file in (repo.folder / "30k").iterdir())
    assert call("download", DATASET)["revision"] == repo.commit
    assert hub.contents == ["raw/other.jsonl"]


def test_a_transfer_that_breaks_goes_on_where_it_broke(call: Call, hub: Hub) -> None:
    chunk = 10 << 20  # huggingface_hub writes no smaller part
    big = hub.repos["datasets/somebody/pairs"].folder / "raw" / "big.jsonl"
    big.write_bytes(bytes(chunk + 7))
    hub.cut = chunk
    got = call("download", DATASET, ["raw/big.jsonl"])
    assert [request.range for request in hub.requests if request.is_content] == [None, f"bytes={chunk}-"]
    assert Path(got["folder"], "raw/big.jsonl").read_bytes() == big.read_bytes()


def test_a_plan_counts_and_fetches_nothing(call: Call, hub: Hub) -> None:
    before = call("plan", DATASET)
    assert (before["n_files"], before["cached_bytes"], before["revision"]) == (3, 0, COMMIT)
    assert hub.contents == []
    size = call("download", DATASET, ["30k/*"])["size_bytes"]
    assert call("plan", DATASET) == before | {"cached_bytes": size}


@pytest.mark.parametrize("env", [{"HF_HUB_OFFLINE": "1"}, {}])
def test_without_a_network_the_cache_counts(call: Call, calls: Calls, env: dict[str, str]) -> None:
    online = call("download", DATASET, ["30k/*"])
    asked = [(what, DATASET, ["30k/*"]) for what in ("download", "plan")]
    got, planned = calls(*asked, endpoint=REFUSED, **env)
    assert got == online
    assert planned["cached_bytes"] == online["size_bytes"]


def test_half_of_what_is_wanted_is_not_enough(call: Call) -> None:
    call("download", DATASET, ["30k/*"])
    answer = call("download", DATASET, endpoint=REFUSED, HF_HUB_OFFLINE="1")
    assert answer["kind"] == "HubError"
    assert "HF_HUB_OFFLINE" in answer["error"]


OFFLINE = ({"HF_HUB_OFFLINE": "1"}, "HubError", "HF_HUB_OFFLINE")
NO_NETWORK = ({}, "HubUnreachable", "ConnectError")


@pytest.mark.parametrize(
    ("revision", "env", "kind", "fact"),
    [
        ("", *OFFLINE),
        (f"@{COMMIT}", *OFFLINE),
        ("", *NO_NETWORK),
        (f"@{COMMIT}", *NO_NETWORK),
    ],
)
def test_nothing_to_be_had_is_one_line(calls: Calls, revision: str, env: dict[str, str], kind: str, fact: str) -> None:
    asked = [(what, DATASET + revision) for what in ("download", "plan")]
    for answer in calls(*asked, endpoint=REFUSED, **env):
        assert answer["kind"] == kind
        assert answer["error"].startswith(f"{DATASET}{revision or '@main'}: ")
        assert fact in answer["error"]


@pytest.mark.parametrize(
    ("uri", "patterns", "facts"),
    [
        ("hf://datasets/somebody/else", ["*"], r"somebody/else\b.*: .*\brepository\b.*\bHF_TOKEN\b"),
        (f"{DATASET}@v9", ["*"], r"@v9: .*\brevision\b"),
        (f"{DATASET}@{'0' * 40}", ["*"], r"@0{40}: .*\brevision\b"),
        (DATASET, ["*.parquet"], r"\b5 files\b.* \*\.parquet\b"),
        (f"{DATASET}@main/31k", ["*"], r"/31k: .*\b5 files\b.* \*"),
    ],
)
def test_what_the_hub_does_not_have_is_one_line(calls: Calls, uri: str, patterns: list[str], facts: str) -> None:
    for answer in calls(("download", uri, patterns), ("plan", uri, patterns)):
        assert re.search(facts, answer["error"])
        assert answer["kind"] == "HubError"


def test_a_gated_dataset_says_what_to_do_and_comes_with_a_token(call: Call, calls: Calls, hub: Hub) -> None:
    hub.repos["datasets/somebody/pairs"].gated = True
    for env in ({}, {"HF_TOKEN": "hf_wrong"}):
        for answer in calls(("plan", DATASET), ("download", DATASET), **env):
            said = answer["error"]
            assert re.search(r" https://huggingface\.co/datasets/somebody/pairs .*\bHF_TOKEN\b", said)
            assert "hf_wrong" not in said
    assert len(call("download", DATASET, HF_TOKEN=TOKEN, HF_DEBUG="")["files"]) == 3


def test_a_token_comes_from_the_environment_alone(call: Call, hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "token").write_text("hf_of_a_login")
    call("download", DATASET)
    assert {request.authorization for request in hub.requests} == {None}
    hub.requests.clear()
    call("plan", DATASET, HF_TOKEN=f"{TOKEN}\n")
    assert {request.authorization for request in hub.requests} == {f"Bearer {TOKEN}"}


def test_a_hub_that_is_down_is_worth_a_retry(call: Call, hub: Hub) -> None:
    hub.status = 503
    answer = call("download", DATASET)
    assert answer["kind"] == "HubUnreachable"
    hub.status = 403
    answer = call("download", DATASET)
    assert answer["kind"] == "HubError"
    assert "HTTP 403" in answer["error"]


@pytest.mark.parametrize(
    ("uri", "facts"),
    [
        ("/data/pairs", "hf://datasets/owner/name"),
        ("https://huggingface.co/datasets/a/b", "hf://datasets/owner/name"),
        ("hf://models/a/b", "hf://datasets/owner/name"),
        ("hf://datasets/pairs", r"\bmalformed\b.*'pairs'"),
        ("hf://datasets/a/b@", r"\bmalformed\b.*'@'"),
        ("hf://datasets/a b/c", r"\bmalformed\b.*'a b"),
    ],
)
def test_a_malformed_address_is_named(uri: str, facts: str) -> None:
    with pytest.raises(HubError, match=facts) as error:
        parse_uri(uri)
    assert error.value.repo == uri


def test_an_address_is_read() -> None:
    assert str(parse_uri("hf://datasets/a/b")) == "hf://datasets/a/b@main"
    assert parse_uri("hf://datasets/a/b@refs/convert/parquet/x/y/").folder == "x/y"
    assert str(parse_uri("hf://datasets/a/b@v1/x")) == "hf://datasets/a/b@v1/x"


def fingerprinted(name: str | Path, home: Path, endpoint: str, **env: str) -> object:
    return json.loads(run(FINGERPRINT, home, endpoint, str(name), **env).stdout)


def test_a_backbone_is_fetched_once_and_is_the_same_as_its_folder(hub: Hub, tmp_path: Path) -> None:
    home = tmp_path / "home"
    local = fingerprinted(hub.repos["models/somebody/tiny-backbone"].folder, home, hub.endpoint)
    assert len(str(local)) == 32
    assert fingerprinted(BACKBONE, home, hub.endpoint) == local
    assert fingerprinted(BACKBONE, home, REFUSED, HF_HUB_OFFLINE="1") == local


def test_a_backbone_that_the_hub_does_not_have_is_one_line(hub: Hub, tmp_path: Path) -> None:
    for name in ("somebody/else", "some body/else"):
        said = str(fingerprinted(name, tmp_path / "home", hub.endpoint))
        assert re.search(rf"\b{name}: .*\bHub\b", said)
        assert "\n" not in said
    offline = str(fingerprinted(BACKBONE, tmp_path / "empty", REFUSED, HF_HUB_OFFLINE="1"))
    assert re.search(rf"\b{BACKBONE}: .*\bHub\b.*\bHF_HUB_OFFLINE\b", offline)
