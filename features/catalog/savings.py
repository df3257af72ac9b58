"""What datasets share, and what embedding every distinct conversation once saves: two views as tables."""

from typing import Final

from armorm.features.catalog.query import QueryResult, query
from armorm.features.store import Store

SHARING: Final = {
    "overlap": "SELECT * FROM overlap ORDER BY dataset, other",
    "savings": "SELECT * FROM savings ORDER BY dataset = 'total', dataset",
}


def sharing(store: Store) -> dict[str, QueryResult]:
    """Return the `overlap` of each pair of datasets, and the `savings` of each dataset and in total."""
    return {name: query(store, sql) for name, sql in SHARING.items()}
