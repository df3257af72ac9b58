"""What a stage did, in the words that logs, tables and JSON share."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of a run."""

    name: str
    reason: str | None
    """Why it ran; None when nothing had changed."""
    what: str
    """What it made, or what stands."""

    @property
    def line(self) -> str:
        """One line for a log."""
        return f"{self.name}: {self.what} ({self.reason})" if self.reason else f"{self.name}: up to date; {self.what}"
