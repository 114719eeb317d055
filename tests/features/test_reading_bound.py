"""A session that grows beyond the bound on messages is refused as a whole body is, and read below it."""

import json

import pytest

from features.errors import BadInput
from features.reading import Reader
from features.wire import parse_request, plain

DIALECTS = {"anthropic_messages": "messages", "openai_chat": "messages", "openai_responses": "input"}
MOST = 30


def body_of(said: str, n: int) -> bytes:
    pieces = [{"role": "user", "content": f"{'x' * 100} {at}"} for at in range(n)]
    return json.dumps({"model": "m", "stream": True, said: pieces}).encode()


def spied(monkeypatch, reader):
    """Which bodies the reader took for the continuation of one that it knew."""
    bodies, found = reader._bodies, []
    follow = bodies.follow

    def followed(dialect, body):
        found.append(follow(dialect, body))
        return found[-1]

    monkeypatch.setattr(bodies, "follow", followed)
    return found


@pytest.mark.parametrize(("dialect", "said"), DIALECTS.items())
def test_a_session_may_not_grow_beyond_the_bound(dialect, said, monkeypatch) -> None:
    monkeypatch.setattr(plain, "MAX_MESSAGES", MOST)
    reader = Reader()
    found = spied(monkeypatch, reader)
    for n in (MOST - 4, MOST - 2, MOST):
        assert len(reader.read(dialect, body_of(said, n)).request.messages) == n
    assert [known is not None for known in found] == [False, True, True]
    for n in (MOST + 1, MOST + 3):
        with pytest.raises(BadInput, match=f"{said}.*{MOST}") as grown:
            reader.read(dialect, body_of(said, n))
        with pytest.raises(BadInput) as whole:
            parse_request(dialect, body_of(said, n))
        assert str(grown.value) == str(whole.value)
    assert len(reader.read(dialect, body_of(said, MOST)).request.messages) == MOST
