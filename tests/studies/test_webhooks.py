"""Parsing webhooks, secrets, and the backoff between delivery attempts."""

import base64
from typing import Any

import pytest

from studies.errors import WebhookInvalid
from studies.webhooks import MAX_ATTEMPTS, backoff_s, is_subscribed, new_secret, parse_webhook

__all__: list[str] = []


def test_a_webhook_needs_only_a_url() -> None:
    made = parse_webhook({"url": "https://hooks.example:8443/a?b=c"})
    assert made.model_dump() == {
        "url": "https://hooks.example:8443/a?b=c",
        "events": ("study.*",),
        "studies": "own",
        "suite": None,
    }


def test_duplicate_events_are_dropped() -> None:
    asked = ["study.failed", "study.completed", "study.failed"]
    assert parse_webhook({"url": "https://a.example", "events": asked}).events == (
        "study.failed",
        "study.completed",
    )


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("hooks.example", "expected a URL such as"),
        ("ftp://hooks.example/", "expected a URL such as"),
        ("https:///path", "expected a URL such as"),
        ("https://hooks.example:99999/", "expected a URL such as"),
        ("https://hooks.example:0/", "expected a URL such as"),
        ("https://[::1/", "expected a URL such as"),
        ("https://user:secret@hooks.example/", "without a user name"),
        ("https://hooks.example/#here", "without a fragment"),
        ("https://hooks.example/#", "without a fragment"),
        ("https://bücher.example/", "printable ASCII"),
        ("https://hooks.example/a b", "printable ASCII"),
        ("https://hooks.example/\r\nhost: x", "printable ASCII"),
        ("", "at least 1 character"),
        ("https://hooks.example/" + "x" * 2000, "at most 2000"),
    ],
)
def test_an_invalid_url_is_refused_with_a_reason(url: str, message: str) -> None:
    with pytest.raises(WebhookInvalid) as refused:
        parse_webhook({"url": url})
    (problem,) = refused.value.problems
    assert problem.pointer == "/url"
    assert message in problem.message
    assert "secret" not in problem.message


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/url"),
        ([], ""),
        ({"url": "https://a.example", "events": []}, "/events"),
        ({"url": "https://a.example", "events": ["trial.finished"]}, "/events/0"),
        ({"url": "https://a.example", "events": ["webhook.ping"]}, "/events/0"),
        ({"url": "https://a.example", "studies": "his"}, "/studies"),
        ({"url": "https://a.example", "suite": "No Slug"}, "/suite"),
        ({"url": "https://a.example", "secret": "whsec_x"}, "/secret"),
    ],
)
def test_every_fault_has_its_pointer(body: Any, pointer: str) -> None:
    with pytest.raises(WebhookInvalid) as refused:
        parse_webhook(body)
    assert [problem.pointer for problem in refused.value.problems] == [pointer]


def test_a_secret_has_the_standards_form_and_is_new_each_time() -> None:
    one, other = new_secret(), new_secret()
    assert one != other
    assert one.startswith("whsec_")
    # The standard asks for 24 to 64 bytes.
    assert len(base64.b64decode(one.removeprefix("whsec_"), validate=True)) == 32


def test_the_last_attempt_comes_about_a_day_after_the_first() -> None:
    for luck, least_h, most_h in ((0.0, 18, 20), (0.5, 23, 24), (0.999, 27, 29)):
        waits = [backoff_s(n, luck=luck) for n in range(1, MAX_ATTEMPTS)]
        assert waits == sorted(waits)
        assert least_h < sum(waits) / 3600 < most_h
    assert backoff_s(1, luck=0.5) == 5.0
    assert backoff_s(10**6, luck=0.5) == 8 * 3600


def test_the_wildcard_covers_all_states_but_not_pings() -> None:
    assert is_subscribed("study.failed", ["study.*"])
    assert is_subscribed("study.failed", ["study.completed", "study.failed"])
    assert not is_subscribed("study.failed", ["study.completed"])
    assert not is_subscribed("webhook.ping", ["study.*"])
