"""Who has a genuine request cannot have it taken twice, nor make another look like it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from urllib.parse import parse_qsl, urlencode

import pytest

from pollin_actors import Application, Callback, Endpoint, Request
from pollin_actors.errors import InvalidValue
from pollin_actors.resources import Intake, Outcome
from pollin_actors.secret import Secret
from pollin_actors.signatures import (
    Delivery,
    GitHub,
    Hmac,
    Scheme,
    SharedSecret,
    Shopify,
    Slack,
    StandardWebhooks,
    Stripe,
    Twilio,
    Verified,
)
from tests.signatures.vectors import STANDARD, accepted, refused

NOW = 1_700_000_000.0
SECRET = Secret("a secret of the sender")
FORM = b"Sid=1&Body=hello"


def digest(material: bytes) -> str:
    return hashlib.sha256(material).hexdigest()


def delivered(
    scheme: Scheme, body: bytes, id: str | None = None, now: float = NOW, secret: Secret = SECRET
) -> Delivery:
    made = scheme.sign(body, secret, now, id=id)
    return Delivery([(name.encode(), value.encode()) for name, value in made], body)


def verify(scheme: Scheme, delivery: Delivery, now: float = NOW) -> Verified:
    return accepted(scheme.verify(delivery, [SECRET], now))


def with_header(delivery: Delivery, name: bytes, value: bytes | None) -> Delivery:
    """The same with another value of a header, or without it."""
    headers = [pair for pair in delivery.headers if pair[0].lower() != name.lower()]
    return delivery._replace(headers=headers if value is None else [*headers, (name, value)])


UNSIGNED_IDS = [
    (GitHub(), b"x-github-delivery", b"{}", digest(b"{}")),
    (Shopify(), b"x-shopify-event-id", b"{}", digest(b"{}")),
    (Hmac(id_header="X-Id"), b"x-id", b"{}", digest(b"{}")),
    (
        Twilio("https://a.example/hook"),
        b"i-twilio-idempotency-token",
        FORM,
        digest(b"https://a.example/hookBodyhelloSid1"),
    ),
]
unsigned_ids = pytest.mark.parametrize(
    ("scheme", "header", "body", "fence"), UNSIGNED_IDS, ids=lambda it: getattr(it, "name", "")
)


@unsigned_ids
@pytest.mark.parametrize(
    "other",
    [b"another", None, b"", b"\xff", b"x" * 5000, b"a\0b", b"x" * 436, "é".encode(), b":", b" "],
)
def test_an_unsigned_id_changes_nothing_about_the_fence(
    scheme: Scheme, header: bytes, body: bytes, fence: str, other: bytes | None
) -> None:
    """Sent again with another id, an unusable one or none, it is known by what is signed."""
    genuine = delivered(scheme, body, "one")
    first, again = verify(scheme, genuine), verify(scheme, with_header(genuine, header, other))
    assert (first.key, first.fence) == (f"one:{fence}", fence)
    assert again.fence == fence
    assert again.key is not None
    # Whatever the id is, the key ends with the digest: it can be that of no other event.
    assert again.key.endswith(fence)
    assert len(again.key) <= 500


@unsigned_ids
@pytest.mark.parametrize("unusable", [None, b"", b"\xff", b"x" * 436, b"a\0b"])
def test_where_no_id_is_usable_the_digest_is_the_key(
    scheme: Scheme, header: bytes, body: bytes, fence: str, unusable: bytes | None
) -> None:
    """And it has the same fence still."""
    outcome = verify(scheme, with_header(delivered(scheme, body), header, unusable))
    assert (outcome.key, outcome.fence) == (fence, fence)


@unsigned_ids
def test_the_longest_id_that_leaves_room_is_in_the_key(
    scheme: Scheme, header: bytes, body: bytes, fence: str
) -> None:
    """A key has 500 characters, of which 65 are the digest's."""
    outcome = verify(scheme, delivered(scheme, body, "x" * 435))
    assert outcome.key == f"{'x' * 435}:{fence}"


@unsigned_ids
def test_one_id_with_another_body_is_another_event(
    scheme: Scheme, header: bytes, body: bytes, fence: str
) -> None:
    """So that a request with somebody else's id takes nobody's place."""
    first = verify(scheme, delivered(scheme, body, "one"))
    other = verify(scheme, delivered(scheme, b"Sid=2&Body=hello", "one"))
    assert first.key != other.key
    assert first.fence != other.fence


def test_shopify_has_two_ids() -> None:
    """The event's first; where there is none, the webhook's."""
    came = delivered(Shopify(), b"{}", "event")
    came = with_header(came, b"x-shopify-webhook-id", b"webhook")
    assert verify(Shopify(), came).key == f"event:{digest(b'{}')}"
    came = with_header(came, b"x-shopify-event-id", None)
    assert verify(Shopify(), came).key == f"webhook:{digest(b'{}')}"


SIGNED_IDS = [
    (Stripe(), b'{"id": "one"}', None),
    (Slack(), b'{"event_id": "one", "type": "event_callback"}', None),
    (
        Hmac(signed="{id}.{timestamp}.{body}", id_header="X-Id", timestamp_header="X-Time"),
        b"{}",
        "one",
    ),
]


@pytest.mark.parametrize(("scheme", "body", "id"), SIGNED_IDS)
def test_a_signed_id_is_the_key_also_of_a_later_attempt(
    scheme: Scheme, body: bytes, id: str | None
) -> None:
    """Senders sign each attempt anew: the time is another, the event is not."""
    for now in (NOW, NOW + 10_000):
        outcome = verify(scheme, delivered(scheme, body, id, now), now)
        assert (outcome.key, outcome.fence) == ("one", None)


@pytest.mark.parametrize("id", [b"x" * 501, b"\xff", b"a\0b"])
def test_a_signed_id_that_is_no_key_is_replaced_by_its_digest(id: bytes) -> None:
    """It still names the event, whatever is sent with it, and again at another time."""
    key = base64.b64decode(STANDARD.secret.removeprefix("whsec_"))
    for now in (NOW, NOW + 1000):
        material = b"%b.%d.{}" % (id, now)
        signed = base64.b64encode(hmac.digest(key, material, "sha256"))
        headers = [(b"webhook-id", id), (b"webhook-timestamp", b"%d" % now)]
        came = Delivery([*headers, (b"webhook-signature", b"v1," + signed)], b"{}")
        outcome = accepted(STANDARD.scheme.verify(came, [Secret(STANDARD.secret)], now))
        assert (outcome.key, outcome.fence) == (digest(id), None)
    scheme = Hmac(signed="{id}.{body}", id_header="X-Id")
    value = hmac.new(SECRET.encode(), id + b".{}", "sha256").hexdigest().encode()
    outcome = verify(scheme, Delivery([(b"x-id", id), (b"x-signature", value)], b"{}"))
    assert (outcome.key, outcome.fence) == (digest(id), None)


@pytest.mark.parametrize("value", [None, 5, True, ["a"], {"a": 1}, "", "x" * 501, "a\0b", "\ud800"])
@pytest.mark.parametrize(("scheme", "name"), [(Stripe(), "id"), (Slack(), "event_id")])
def test_an_id_in_json_that_cannot_be_one_is_replaced_by_a_digest(
    scheme: Scheme, name: str, value: object
) -> None:
    """Of what is signed; so it is known again as well."""
    body = json.dumps({name: value}).encode()
    signed = body if isinstance(scheme, Stripe) else b"v0:%d:%b" % (NOW, body)
    assert verify(scheme, delivered(scheme, body)).key == digest(signed)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"text",
        b"[1]",
        b'"one"',
        b"\xff\xfe",
        b"{",
        b'{"id": 1' + b"0" * 6000 + b"}",
        b"[" * 200_000,
        b'{"id": ' * 50_000,
    ],
    ids=range(9),
)
@pytest.mark.parametrize("scheme", [Stripe(), Slack()])
def test_bodies_that_are_no_json_objects_have_a_digest_as_key(scheme: Scheme, body: bytes) -> None:
    """What is signed need not be what it is meant to be; nothing raises."""
    key = verify(scheme, delivered(scheme, body)).key
    assert key is not None
    assert len(key) == 64


def test_the_longest_ids_are_keys() -> None:
    """500 characters, of any script."""
    body = json.dumps({"id": "é" * 500}).encode()
    assert verify(Stripe(), delivered(Stripe(), body)).key == "é" * 500


def test_commands_of_slack_with_the_same_text_are_two() -> None:
    """They have no id: the time tells them apart, and a replay has the time that it had."""
    first, second = (
        verify(Slack(), delivered(Slack(), b"text=a", None, at), at).key for at in (NOW, NOW + 1)
    )
    assert first != second
    assert verify(Slack(), delivered(Slack(), b"text=a"), NOW + 200).key == first


def test_without_any_id_the_digest_of_what_is_signed_is_the_key() -> None:
    """Of body alone, or of time and body, whichever the signature covers."""
    plain = Hmac()
    assert verify(plain, delivered(plain, b"{}")) == Verified(digest(b"{}"), None, SECRET)
    timed = Hmac(signed="{timestamp}:{body}", timestamp_header="X-Time")
    wanted = digest(b"%d:{}" % NOW)
    assert verify(timed, delivered(timed, b"{}")) == Verified(wanted, None, SECRET)


@pytest.mark.parametrize("scheme", [SharedSecret(), SharedSecret(header="X-Token")])
def test_who_shows_the_secret_may_send_as_often_as_he_likes(scheme: Scheme) -> None:
    """He needs no replay: there is no key, and the header is named to be hidden."""
    outcome = verify(scheme, delivered(scheme, b"{}"))
    shown = b"x-token" if isinstance(scheme, SharedSecret) and scheme.header else b"x-pollin-secret"
    assert outcome == Verified(None, None, SECRET, (shown,))


TIMED = Hmac(id_header="X-Id", signed="{timestamp}.{body}", timestamp_header="X-Time")


@pytest.mark.parametrize(
    "other",
    [b"another", None, b"", b"\xff", b"x" * 5000, b"a\0b", b"x" * 436, "é".encode(), b":", b" "],
)
def test_where_a_time_is_signed_the_fence_is_of_both(other: bytes | None) -> None:
    """Sent again with another id, an unusable one or none, it is known by what is signed."""
    genuine = delivered(TIMED, b"{}", "one")
    fence = digest(b"%d.{}" % NOW)
    first, again = verify(TIMED, genuine), verify(TIMED, with_header(genuine, b"x-id", other))
    assert (first.key, first.fence) == (f"one:{digest(b'{}')}", fence)
    assert again.fence == fence
    assert again.key is not None
    assert again.key.endswith((digest(b"{}"), fence))
    assert len(again.key) <= 500


@pytest.mark.parametrize("id", ["two", ""])
def test_events_with_the_same_body_are_two_where_their_times_are_signed(id: str) -> None:
    """They have neither key nor fence in common, also where they have no id."""
    first = verify(TIMED, delivered(TIMED, b"{}", id and "one"))
    second = verify(TIMED, delivered(TIMED, b"{}", id, NOW + 1))
    assert first.key != second.key
    assert first.fence != second.fence


def test_a_retry_with_another_time_is_known_by_its_id() -> None:
    """The key is the same; with another body it is another one."""
    first, again, other = (
        verify(TIMED, delivered(TIMED, body, "one", at)).key
        for body, at in ((b"{}", NOW), (b"{}", NOW + 60), (b"[]", NOW + 60))
    )
    assert first == again
    assert first != other


def test_events_with_the_same_body_are_both_stored() -> None:
    """And neither a retry nor a replay is."""
    endpoint = Endpoint.new(id="a", secret=SECRET, intake=Intake(TIMED))
    with Application(endpoints=[endpoint]) as app:

        def push(id: str | None, now: float, sent: str | None = None) -> Outcome:
            came = delivered(TIMED, b"{}", id, now)
            came = came if sent is None else with_header(came, b"x-id", sent.encode())
            known = verify(TIMED, came)
            made = Callback.new(Request(came.headers, came.body), id=known.key, fence=known.fence)
            return app.callbacks.push("a", made).get().outcome

        assert push("one", NOW) is Outcome.QUEUED
        assert push("two", NOW + 1) is Outcome.QUEUED
        assert push("two", NOW + 60) is Outcome.DUPLICATE
        assert push("one", NOW, "three") is Outcome.DUPLICATE
        assert push("one", NOW, "") is Outcome.DUPLICATE


@pytest.mark.parametrize(
    ("algorithm", "padding"), [("sha1", "="), ("sha256", "="), ("sha512", "==")]
)
@pytest.mark.parametrize("prefix", ["", "v1="])
def test_base64url_is_padded_exactly_or_not_at_all(
    algorithm: str, padding: str, prefix: str
) -> None:
    """Any other number of signs is another text: one signature has two notations at most."""
    scheme = Hmac(algorithm=algorithm, encoding="base64url", prefix=prefix)
    [(name, value)] = scheme.sign(b"{}", SECRET, NOW)
    for end in ("", "=", "==", "===", "=" * 50, " ", "\n"):
        came = Delivery([(name.encode(), (value + end).encode())], b"{}")
        outcome = scheme.verify(came, [SECRET], NOW)
        assert isinstance(outcome, Verified) == (end in ("", padding)), end


# One signature fits no second reading of the request.


def test_the_parts_of_a_standard_webhook_cannot_be_moved() -> None:
    """An id with a full stop would let the same signature fit another id, time and body."""
    secret = Secret(STANDARD.secret)
    made = dict(STANDARD.scheme.sign(b"1700000100.rest", secret, NOW, id="msg_1"))
    stolen = [
        (b"webhook-id", f"msg_1.{int(NOW)}".encode()),
        (b"webhook-timestamp", b"1700000100"),
        (b"webhook-signature", made["webhook-signature"].encode()),
    ]
    assert "full stop" in refused(STANDARD.scheme.verify(Delivery(stolen, b"rest"), [secret], NOW))


@pytest.mark.parametrize(
    ("signed", "separators"),
    [
        ("{id}.{timestamp}.{body}", "."),
        ("v0:{timestamp}:{id}:{body}", ":"),
        ("{body}--{id}", "-"),
        ("a{id}b{body}", "b"),
        ("{body}ab{timestamp}yz{id}", "z"),
    ],
)
def test_the_parts_of_what_hmac_signs_cannot_be_moved(signed: str, separators: str) -> None:
    """An id with a character that separates is refused, on both sides of the body."""
    header = "X-Time" if "{timestamp}" in signed else ""
    scheme = Hmac(signed=signed, id_header="X-Id", timestamp_header=header)
    for character in separators:
        came = with_header(delivered(scheme, b"{}", "1"), b"X-Id", f"1{character}2".encode())
        assert "separates" in refused(scheme.verify(came, [SECRET], NOW))


@pytest.mark.parametrize(
    "body",
    [
        b"Si=d1&Body=hello",
        b"Sid=1&Bodyhello=",
        b"Sid=&1=&Body=hello",
        b"Body=hello&Sid=1",
        b"Sid=1&Body=hello&Sid=1",
        b"Sid=1&Body=h%65llo",
        b"",
    ],
)
def test_forms_that_have_the_signature_of_another_have_its_fence(body: bytes) -> None:
    """Twilio puts nothing between names and values: what else fits is known to be the same."""
    scheme = Twilio("https://a.example/hook")
    genuine = delivered(scheme, FORM, "one")
    fence = verify(scheme, genuine).fence
    came = genuine._replace(body=body, query=b"BodyhelloSid1" if not body else b"")
    outcome = scheme.verify(came, [SECRET], NOW)
    # With a question mark before it, what is in the query is signed otherwise.
    assert (
        outcome.fence == fence
        if isinstance(outcome, Verified)
        else body in (b"", b"Sid=&1=&Body=hello")
    )


@pytest.mark.parametrize(
    "body",
    [b"&", b"a=1&", b"&a=1", b"a", b"a=1&b", b"a=b=c", b"a= b", b"a=\xc3\xa9", b"a=\0", b"a=\n"],
)
def test_what_twilio_would_not_write_is_no_form(body: bytes) -> None:
    """Each way to write a form otherwise is one more body with the same signature."""
    scheme = Twilio("https://a.example/hook")
    came = delivered(scheme, b"a=1")._replace(body=body)
    assert "no form" in refused(scheme.verify(came, [SECRET], NOW))


def test_twilio_signs_no_form_of_many_thousand_fields() -> None:
    """It would cost time to sort them."""
    scheme = Twilio("https://a.example/hook")
    came = delivered(scheme, b"a=1")._replace(body=b"&".join([b"a=1"] * 1001))
    assert "no form" in refused(scheme.verify(came, [SECRET], NOW))


@pytest.mark.parametrize("entered", [b"", b"tenant=1"])
def test_no_field_of_a_form_becomes_the_query_of_another_body(entered: bytes) -> None:
    """Who writes a message chooses what a field says; the signature of its form is for no query
    that has the digest of a body of his own in it."""
    url = "https://a.example/hook" + ("?" + entered.decode() if entered else "")
    scheme, evil = Twilio(url), b'{"pay": "attacker"}'
    for before, after in ((b"x", b"&y="), (b"", b"&y="), (b"", b"")):
        chosen = before + b"&bodySHA256=" + hashlib.sha256(evil).hexdigest().encode() + after
        for fields in ({"Body": chosen, "MessageSid": "SM1"}, {"Body": chosen}, {chosen: b""}):
            form = urlencode(fields).encode()
            try:
                headers = scheme.sign(form, SECRET, NOW, query=entered)
            except InvalidValue:
                continue  # it is the signature of such a query, and so is that of no form
            moved = b"".join(name + value for name, value in sorted(parse_qsl(form, True)))
            came = Delivery([(n.encode(), v.encode()) for n, v in headers], form, entered)
            verify(scheme, came)
            for query in (entered + moved, moved, entered + b"&" + moved, moved.lstrip(b"x&")):
                changed = came._replace(body=evil, query=query)
                refused(scheme.verify(changed, [SECRET], NOW))


def test_the_signature_of_another_body_fits_no_form() -> None:
    """Nor the other way: what is appended to the query can be no field."""
    scheme, body = Twilio("https://a.example/hook?a=1"), b"{}"
    digest = hashlib.sha256(body).hexdigest().encode()
    query = b"a=1&bodySHA256=" + digest
    headers = scheme.sign(body, SECRET, NOW, query=query)
    came = Delivery([(n.encode(), v.encode()) for n, v in headers], body, query)
    verify(scheme, came)
    for form in (b"%26bodySHA256%3D=" + digest, b"%26bodySHA256%3D" + digest + b"="):
        changed = came._replace(body=form, query=b"a=1")
        assert "no form" in refused(scheme.verify(changed, [SECRET], NOW))


@pytest.mark.parametrize(
    "query", [b"a=1&b=%3d", b"b=%3D&a=1", b"a=1", b"a=1&b=%3D&", b"?a=1&b=%3D", b"a=1&b==", b""]
)
def test_the_query_is_the_one_that_was_entered_byte_for_byte(query: bytes) -> None:
    """Twilio signs it as it is written; so it is not decoded before it is compared."""
    scheme, form = Twilio("https://a.example/hook?a=1&b=%3D"), b"a=1"
    headers = scheme.sign(form, SECRET, NOW, query=b"a=1&b=%3D")
    came = Delivery([(n.encode(), v.encode()) for n, v in headers], form, b"a=1&b=%3D")
    verify(scheme, came)
    other = scheme.verify(came._replace(query=query), [SECRET], NOW)
    assert "the query is not that of Twilio.url" in refused(other)
    with pytest.raises(InvalidValue, match="query"):
        scheme.sign(form, SECRET, NOW, query=query)


@pytest.mark.parametrize("port", ["", ":443", ":8443"])
def test_the_fence_of_twilio_does_not_depend_on_the_port_that_was_signed(port: str) -> None:
    """The same parameters have one fence, whichever URL they were signed with."""
    scheme = Twilio("https://a.example/hook")
    signer = Twilio(f"https://a.example{port}/hook")
    came = delivered(signer, FORM)
    outcome = scheme.verify(came, [SECRET], NOW)
    if port == ":8443":
        refused(outcome)
    else:
        assert accepted(outcome).fence == verify(scheme, delivered(scheme, FORM)).fence


def test_slack_is_answered_only_what_it_has_signed() -> None:
    """The challenge comes back as JSON when the request is genuine, and never else."""
    body = json.dumps({"type": "url_verification", "challenge": 'a"é\ud800'}).encode()
    came = delivered(Slack(), body)
    reply = verify(Slack(), came).reply
    assert reply is not None
    assert json.loads(reply) == {"challenge": 'a"é\ud800'}
    refused(Slack().verify(came._replace(body=body + b" "), [SECRET], NOW))


@pytest.mark.parametrize(
    "event",
    [
        {"type": "url_verification"},
        {"type": "url_verification", "challenge": 5},
        {"type": "event_callback", "challenge": "a"},
        {"type": ["url_verification"], "challenge": "a"},
    ],
)
def test_other_events_of_slack_are_no_questions(event: object) -> None:
    """They are to be stored."""
    assert verify(Slack(), delivered(Slack(), json.dumps(event).encode())).reply is None


def test_the_old_headers_of_standard_webhooks_name_the_same_event() -> None:
    """A request that comes again under the other names has the same key."""
    scheme, secret = StandardWebhooks(), Secret(STANDARD.secret)
    came = delivered(scheme, b"{}", "msg_1", secret=secret)
    old = [(name.replace(b"webhook", b"svix"), value) for name, value in came.headers]
    both = came._replace(headers=[*came.headers, (b"svix-id", b"other"), (b"svix-signature", b"x")])
    only_id = came._replace(headers=[*old, (b"webhook-id", b"other")])
    for one in (came, came._replace(headers=old), both, only_id):
        assert accepted(scheme.verify(one, [secret], NOW)).key == "msg_1"
