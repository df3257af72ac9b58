"""A secret that can be told by its form or its name leaves no text; what is none stays."""

import logging
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from armorm.features.errors import HubError
from armorm.features.secrets import RedactedRecord, redact_error, redacted, redacted_traceback

SECRETS = st.text(string.ascii_letters + string.digits + "-._~%+", min_size=8, max_size=40)

QUOTED = [
    "cannot connect to http://user:{}@proxy.example:3128/",
    "postgresql+asyncpg://prefect:{}@db/prefect: refused",
    "ProxyError('https://{}@hub.example/api')",
    "https://user:pa/{}@hub.example/api is no address",
    "proxy user:{}@proxy.example:3128 does not answer",
    "GET https://bucket.example/key?X-Amz-Algorithm=AWS4&X-Amz-Signature={}&X-Amz-Expires=5",
    "GET https://bucket.example/key?X-Amz-Credential={}",
    "GET https://bucket.example/key?X-Amz-Security-Token={} failed",
    "https://blob.example/c?sv=2020&sig={}",
    "https://api.example/v1?token={}",
    "headers: {{'Authorization': 'Bearer {}'}}",
    "Authorization: Basic {}",
    "proxy-authorization: {}",
    '{{"access_token": "{}", "scope": "read"}}',
    "AWS_SECRET_ACCESS_KEY={} in the environment",
    "connect(password='{}')",
    "x-api-key: {}",
    "x-amz-security-token: {}",
    "AWS4-HMAC-SHA256 Credential={}/20260101, SignedHeaders=host",
    "Set-Cookie: session={}; Secure",
]


@pytest.mark.parametrize("text", QUOTED)
@given(secret=SECRETS)
def test_no_text_shows_the_secret_that_it_quotes(text: str, secret: str) -> None:
    secret = f"s3cr3t{secret}"
    said = redacted(text.format(secret))
    assert secret not in said
    assert "s3cr3t" not in said
    assert redacted(said) == said


@given(st.text(string.ascii_letters + string.digits, min_size=30, max_size=40))
def test_a_token_of_the_hub_is_known_by_its_form(token: str) -> None:
    assert token not in redacted(f"got hf_{token}, which is no valid token")


@pytest.mark.parametrize(
    "text",
    [
        "hf://datasets/owner/name@revision/folder",
        "https://huggingface.co:443/owner/name@main",
        "s3://bucket/store/objects/ab12",
        "memory did not suffice; set token_budget = 512 in [embed], max_tokens=4096, n_tokens: 12, eos_token='</s>'",
        "tests/features/test_secrets.py:12: key=value, tokens=3, monkey=banana",
        "hf_hub_download of a dataset by hf_datasets",
        "got no PREFECT_API_URL; expected the address of a Prefect server, http://127.0.0.1:4200/api",
        "set OPENLINEAGE_API_KEY, or HF_TOKEN to a token that reads it",
        "unexpected token: } at line 3",
        "user@example.org wrote: ask for 12:30@noon",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


@given(st.text(string.ascii_letters + string.digits + " .,\n()/-"))
def test_prose_stays(text: str) -> None:
    assert redacted(text) == text or "bearer" in text.lower() or "hf" in text.lower() or "sk-" in text.lower()


@given(st.text())
def test_twice_is_once(text: str) -> None:
    assert redacted(redacted(text)) == redacted(text)


@pytest.mark.parametrize(
    "part", ["a", "a.", "-_", "token", "?token", "a://", "a:@", "hf_a", "x-key-", "sk ", '"token" ']
)
def test_a_long_text_is_read_as_quickly_as_its_length_asks(part: str) -> None:
    """It would take hours if each letter were the beginning of another attempt."""
    text = part * 100_000
    assert redacted(text) == text


SECRET = "http://user:s3cr3t@proxy:3128"


def failing() -> Exception:
    try:
        try:
            raise OSError(f"no route to {SECRET}")
        except OSError as error:
            raise ValueError(f"cannot fetch by {SECRET}") from error
    except ValueError as error:
        return error


def test_an_error_of_ours_never_holds_one() -> None:
    assert "s3cr3t" not in str(HubError("owner/name", f"got no answer from {SECRET}"))


def test_an_error_and_its_causes_are_cleaned() -> None:
    error = failing()
    assert "s3cr3t" not in redacted_traceback(error)
    redact_error(error)
    assert "s3cr3t" not in f"{error} {error.__cause__}"


def test_a_log_record_has_neither_in_its_text_nor_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    error = failing()
    exc_info = (type(error), error, error.__traceback__)
    record = RedactedRecord("httpx", logging.ERROR, "x.py", 1, "GET %s for %d s", (SECRET, 3), exc_info)
    written = logging.Formatter("%(message)s").format(record)
    assert "s3cr3t" not in written
    assert "***@proxy" in written
    assert "ValueError" in written
    assert "for 3 s" in written
