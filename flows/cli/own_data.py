"""What `armorm init` shows and asks about one's own files."""

from collections.abc import Sequence
from pathlib import Path

import typer

from armorm.flows.configuration.own_data import Look, configuration_of, look
from armorm.flows.configuration.settings import ConfigError
from armorm.flows.runlog import console


def configured(paths: Sequence[Path], backbone: Path | None, first: str, folder: Path) -> str:
    """Return a configuration for files, after showing what they hold and how their first rows would be read.

    Raises:
        ConfigError: no form can be told, nothing is usable, or a question has no answer.
        NativeFileError: a file cannot be read.
    """
    looks = look(paths, lambda found: first or _asked(found))
    n_pairs = 0
    for found in looks:
        _show_columns(found)
        seen = found.preview()
        console.print_table(
            ["line", "outcome", "reason", "what comes of it"],
            [(row.line, row.outcome, row.reason, seen.told(row)) for row in seen.rows],
        )
        counts = found.counts()
        n_pairs += counts["pairs"]
        unread = [name for name in found.columns if name not in found.proposal.columns]
        notes = [*found.notes, f"columns that are not read: {', '.join(unread)}"] if unread else found.notes
        print("\n".join([*notes, *(f"{name}: {why}" for name, why in found.proposal.remarks.items())]))
        print(
            f"{found.name}: form {found.proposal.form}; {len(found.rows)} rows give {counts['ratings']} ratings and "
            f"{counts['pairs']} pairs of {counts['prompts']} prompts"
        )
        if not counts["ratings"] + counts["pairs"]:
            raise ConfigError(f"{found.path}: got no usable row ({seen.line}); expected some; see the reasons above")
    if not n_pairs:
        raise ConfigError(
            f"got no pairs in {', '.join(str(path) for path in paths)}: no prompt has two answers of which one is "
            "rated higher; expected some, which the gate is trained on; add a file of pairs, or more answers"
        )
    return configuration_of(looks, str(backbone.resolve()) if backbone else None, folder)


def _show_columns(found: Look) -> None:
    columns = [(name, column.told) for name, column in found.columns.items()]
    console.print_table(["column", "holds"], columns, title=str(found.path))


def _asked(found: Look) -> str:
    """Ask which verdict prefers the first answer."""
    _show_columns(found)
    one, other = found.proposal.settings["answers"]
    example = next(row.data for row in found.rows if row.data)
    for name in (one, other, found.proposal.settings["verdict"]):
        print(f"  {name}: {str(example.get(name))[:200]}")
    verdict, choices = found.proposal.settings["verdict"], " or ".join(found.proposal.choices)
    try:
        return str(typer.prompt(f"Which {verdict} says that {one} is better, not {other}: {choices}?"))
    except (typer.Abort, EOFError) as error:
        raise ConfigError(
            f"{found.path}: got no answer to which {verdict} prefers {one}; expected {choices}; use --first"
        ) from error
