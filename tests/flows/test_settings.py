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
    ("added", "facts"),
    [
        ("[gate]\nstep = 1", r"gate: .*\bstep;.*\bhidden_dim\b"),
        ("[gate]\nsteps = 0", r"gate: steps: .* 0;"),
        ("[gate]\nsteps = 'many'", r"gate\.steps: .*'many'"),
        ("[split]\ntest = 0.7\nvalidation = 0.4", r"split: .*\bvalidation 0\.4 .*\btest 0\.7\b"),
        ("[regression]\nalphas = []", r"regression: .*\balphas\b"),
        ("[decorrelation]\ncorrelation = 'kendall'", r"decorrelation\.correlation: .*'kendall'"),
        ("[decorrelation]\nnuisance = 'verbosity'", r"nuisance: .*\bverbosity;.*\bhelpsteer-helpfulness, "),
        ("[decorrelation]\nnuisance = ['n_tokens', 'verbosity']", r"nuisance: .*\bverbosity;.*\bhelpsteer-coherence, "),
        ("[decorrelation]\nnuisance = []", r"nuisance: .* \(\);"),
        ("[gate]\nmixing = 'all'", r"gate\.mixing: .*'all'"),
        ("[gate]\nearly_stopping = -1", r"gate: early_stopping: .* -1;"),
        ("[gate]\ntemperature = inf", r"gate: temperature: .* inf;"),
        ("[gate]\nseed = -1", r"gate: seed: .* -1;"),
        ("[evaluation]\nseed = 99999999999999999999", r"evaluation: seed: .* 9{20};"),
        ("[regression]\nalphas = [1.0, inf]", r"regression: alphas: .*\(1\.0, inf\)"),
        ("[backbones]\npath = 'x'", r"backbones: .*`armorm init`"),
        ("[regression]\nsolver = 'scikit-learn'", r"regression: .*\bsolver;.*\balphas, refit\b"),
        ("[embed]\ntoken_budget = 0", r"embed: token_budget: .* 0;"),
        ("[checks]\nroles = 'off'", r"checks: .* roles;.*\bcontradicting_preferences, "),
        ("[checks]\nrole_order = 'no'", r"checks\.role_order: .*'no'"),
        ("[contamination]\nthreshold = 2", r"contamination: threshold: .* 2\b"),
        ("[contamination]\nn = 2", r"contamination: .*\bn;.*\bngram, threshold, against\b"),
        ("[contamination]\nagainst = ['helpsteer']", r"contamination\.against: .*\bhelpsteer;"),
        ("gate", r"\bTOML: "),
    ],
)
def test_a_wrong_value_is_one_line(config: Path, added: str, facts: str) -> None:
    config.write_text(MINIMAL + added)
    with pytest.raises(ConfigError, match=rf"^{config}: .*{facts}") as error:
        load_settings(config)
    assert "\n" not in str(error.value)


def test_every_wrong_value_gets_its_line(config: Path) -> None:
    config.write_text("[datasets.helpsteer]\n[gate]\nsteps = 'x'\n")
    with pytest.raises(ConfigError) as error:
        load_settings(config)
    assert len(str(error.value).splitlines()) == 3  # backbone, helpsteer's path, steps


@pytest.mark.parametrize(
    ("name", "value", "facts"),
    [
        ("ARMORM_NONSENSE", "1", r"^ARMORM_NONSENSE: .* ARMORM_ .*\bbackbone, "),
        ("ARMORM_GATES__STEPS", "1", r"^ARMORM_GATES__STEPS: .* ARMORM_ .*\bgate, "),
        ("ARMORM_ROOT", "/tmp", r"^ARMORM_ROOT: .* ARMORM_ .*\bbackbone, "),
        ("ARMORM_GATE", "x", r"\bARMORM_GATE__STEPS=400\b"),
        ("ARMORM_GATE__STEP", "1", r"\bgate: .*\bstep;.*\bhidden_dim\b"),
    ],
)
def test_a_wrong_variable_is_one_line(
    config: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, facts: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=facts):
        load_settings(config)


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
    ("place", "facts"),
    [
        ("", r"datasets\.helpsteer: .*\bneither\b.*\bpath\b.*\buri\b"),
        ('path = "data"\nuri = "hf://datasets/a/b"', r"datasets\.helpsteer: (?!.*\bneither\b).*\bpath\b.*\buri\b"),
        ('uri = "hf://datasets/a"', r"datasets\.helpsteer\.uri: hf://datasets/a: .*\bmalformed\b"),
        ('uri = "s3://a/b"', r"datasets\.helpsteer\.uri: s3://a/b: .* hf://datasets/"),
    ],
)
def test_a_dataset_lies_in_one_place(config: Path, place: str, facts: str) -> None:
    config.write_text(MINIMAL.replace('[datasets.helpsteer]\npath = "data"', f"[datasets.helpsteer]\n{place}"))
    with pytest.raises(ConfigError, match=f"{config}: {facts}"):
        load_settings(config)


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
    with pytest.raises(DatasetError, match=r"\bhelpster: .*\bhelpsteer\b"):
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
