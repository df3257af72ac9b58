"""OpenLineage: what every stage reads and makes, as events for other tools. Off unless it is configured."""

from armorm.features.lineage.openlineage.observer import LineageObserver, OpenLineageSettings, observe
from armorm.features.lineage.openlineage.places import store_namespace

__all__ = ["LineageObserver", "OpenLineageSettings", "observe", "store_namespace"]
