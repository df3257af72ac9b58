"""The datasets that can be read and those that were: what they feed, under which licence, with how many rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from armorm.features.sources.base import Options, Source
from armorm.features.store import Artifact, Snapshot
from armorm.features.store.json_records import read_summary
from armorm.features.store.summaries import IngestSummary


@dataclass(frozen=True, slots=True)
class ListedDataset:
    """One dataset, known or configured."""

    dataset: str
    feeds: str
    """What it is for: ratings of how many objectives, pairs, evaluation."""
    licence: str
    upstream: str
    place: str | None
    """Where its files are, as configured; None where it is not."""
    rows: int | None
    """Native rows that were read; None where it was not ingested."""
    kept: int | None
    ratings: int | None
    pairs: int | None
    settings: Mapping[str, str]
    """Its own settings with what they are set to, or by default."""


def list_datasets(
    sources: Sequence[Source], configured: Mapping[str, tuple[str, Options]], snapshot: Snapshot | None
) -> list[ListedDataset]:
    """Return every source, those configured first.

    Args:
        configured: by name, path or address, and complete settings.
    """
    ingested = snapshot.within("ingest") if snapshot else {}
    return [
        _listed(source, configured.get(source.name), ingested.get(source.name))
        for source in sorted(sources, key=lambda source: (source.name not in configured, source.name))
    ]


def _listed(source: Source, configured: tuple[str, Options] | None, artifact: Artifact | None) -> ListedDataset:
    place, settings = configured or (None, {name: option.default for name, option in source.options.items()})
    summary = read_summary(artifact, IngestSummary) if artifact else None
    n_rows, n_kept, *_ = summary.counts if summary else (None, None)
    return ListedDataset(
        dataset=source.name,
        feeds=feeds(source),
        licence=source.licence,
        upstream=source.upstream,
        place=place,
        rows=n_rows,
        kept=n_kept,
        ratings=summary.ratings if summary else None,
        pairs=summary.preferences if summary else None,
        settings=dict(settings),
    )


def feeds(source: Source) -> str:
    """Return what a source gives (ratings, pairs or a benchmark), for people."""
    if source.evaluation:
        return "evaluation"
    n = len(source.scales)
    ratings = [f"ratings of {n} objective{'s' if n > 1 else ''}"] if n else []
    return " and ".join([*ratings, *(["pairs"] if source.pairs else [])])
