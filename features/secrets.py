"""Texts of others without the secrets that they may quote: passwords in addresses, signatures, tokens, keys.

A leaf module: it imports nothing of the project. What a library says of a proxy, an endpoint or a bucket quotes the
address that it was given; so every text that was not written here passes `redacted` before it is shown or kept.
"""

import logging
import re
import traceback
from contextlib import suppress
from typing import Any, Final

HIDDEN: Final = "***"

_WORD = r"""[^\s&;,"'<>(){}\[\]\\]+"""

_SCHEME = r"(?<![a-z0-9+.-])[a-z0-9+.-]+://"
"""From where such a word begins: tried from each of its letters on, a long text would take hours."""

_QUOTED_OR_WORD = rf"""(?:"[^"\n]*"|'[^'\n]*'|{_WORD})"""

_NAMES = (
    r"(?:[\w.-]*[_-])?(?:passw(?:or)?d|pwd|secret|signature|credentials?|api[_-]?key|secret[_-]?(?:access[_-]?)?key"
    r"|(?:access|account|shared|private)[_-]?key(?:[_-]?id)?"
    r"|(?:access|refresh|id|auth|api|session|security|bearer|hf|sas)[_-]?token)"
)

_RULES: Final = [
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        # scheme://user:password@host, also where the password holds what ought to be quoted
        (rf"({_SCHEME})[^\s/?#\"'<>]*@", rf"\1{HIDDEN}@"),
        (rf"({_SCHEME})[^\s/:@\"'<>]*:(?!\d*[/?#])[^\s@\"'<>]*@", rf"\1{HIDDEN}@"),
        # user:password@host:port, as a proxy may be named
        (r"(?<![\w/.%+-])[\w.%+-]+:[^\s:/@\"'<>]+@(?=[\w.-]+:\d)", f"{HIDDEN}@"),
        # Authorization: Bearer token
        (
            rf"((?:proxy-)?authorization[\"']?\s*[:=]\s*[\"']?)(?:(?:basic|bearer|digest|token|negotiate)\s+)?{_WORD}",
            rf"\1{HIDDEN}",
        ),
        (r"(\bbearer\s+)[\w.~+/=-]{8,}", rf"\1{HIDDEN}"),
        (r"((?:set-)?cookie[\"']?\s*:\s*[\"']?)[^\n\"']+", rf"\1{HIDDEN}"),
        # ?X-Amz-Signature=..&token=..; in a query every such name is one of a secret
        (r"([?&](?:[\w.%-]*(?:token|key|sig|auth|code|session)|pass|sas)=)[^\s&#\"'<>]+", rf"\1{HIDDEN}"),
        (rf"(?<![\w.-])({_NAMES}[\"']?\s*=\s*){_QUOTED_OR_WORD}", rf"\1{HIDDEN}"),
        (rf"(([\"']){_NAMES}\2\s*:\s*){_QUOTED_OR_WORD}", rf"\1{HIDDEN}"),
        (rf"(?<![\w.-])((?:x-[\w-]+-(?:token|key)|x-api-key|api-key)\s*:\s*){_WORD}", rf"\1{HIDDEN}"),
        # what is known by its form
        (r"\bhf_(?=[a-z]*\d)[a-z0-9]{8,}|\bhf_[a-z0-9]{20,}", HIDDEN),
        (r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_\w{20,}|\bpn[ubk]_[a-z0-9]{16,}|\bsk-[\w-]{20,}", HIDDEN),
    )
]


def redacted(text: str) -> str:
    """Return a text in which `***` is in the place of every secret that can be told by its form or its name."""
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def redact_error(error: BaseException | None) -> None:
    """Take the secrets out of an error and of what it came from, for those who print it after us."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        with suppress(AttributeError):  # of those whose arguments are a property
            one.args = tuple(redacted(of) if isinstance(of, str) else of for of in one.args)
        waiting += [one.__cause__, one.__context__]


def redacted_traceback(error: BaseException) -> str:
    """Return what Python would print of an error."""
    return redacted("".join(traceback.format_exception(error)))


class RedactedRecord(logging.LogRecord):
    """A log record, of whatever logger, whose text and traceback are without secrets."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        try:
            said = self.getMessage()
        except Exception:  # arguments that do not fit: logging itself says so
            return
        if (clean := redacted(said)) != said:
            self.msg, self.args = clean, ()
        if self.exc_info and self.exc_info[1] is not None:
            redact_error(self.exc_info[1])
            self.exc_text = redacted_traceback(self.exc_info[1]).rstrip("\n")


def redact_logs() -> None:
    """Have all loggers of this process, those of libraries too, make records without secrets."""
    logging.setLogRecordFactory(RedactedRecord)
