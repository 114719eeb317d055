"""Requests sent twice, under attack: to two processes, across a kill, with slow readers, on a full disk."""

import asyncio
import os
import signal
import threading

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from router_failing import asked, fail, rows
from router_servers import journal_of, start_gateway, start_upstream, wait_for

from router.gateway.idempotency import IdempotencySettings, KeyBusy, KeyReused, Repeats
from router.gateway.keylocks import KeyLocks
from router.gateway.sealed import SealedAnswers
from router.gateway.shared import MESSAGE_BYTES, Shared

TEXT = "an answer " * 50
KEYS = {f"{name}_KEY": "made-up" for name in ("EAST", "WEST", "SOUTH")}


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    server = start_upstream({"steps": [{"text": TEXT}]}, tmp_path_factory.mktemp("upstream"))
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def forget(upstream):
    fail(upstream, "south")
    httpx2.delete(f"{upstream.url}/_requests")


def ask(gateway, key, content="Fix it", stream=True):
    body = {"model": "small", "messages": [{"role": "user", "content": content}], "stream": stream}
    url = f"{gateway.url}/v1/chat/completions"
    return httpx2.post(url, json=body, headers={"idempotency-key": key}, timeout=30)


def gateway_at(folder, bundle, upstream):
    arguments = ("--policy", "pin:big")
    return start_gateway(folder, bundle, upstream.url, *arguments, environ=KEYS, catalog=rows(upstream.url))


def said(answer):
    return answer.status_code, answer.content, answer.headers["x-samediff-request-id"]


def test_two_processes_make_one_call_and_a_kill_lets_go_of_the_key(tmp_path, bundle_folder, upstream) -> None:
    one, two = (gateway_at(tmp_path, bundle_folder, upstream) for _ in range(2))
    try:
        fail(upstream, "south", {"event_delay_ms": 10})
        answers = []
        first = threading.Thread(target=lambda: answers.append(ask(one, "k")))
        first.start()
        wait_for(lambda: asked(upstream))
        answers.append(ask(two, "k"))
        first.join()
        assert len({said(answer) for answer in answers}) == 1
        assert "[DONE]" in answers[0].text
        assert [a.headers.get("x-samediff-replayed") for a in answers] == [None, "1"]
        assert ask(two, "k", "Another").status_code == 422
        assert ask(one, "k", "Another").status_code == 422
        assert len(asked(upstream)) == 1

        fail(upstream, "south", {"event_delay_ms": 30, "times": 1})

        def cut_off():
            with pytest.raises(httpx2.HTTPError):
                ask(one, "l")

        cut = threading.Thread(target=cut_off)
        cut.start()
        wait_for(lambda: len(asked(upstream)) == 2)
        waits = threading.Thread(target=lambda: answers.append(ask(two, "l")))
        waits.start()
        wait_for(lambda: [r for k, r in journal_of(tmp_path) if k == "decision"][1:])
        os.kill(one.process.pid, signal.SIGKILL)
        cut.join()
        waits.join()
        assert "[DONE]" in answers[-1].text
        assert said(ask(two, "l")) == said(answers[-1])
        assert len(asked(upstream)) == 3
    finally:
        one.stop()
        two.stop()
    kept = journal_of(tmp_path)
    decisions = [r["request_id"] for k, r in kept if k == "decision"]
    charged = [r["request_id"] for k, r in kept if k == "request" and r.get("cost_usd") is not None]
    ended = [r["request_id"] for k, r in kept if k == "request"]
    # What was under way when the process was killed is there as a decision without an end, never twice.
    assert len(decisions) == len(set(decisions)) == 3
    assert len(ended) == len(set(ended)) == 2
    assert set(ended) < set(decisions)
    assert set(charged) <= set(ended)


def repeats(folder, **wanted):
    wanted = IdempotencySettings(**wanted)
    file = folder / "answers.sqlite"
    return Repeats(wanted, SealedAnswers(file, wanted.keep_s, int(wanted.disk_mib * 2**20)))


async def answered(claim, body=b"said", pieces=1):
    async def sink(message):
        pass

    send = claim.shared.tee(sink)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
    for n in range(pieces):
        more = n < pieces - 1
        await send({"type": "http.response.body", "body": body, "more_body": more})
    claim.shared.close(came_through=True)


async def given_again(claim):
    heard = []

    async def hear(message):
        heard.append(message)

    follower = claim.shared.join()
    try:
        assert await claim.shared.follow(follower, hear)
    finally:
        claim.shared.leave(follower)
    return heard[0]["status"], b"".join(message["body"] for message in heard[1:])


def test_an_answer_too_long_to_be_kept_is_not_made_twice_across_a_restart(tmp_path) -> None:
    async def run():
        first = repeats(tmp_path, max_mib=0.01)
        await answered(await first.claim({"idempotency-key": "k"}, "/", b"asked"), b"x" * 5_000)
        first.close()
        second = repeats(tmp_path, max_mib=0.01)
        with pytest.raises(KeyBusy, match="too great a length"):
            await second.claim({"idempotency-key": "k"}, "/", b"asked")
        with pytest.raises(KeyReused):
            await second.claim({"idempotency-key": "k"}, "/", b"another")
        assert not second._by_key  # nobody waits for what doesn't come
        second.close()

    asyncio.run(run())


def test_answers_in_memory_and_on_disk_have_a_bound_in_bytes(tmp_path) -> None:
    async def run():
        kept = repeats(tmp_path, max_mib=1.0, disk_mib=1.0)
        for n in range(400):
            await answered(await kept.claim({"idempotency-key": f"k{n}"}, "/", b"asked"), b"x" * 100, 100)
            assert kept._held <= 2**20 + kept._most
        sizes = [sum(map(len, (m.get("body", b"") for m in s.messages))) for s, _ in kept._over.values()]
        assert sum(sizes) + MESSAGE_BYTES * sum(len(s.messages) for s, _ in kept._over.values()) <= 2**20
        assert all(len(s.messages) == 2 for s, _ in kept._over.values())
        latest = await kept.claim({"idempotency-key": "k399"}, "/", b"asked")
        assert latest.joined
        assert await given_again(latest) == (200, b"x" * 10_000)
        kept.close()
        again = repeats(tmp_path, max_mib=1.0, disk_mib=1.0)
        there = [await again.claim({"idempotency-key": f"k{n}"}, "/", b"asked") for n in range(400)]
        assert 20 < sum(claim.joined for claim in there) < 110  # a MiB of them, the newest
        assert there[-1].joined
        assert again._held <= 2**20 + again._most
        again.close()
        size = sum(file.stat().st_size for file in tmp_path.glob("answers.sqlite"))
        assert size < 2 * 2**20

    asyncio.run(run())


def test_a_file_that_fails_loses_no_request_and_blocks_no_key(tmp_path, caplog) -> None:
    async def run():
        kept = repeats(tmp_path)
        kept._disk._db.execute("DROP TABLE answers")
        for _ in range(2):
            claim = await kept.claim({"idempotency-key": "k"}, "/", b"asked")
            assert not claim.joined
            claim.shared.close(came_through=False)
        await answered(await kept.claim({"idempotency-key": "k"}, "/", b"asked"))
        assert await given_again(await kept.claim({"idempotency-key": "k"}, "/", b"asked")) == (200, b"said")
        kept.close()

    asyncio.run(run())
    assert "can't be read" in caplog.text
    assert "can't be kept" in caplog.text


def test_another_process_is_waited_for_no_longer_than_set(tmp_path) -> None:
    holder = tmp_path / "answers.sqlite.locks"

    async def run():
        kept = repeats(tmp_path, wait_s=0.2)
        ready, go = os.pipe(), os.pipe()
        child = os.fork()
        if not child:  # another process holds every name
            import fcntl

            handle = os.open(holder, os.O_RDWR)
            fcntl.lockf(handle, fcntl.LOCK_EX)
            os.write(ready[1], b"x")
            os.read(go[0], 1)
            os._exit(0)
        os.read(ready[0], 1)
        with pytest.raises(KeyBusy, match="by another process"):
            await kept.claim({"idempotency-key": "k"}, "/", b"asked")
        os.write(go[1], b"x")
        os.waitpid(child, 0)
        claim = await kept.claim({"idempotency-key": "k"}, "/", b"asked")
        assert not claim.joined
        claim.shared.close(came_through=False)
        kept.close()
        for end in (*ready, *go):
            os.close(end)

    asyncio.run(run())


def test_a_lock_is_of_one_name(tmp_path) -> None:
    locks = KeyLocks(tmp_path / "locks")
    assert all(locks.take(bytes([n]) * 24) for n in range(9))
    locks.free(b"\0" * 24)
    locks.close()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["piece", "join", "read", "leave"]), st.integers(0, 5)), max_size=40),
    st.integers(1_200, 6_000),
)
def test_followers_are_given_all_in_order_or_told_that_they_are_not(steps, most) -> None:
    """However pieces, followers and readers come and go, nobody gets a gap, and memory has its bound."""

    async def run():
        shared = Shared(b"", 0, most, lambda _: None)
        sent, followers = [], []

        async def nothing(message):
            pass

        send = shared.tee(nothing)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for what, n in steps:
            if what == "piece":
                sent.append(bytes([len(sent) % 256]) * (n * 100))
                await send({"type": "http.response.body", "body": sent[-1], "more_body": True})
                assert shared.size <= most or len(shared.messages) < 2 or not shared.wanted
            elif what == "join" and not shared.too_long and len(followers) < 4:
                followers.append(Reading(shared))
            elif followers and what == "read":
                await followers[n % len(followers)].read(n)
            elif followers and what == "leave":
                followers.pop(n % len(followers)).leave()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        shared.close(came_through=True)
        for follower in followers:
            ended = await follower.rest()
            heard = b"".join(follower.heard)
            assert b"".join(sent).startswith(heard)
            assert ended is None or (ended and heard == b"".join(sent))
            assert ended or shared.too_long
        assert not shared.wanted
        assert len(shared.messages) in (0, 2) or len(sent) == 0

    asyncio.run(run())


class Reading:
    """A follower that takes a message only when it is let."""

    def __init__(self, shared):
        self.shared, self.follower, self.heard = shared, shared.join(), []
        self.room = asyncio.Semaphore(0)
        self.task = asyncio.create_task(shared.follow(self.follower, self._hear))

    async def _hear(self, message):
        await self.room.acquire()
        self.heard.append(message.get("body", b""))

    async def read(self, n):
        for _ in range(n):
            self.room.release()
        for _ in range(2 * n + 2):
            await asyncio.sleep(0)

    async def rest(self):
        await self.read(200)
        ended = await self.task
        self.shared.leave(self.follower)
        return ended

    def leave(self):
        self.task.cancel()
        self.shared.leave(self.follower)
