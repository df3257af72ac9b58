"""A stage of the pipeline as a value: what it depends on, how much work it is, and what makes it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, cast

from armorm.features.store import Artifact, Done, Made, Recipe, Snapshot, Store, Writer
from armorm.features.store.artifacts import why_stale
from armorm.features.store.json_records import Summary, read_record, read_summary

S = TypeVar("S")
"""The settings of a stage."""

Part = Literal["ingest", "check", "embed", "train", "evaluate"]
"""What of the pipeline is run together."""

Rows = Literal["ratings", "pairs"]

OnProgress = Callable[[int, int], None]
"""Takes how much is done, and of how much."""


def unseen(done: int, total: int) -> None:
    """Ignore progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What all stages say of themselves."""

    name: str
    version: int
    part: Part | None = None
    """None for what is made beside other work, or decided about its result: no run of the pipeline waits for it."""
    after: tuple[str, ...] = ()
    """Stages whose results it reads, or whose work has to be done before it: the one that it waits for last, first."""
    splits: tuple[str, ...] = ()
    """The splits of the tables that enter its result; all of them where none is named."""
    rows: Rows | None = None
    """What it reads of these splits, where the views of training and held-out rows have it."""
    trains_on: tuple[str, ...] = ()
    """The splits that its weights depend on; its record may name fewer, as `splits`."""
    training_rows: str = ""
    """The set of rows whose digest its record holds: a key of `armorm.features.lineage.training_rows.KEYS`."""
    record: Any
    """The type of what an artifact of it says of itself: a `Summary`, or that of the object `record`."""
    line_of: Callable[[Any], str]
    """Says it in a line for a person."""
    warning_of: Callable[[Any], str] = lambda record: ""
    """What a person should know who has just run it; empty where there is nothing."""

    @property
    def code(self) -> str:
        """The module that it stands in."""
        return self.line_of.__module__

    def told(self, store: Store, artifact: Artifact) -> Any:
        """Return what an artifact says of itself."""
        in_summary = isinstance(self.record, type) and issubclass(self.record, Summary)
        return read_summary(artifact, self.record) if in_summary else read_record(store, artifact, self.record)

    def line(self, store: Store, artifact: Artifact) -> str:
        """Return what an artifact is in a line; one of an older store holds that line itself."""
        return str(artifact.summary.get("line") or self.line_of(self.told(store, artifact)))


def recipe_on_data(stage: Stage, snapshot: Snapshot, parameters: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a stage that reads what was ingested, and no vector."""
    return Recipe(stage.name, stage.name, stage.version, parameters, snapshot.ids_within("ingest"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed(Stage, Generic[S]):
    """A stage that makes one artifact, from a recipe that is known before anything is made."""

    table: str = ""
    """Where its settings stand in the configuration; it has none where this is empty."""
    recipe_of: Callable[["Computed[S]", Snapshot, str, S], Recipe]
    """Takes the stage, a snapshot, the backbone's id and the settings."""
    work_of: Callable[[Snapshot, S], Mapping[str, int]] = lambda snapshot, settings: {}
    """What there is to work through (`rows`, `bytes`, `steps`), of manifests alone."""
    make: Callable[[Store, str, S, OnProgress], Made]
    settle: Callable[[Store], object] = lambda store: None
    """Called when its artifact stands."""

    def recipe(self, snapshot: Snapshot, settings: S, backbone_id: str = "") -> Recipe:
        """Return what it would make on a snapshot, by which its result is known again."""
        return self.recipe_of(self, snapshot, backbone_id, settings)

    def reason(self, snapshot: Snapshot, settings: S, backbone_id: str = "") -> str | None:
        """Return why it would run on a snapshot; None where its result stands."""
        recipe = self.recipe(snapshot, settings, backbone_id)
        return why_stale(recipe, snapshot.artifacts.get(recipe.slot))

    def ensure(self, writer: Writer, settings: S, backbone_id: str = "", *, on_progress: OnProgress = unseen) -> Done:
        """Make what the newest snapshot lacks of it, and commit it.

        Args:
            backbone_id: whose vectors it reads; empty for a stage before the embedding.
            on_progress: called with how much is done, and of how much.
        """
        store, head = writer.store, writer.store.head()
        done = writer.ensure(
            self.recipe(head, settings, backbone_id),
            lambda: self.make(store, backbone_id, settings, on_progress),
            work=self.work_of(head, settings),
        )
        self.settle(store)
        return done

    def settings_in(self, configuration: Any) -> S:
        """Return its own settings of a whole configuration."""
        settings: Any = getattr(configuration, self.table) if self.table else None
        return cast(S, settings)
