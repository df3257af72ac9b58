"""Everything that can go wrong in the feature store, as one small tree.

A leaf module: of the project it imports `armorm.features.secrets` alone. Every message has the form
"got <value>; expected <allowed>; <what to do>", and every error keeps its facts as attributes.

    FeatureStoreError
    ├── InputError            what the user gave cannot be used
    │   ├── NativeFileError   a dataset's file is missing, unreadable or broken
    │   │   └── MalformedRows     some of its rows cannot be used, where all are needed
    │   ├── DatasetError      a dataset is unknown, or none of its rows is usable
    │   ├── BackboneError     a backbone cannot be loaded or does not fit
    │   │   └── CanaryError       its vectors differ from those of the first run
    │   ├── OutOfMemory       one text alone is more than memory holds
    │   ├── WorkerError       one of the above, or a death, on another machine
    │   ├── HubError          the Hugging Face Hub does not give what was asked for
    │   │   └── HubUnreachable    it may do so later: the only error that is worth a retry
    │   ├── QualityError      rows that a check does not let through
    │   ├── PlanOutdated      a plan that no longer holds: something has changed since
    │   ├── OverLimit         a run whose estimate exceeds a limit
    │   └── TooOld            a store whose last success is longer ago than allowed
    ├── StoreError            what the store holds, or lacks
    │   ├── CorruptObject     a file's bytes are not those that were written
    │   ├── StoreBusy         another process is writing
    │   └── NotInStore        nothing of that name or id
    └── QueryError            an SQL query that is refused or fails
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from armorm.features.secrets import redacted


class FeatureStoreError(Exception):
    """Base of all errors of `features`; its text is one line for the user, without the secrets that others quote."""

    def __init__(self, *facts: object) -> None:
        super().__init__(*(redacted(fact) if isinstance(fact, str) else fact for fact in facts))


class InputError(FeatureStoreError):
    """What the user gave cannot be used."""


class NativeFileError(InputError):
    """A dataset's native file is missing, unreadable or broken beyond one row."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.what = message


class MalformedRows(NativeFileError):
    """Rows of a file that cannot be used where all are needed; one line each."""

    def __init__(self, path: Path, rows: Sequence[str]) -> None:
        self.path, self.rows = path, tuple(" ".join(row.splitlines()) for row in rows)
        self.what = "\n".join(self.rows)  # each row names its file
        InputError.__init__(self, self.what)


class DatasetError(InputError):
    """A dataset is not known, or nothing in it can be used."""

    def __init__(self, dataset: str, message: str) -> None:
        super().__init__(f"dataset {dataset}: {message}")
        self.dataset = dataset


class BackboneError(InputError):
    """A backbone cannot be loaded, or does not fit what is asked of it."""

    def __init__(self, backbone: str, message: str) -> None:
        super().__init__(f"backbone {backbone}: {message}")
        self.backbone = backbone


class CanaryError(BackboneError):
    """On this machine, or with these libraries, a backbone gives other vectors than those in the store."""

    def __init__(
        self, backbone: str, *, furthest: int, distance: float, median: float, band: float, machines: tuple[str, str]
    ) -> None:
        super().__init__(
            backbone,
            f"got vectors that differ from the first run's: canary {furthest} by {distance:.2g} of its length "
            f"(median of all: {median:.2g}), on {machines[1]}; expected at most {band:g}, as on {machines[0]}; "
            "nothing was appended: use the same device and libraries as then, or embed all of it in another store",
        )
        self.furthest = furthest
        self.distance = distance
        self.median = median
        self.band = band
        self.machines = machines


class OutOfMemory(InputError):
    """A forward pass of a single text is more than memory holds, so that there is nothing to halve."""

    def __init__(self, n_tokens: int) -> None:
        super().__init__(
            f"got too little memory for one text of {n_tokens} tokens; expected enough for the longest text; free "
            "memory, or set max_tokens in [backbone]; what was embedded before is kept"
        )
        self.n_tokens = n_tokens


class WorkerError(InputError):
    """A worker that embeds elsewhere cannot go on; what was committed before stands."""

    def __init__(self, worker: str, message: str) -> None:
        super().__init__(f"worker {worker}: {message}")
        self.worker = worker


class HubError(InputError):
    """The Hugging Face Hub does not have what was asked for, or does not give it."""

    def __init__(self, repo: object, message: str) -> None:
        super().__init__(f"{repo}: {message}")
        self.repo = str(repo)


class HubUnreachable(HubError):
    """The network, or the Hub, fails for now."""


class QualityError(InputError):
    """The store's data hold rows that a check with severity `stop` has found."""

    def __init__(self, found: Mapping[str, int]) -> None:
        listed = ", ".join(f"{name} ({n_rows})" for name, n_rows in found.items())
        super().__init__(
            f"got rows found by {listed}; expected none; see them by `armorm quality --show {next(iter(found))}`, then "
            'correct the data, or set the check to "warn" in [checks]'
        )
        self.found = found


class PlanOutdated(InputError):
    """What a plan was made on is not what is there now."""

    def __init__(self, plan: str, what: str, got: str, expected: str) -> None:
        super().__init__(f"{plan}: {what}: got {got}; expected {expected}, as in the plan; make a new plan")
        self.what = what


class OverLimit(InputError):
    """A run would do more than it was allowed to, or one cannot tell how much."""

    def __init__(self, limit: str, got: str, expected: str) -> None:
        super().__init__(
            f"{limit}: got {got} in all; expected at most {expected}; nothing was started: see `armorm plan`, then "
            "raise the limit, or run a part first, for example `armorm ingest`"
        )
        self.limit = limit


class TooOld(InputError):
    """No run has succeeded for longer than allowed."""


class StoreError(FeatureStoreError):
    """The store does not hold what is needed, or cannot take what is given."""


class CorruptObject(StoreError):
    """A file of the store does not hold what was written."""

    def __init__(self, path: Path | str, got: str, expected: str) -> None:
        super().__init__(
            f"{path}: got {got}; expected {expected}; the file was damaged after it was written: restore it from a "
            "copy, or see `armorm verify --repair`"
        )
        self.path = path


class StoreBusy(StoreError):
    """Another process holds the store's writer lock."""


class NotInStore(StoreError):
    """Nothing of that name or id is in the store."""


class QueryError(FeatureStoreError):
    """A query that is refused (it would write) or that DuckDB cannot answer."""
