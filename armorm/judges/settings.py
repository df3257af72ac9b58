"""Settings of judges, one table `[judges.NAME]` each, by their `kind`. Loads no torch."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from armorm.features.embedding.fingerprint import BackboneSettings

CONTEXT: Final = "{context}"
FIRST: Final = "{first}"
SECOND: Final = "{second}"
"""What a prompt has to hold: the conversation so far and both answers."""

PAIRWISE_PROMPT: Final = "[CONTEXT] {context} [RESPONSE A] {first} [RESPONSE B] {second} \n"
"""The format that RLHFlow/pair-preference-model-LLaMA3-8B was trained on (its model card)."""

PAIRWISE_TURNS: Final = {"user": "\n<turn> user\n ", "assistant": "\n<turn> assistant\n "}
"""And what it writes before each turn of the conversation, as its template renders: a line break stands before the
first, and one after the last."""


@dataclass(frozen=True, slots=True)
class ClassifierSettings(BackboneSettings):
    """A reward model of transformers' `AutoModelForSequenceClassification`."""

    kind: Literal["classifier"] = "classifier"
    label: int | None = None
    """The place of the label that is the score, where there are several."""


@dataclass(frozen=True, slots=True)
class PairwiseSettings(BackboneSettings):
    """A pair-preference model: a language model that reads both answers and names one."""

    kind: Literal["pairwise"] = "pairwise"
    prompt: str = PAIRWISE_PROMPT
    labels: tuple[str, str] = ("A", "B")
    """The tokens by which it names them."""

    def __post_init__(self) -> None:
        check_prompt(self.prompt)


@dataclass(frozen=True, slots=True)
class ImplicitSettings(BackboneSettings):
    """A policy that was trained by DPO, with its reference: the implicit reward."""

    kind: Literal["dpo"] = "dpo"
    reference: str = ""
    """The model that it was trained from: a local folder or a Hub id."""

    def __post_init__(self) -> None:
        if not self.reference:
            raise ValueError("got no reference; expected the model that the policy was trained from; set reference")


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """A generative judge behind an OpenAI-compatible endpoint."""

    kind: Literal["endpoint"] = "endpoint"
    url: str = ""
    """Up to `/v1`: `/chat/completions` is added."""
    model: str = ""
    prompt: str = ""
    """A file of the prompt; by default armorm's own."""
    first: str = "[[A]]"
    """What the reply says last where the first answer is better; the last mark in it counts."""
    second: str = "[[B]]"
    tie: str = "[[C]]"
    max_tokens: int = 1024
    timeout_s: float = 120.0
    """The longest time for one reply. A question that was taken is not sent again."""
    at_once: int = 8
    """Questions under way at once."""
    key: str = "OPENAI_API_KEY"
    """The environment variable that holds the key."""

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"got url {self.url!r}; expected http:// or https://; set url")
        if "@" in self.url.split("/")[2]:
            raise ValueError("got a url with a password; expected the key in an environment variable; name it by key")
        if not self.model:
            raise ValueError("got no model; expected the name that the endpoint knows it by; set model")
        if len({self.first, self.second, self.tie}) < 3:
            raise ValueError("got marks that are equal; expected three different ones; change first, second or tie")
        if min(self.max_tokens, self.at_once) < 1 or not self.timeout_s > 0:
            raise ValueError("got max_tokens, at_once or timeout_s below 1; expected at least 1; raise it")


@dataclass(frozen=True, slots=True)
class FileSettings:
    """Verdicts that somebody else has made."""

    kind: Literal["verdicts"] = "verdicts"
    path: str = ""
    """Rows with both answers or a `pair_id`, and scores or a verdict."""


JudgeSettings = ClassifierSettings | PairwiseSettings | ImplicitSettings | EndpointSettings | FileSettings

KINDS: Final[Mapping[str, type[JudgeSettings]]] = {
    "classifier": ClassifierSettings,
    "pairwise": PairwiseSettings,
    "dpo": ImplicitSettings,
    "endpoint": EndpointSettings,
    "verdicts": FileSettings,
}


def check_prompt(prompt: str) -> None:
    """Refuse a prompt that lacks what is to be judged.

    Raises:
        ValueError: by the name of what it lacks.
    """
    missing = [mark for mark in (CONTEXT, FIRST, SECOND) if prompt.count(mark) != 1]
    if missing:
        raise ValueError(
            f"got a prompt in which {', '.join(missing)} does not stand once; expected {CONTEXT}, {FIRST} and {SECOND} "
            "once each; correct the prompt"
        )


def fill_prompt(prompt: str, context: str, first: str, second: str) -> str:
    """Return a prompt with its three places filled: what a text holds in braces stays as it is."""
    texts = {CONTEXT: context, FIRST: first, SECOND: second}
    return re.sub("|".join(map(re.escape, texts)), lambda found: texts[found[0]], prompt)
