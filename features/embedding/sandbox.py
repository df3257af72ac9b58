"""What chat templates write and tokenizers make of it, in a process of its own, which is ended at its limits.

A template is a program of the backbone's author, and so, nearly, is a tokenizer: its expressions may backtrack for ever
for a text, or its replacements make gigabytes of it. None of that can be stopped from within Python. A tokenizer.json
is read in that process first, too. Not covered: what transformers makes of other files, such as merges.txt, a GGUF or a
SentencePiece model, is made in this process; and so are the tokens of the few tokenizers that are written in Python.
"""

import atexit
import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from armorm.features.catalog.bounded import Ended, Worker
from armorm.features.embedding.folder import read_json
from armorm.features.embedding.packs import TokenIds
from armorm.features.errors import BackboneError
from armorm.features.units import size

WORK_S: Final = 2.0
"""The most time of a processor for one conversation; a usual one takes less than a thousandth of it."""

CHARACTERS_PER_S: Final = 50_000
"""A conversation of more has so much more time: a tokenizer reads a million in a second."""

ANSWER_BYTES: Final = 150
"""The most memory of what is made of a character: four tokens."""

LOAD_S: Final = 30.0
"""The most time of a processor for loading a tokenizer; one of 256,000 tokens takes two."""

MEMORY_BYTES: Final = 512 * 1024**2

CHARACTERS: Final = 100_000
"""What a template may write, and how many tokens there may be, besides ten times what a conversation says."""

MOST_ADDED: Final = 2**15
"""Tokens that a tokenizer may have besides its vocabulary: transformers' time for them grows with their square."""

LONG: Final = 1_000_000
"""Characters of a conversation that may take so much of any backbone."""

MOST_ENDED: Final = 3
"""How many shorter ones of some may come to such an end: so many cost themselves alone, more are the backbone's."""

ITS_OWN: Final = (signal.SIGPROF, signal.SIGSEGV, signal.SIGABRT)
"""Signals that a backbone brings upon itself: of its time, of a stack that is too deep, of a tokenizer's memory."""

TOO_MUCH: Final = f"more than {WORK_S:g} s of a processor, or {size(MEMORY_BYTES)} of memory"

Turns = Sequence[Mapping[str, str]]


class Written(NamedTuple):
    """What became of a conversation."""

    text: str = ""
    token_ids: TokenIds = ()
    why_not: str = ""
    """Why there is no text; empty where there is one."""


@dataclass(slots=True)
class _Writer:
    """The process that does this for this one, which starts it when it is first needed."""

    lock: threading.Lock
    worker: Worker | None = None
    of_process: int = 0
    tokenizer: PreTrainedTokenizerBase | None = None
    """The one that the process has."""

    def started(self) -> Worker:
        """Return the process: after a fork, or after an end, a new one."""
        if self.worker is None or self.worker.has_ended or self.of_process != os.getpid():
            self.worker, self.of_process, self.tokenizer = Worker(MEMORY_BYTES), os.getpid(), None
        return self.worker

    def with_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> Worker:
        """Return the process when it has a tokenizer."""
        worker = self.started()
        if self.tokenizer is not tokenizer:
            of_any_kind: Any = tokenizer
            made = of_any_kind.backend_tokenizer.to_str() if tokenizer.is_fast else None
            arguments = {"made": made, "splits_special": bool(getattr(tokenizer, "split_special_tokens", False))}
            list(worker.ask(hold, arguments, work_s=LOAD_S))
            self.tokenizer = tokenizer
        return worker

    def end(self) -> None:
        if self.worker and self.of_process == os.getpid():
            self.worker.end()


_writer: Final = _Writer(threading.Lock())
atexit.register(_writer.end)


def try_tokenizer(name: str, folder: Path) -> None:
    """Read what a folder's tokenizer consists of, before anything else does.

    Raises:
        BackboneError: it is damaged, adds too many tokens, or takes too long or too much memory.
    """
    with _writer.lock:
        try:
            list(_writer.started().ask(tried, {"name": name, "folder": str(folder)}, work_s=LOAD_S))
        except Ended as ended:
            raise BackboneError(
                name,
                f"got a tokenizer that takes more than {LOAD_S:g} s of a processor, or {size(MEMORY_BYTES)} of memory, "
                "to load; expected one that is read at once; restore its files, or name another backbone",
            ) from ended


def tokenise(tokenizer: PreTrainedTokenizerBase, template: str, conversations: Sequence[Turns]) -> list[Written]:
    """Return what a template writes for each conversation and the tokens of it, or why there are none.

    Args:
        tokenizer: the backbone's.
        template: Jinja.
        conversations: messages with `role` and `content`.

    Raises:
        BackboneError: template or tokenizer take too long, or too much memory, for several of them.
    """
    name, found, n_ended = tokenizer.name_or_path, list[Written](), 0
    lengths = [sum(len(turn["content"]) for turn in turns) for turns in conversations]
    work_s = WORK_S + max(lengths, default=0) / CHARACTERS_PER_S
    answer_bytes = 10**9 + ANSWER_BYTES * sum(lengths)
    with _writer.lock:
        while len(found) < len(conversations):
            rest = {
                "template": template,
                "tokens": tokenizer.special_tokens_map,
                "conversations": conversations[len(found) :],
            }
            try:
                worker = _writer.with_tokenizer(tokenizer)
                for text, ids, why in worker.ask(tokenised, rest, work_s=work_s, answer_bytes=answer_bytes):
                    if text and not tokenizer.is_fast:
                        ids = tokenizer.encode(text, add_special_tokens=False)
                    found.append(Written(text, tuple(ids), why))
            except Ended as ended:
                if not (ended.out_of_memory or ended.by_signal in ITS_OWN):
                    raise BackboneError(
                        name, f"got no answer of the process that renders chat templates ({ended}); run it again"
                    ) from ended
                n_ended += lengths[len(found)] < LONG
                found.append(Written(why_not=f"it takes {TOO_MUCH}"))
                if n_ended >= MOST_ENDED:
                    raise BackboneError(
                        name,
                        f"got a chat template or a tokenizer that takes {TOO_MUCH}, for {n_ended} of {len(found)} "
                        "conversations; expected ones that end; set chat_template in [backbone] to one that does, or "
                        "name another backbone",
                    ) from ended
    return found


_held: Final[list[Tokenizer]] = []
"""Within the process that may be ended: the tokenizer that it has, if it has any."""


def hold(made: str | None, splits_special: bool) -> Iterator[None]:
    """Keep a tokenizer, as transformers has made it and would use it, within the process that may be ended."""
    _held.clear()
    if made:
        tokenizer = Tokenizer.from_str(made)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = splits_special
        _held.append(tokenizer)
    yield from ()


def tried(name: str, folder: str) -> Iterator[None]:
    """Do what `try_tokenizer` does, within the process that may be ended."""
    tokens = set(_texts([_read(Path(folder, file)) for file in ("tokenizer_config.json", "special_tokens_map.json")]))
    tokens |= set(_read(Path(folder, "added_tokens.json")))
    for path in sorted([*Path(folder).glob("tokenizer.json"), *Path(folder).glob("tokenizer.*.json")]):
        try:
            tokenizer = Tokenizer.from_file(str(path))
            tokens |= {token.content for token in tokenizer.get_added_tokens_decoder().values()}
            if len(tokens) <= MOST_ADDED:  # what transformers adds is normalised, too
                tokenizer.add_tokens([AddedToken(token, normalized=True) for token in sorted(tokens)])
        except MemoryError:
            raise
        except BaseException as error:  # a panic is no Exception
            raise BackboneError(
                name, f"got a {path.name} that cannot be read ({_said(error)}); restore the file"
            ) from error
        if getattr(tokenizer.model, "dropout", None):
            raise BackboneError(name, f"got dropout in {path.name}, which draws tokens; expected null; set it to that")
    if len(tokens) > MOST_ADDED:
        raise BackboneError(
            name,
            f"got a tokenizer that adds {len(tokens):,} tokens to its vocabulary; expected at most {MOST_ADDED:,}; put "
            "them into the vocabulary of tokenizer.json, or name another backbone",
        )
    yield from ()


def _read(path: Path) -> dict[str, Any]:
    return read_json(path.parent, path.name) if path.is_file() else {}


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts of a JSON value."""
    if isinstance(value, str):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(item)


def tokenised(template: str, tokens: Mapping[str, Any], conversations: Sequence[Turns]) -> Iterator[list[Any]]:
    """Yield what `tokenise` returns, as lists, which travel fast, within the process that may be ended."""
    for turns in conversations:
        try:
            if not turns:
                raise ValueError("it has no messages")
            of_one: Any = {"conversations": [turns], "chat_template": template}
            rendered: Any = render_jinja_template(**of_one, **tokens)
            ((text,), _) = rendered
            most = CHARACTERS + 10 * len(json.dumps(turns, ensure_ascii=False))
            if len(text) > most:
                raise ValueError(f"it writes {len(text):,} characters; expected at most {most:,}")
            ids = [id for tokenizer in _held for id in tokenizer.encode(text, add_special_tokens=False).ids]
            if len(ids) > most:
                raise ValueError(f"the tokenizer makes {len(ids):,} tokens of it; expected at most {most:,}")
        except MemoryError:
            raise
        except BaseException as error:  # a template may raise anything, and a tokenizer's panic is no Exception
            yield ["", [], _said(error)]
            continue
        yield [str(text), ids, ""]


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:500] or type(error).__name__
