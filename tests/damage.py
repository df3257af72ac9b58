"""Damage to files that are read-only."""

from pathlib import Path


def overwrite(path: Path, content: bytes) -> None:
    """Put other content into a file, which the store has made read-only."""
    if path.exists():
        path.chmod(0o644)
    path.write_bytes(content)
