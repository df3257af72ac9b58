"""armorm's own reward models, and folders in the published layout, as judges."""

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from armorm.features.conversation import prompt_id
from armorm.features.embedding.vectors import embed_conversations
from armorm.features.store import Store, content_id
from armorm.features.vectors.shards import FeatureReader, Vector
from armorm.judges.judge import Question
from armorm.model.head import RewardHead
from armorm.stages.judge import Verdict

if TYPE_CHECKING:
    from armorm.features.embedding.backbone import Backbone

N_AT_ONCE: Final = 1024

Name = tuple[str, str]
"""Kind and id of a text."""


@dataclass(frozen=True)
class Vectors:
    """The vectors of one backbone, for all judges that have it: those of the store, and what was computed here."""

    store: Store
    backbone_id: str
    load: Callable[[], "Backbone"]
    token_budget: int
    computed: dict[Name, Vector | str] = field(default_factory=dict)
    """A vector, or why there is none."""

    @cached_property
    def _reader(self) -> FeatureReader:
        return FeatureReader(self.store, self.backbone_id)

    @cached_property
    def _backbone(self) -> "Backbone":
        return self.load()

    def of(self, questions: Sequence[Question]) -> Mapping[Name, Vector | str]:
        """Return the vectors of all answers and prompts, by kind and id."""
        answers = {id: of for q in questions for id, of in ((q.first_id, q.first), (q.second_id, q.second))}
        prompts = {prompt_id(messages): messages for messages in answers.values()}
        wanted = {"conversation": list(answers), "prompt": list(prompts)}
        found: dict[Name, Vector | str] = {}
        for kind, ids in wanted.items():
            here = [id for id, known in zip(ids, self._reader.has(kind, ids), strict=True) if known]
            if here:
                found |= zip(((kind, id) for id in here), self._reader.gather(kind, here), strict=True)
        missing = {(kind, id) for kind, ids in wanted.items() for id in ids} - found.keys() - self.computed.keys()
        if missing:
            self._embed(answers, {id for kind, id in missing if kind == "conversation"}, missing)
        return ChainMap(found, self.computed)

    def _embed(self, answers: Mapping[str, Any], conversations: set[str], missing: set[Name]) -> None:
        prompts = {id for kind, id in missing if kind == "prompt"}
        read = [of for id, of in answers.items() if id in conversations or prompt_id(of) in prompts]
        embedded = embed_conversations(self._backbone, read, conversations, prompts, token_budget=self.token_budget)
        self.computed.update({(of.kind, of.id): of.vector for of in embedded.features})
        self.computed.update({(of.kind, of.id): of.detail for of in embedded.rejects})


@dataclass(frozen=True)
class RewardModelJudge:
    """A model with regression, transform and gate."""

    name: str
    model: RewardHead
    vectors: Vectors

    n_at_once = N_AT_ONCE

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """The model's tensors and objectives, and its backbone."""
        tensors = {name: array.tobytes().hex() for name, array in self.model.tensors().items()}
        return {
            "kind": "armorm",
            "model": content_id([list(self.model.objectives), tensors]),
            "backbone": self.model.backbone_id,
        }

    def answer(self, questions: Sequence[Question]) -> Iterator[Verdict]:
        """Score both answers of each by the gate of their prompt."""
        vectors = self.vectors.of(questions)
        scored = []
        for question in questions:
            prompt = ("prompt", prompt_id(question.first))
            texts = (("conversation", question.first_id), ("conversation", question.second_id), prompt)
            why_not = next((found for name in texts if isinstance(found := vectors[name], str)), None)
            if why_not:
                yield question.unanswered(why_not)
            else:
                scored.append((question, [vectors[name] for name in texts]))
        if not scored:
            return
        first_ND, second_ND, prompt_ND = (np.stack([of[place] for _, of in scored]) for place in range(3))
        scores = [self.model.score_features(of_ND, prompt_ND).score.tolist() for of_ND in (first_ND, second_ND)]
        for (question, _), first, second in zip(scored, *scores, strict=True):
            yield question.scored(first, second)
