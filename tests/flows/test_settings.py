"""Configuration: one line for each wrong value, the environment before the file, a template that is true."""

import dataclasses
import tomllib
from pathlib import Path

import pytest

from armorm.errors import GateError
from armorm.features.errors import BackboneError, DatasetError, InputError
from armorm.features.hub import HubFiles
from armorm.features.sources import SOURCES
from armorm.features.store.summaries import Origin
from armorm.flows.configuration.profiles import template
from armorm.flows.configuration.settings import ConfigError, Settings, check_trainable, load_settings, require_runnable
from armorm.flows.ingest import ingest
from armorm.flows.pipeline import pipeline

MINIMAL = """
[backbone]
path = "backbone"
[datasets.helpsteer]
path = "data"
[datasets.ultrafeedback]
path = "data"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "armorm.toml"
    path.write_text(MINIMAL)
    return path


def test_paths_are_relative_to_the_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    settings = load_settings(config)
    assert settings.open_store().place == str(config.parent / "store")
    assert settings.dataset("helpsteer").path == config.parent / "data"


def test_the_environment_goes_before_the_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text(MINIMAL + "[gate]\nsteps = 7\nseed = 3\n")
    monkeypatch.setenv("ARMORM_GATE__STEPS", "9")
    monkeypatch.setenv("ARMORM_STORE", "elsewhere")
    settings = load_settings(config)
    assert (settings.gate.steps, settings.gate.seed, settings.gate.hidden_dim) == (9, 3, 1024)
    assert settings.open_store().place == str(config.parent / "elsewhere")


def test_several_nuisances_are_a_list_also_in_the_environment(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text(MINIMAL)
    assert load_settings(config).decorrelation.nuisances == ("helpsteer-verbosity",)
    config.write_text(MINIMAL + "[decorrelation]\nnuisance = 'n_tokens'\n")
    assert load_settings(config).decorrelation.nuisances == ("n_tokens",)
    monkeypatch.setenv("ARMORM_DECORRELATION__NUISANCE", '["helpsteer-verbosity", "n_tokens"]')
    assert load_settings(config).decorrelation.nuisances == ("helpsteer-verbosity", "n_tokens")


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ("[gate]\nstep = 1", "gate: got step; expected only hidden_dim"),
        ("[gate]\nsteps = 0", "steps: got 0; expected a number above 0"),
        ("[gate]\nsteps = 'many'", "gate.steps: got 'many'"),
        ("[split]\ntest = 0.7\nvalidation = 0.4", "got validation 0.4 and test 0.7"),
        ("[regression]\nalphas = []", "alphas"),
        ("[decorrelation]\ncorrelation = 'kendall'", "decorrelation.correlation: got 'kendall'"),
        ("[decorrelation]\nnuisance = 'verbosity'", "nuisance: got verbosity; expected one of helpsteer-helpfulness"),
        ("[decorrelation]\nnuisance = ['n_tokens', 'verbosity']", "nuisance: got verbosity; expected one of"),
        ("[decorrelation]\nnuisance = []", "nuisance: got (); expected one or more names, each once"),
        ("[gate]\nmixing = 'all'", "gate.mixing: got 'all'"),
        ("[gate]\nearly_stopping = -1", "early_stopping: got -1; expected 0 or more"),
        ("[gate]\ntemperature = inf", "temperature: got inf; expected a number above 0"),
        ("[gate]\nseed = -1", "seed: got -1; expected 0 or more"),
        ("[evaluation]\nseed = 99999999999999999999", "seed: got 99999999999999999999"),
        ("[regression]\nalphas = [1.0, inf]", "alphas: got (1.0, inf)"),
        ("[backbones]\npath = 'x'", "backbones: got an unknown setting"),
        ("[regression]\nsolver = 'scikit-learn'", "regression: got solver; expected only alphas, refit"),
        ("[embed]\ntoken_budget = 0", "token_budget: got 0"),
        (
            "[checks]\nroles = 'off'",
            "checks: got check roles; expected one of contradicting_preferences",
        ),
        ("[checks]\nrole_order = 'no'", "checks.role_order: got 'no'"),
        ("[contamination]\nthreshold = 2", "threshold: got 2"),
        ("[contamination]\nn = 2", "contamination: got n; expected only ngram, threshold, against"),
        ("[contamination]\nagainst = ['helpsteer']", "contamination.against: got helpsteer; expected configured"),
        ("gate", "not valid TOML"),
    ],
)
def test_a_wrong_value_is_one_line(config: Path, added: str, message: str) -> None:
    config.write_text(MINIMAL + added)
    with pytest.raises(ConfigError) as error:
        load_settings(config)
    assert message in str(error.value)
    assert str(config) in str(error.value)
    assert "\n" not in str(error.value)


def test_every_wrong_value_gets_its_line(config: Path) -> None:
    config.write_text("[datasets.helpsteer]\n[gate]\nsteps = 'x'\n")
    with pytest.raises(ConfigError) as error:
        load_settings(config)
    assert len(str(error.value).splitlines()) == 3  # backbone, helpsteer's path, steps


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ARMORM_NONSENSE", "1", "ARMORM_NONSENSE: got an unknown variable; expected ARMORM_ and one of backbone"),
        ("ARMORM_GATES__STEPS", "1", "got an unknown variable"),
        ("ARMORM_ROOT", "/tmp", "got an unknown variable"),
        ("ARMORM_GATE", "x", "expected e.g. ARMORM_GATE__STEPS=400"),
        ("ARMORM_GATE__STEP", "1", "gate: got step; expected only hidden_dim"),
    ],
)
def test_a_wrong_variable_is_one_line(
    config: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as error:
        load_settings(config)
    assert message in str(error.value)


def test_a_list_in_the_environment_is_written_as_in_the_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARMORM_REGRESSION__ALPHAS", "[0.5, 2.0]")
    assert load_settings(config).regression.alphas == (0.5, 2.0)


def test_severities_come_from_the_file_and_the_environment(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text(MINIMAL + "[checks]\ntiny_answers = 'stop'\n")
    monkeypatch.setenv("ARMORM_CHECKS__ROLE_ORDER", "warn")
    assert load_settings(config).checks == {"tiny_answers": "stop", "role_order": "warn"}


def test_a_reference_without_ratings_is_said_before_a_long_run(config: Path) -> None:
    config.write_text(MINIMAL + "[decorrelation]\nreference = 'hh-rlhf'")
    with pytest.raises(ConfigError, match="hh-rlhf"):
        check_trainable(load_settings(config))


@pytest.mark.parametrize(("section", "error"), [("backbone", BackboneError), ("gate", GateError)])
def test_a_device_that_is_not_there_is_refused_before_a_run_and_not_by_the_plan(
    config: Path, monkeypatch: pytest.MonkeyPatch, section: str, error: type[Exception]
) -> None:
    monkeypatch.setenv(f"ARMORM_{section.upper()}__DEVICE", "nothing:7")
    monkeypatch.setenv("ARMORM_DECORRELATION__NUISANCE", "none")
    settings = load_settings(config)
    check_trainable(settings)
    with pytest.raises(error):
        require_runnable(settings)
    with pytest.raises(error):
        pipeline(config)
    assert not (config.parent / "store").exists()


def test_all_files_that_are_missing_are_named_before_anything_is_ingested(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [*load_settings(config).datasets][:2]
    for name in names:
        monkeypatch.setenv(f"ARMORM_DATASETS__{name.upper()}__PATH", f"no-{name}")
    with pytest.raises(ConfigError) as caught:
        ingest(config)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert all(f"no-{name}" in line for name, line in zip(names, lines, strict=True))
    assert not (config.parent / "store").exists()


@pytest.mark.parametrize(("setting", "error"), [("models", ConfigError), ("backbone__path", BackboneError)])
def test_a_place_that_cannot_serve_is_refused_before_anything_is_ingested(
    config: Path, monkeypatch: pytest.MonkeyPatch, setting: str, error: type[Exception]
) -> None:
    (config.parent / "file").touch()
    monkeypatch.setenv(f"ARMORM_{setting.upper()}", "file")
    monkeypatch.setenv("ARMORM_DECORRELATION__NUISANCE", "none")
    with pytest.raises(error):
        require_runnable(load_settings(config))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("", "datasets.helpsteer: got neither path nor uri; expected one of them"),
        ('path = "data"\nuri = "hf://datasets/a/b"', "datasets.helpsteer: got path and uri; expected one of them"),
        ('uri = "hf://datasets/a"', "datasets.helpsteer.uri: hf://datasets/a: got a malformed address"),
        ('uri = "s3://a/b"', "datasets.helpsteer.uri: s3://a/b: got another address; expected hf://datasets/"),
    ],
)
def test_a_dataset_lies_in_one_place(config: Path, place: str, message: str) -> None:
    config.write_text(MINIMAL.replace('[datasets.helpsteer]\npath = "data"', f"[datasets.helpsteer]\n{place}"))
    with pytest.raises(ConfigError) as error:
        load_settings(config)
    assert f"{config}: {message}" in str(error.value)


def test_a_dataset_of_the_hub_lies_where_it_was_fetched_to(config: Path) -> None:
    config.write_text(MINIMAL.replace('path = "data"', 'uri = "hf://datasets/nvidia/HelpSteer"', 1))
    settings = load_settings(config)
    fetched = HubFiles(Path("cache"), "c0ffee", ("train.jsonl.gz",), 1)
    dataset = settings.dataset("helpsteer", fetched)
    assert dataset.path == Path("cache")
    assert dataset.origin == Origin("hf://datasets/nvidia/HelpSteer@main", "c0ffee")
    assert settings.hub_patterns("helpsteer") == SOURCES["helpsteer"].files


def test_an_unknown_dataset_names_the_known_ones(config: Path) -> None:
    config.write_text(MINIMAL.replace("helpsteer", "helpster"))
    with pytest.raises(DatasetError, match=r"helpster: .*expected one of .*helpsteer"):
        load_settings(config)


@pytest.mark.parametrize("missing", ["no/such/file.toml", "."])
def test_a_missing_file_says_how_to_make_one(tmp_path: Path, missing: str) -> None:
    with pytest.raises(InputError, match=r"armorm"):
        load_settings(tmp_path / missing)


def test_the_template_holds_every_setting_with_its_default(tmp_path: Path) -> None:
    path = tmp_path / "armorm.toml"
    path.write_text(template())
    settings, document = load_settings(path), tomllib.loads(template())
    assert set(document["datasets"]) == set(SOURCES)
    for name in ("split", "contamination", "embed", "regression", "decorrelation", "preference", "gate", "evaluation"):
        default = Settings.model_fields[name].default
        assert set(document[name]) == {field.name for field in dataclasses.fields(default)}
        if name == "preference":
            assert settings.preference == dataclasses.replace(default, nuisance=settings.decorrelation.nuisance)
        elif name != "decorrelation":  # `auto` there stands for what the datasets rate
            assert getattr(settings, name) == default
