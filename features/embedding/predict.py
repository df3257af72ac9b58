"""What an embedding should take: tokens by characters, seconds by the speed that this store has measured.

The plan says it before a run, and the run keeps it beside what it took.
"""

from dataclasses import dataclass
from typing import Final

from armorm.features.catalog.views import Catalog
from armorm.features.store import Snapshot
from armorm.features.store.estimate import UNKNOWN, speed_of
from armorm.features.vectors.shards import SLOT

CHARS_A_TOKEN: Final = 4
"""Characters of a token, as long as a store has measured nothing."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What embedding the conversations without a vector should take."""

    tokens: int
    seconds: float | None
    """None where no speed was measured."""
    basis: str


def predict(snapshot: Snapshot, backbone_id: str, tokens: int) -> Prediction:
    """Predict the time at the speed of this backbone's newest shards, else of any backbone's."""
    own = speed_of(snapshot.within(f"{SLOT}/{backbone_id}").values(), "tokens", called="shards")
    speed = own or speed_of(snapshot.within(SLOT).values(), "tokens", called="shards of another backbone")
    return Prediction(tokens, tokens / speed.per_s if speed else None, speed.basis if speed else UNKNOWN)


def missing_tokens(catalog: Catalog, backbone_id: str) -> tuple[int, str]:
    """Return the tokens of the conversations in `find_missing`, estimated from characters, and on what basis."""
    sized = "(SELECT DISTINCT conversation_id, n_chars FROM stored_conversations)"
    ((n_chars,),) = catalog.execute(
        f"SELECT coalesce(sum(n_chars), 0) FROM {sized} SEMI JOIN missing_conversations ON id = conversation_id"
    ).fetchall()
    for where, whose in (("backbone = ?", "this backbone"), ("backbone <> ?", "other backbones")):
        ((ratio,),) = catalog.execute(
            f"SELECT sum(n_chars) / sum(n_tokens) FROM {sized} JOIN features ON id = conversation_id "
            f"WHERE kind = 'conversation' AND {where}",
            [backbone_id],
        ).fetchall()
        if ratio:
            return round(n_chars / ratio), f"tokens from characters, {ratio:.3g} to one as this store has for {whose}"
    return round(n_chars / CHARS_A_TOKEN), f"tokens from characters, {CHARS_A_TOKEN} to one as nothing was measured"
