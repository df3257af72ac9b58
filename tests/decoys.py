"""Packages of a user's own that are called like our folders: a Prefect project has `flows/` by habit."""

from pathlib import Path

NAMES = ("features", "flows", "sql", "tests")


def put_decoys(folder: Path) -> None:
    """Write packages that end every program which imports them."""
    for name in NAMES:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f"raise SystemExit('imported {name} of the folder')\n")
