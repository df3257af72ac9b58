"""Ready configurations: the commented template, and what a profile sets differently in it."""

import re
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from itertools import takewhile
from pathlib import Path
from typing import Final

Changes = Mapping[str, str | None]
"""`table.key` to its value as TOML, perhaps with a comment; None takes the key out."""


class Profile(StrEnum):
    """What a configuration is meant for."""

    demo = "demo"
    laptop = "laptop"
    paper = "paper"


HUB: Final[Mapping[str, str]] = {
    "helpsteer": "nvidia/HelpSteer@3ca5d59c1bc1080af195b4254e7407db60b6f450",
    "ultrafeedback": "openbmb/UltraFeedback@40b436560ca83a8dba36114c22ab3c66e43f6d5e",
    "beavertails-30k": "PKU-Alignment/BeaverTails@8401fe609d288129cc684a9b3be6a93e41cfe678",
    "code-ultrafeedback": "coseal/CodeUltraFeedback@main",
    "feedback-collection": "prometheus-eval/Feedback-Collection@22a339f961c40b07261bea44ec10849c7440b75f",
    "argilla-capybara": "argilla/Capybara-Preferences-Filtered@c9ce1cae33b7ab9d84b4137d93e80538d218fddf",
    "argilla-openorca": "argilla/distilabel-intel-orca-dpo-pairs@0b10ec0df32c919f95126b203c8f5962b6875896",
    "argilla-math": "argilla/distilabel-math-preference-dpo@main",
    "shp": "stanfordnlp/SHP@e94b5f32602712d78ed494fe79105b1959396686",
    "hh-rlhf": "Anthropic/hh-rlhf@09be8c5bbc57cb3887f3a9732ad6aa7ec602a1fa",
    "pku-saferlhf-30k": "PKU-Alignment/PKU-SafeRLHF-30K@main",
    # The native files of openai/prm800k, which are in git-LFS there.
    "prm-phase-2": "tasksource/PRM800K@547b19506677a59037ee888838834b65e9b1ddd4",
    "preference-collection": "prometheus-eval/Preference-Collection@main",
    "rewardbench": "allenai/reward-bench@168d848cdbbea9764fae4a544dc9ca1e6cca4931",
    "preference-test-sets": "allenai/preference-test-sets@main",
}
"""Every dataset's repository on the Hub, at a commit that published work has pinned; at `main` where none is known."""

UNPINNED = "  # the commit that this stands for is recorded"

SHARE = "0.03"
"""The share of each dataset's prompts for a laptop; a benchmark is read whole, since a part of it says nothing."""

WHOLE = ("rewardbench",)

CHANGES: Final[Mapping[Profile, Changes]] = {
    Profile.demo: {"embed.shard_conversations": "1024", "gate.hidden_dim": "128", "gate.steps": "800"},
    Profile.laptop: {
        "backbone.path": '"HuggingFaceTB/SmolLM2-135M-Instruct"',
        "backbone.revision": '"12fd25f77366fa6b3b4b768ec3050bf629380bac"',
        "backbone.max_tokens": "1024",
        "embed.token_budget": "2048",
        "embed.shard_conversations": "1024",
        "gate.hidden_dim": "256",
        "gate.steps": "2000",
        "gate.batch_size": "256",
    },
    Profile.paper: {
        "backbone.path": '"sfairXC/FsfairX-LLaMA3-RM-v0.1"',
        "backbone.revision": '"94fad49f1b3227aa8b566f415a335adb68ec544c"',
        "backbone.dtype": '"bfloat16"',
        "backbone.device": '"cuda"',
        # One rating a row: the paper's counts of these sets are their numbers of rows.
        **{f"datasets.argilla-{name}.rated": '"chosen"' for name in ("capybara", "math", "openorca")},
        "embed.token_budget": "32768",
        "preference.objective": '"never"',
        "gate.start": '"random"',
        "gate.beta": "100.0",
        "gate.epochs": "0",
        "gate.early_stopping": "0",
        "gate.calibrate": "false",
        "gate.out_of_fold": "false",
        "gate.screening": "false",
        "gate.least_ratings": "0",
    },
}
"""What differs from the template, besides the datasets' places."""


def configuration(profile: Profile | None = None) -> str:
    """Return the text of an `armorm.toml`; without a profile, the template with every default."""
    return with_changes(template(), changes_of(profile) if profile else {})


def changes_of(profile: Profile) -> Changes:
    """Return all that a profile sets differently, its datasets on the Hub included."""
    names = tomllib.loads(template())["datasets"] if profile is not Profile.demo else ()
    datasets: dict[str, str | None] = {}
    for name in names:
        datasets[f"datasets.{name}.path"] = None
        datasets[f"datasets.{name}.uri"] = f'"hf://datasets/{HUB[name]}"' + (UNPINNED if "@main" in HUB[name] else "")
        if profile is Profile.laptop and name not in WHOLE:
            datasets[f"datasets.{name}.share"] = SHARE
    return {**CHANGES[profile], **datasets}


def template() -> str:
    """Return every setting with its default and a comment."""
    return (Path(__file__).parent / "armorm.toml").read_text()


def with_changes(text: str, changes: Changes) -> str:
    """Return TOML with some values changed in place; comments stay, but for those that a new value brings itself.

    A key that is commented out is put in; one that its table has not got goes to the table's head.
    """
    lines = text.splitlines()
    for name, value in reversed(list(changes.items())):  # so that new keys of a table come in this order
        table, key = name.rsplit(".", 1)
        head = next(number for number, line in enumerate(lines, 1) if line.startswith(f"[{table}]"))
        at, comment = _find(key, lines[head:])
        if comment and value and "#" not in value:
            value = f"{value}  {comment}"
        lines[head + at : head + at + (comment is not None)] = [f"{key} = {value}"] if value else []
    return "\n".join(lines) + "\n"


def _find(key: str, lines: list[str]) -> tuple[int, str | None]:
    """Return which line of a table sets the key, and its comment; the head and None where no line does."""
    for number, line in enumerate(takewhile(lambda line: not line.startswith("["), lines)):
        if match := re.fullmatch(rf'(?:# )?{key} = (?:"[^"]*"|[^#"]*?)\s*(#.*)?', line):
            return number, match[1] or ""
    return 0, None
