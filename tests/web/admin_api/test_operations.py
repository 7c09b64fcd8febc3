"""Every operation over HTTP, on each backend: what it does, and what it answers."""

from __future__ import annotations

import asyncio
import base64
import threading
from typing import Any

import pytest

from pollin_actors import Application, Callback, Endpoint, Request, Secret
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.messages import FindEndpoint, RotateSecret
from pollin_actors.records import Kind
from pollin_actors.replay import Replay
from pollin_actors.web.admin_api.table import ClientGone
from tests.web.admin_api.api import Api, Exchange, orders


def ids(answer: Any) -> list[str]:
    return [callback["id"] for callback in answer["callbacks"]]


class TestEndpoints:
    def test_create_find_change_replace_delete(self, api: Api) -> None:
        """An endpoint from its creation to its end."""
        created = api.post("//endpoints", {"id": "new", "ttl": 7, "intake": {"rate": 5}}, 201)
        assert created["endpoint"]["ttl"] == 7
        stored = api.app.endpoints.find("new").get()
        assert stored is not None
        assert created["secret"] == stored.secret.reveal()

        found = api.get("//endpoints/new")
        assert found == created["endpoint"]
        assert found["secret_fingerprint"] == stored.secret.fingerprint()

        changes = {"keep_for": 1.5, "intake": {"burst": 9}}
        changed = api.json(api.request("PATCH", "//endpoints/new", json=changes))
        assert (changed["ttl"], changed["keep_for"]) == (7, 1.5)
        assert (changed["intake"]["rate"], changed["intake"]["burst"]) == (5, 9)

        replaced = api.json(api.request("PUT", "//endpoints/new", json={"phases": ["a", "b"]}))
        assert (replaced["phases"], replaced["ttl"]) == (["a", "b"], 900_000)
        assert replaced["intake"]["rate"] is None
        for field in ("created_at", "secret_fingerprint"):
            assert replaced[field] == found[field]

        assert api.request("DELETE", "//endpoints/new").status_code == 204
        again = api.request("DELETE", "//endpoints/new")
        assert api.problem(again, 404, "endpoint-not-found")["endpoint_id"] == "new"

    def test_one_that_exists_is_not_created_again(self, api: Api) -> None:
        answer = api.request("POST", "//endpoints", json={"id": "orders"})
        assert api.problem(answer, 409, "endpoint-exists")["endpoint_id"] == "orders"

    def test_a_secret_that_was_given_is_not_shown(self, api: Api) -> None:
        """Nor is one that replaces another."""
        body = {"id": "new", "secret": "given-by-the-operator"}
        created = api.request("POST", "//endpoints", json=body)
        assert created.status_code == 201
        changed = api.request("PATCH", "//endpoints/new", json={"secret": "another-one-given"})
        assert changed.status_code == 200
        assert "given" not in created.text + changed.text
        stored = api.app.endpoints.find("new").get()
        assert stored is not None
        assert stored.secret.reveal() == "another-one-given"

    def test_unusual_ids(self, api: Api) -> None:
        """Whatever may be in an id may be in a path, percent-encoded."""
        for endpoint_id, path in [("50%25-off", "50%2525-off"), ("größe", "gr%C3%B6%C3%9Fe")]:
            api.post("//endpoints", {"id": endpoint_id}, 201)
            assert api.get(f"//endpoints/{path}")["id"] == endpoint_id

    def test_rotate(self, api: Api) -> None:
        """A new secret is shown once; the old one is valid for a while."""
        before = api.get("")["secret_fingerprint"]
        answer = api.post("/rotate", {"overlap": 60})
        stored = api.app.endpoints.find("orders").get()
        assert stored is not None
        assert answer["secret"] == stored.secret.reveal()
        assert [old["fingerprint"] for old in answer["endpoint"]["old_secrets"]] == [before]

        given = api.request("POST", "/rotate", json={"secret": "given-by-the-operator"})
        assert given.status_code == 200
        assert "given-by" not in given.text

    def test_a_rotation_meanwhile_is_not_undone(self) -> None:
        """A secret that is withdrawn while a setting is changed stays withdrawn."""

        class Rotated(MemoryBackend):
            left = 0

            def execute(self, message: Any) -> Any:
                reply = super().execute(message)
                if type(message) is FindEndpoint and self.left:
                    self.left -= 1
                    super().execute(RotateSecret("orders", Secret(f"fresh-{self.left}"), 0))
                return reply

        backend = Rotated()
        with Application(backend, endpoints=[orders(secret="leaked")]) as app:
            api = Api(app)
            backend.left = 2
            changed = api.json(api.request("PATCH", "", json={"ttl": 5}))
            assert changed["ttl"] == 5
            stored = app.endpoints.find("orders").get()
            assert stored is not None
            assert (stored.secret.reveal(), stored.ttl) == ("fresh-0", 5)
            assert not stored.accepts("leaked", app.runtime.clock.time_ns())

            backend.left = 100
            answer = api.request("PATCH", "", json={"ttl": 6})
            backend.left = 0
            assert api.problem(answer, 409, "endpoint-conflict")["endpoint_id"] == "orders"
            assert api.get("")["ttl"] == 5

    def test_a_secret_that_is_set_ends_the_old_ones(self, api: Api) -> None:
        """And is known to have replaced them, for whoever declares one of them."""
        api.post("/rotate", {"overlap": 60, "secret": "second-secret"})
        api.json(api.request("PATCH", "", json={"secret": "third-secret"}))
        stored = api.app.endpoints.find("orders").get()
        assert stored is not None
        now = api.app.runtime.clock.time_ns()
        assert [it.reveal() for it in stored.secrets_at(now)] == ["third-secret"]
        assert stored.has_replaced(Secret("second-secret"))

    def test_changes_at_the_same_time_do_not_undo_each_other(self, memory: Application) -> None:
        """Each reads, changes and writes back what the one before has written."""
        service = Api(memory).service
        fields: list[tuple[str, Any]] = [("ttl", 5), ("keep_for", 6.5), ("capacity", 7)]

        async def change(name: str, value: Any) -> None:
            exchange = Exchange("PATCH", "/endpoints/orders", {name: value})
            await service(exchange.scope, exchange.receive, exchange.send)
            assert exchange.sent[0]["status"] == 200

        async def main() -> None:
            await asyncio.gather(*[change(*field) for field in fields])

        asyncio.run(main())
        stored = memory.endpoints.find("orders").get()
        assert stored is not None
        assert [getattr(stored, name) for name, _ in fields] == [5, 6.5, 7]

    def test_stats_reset_and_ready(self, api: Api) -> None:
        api.push("1", body="four")
        stats = api.get("/stats")
        assert (stats["queued"], stats["size"]) == (1, 4)
        assert api.post("/reset") == {"removed": 1}
        assert api.get("/stats")["queued"] == 0
        assert api.get("//ready") == {"status": "ok"}


class TestCallbacks:
    def test_push_and_push_again(self, api: Api) -> None:
        """A duplicate adds nothing, and is answered 200 with what is queued."""
        headers = [["Content-Type", "text/plain"], ["X", "1"], ["X", "2"]]
        pushed = api.push("a/b ?&=", headers=headers, body="größe", phase="done")
        assert pushed["outcome"] == "queued"
        assert pushed["callback"]["headers"] == headers
        assert pushed["callback"]["body"] == "größe"
        stored = api.app.callbacks.fetch("orders", key="a/b ?&=").get()
        assert stored is not None
        assert stored.request == Request([(n, v) for n, v in headers], "größe".encode())

        again = api.request("POST", "/callbacks", json={"id": "a/b ?&="})
        assert api.json(again)["outcome"] == "duplicate"
        assert api.get("/callback", key="a/b ?&=") == pushed["callback"]

    def test_bytes_and_values(self, api: Api) -> None:
        """Bodies that are no text are base64; what is no request is shown as a value."""
        octets = bytes(range(256))
        encoded = base64.b64encode(octets).decode()
        assert api.push("1", body_base64=encoded)["callback"]["body_base64"] == encoded
        value = {"a": [1, None, 2.5, {"b": "c"}]}
        assert api.push("2", value=value)["callback"]["value"] == value
        tagged = {"$": ["bytes", encoded]}
        assert api.push("3", value=tagged)["callback"]["value"] == tagged
        stored = api.app.callbacks.fetch("orders", limit=3).get()
        assert stored[0].request.body == octets
        assert [callback.request for callback in stored[1:]] == [value, octets]

    def test_a_value_that_json_lacks(self, memory: Application) -> None:
        """Its type is shown: the others of the page are not to be lost for it."""
        memory.callbacks.push("orders", Callback.new(object(), id="1")).get()
        memory.callbacks.push("orders", Callback.new(10**5000, id="2")).get()
        shown = Api(memory).get("/callbacks")["callbacks"]
        assert [callback["unshown"] for callback in shown] == ["builtins.object", "builtins.int"]

    def test_texts_that_utf_8_cannot_carry(self, memory: Application) -> None:
        """Half a surrogate pair, which only trusted code can have stored, is a question mark."""
        request = Request([("x", "a\ud800b")], b"")
        memory.callbacks.push("orders", Callback.new(request, id="1")).get()
        assert Api(memory).get("/callback", key="1")["headers"] == [["x", "a?b"]]

    def test_credentials_in_headers_are_hidden(self, api: Api) -> None:
        """Names and number of the headers stay."""
        names = ["Authorization", "cookie", "X-Pollin-Secret", "X-Api-Key", "X-Gitlab-Token"]
        names += ["Stripe-Signature", "X-Hub-Signature-256", "X-Shopify-Hmac-Sha256"]
        api.push("1", headers=[[name, "hush"] for name in names] + [["Date", "today"]])
        shown = api.get("/callback", key="1")["headers"]
        assert shown == [[name, "**********"] for name in names] + [["Date", "today"]]

    def test_secrets_in_headers_are_hidden_wherever_they_are(self, api: Api) -> None:
        """In each view, by their value: the present one and the old one; those of an endpoint in
        its quarantine too."""
        secrets = ["open-sesame", "open-barley"]
        api.json(api.request("PATCH", "", json={"secret": secrets[0]}))
        api.post("/rotate", {"secret": secrets[1]})
        api.app.endpoints.create(Endpoint.new(["received"], 0, id="orders.unverified")).get()
        headers = [["X-Thing", f"Key {secret}"] for secret in secrets]
        headers += [["x_api_key", "hush"], [":query", "a=open-sesame&b=1&access_token=hush"]]
        other = Api(api.app, "/endpoints/orders.unverified")
        for each in (api, other):
            for number in "12345678":
                more = {"parent": "1"} if number > "1" else {}
                each.push(number, headers=headers, body="b", **more)
            moved = {"position": 0, "pushes": [{"id": "9", "headers": headers}]}
            answers = [
                each.request("GET", "/callbacks"),
                each.request("POST", "/callbacks", json={"id": "1"}),
                each.request("GET", "/callbacks/slice"),
                each.request("GET", "/callbacks/reverse"),
                each.request("GET", "/callbacks/head"),
                each.request("GET", "/callback", params={"key": "1"}),
                each.request("PATCH", "/callback?key=1", json={"phase": "received"}),
                each.request("GET", "/past"),
                each.request("GET", "/callback/children", params={"key": "1"}),
                each.request("GET", "/callback/tree", params={"key": "1"}),
                each.request("PUT", "/cursor?name=n", json=moved),
                each.request("POST", "/claims", json={}),
                each.request("POST", "/callbacks/pop", json={}),
                each.request("POST", "/callbacks/pop", json={"limit": 2}),
                each.request("POST", "/callbacks/pop", json={"key": "8"}),
            ]
            for answer in answers:
                assert answer.status_code == 200, answer.text
                assert "**********" in answer.text
                assert not any(text in answer.text for text in (*secrets, "hush")), answer.text
        shown = api.get("/callbacks/head")["callbacks"][0]["headers"]
        assert shown[:2] == [["X-Thing", "**********"]] * 2
        assert shown[3][1] == "a=**********&b=1&access_token=**********"

    def test_pop(self, api: Api) -> None:
        """The oldest, the one of a key, a slice, or nothing."""
        for number in "123456":
            api.push(number)
        assert ids(api.post("/callbacks/pop")) == ["1"]
        assert ids(api.post("/callbacks/pop", {"key": "3"})) == ["3"]
        assert ids(api.post("/callbacks/pop", {"key": "3"})) == []
        assert ids(api.post("/callbacks/pop", {"offset": 1, "limit": 2})) == ["4", "5"]
        assert ids(api.post("/callbacks/pop", {"phase": "received"})) == ["2", "6"]
        assert ids(api.post("/callbacks/pop")) == []
        both = api.request("POST", "/callbacks/pop", json={"key": "1", "limit": 1})
        assert api.problem(both, 422, "invalid-value")["field"] == "body.key"

    def test_fetch_count_move_delete(self, api: Api) -> None:
        """Reading removes nothing."""
        assert ids(api.get("/callbacks/head")) == []
        for number in "1234":
            api.push(number)
        assert ids(api.get("/callbacks/head")) == ["1"]
        assert ids(api.get("/callbacks/slice", offset=1, limit=2)) == ["2", "3"]
        assert ids(api.get("/callbacks/reverse", limit=3)) == ["4", "3", "2"]

        moving = {"phase": "done", "expect": "received"}
        moved = api.request("PATCH", "/callback", params={"key": "2"}, json=moving)
        assert api.json(moved)["phase"] == "done"
        again = api.request("PATCH", "/callback", params={"key": "2"}, json=moving)
        conflict = api.problem(again, 409, "phase-conflict")
        assert (conflict["expected"], conflict["phase"]) == ("received", "done")
        assert ids(api.get("/callbacks/slice", phase="done")) == ["2"]
        assert api.get("/callbacks/count") == {"count": 4}
        assert api.get("/callbacks/count", phase="done") == {"count": 1}

        assert api.request("DELETE", "/callback", params={"key": "2"}).status_code == 204
        gone = api.request("GET", "/callback", params={"key": "2"})
        assert api.problem(gone, 404, "callback-not-found")["callback_id"] == "2"
        assert api.get("/callback", key="2", kept="true")["id"] == "2"
        deleted = api.request("DELETE", "/callback", params={"key": "2"})
        api.problem(deleted, 404, "callback-not-found")

    def test_an_unknown_phase(self, api: Api) -> None:
        """The ones that there are are told."""
        answer = api.request("POST", "/callbacks", json={"phase": "other"})
        assert api.problem(answer, 422, "unknown-phase")["known_phases"] == ["received", "done"]


class TestClaims:
    def claim(self, api: Api, **body: Any) -> dict[str, Any]:
        [claim] = api.post("/claims", body)["claims"]
        return {"key": claim["key"], "token": claim["token"]}

    def test_claim_extend_ack(self, api: Api) -> None:
        """From the claim to its end; what has ended is a conflict."""
        api.push("1")
        [claim] = api.post("/claims", {"by": "me", "lease": 5})["claims"]
        assert (claim["key"], claim["attempt"], claim["callback"]["id"]) == ("1", 1, "1")
        assert api.post("/claims")["claims"] == []
        proof = {"key": "1", "token": claim["token"]}
        assert api.post("/claims/extend", {**proof, "lease": 500})["until"] > claim["until"]
        assert api.post("/claims/ack", {**proof, "then": "done"}, 204) is None
        assert api.get("/callback", key="1")["phase"] == "done"
        lost = api.request("POST", "/claims/ack", json=proof)
        assert api.problem(lost, 409, "claim-lost")["callback_id"] == "1"

    def test_nack_release_discard(self, api: Api) -> None:
        """The history tells them apart."""
        api.push("1")
        api.post("/claims/nack", {**self.claim(api), "reason": "no luck"}, 204)
        api.post("/claims/release", self.claim(api), 204)
        api.post("/claims/discard", {**self.claim(api), "reason": "no use"}, 204)
        records = api.get("/callback/history", key="1")["records"]
        kinds = [record["kind"] for record in records if record["kind"] != "claimed"]
        assert kinds == ["pushed", "failed", "released", "discarded"]
        assert [r["reason"] for r in records if r["reason"]] == ["no luck", "no use"]

    def test_the_last_attempt(self, api: Api) -> None:
        api.push("1")
        api.post("/claims/nack", {**self.claim(api), "dead_letter": "done"}, 204)
        assert api.get("/callback", key="1")["phase"] == "done"

    def test_waiting_for_a_claim(self, memory: Application) -> None:
        """It is answered as soon as something comes."""
        service = Api(memory).service

        async def main() -> None:
            exchange = Exchange("POST", "/endpoints/orders/claims", {"wait": 60})
            task = asyncio.create_task(service(exchange.scope, exchange.receive, exchange.send))
            await exchange.asked.wait()
            await memory.callbacks.push("orders", Callback.new(None, id="1"))
            await task
            assert b'"key":"1"' in exchange.sent[1]["body"]

        asyncio.run(main())

    def test_who_leaves_while_waiting_gets_nothing(self, memory: Application) -> None:
        """What comes later is there for others."""
        service = Api(memory).service

        async def main() -> None:
            exchange = Exchange("POST", "/endpoints/orders/claims", {"wait": 60})
            task = asyncio.create_task(service(exchange.scope, exchange.receive, exchange.send))
            await exchange.asked.wait()
            exchange.leave()
            await task
            assert exchange.sent == []
            await memory.callbacks.push("orders", Callback.new(None, id="1"))
            assert (await memory.callbacks.stats("orders")).claimed == 0

        asyncio.run(main())


class TestThePast:
    def test_records(self, api: Api) -> None:
        """A page at a time, of some kinds or of all; the end is told, and goes on being one."""
        for number in "123":
            api.push(number)
        api.post("/callbacks/pop")
        page = api.get("/records", limit=2)
        assert [record["callback_id"] for record in page["records"]] == ["1", "2"]
        assert page["end"] is False
        page = api.get("/records", cursor=page["next"])
        assert [record["kind"] for record in page["records"]] == ["pushed", "popped"]
        assert api.get("/records", after=page["position"])["records"] == []
        end = api.get("/records", cursor=page["next"])
        assert end["end"] is True
        api.push("4")
        later = api.get("/records", cursor=end["next"])["records"]
        assert [record["callback_id"] for record in later] == ["4"]
        popped = api.request("GET", "/records", params={"kinds": ["popped", "deleted"]})
        assert [record["kind"] for record in api.json(popped)["records"]] == [Kind.POPPED]

    def test_families(self, api: Api) -> None:
        """Children, deep or not, and the whole tree, flat, each before its sub events."""
        api.push("1")
        for number, parent in [("2", "1"), ("3", "2"), ("4", "1")]:
            api.push(number, parent=parent)
        assert ids(api.get("/callback/children", key="1")) == ["2", "4"]
        assert ids(api.get("/callback/children", key="1", deep="true")) == ["2", "3", "4"]
        assert ids(api.get("/callback/tree", key="3")) == ["1", "2", "3", "4"]
        unknown = api.request("GET", "/callback/tree", params={"key": "9"})
        api.problem(unknown, 404, "callback-not-found")

    def test_a_tree_as_deep_as_can_be(self, memory: Application) -> None:
        """However long a line is, it is no deep JSON."""
        memory.callbacks.push("orders", Callback.new(None, id="0")).get()
        for number in range(1, 2_000):
            callback = Callback.new(None, id=str(number), parent=str(number - 1))
            memory.callbacks.push("orders", callback)
        assert len(Api(memory).get("/callback/tree", key="1999")["callbacks"]) == 2_000

    def test_cursors(self, api: Api) -> None:
        """One is moved and callbacks are pushed, or neither."""
        assert api.get("/cursor", name="c/1")["position"] == 0
        moving = {"position": 5, "expect": 0, "pushes": [{"id": "1"}, {"id": "2", "body": "b"}]}
        moved = api.json(api.request("PUT", "/cursor", params={"name": "c/1"}, json=moving))
        assert [pushed["outcome"] for pushed in moved["pushed"]] == ["queued", "queued"]
        assert api.get("/cursor", name="c/1") == {"name": "c/1", "position": 5}
        again = api.request("PUT", "/cursor", params={"name": "c/1"}, json=moving)
        conflict = api.problem(again, 409, "cursor-conflict")
        assert (conflict["expected"], conflict["position"]) == (0, 5)

    def test_replay(self, api: Api) -> None:
        """What was popped comes again; a dry run only says so; a name makes it once."""
        for number in "123":
            api.push(number)
        api.post("/callbacks/pop", {"limit": 3})
        dry = api.post("/replay", {"dry_run": True, "name": "again"})
        assert (dry["matched"], dry["pushed"], dry["dry_run"]) == (3, 0, True)
        done = api.post("/replay", {"name": "again", "keys": ["1", "3"]})
        assert (done["pushed"], done["ids"]) == (2, ["again:1", "again:3"])
        assert ids(api.get("/callbacks/slice")) == done["ids"]
        again = api.post("/replay", {"name": "again", "keys": ["1", "3"]})
        assert (again["pushed"], again["duplicates"]) == (0, 2)

    def test_a_replay_ends_when_the_client_leaves(
        self, memory: Application, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It does not go on for nobody: the filter that it is given stops it."""
        memory.callbacks.push("orders", Callback.new(None, id="1")).get()
        service, left, replay = Api(memory).service, threading.Event(), memory.callbacks.replay
        running: list[Replay] = []

        def slow(endpoint_id: str, *, filter: Any, **more: Any) -> Replay:
            def once_left(callback: Callback) -> bool:
                left.wait(30)
                return bool(filter(callback))

            running.append(replay(endpoint_id, filter=once_left, **more))
            return running[0]

        async def main() -> None:
            exchange = Exchange("POST", "/endpoints/orders/replay", {"name": "again"})
            exchange.leave()
            await service(exchange.scope, exchange.receive, exchange.send)
            assert exchange.sent == []

        monkeypatch.setattr(memory.callbacks, "replay", slow)
        asyncio.run(main())
        left.set()
        with pytest.raises(ClientGone):
            running[0].get()
        assert memory.callbacks.count("orders").get() == 1

    def test_past(self, api: Api) -> None:
        """Queued or not, in bounds of time."""
        for number in "123":
            api.push(number)
        api.post("/callbacks/pop", {"key": "2"})
        page = api.get("/past", limit=2)
        assert ids(page) == ["1", "2"]
        assert ids(api.get("/past", cursor=page["next"])) == ["3"]
        since = api.get("/callback", key="3")["created_at"]
        assert ids(api.get("/past", since=since)) == ["3"]


class TestHandlers:
    def test_look_pause_drain_resume(self, memory: Application) -> None:
        """A handler is controlled by its name."""
        memory.add_handler(lambda callback: None, "orders", name="a handler")
        api = Api(memory)
        [info] = api.get("//handlers")["handlers"]
        assert info["name"] == "a handler"
        assert info["state"] in ("waiting", "running")
        assert api.post("//handler/pause", name="a handler")["state"] == "paused"
        assert api.get("//handler", name="a handler")["state"] == "paused"
        assert api.post("//handler/drain", name="a handler")["state"] == "paused"
        assert api.post("//handler/resume", name="a handler")["state"] in ("waiting", "running")
        unknown = api.request("POST", "//handler/pause", params={"name": "b"})
        assert api.problem(unknown, 404, "handler-not-found")["known"] == ["a handler"]
