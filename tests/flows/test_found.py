"""A configuration for native files in a folder: which datasets are found, and what is written for them."""

from pathlib import Path

import pytest

from armorm.features.sources import SOURCES
from armorm.flows.cli.app import init
from armorm.flows.configuration.found import configuration_for, find_datasets
from armorm.flows.configuration.profiles import Profile
from armorm.flows.configuration.settings import ConfigError, check_trainable, load_settings


def folders(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
    return root


@pytest.mark.parametrize("upstream", [False, True])
def test_datasets_are_found_by_their_name_here_or_upstream(upstream: bool, tmp_path: Path) -> None:
    names = [source.upstream.split("/")[1] if upstream else name for name, source in SOURCES.items()]
    data = folders(tmp_path, *names, "notes")
    assert find_datasets(data).keys() == SOURCES.keys()


def test_the_configuration_names_them_alone(tmp_path: Path) -> None:
    data = folders(tmp_path / 'with "quotes"', "HelpSteer", "hh-rlhf", "rewardbench")
    (tmp_path / "model.gguf").touch()
    config = tmp_path / "armorm.toml"
    config.write_text(configuration_for(data, tmp_path / "model.gguf", share=0.5), encoding="utf-8")
    settings = load_settings(config)
    check_trainable(settings)
    assert {name: section.share for name, section in settings.datasets.items()} == {
        "helpsteer": 0.5,
        "hh-rlhf": 0.5,
        "rewardbench": 1.0,
    }
    assert settings.datasets["helpsteer"].path == data.resolve() / "HelpSteer"
    assert settings.local_backbone().path == str((tmp_path / "model.gguf").resolve())
    assert settings.backbone.revision is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "no folder of a known dataset"),
        (("BeaverTails", "beavertails-30k"), "both of beavertails-30k"),
    ],
)
def test_what_cannot_be_told_is_refused(names: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        find_datasets(folders(tmp_path, *names))
    with pytest.raises(ConfigError, match="got no folder"):
        find_datasets(tmp_path / "none")


@pytest.mark.parametrize(
    "given", [{"data": True}, {"backbone": True}, {"data": True, "backbone": True, "profile": True}]
)
def test_init_takes_native_data_and_a_backbone_together(given: dict[str, bool], tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    values = {
        "data": folders(tmp_path / "data", "HelpSteer"),
        "backbone": tmp_path / "model.gguf",
        "profile": Profile.laptop,
    }
    with pytest.raises(ConfigError, match="backbone"):
        init(**{name: values[name] for name in given}, config=tmp_path / "armorm.toml")  # type: ignore[arg-type]


def test_init_writes_it(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    config = tmp_path / "armorm.toml"
    init(data=folders(tmp_path / "data", "HelpSteer"), backbone=tmp_path / "model.gguf", config=config)
    assert list(load_settings(config).datasets) == ["helpsteer"]
