"""Stores made of canonical tables directly, with whatever content a test wants; ingest would refuse some of it."""

from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from armorm.features.conversation import Conversation, conversation_id, prompt_id, single_turn
from armorm.features.objectives import Scale
from armorm.features.store import Artifact, Made, Recipe, Writer, content_id
from armorm.features.tables import make_table, write_parquet

OBJECTIVE = "helpsteer-helpfulness"
SCALE = Scale(0, 4)

Cells = dict[str, Any]


@dataclass
class Dataset:
    """The rows of one dataset; `commit` puts them into a store as ingest would."""

    name: str
    split: str = "train"
    licence: str = "none"
    kept: int = 1
    rejected: int = 0
    outside_share: int = 0
    share: float | None = None
    """The share of the prompts that were asked for."""
    conversations: dict[str, Cells] = field(default_factory=dict)
    ratings: list[Cells] = field(default_factory=list)
    preferences: list[Cells] = field(default_factory=list)
    rejects: list[Cells] = field(default_factory=list)

    def rate(self, row: str, messages: Conversation, raw: float, **cells: Any) -> None:
        """One rating; `cells` in place of what it would hold."""
        self.ratings.append(
            {"dataset": self.name, "source_row": row, "split": self.split, "objective": OBJECTIVE}
            | {"conversation_id": self.take(messages), "prompt_id": prompt_id(messages)}
            | {"raw": raw, "value": SCALE.to_value(raw)}
            | cells
        )

    def prefer(self, row: str, chosen: str, rejected: str, *, prompt: str = "Which one?", **cells: Any) -> None:
        """One pair of two answers to a prompt."""
        first, second = single_turn(prompt, chosen), single_turn(prompt, rejected)
        self.preferences.append(
            {"dataset": self.name, "source_row": row, "split": self.split, "prompt_id": prompt_id(first)}
            | {"pair_id": content_id([self.name, row]), "margin": None, "subset": None}
            | {"chosen_id": self.take(first), "rejected_id": self.take(second)}
            | cells
        )

    def reject(self, row: str, reason: str) -> None:
        """One refused native row."""
        self.rejected += 1
        cells = {"dataset": self.name, "source_row": row, "scope": "row", "reason": reason}
        self.rejects.append(cells | {"detail": "why", "raw": "{}"})

    def take(self, messages: Conversation, **cells: Any) -> str:
        """Keeps a conversation and gives its id."""
        id = conversation_id(messages)
        self.conversations[id] = {
            "conversation_id": id,
            "prompt_id": prompt_id(messages),
            "messages": [{"role": role, "content": content} for role, content in messages],
            "n_turns": len(messages),
            "n_chars": sum(len(content) for _, content in messages),
        } | cells
        return id

    def commit(self, writer: Writer) -> Artifact:
        """Puts the tables into the dataset's slot."""
        rows = {
            "conversations": list(self.conversations.values()),
            "ratings": self.ratings,
            "preferences": self.preferences,
            "rejects": self.rejects,
        }
        objects = {
            name: writer.store.objects.put("parquet", partial(write_parquet, table=make_table(name, rows[name])))
            for name in rows
        }
        summary = {
            "dataset": self.name,
            "upstream": "nobody/nothing",
            "licence": self.licence,
            "evaluation": self.split == "evaluation",
            "outcomes": {"kept": {"": self.kept}, "rejected": {"some reason": self.rejected}}
            | ({"dropped": {"outside_share": self.outside_share}} if self.outside_share else {}),
            "parts_refused": 0,
            **{name: len(rows[name]) for name in ("conversations", "ratings", "preferences")},
            "scales": {rating["objective"]: asdict(SCALE) for rating in self.ratings},
        }
        parameters = {} if self.share is None else {"share": self.share}
        inputs = {name: ref.sha256 for name, ref in objects.items()}
        return writer.commit(Recipe(f"ingest/{self.name}", "ingest", 1, parameters, inputs), Made(objects, summary))
