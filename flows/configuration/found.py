"""A configuration for datasets that lie in a folder in their native form, and for a backbone on this machine."""

import json
import re
from pathlib import Path
from typing import Final

from armorm.features.sources import SOURCES
from armorm.flows.configuration.profiles import CHANGES, HUB, WHOLE, Profile, template, with_changes
from armorm.flows.configuration.settings import ConfigError

NAMES: Final = {
    called.lower(): name
    for name, source in SOURCES.items()
    for called in (name, source.upstream.split("/")[1], HUB[name].split("@")[0].split("/")[1])
}
"""What a dataset's folder is called, here or upstream, in lower case, to its name."""


def holds_datasets(folder: Path) -> bool:
    """Return whether a folder has folders of known datasets."""
    return folder.is_dir() and any(path.is_dir() and path.name.lower() in NAMES for path in folder.iterdir())


def find_datasets(folder: Path) -> dict[str, Path]:
    """Return the datasets that a folder holds, each in a folder of its name.

    Raises:
        ConfigError: there is none, or two of one name.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: got no folder; expected one with a folder for each dataset; correct the path")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = NAMES.get(path.name.lower()) if path.is_dir() else None
        if name in found:
            raise ConfigError(f"{folder}: got {found[name].name} and {path.name}, both of {name}; expected one of them")
        if name:
            found[name] = path.resolve()
    if not found:
        raise ConfigError(
            f"{folder}: got no folder of a known dataset; expected folders called as in `armorm datasets`, or as "
            "upstream, such as HelpSteer; rename them"
        )
    return found


def configuration_for(data: Path, backbone: Path, *, share: float = 1.0) -> str:
    """Return an `armorm.toml` for the datasets in a folder: the profile `laptop`, with another backbone.

    Args:
        backbone: a Hugging Face folder or a GGUF file.
        share: of the prompts of each dataset that is not read whole.

    Raises:
        ConfigError: the folder holds no dataset.
    """
    found = find_datasets(data)
    changes = {
        **CHANGES[Profile.laptop],
        "backbone.path": json.dumps(str(backbone.resolve()), ensure_ascii=False),
        "backbone.revision": None,
        **{f"datasets.{name}.path": json.dumps(str(path), ensure_ascii=False) for name, path in found.items()},
        **{f"datasets.{name}.share": str(share) for name in found if share < 1 and name not in WHOLE},
    }
    return with_changes(_without(template(), SOURCES.keys() - found.keys()), changes)


def _without(text: str, names: set[str]) -> str:
    """Take the tables of some datasets out of the template; a table ends at an empty line."""
    for name in names:
        text = re.sub(rf"^\[datasets\.{re.escape(name)}\].*\n(?:.+\n)*\n", "", text, flags=re.MULTILINE)
    return text
