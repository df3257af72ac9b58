"""Sixty-four fixed conversations that are embedded before anything else is, and compared with what they were at first.

Vectors of one backbone have to agree whatever machine, library or day they come from; a fingerprint tells only that
the files and settings are the same. A run whose canaries leave the band appends nothing.
"""

import platform
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from armorm.features.conversation import Conversation
from armorm.features.embedding.fingerprint import Fingerprint
from armorm.features.embedding.packs import Rendered, TokenSequence, Wanted
from armorm.features.embedding.vectors import run_passes, within_vocabulary
from armorm.features.errors import BackboneError, CanaryError
from armorm.features.store import Artifact, Made, Recipe, Store, Writer
from armorm.features.store.json_records import Summary, put_record, read_record, read_summary
from armorm.features.vectors.shards import Name, Vector, put_vectors, read_vectors, unusable

if TYPE_CHECKING:
    from armorm.features.embedding.backbone import Backbone

SLOT: Final = "canary"
STAGE_VERSION: Final = 1
"""Raised when the conversations change: their vectors are then made anew, with nothing to compare them with."""

BANDS: Final = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1}
"""How far the furthest canary may lie from its first vector, as a share of that one's length.

Measured on random backbones of 2 and 24 layers: passes of other sizes alone move it by up to 2e-6, 3e-3 and 2e-2. A
lost BOS or another template moves most canaries by more than 1e-1, and the furthest by several times that.
"""

EXCHANGES: Final = (
    ("Hello!", "Hello, how can I help you today?"),
    ("What is 17 * 23?", "17 * 23 = 391."),
    ("Comment fait-on une béchamel ?", "Faites fondre du beurre, ajoutez la farine, puis le lait peu à peu."),
    ("Wie heißt der längste Fluß?", "Der Nil, gefolgt vom Amazonas, je nach Messung."),
    ("Почему небо голубое?", "Потому что воздух сильнее рассеивает синий свет."),
    ("为什么月亮有圆缺", "因为我们只看到被太阳照亮的那一部分。"),
    ("日本で一番高い山は", "富士山です。標高は三七七六メートルです。"),
    ("한글은 누가 만들었나요?", "세종대왕이 1443년에 만들었습니다."),
    ("ما عاصمة المغرب؟", "الرباط هي العاصمة."),
    ("מה השעה?", "אין לי שעון, מצטער."),
    ("पानी कब उबलता है?", "समुद्र तल पर सौ डिग्री सेल्सियस पर।"),
    ("Πού βρίσκεται η Σπάρτη;", "Στην Πελοπόννησο."),
    ("น้ำตกคืออะไร", "น้ำที่ตกลงมาจากหน้าผา"),
    ("def f(x):\n    return x +", "```python\ndef f(x):\n    return x + 1\n```\n"),
    ("🙂🙃 ¯\\_(ツ)_/¯", "🎉 👩‍👩‍👧‍👦"),
    ('{"a": [1, 2, {"b": null}], "c": "\\t<x>&amp;</x>"}', "  Two  spaces,\n\n\nempty lines\tand a tab.  "),
)

SYSTEM: Final = ("system", "You answer in one short sentence.")


def _canaries() -> tuple[Conversation, ...]:
    """Return four conversations of each exchange: alone, after another one, after a system turn, and long."""
    found: list[Conversation] = []
    for before, (question, answer) in pairwise((EXCHANGES[-1], *EXCHANGES)):
        alone = (("user", question), ("assistant", answer))
        earlier = (("user", before[0]), ("assistant", before[1]))
        asked_again = (("user", f"{before[0]} {question}"), ("assistant", answer))
        long = (("user", f"{question} {before[1]}"), ("assistant", " ".join([answer, before[1]] * 4)))
        found += [alone, (*earlier, *alone), (SYSTEM, *asked_again), long]
    return tuple(found)


CANARIES: Final = _canaries()


@dataclass(frozen=True, slots=True)
class Canaries:
    """What a backbone gives for the canaries on some machine."""

    backbone: str
    """Its name."""
    machine: str
    vectors_ND: npt.NDArray[np.float32]
    """`[64, D]` in the order of `CANARIES`."""


@dataclass(frozen=True, slots=True)
class FirstCanaries(Summary):
    """The canaries that all later ones are compared with."""

    band: float = 0.0
    """How far vectors may lie from them; it stands in the record, too, as does the type."""
    dtype: str = ""
    machine: str = ""


def line_of(first: FirstCanaries) -> str:
    """Return what they are, for a person."""
    return f"{len(CANARIES)} canaries, band {first.band:g} in {first.dtype}, from {first.machine}"


def take_canaries(backbone: "Backbone", *, token_budget: int) -> Canaries:
    """Embed them here.

    Raises:
        BackboneError: one has no usable vector at all.
    """
    return Canaries(backbone.name, _machine(backbone), embed_canaries(backbone, token_budget=token_budget))


def check_canaries(writer: Writer, canaries: Canaries, fingerprint: Fingerprint, backbone_artifact: str) -> float:
    """Compare the canaries' vectors with the first ones, or keep them as the first ones; return the largest distance.

    Raises:
        CanaryError: a canary's vector is further from the first one than the band allows.
    """
    vectors_ND, machine = canaries.vectors_ND, canaries.machine
    backbone_id, dtype = fingerprint.backbone_id, fingerprint.record["dtype"]
    recipe = Recipe(f"{SLOT}/{backbone_id}", SLOT, STAGE_VERSION, {}, {"backbone": backbone_artifact})

    def make() -> Made:
        names: list[Name] = [("conversation", _name(number)) for number in range(len(CANARIES))]
        record = put_record(writer.store, {"band": BANDS[dtype], "dtype": dtype})
        objects = {"vectors": put_vectors(writer.store, names, list(vectors_ND)), "record": record}
        return Made(objects, FirstCanaries(BANDS[dtype], dtype, machine))

    first = writer.ensure(recipe, make).artifact
    apart_N = distances(_stored(writer.store, first), vectors_ND)
    band = read_record(writer.store, first, FirstCanaries).band
    furthest = int(apart_N.argmax())
    if not apart_N[furthest] <= band:
        raise CanaryError(
            canaries.backbone,
            furthest=furthest,
            distance=float(apart_N[furthest]),
            median=float(np.median(apart_N)),
            band=band,
            machines=(read_summary(first, FirstCanaries).machine, machine),
        )
    return float(apart_N[furthest])


def embed_canaries(backbone: "Backbone", *, token_budget: int) -> npt.NDArray[np.float32]:
    """Return `[64, D]` vectors in the order of `CANARIES`. A system turn is left out where the template refuses it.

    Raises:
        BackboneError: the template renders one of them in neither way, or its vector is no use.
    """
    sequences = [
        _cut_left(number, one, backbone.fingerprint.max_tokens) for number, one in enumerate(_rendered(backbone))
    ]
    if rejects := within_vocabulary(backbone, sequences).rejects:
        raise BackboneError(backbone.name, rejects[0].detail)
    passes = run_passes(backbone, sequences, token_budget=token_budget)
    vectors = {wanted.id: vector for one in passes for wanted, vector in one.vectors}
    vectors_ND = np.stack([vectors[_name(number)] for number in range(len(sequences))])
    if lost := [reason for reason in unusable(vectors_ND, "float32") if reason]:
        raise BackboneError(
            backbone.name,
            f"got no usable vector ({lost[0]}) for {len(lost)} of {len(vectors_ND)} plain short texts; expected finite "
            "ones; check its weights, or run it in float32",
        )
    return vectors_ND


def distances(first_ND: npt.NDArray[np.float32], now_ND: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return `[N]` how far each vector has moved, as a share of its first length."""
    apart_N: npt.NDArray[np.float32] = np.linalg.norm(now_ND - first_ND, axis=1) / np.linalg.norm(first_ND, axis=1)
    return apart_N


def _rendered(backbone: "Backbone") -> list[Rendered]:
    from armorm.features.conversation import conversation_id
    from armorm.features.embedding.render import render

    plain = [tuple(turn for turn in messages if turn[0] != "system") for messages in CANARIES]
    system = backbone.fingerprint.system
    whole, without = (render(backbone.tokenizer, of, system=system) for of in (CANARIES, plain))
    by_id = {one.conversation_id: one for rendering in (without, whole) for one in rendering.rendered}
    found = []
    for messages, shorter in zip(CANARIES, plain, strict=True):
        one = by_id.get(conversation_id(messages)) or by_id.get(conversation_id(shorter))
        if one is None:
            raise BackboneError(
                backbone.name,
                f"{without.refused[conversation_id(shorter)]}; expected one that takes user and assistant turns; "
                "correct the chat template",
            )
        found.append(one)
    return found


def _cut_left(number: int, one: Rendered, max_tokens: int) -> TokenSequence:
    ids = one.token_ids[-max_tokens:]
    return TokenSequence(ids, (Wanted("conversation", _name(number), len(ids) - 1, len(one.token_ids)),))


def _name(number: int) -> str:
    return f"canary {number:02d}"


def _stored(store: Store, artifact: Artifact) -> npt.NDArray[np.float32]:
    vectors: dict[Name, Vector] = read_vectors(store, artifact.objects["vectors"])
    return np.stack([vectors["conversation", _name(number)] for number in range(len(vectors))])


def _machine(backbone: "Backbone") -> str:
    import torch

    device = backbone.model.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} {platform.machine()}"
    return f"{name}, torch {torch.__version__}, transformers {version('transformers')}"
