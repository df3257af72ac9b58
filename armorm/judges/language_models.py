"""Judges that transformers runs here: reward classifiers, pair-preference models, and policies with a reference.

Texts are rendered and tokenised as for the embedding, and run in right-padded batches of similar lengths.
Suffixes: B texts, L tokens, V vocabulary, C labels.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Generic, TypeVar

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedTokenizerBase

from armorm.features.conversation import Conversation
from armorm.features.embedding.backbone import load_with
from armorm.features.embedding.fingerprint import BackboneSettings, read_fingerprint
from armorm.features.embedding.packs import Rendered, TokenIds, plan_batches
from armorm.features.embedding.render import render
from armorm.features.embedding.sandbox import tokenise
from armorm.features.errors import BackboneError
from armorm.judges.judge import Question
from armorm.judges.settings import (
    PAIRWISE_TURNS,
    ClassifierSettings,
    ImplicitSettings,
    PairwiseSettings,
    fill_prompt,
)
from armorm.stages.judge import Verdict

S = TypeVar("S", bound=BackboneSettings)

TOKEN_BUDGET: Final = 8192
"""Tokens of a forward pass, padding included."""

N_AT_ONCE: Final = 1024


@dataclass(frozen=True)
class _Local(Generic[S]):
    """A model of this machine; it is loaded at the first question."""

    name: str
    settings: S
    token_budget: int = TOKEN_BUDGET

    n_at_once = N_AT_ONCE
    kind: Any = AutoModelForCausalLM

    @cached_property
    def fingerprint(self) -> Any:
        """What decides its numbers, besides the settings of the judge."""
        return read_fingerprint(self.settings)

    @cached_property
    def _loaded(self) -> tuple[Any, PreTrainedTokenizerBase]:
        return load_with(self.kind, self.settings, self.fingerprint)

    def _rendered(self, texts: Mapping[str, Conversation]) -> tuple[dict[str, Rendered], dict[str, str]]:
        """Return the tokens of texts by id, and why there are none of the others."""
        _, tokenizer = self._loaded
        rendering = render(tokenizer, list(texts.values()), system=self.fingerprint.system)
        longest = self.fingerprint.max_tokens
        found = {of.conversation_id: of for of in rendering.rendered}
        too_long = {
            id: f"{len(of.token_ids):,} tokens; expected at most {longest:,}"
            for id, of in found.items()
            if len(of.token_ids) > longest
        }
        return {id: of for id, of in found.items() if id not in too_long}, {**rendering.refused, **too_long}

    def _batches(self, token_ids: Mapping[str, TokenIds]) -> Iterator[tuple[list[str], torch.Tensor, torch.Tensor]]:
        """Yield ids, `[B, L]` tokens and `[B, L]` mask of texts, padded on the right with the model's own token."""
        model, tokenizer = self._loaded
        ids, pad = list(token_ids), _pad_token(model, tokenizer)
        budget = 1 if pad is None else self.token_budget
        for batch in plan_batches([len(token_ids[id]) for id in ids], token_budget=budget):
            here = [ids[index] for index in batch]
            longest = max(len(token_ids[id]) for id in here)
            tokens_BL = torch.full((len(here), longest), pad or 0, dtype=torch.long)
            mask_BL = torch.zeros_like(tokens_BL)
            for row, id in enumerate(here):
                tokens_BL[row, : len(token_ids[id])] = torch.as_tensor(token_ids[id])
                mask_BL[row, : len(token_ids[id])] = 1
            yield here, tokens_BL.to(model.device), mask_BL.to(model.device)


def _pad_token(model: Any, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the token that fills a batch; None where there is none, and texts go one by one.

    A classifier of transformers finds a text's last token by it, so it has to be the configuration's own.
    """
    config = model.config.get_text_config()
    if config.pad_token_id is None and tokenizer.pad_token_id is not None:
        config.pad_token_id = int(tokenizer.pad_token_id)
    pad: int | None = config.pad_token_id
    return pad


@dataclass(frozen=True)
class Classifier(_Local[ClassifierSettings]):
    """A reward model with a classification head: the score of an answer is the logit of a label."""

    kind: Any = AutoModelForSequenceClassification

    @property
    def identity(self) -> Mapping[str, Any]:
        """Weights, tokenizer, template and label."""
        return {"kind": "classifier", "label": self.settings.label, "model": dict(self.fingerprint.record)}

    def answer(self, questions: Sequence[Question]) -> Iterator[Verdict]:
        """Score each distinct answer once.

        Raises:
            BackboneError: the model has several labels, and none is named.
        """
        model, _ = self._loaded
        n_labels, label = int(model.config.num_labels), self.settings.label
        if not 0 <= (place := label if label is not None else 0) < n_labels or (label is None and n_labels > 1):
            raise BackboneError(
                self.settings.path,
                f"got label {label} of a classifier with {n_labels} labels; expected the place of the one that is the "
                f"score, from 0 to {n_labels - 1}; set label in [judges.{self.name}]",
            )
        rendered, why_not = self._rendered(_texts(questions))
        scores: dict[str, float] = {}
        with torch.inference_mode():
            for ids, tokens_BL, mask_BL in self._batches({id: of.token_ids for id, of in rendered.items()}):
                logits_BC = model(input_ids=tokens_BL, attention_mask=mask_BL).logits
                scores |= dict(zip(ids, logits_BC[:, place].float().tolist(), strict=True))
        yield from _scored(questions, scores, why_not)


@dataclass(frozen=True)
class ImplicitReward(_Local[ImplicitSettings]):
    """A policy with its reference: `log pi(y|x) - log pi_ref(y|x)`, DPO's reward without beta (arXiv 2305.18290)."""

    @cached_property
    def _reference(self) -> "ImplicitReward":
        return replace(self, settings=replace(self.settings, path=self.settings.reference))

    @property
    def identity(self) -> Mapping[str, Any]:
        """Weights, tokenizer and template of both."""
        return {
            "kind": "dpo",
            "model": dict(self.fingerprint.record),
            "reference": dict(self._reference.fingerprint.record),
        }

    def answer(self, questions: Sequence[Question]) -> Iterator[Verdict]:
        """Score each distinct answer by both models; the tokens are those of the policy.

        Raises:
            BackboneError: the reference has another vocabulary.
        """
        policy, reference = (of._loaded for of in (self, self._reference))
        if policy[1].get_vocab() != reference[1].get_vocab():
            raise BackboneError(
                self.settings.reference,
                "got a reference with another vocabulary; expected that of the policy; name the model that it was "
                "trained from",
            )
        rendered, why_not = self._rendered(_texts(questions))
        tokens = {id: of.token_ids for id, of in rendered.items() if 0 < of.n_prompt_tokens < len(of.token_ids)}
        why_not |= dict.fromkeys(rendered.keys() - tokens.keys(), "the template does not tell where the answer begins")
        scores: dict[str, float] = {}
        with torch.inference_mode():
            for ids, tokens_BL, mask_BL in self._batches(tokens):
                starts = [rendered[id].n_prompt_tokens for id in ids]
                ours_B, theirs_B = (_answers_logp(of, tokens_BL, mask_BL, starts) for of in (policy[0], reference[0]))
                scores |= dict(zip(ids, (ours_B - theirs_B).tolist(), strict=True))
        yield from _scored(questions, scores, why_not)


@dataclass(frozen=True)
class Pairwise(_Local[PairwiseSettings]):
    """A model that reads both answers and names one; it is asked in both orders."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Weights, tokenizer, template, prompt and labels."""
        return {
            "kind": "pairwise",
            "model": dict(self.fingerprint.record),
            "prompt": self.settings.prompt,
            "labels": list(self.settings.labels),
        }

    def answer(self, questions: Sequence[Question]) -> Iterator[Verdict]:
        """Yield `P(first) - P(second)` in both orders, of the two labels after the prompt.

        Raises:
            BackboneError: a label is no single token.
        """
        model, tokenizer = self._loaded
        labels = [tokenizer.encode(label, add_special_tokens=False) for label in self.settings.labels]
        if any(len(label) != 1 for label in labels):
            raise BackboneError(
                self.settings.path,
                f"got labels {', '.join(self.settings.labels)}, of {', '.join(str(len(of)) for of in labels)} tokens; "
                f"expected one token each; set labels in [judges.{self.name}]",
            )
        asked: dict[str, Conversation] = {}
        for number, question in enumerate(questions):
            for order, answers in (("+", question.answers), ("-", question.answers[::-1])):
                asked[f"{order}{number}"] = (("user", self._prompt(question.prompt, *answers)),)
        tokens, why_not = self._prompts(asked)
        preferred: dict[str, float] = {}
        with torch.inference_mode():
            for ids, tokens_BL, mask_BL in self._batches(tokens):
                logits_BLV = model(input_ids=tokens_BL, attention_mask=mask_BL, use_cache=False).logits
                last_B = mask_BL.sum(dim=1) - 1
                both_BC = logits_BLV[torch.arange(len(ids)), last_B][:, [label[0] for label in labels]]
                shares_BC = both_BC.double().softmax(dim=1)
                preferred |= dict(zip(ids, (shares_BC[:, 0] - shares_BC[:, 1]).tolist(), strict=True))
        for number, question in enumerate(questions):
            orders = [f"{order}{number}" for order in "+-"]
            if missing := next((why_not[order] for order in orders if order in why_not), None):
                yield question.unanswered(missing)
            else:
                yield question.ordered(preferred[orders[0]], -preferred[orders[1]])

    def _prompt(self, prompt: Conversation, first: str, second: str) -> str:
        turns = (PAIRWISE_TURNS["assistant" if role == "assistant" else "user"] + text for role, text in prompt)
        return fill_prompt(self.settings.prompt, "\n" + "".join(turns) + "\n", first, second)

    def _prompts(self, asked: Mapping[str, Conversation]) -> tuple[dict[str, TokenIds], dict[str, str]]:
        """Return the tokens of questions as the template writes them, and why there are none of the others."""
        _, tokenizer = self._loaded
        turns = [[{"role": role, "content": text} for role, text in messages] for messages in asked.values()]
        written = dict(zip(asked, tokenise(tokenizer, tokenizer.get_chat_template(), turns), strict=True))
        longest = self.fingerprint.max_tokens
        why_not = {
            id: of.why_not or f"{len(of.token_ids):,} tokens; expected 1 to {longest:,}"
            for id, of in written.items()
            if of.why_not or not 0 < len(of.token_ids) <= longest
        }
        start = tokenizer.bos_token_id  # what the published code takes out, too
        tokens = {id: of.token_ids for id, of in written.items() if id not in why_not}
        return {id: of[1:] if of[0] == start and len(of) > 1 else of for id, of in tokens.items()}, why_not


def _texts(questions: Sequence[Question]) -> dict[str, Conversation]:
    return {id: of for q in questions for id, of in ((q.first_id, q.first), (q.second_id, q.second))}


def _scored(
    questions: Sequence[Question], scores: Mapping[str, float], why_not: Mapping[str, str]
) -> Iterator[Verdict]:
    for question in questions:
        both = question.first_id, question.second_id
        if missing := next((why_not[id] for id in both if id in why_not), None):
            yield question.unanswered(missing)
        elif any(scores[id] != scores[id] or abs(scores[id]) == float("inf") for id in both):
            yield question.unanswered("a score that is not finite")
        else:
            yield question.scored(scores[both[0]], scores[both[1]])


def _answers_logp(model: Any, tokens_BL: torch.Tensor, mask_BL: torch.Tensor, starts: Sequence[int]) -> torch.Tensor:
    """Return `[B]` log probabilities of the tokens from each text's start on, in float64."""
    logits_BLV = model(input_ids=tokens_BL, attention_mask=mask_BL, use_cache=False).logits[:, :-1]
    logp_BL = torch.stack(
        [
            row_LV.double().log_softmax(dim=-1).gather(1, next_L[:, None])[:, 0]
            for row_LV, next_L in zip(logits_BLV, tokens_BL[:, 1:], strict=True)
        ]
    )
    places_L = torch.arange(1, tokens_BL.shape[1], device=tokens_BL.device)
    answered_BL = (places_L >= torch.tensor(starts, device=tokens_BL.device)[:, None]) & mask_BL[:, 1:].bool()
    return (logp_BL * answered_BL).sum(dim=1)
