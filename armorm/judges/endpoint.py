"""A generative judge behind an OpenAI-compatible endpoint: vLLM, SGLang, llama.cpp, a provider.

Both orders are asked. What the server has taken is not sent again; what it has refused to take for now, is. A question
without a reply gets no verdict that is kept, so the next run asks it again; a reply that names no answer is a reply.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import httpx2

from armorm.features.conversation import Conversation
from armorm.features.errors import InputError
from armorm.judges.judge import Question
from armorm.judges.settings import EndpointSettings, check_prompt, fill_prompt
from armorm.stages.judge import Verdict

PROMPT: Final = """\
You judge two answers to the same conversation. Which of them serves the user better? Look at whether it is correct, \
follows the instructions, is safe, and says what is needed and no more. Neither the order of the answers nor their \
length may decide.

<conversation>
{context}
</conversation>

<answer A>
{first}
</answer A>

<answer B>
{second}
</answer B>

Give your reasons in a few sentences. Then write, as the last line and alone, [[A]] if answer A is better, [[B]] if \
answer B is better, or [[C]] if neither is.
"""

TRIES: Final = 3
"""How often a question is sent that the server has not taken."""

NOT_TAKEN: Final = (429, 503)
"""What a server answers that takes no more questions for now."""

NEVER: Final = (400, 401, 403, 404, 405, 422)
"""What a server answers to a request that it will never take."""

LONGEST_WAIT_S: Final = 60.0
"""Between two tries, whatever the server asks for."""

MOST_BYTES: Final = 4 * 1024**2
"""Largest body of an answer, with all that stands around the reply."""

N_AT_ONCE: Final = 64


class EndpointError(InputError):
    """An endpoint that takes no question at all."""


class _NoReply(Exception):
    """What became of one question."""


@dataclass(frozen=True)
class Endpoint:
    """The judge."""

    name: str
    settings: EndpointSettings

    n_at_once = N_AT_ONCE

    @cached_property
    def prompt(self) -> str:
        """The prompt, of its file or armorm's own.

        Raises:
            EndpointError: the file cannot be read, or lacks a place for what is to be judged.
        """
        if not self.settings.prompt:
            return PROMPT
        try:
            prompt = Path(self.settings.prompt).read_text(encoding="utf-8")
            check_prompt(prompt)
        except (OSError, ValueError) as error:
            raise EndpointError(f"judges.{self.name}.prompt: {self.settings.prompt}: {error}") from error
        return prompt

    @property
    def identity(self) -> Mapping[str, Any]:
        """The model and all that it is asked; neither the key nor how often."""
        of = self.settings
        asked = {"prompt": self.prompt, "marks": [of.first, of.second, of.tie], "max_tokens": of.max_tokens}
        return {"kind": "endpoint", "url": of.url, "model": of.model, **asked}

    def answer(self, questions: Sequence[Question]) -> Iterator[Verdict]:
        """Ask, several questions at once.

        Raises:
            EndpointError: the endpoint refuses the kind of request, or the key.
        """
        key = os.environ.get(self.settings.key, "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with (
            httpx2.Client(headers=headers, timeout=self.settings.timeout_s) as client,
            ThreadPoolExecutor(self.settings.at_once) as threads,
        ):
            yield from threads.map(lambda question: self._judged(client, question), questions)

    def _judged(self, client: httpx2.Client, question: Question) -> Verdict:
        first, second = question.answers
        try:
            shown_first = self._preferred(client, question.prompt, first, second)
            shown_second = self._preferred(client, question.prompt, second, first)
        except _NoReply as error:
            return replace(question.unanswered(str(error)), kept=False)
        if shown_first is None or shown_second is None:
            return question.unanswered("no verdict in the reply")
        return question.ordered(shown_first, -shown_second)

    def _preferred(self, client: httpx2.Client, prompt: Conversation, first: str, second: str) -> float | None:
        """Return 1 where the answer that is shown first is better, -1 where the second is; None for no verdict."""
        context = "\n\n".join(f"{role}: {content}" for role, content in prompt)
        request = {
            "model": self.settings.model,
            "messages": [{"role": "user", "content": fill_prompt(self.prompt, context, first, second)}],
            "temperature": 0,
            "max_tokens": self.settings.max_tokens,
        }
        reply = _reply(self._sent(client, request))
        values = {self.settings.first: 1.0, self.settings.second: -1.0, self.settings.tie: 0.0}
        last = max(values, key=reply.rfind)
        return values[last] if last in reply else None

    def _sent(self, client: httpx2.Client, request: Mapping[str, Any]) -> bytes:
        """Return the body of the answer; sent again only where the server has not taken the question."""
        why = ""
        for n_tried in range(TRIES):
            wait_s = 2.0**n_tried
            try:
                status, asked_for_s, content = self._request(client, request)
            except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
                why = f"no connection ({type(error).__name__})"
            except httpx2.TimeoutException as error:
                raise _NoReply(f"no reply within {self.settings.timeout_s:g} s") from error
            except httpx2.HTTPError as error:
                raise _NoReply(f"the connection broke ({type(error).__name__})") from error
            else:
                if status == 200:
                    return content
                if status in NEVER:
                    said = " ".join(content.decode(errors="replace").split())[:200]
                    raise EndpointError(
                        f"judges.{self.name}: the endpoint answers {status} ({said}); expected 200; check url, model "
                        f"and the key in {self.settings.key}"
                    )
                if status not in NOT_TAKEN:
                    raise _NoReply(f"HTTP {status}")
                why, wait_s = f"HTTP {status}", max(wait_s, asked_for_s)
            if n_tried + 1 < TRIES:
                time.sleep(min(wait_s, LONGEST_WAIT_S))
        raise _NoReply(f"{why}, {TRIES} times")

    def _request(self, client: httpx2.Client, request: Mapping[str, Any]) -> tuple[int, float, bytes]:
        """Return status, the seconds that the server asks to be left alone for, and the body."""
        deadline = time.monotonic() + self.settings.timeout_s
        url = f"{self.settings.url.rstrip('/')}/chat/completions"
        with client.stream("POST", url, json=request) as response:
            content = b""
            for part in response.iter_bytes():
                content += part
                if len(content) > MOST_BYTES:
                    raise _NoReply(f"a reply of more than {MOST_BYTES:,} bytes")
                if time.monotonic() > deadline:
                    raise _NoReply(f"no reply within {self.settings.timeout_s:g} s")
            asked_for = response.headers.get("Retry-After", "")
        return response.status_code, float(asked_for) if asked_for.isdecimal() else 0.0, content


def _reply(content: bytes) -> str:
    """Return what the model says; nothing where it says nothing."""
    try:
        said = json.loads(content)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise _NoReply("an answer that is no chat completion") from error
    return said if isinstance(said, str) else ""
