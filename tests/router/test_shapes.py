"""The shapes in which providers stream, cut at every place: read the same, and translated to the same."""

import json

import pytest
from test_translate_answers import DIALECTS, read, spoken, terminals, translation

from features.wire import StreamReader
from router.conformance.case import TOKENS
from router.conformance.shapes import CMD, NAMES, TEXT, shape
from router.conformance.wire import ends, problem

KNOWN = [(name, dialect) for name in NAMES for dialect in DIALECTS if shape(name, dialect)]
shapes = pytest.mark.parametrize(("name", "dialect"), KNOWN)


def says(answer):
    """What is said, the provider's own tools left out."""
    return [part for part in spoken(answer) if part[0] == "text" or part[2] == "sh"]


def right(answer):
    usage = answer.usage
    prompt = usage.input_tokens_uncached + usage.cached_tokens
    assert (prompt, usage.cached_tokens, usage.output_tokens) == (TOKENS.prompt, TOKENS.cached, TOKENS.output)
    said = says(answer)
    assert said in ([("text", TEXT, None)], [("tool_call", json.loads(CMD), "sh")])
    assert answer.complete


@shapes
def test_a_shape_is_in_order_and_read_whole(name, dialect) -> None:
    stream = b"".join(shape(name, dialect))
    assert (problem(dialect, stream), ends(dialect, stream)) == (None, (1, 0))
    right(read(dialect, stream))


@shapes
def test_a_shape_is_read_the_same_wherever_it_is_cut(name, dialect) -> None:
    stream = b"".join(shape(name, dialect))
    whole = read(dialect, stream)
    by_byte = StreamReader(dialect)
    for i in range(len(stream)):
        by_byte.feed(stream[i : i + 1])
    assert by_byte.response() == whole
    for cut in range(1, len(stream), 3):
        reader = StreamReader(dialect)
        reader.feed(stream[:cut])
        reader.feed(stream[cut:])
        assert reader.response() == whole


@shapes
@pytest.mark.parametrize("client", DIALECTS)
def test_a_shape_becomes_the_same_answer_wherever_it_is_cut(client, name, dialect) -> None:
    if client == dialect:
        return
    stream = b"".join(shape(name, dialect))
    once = translation(client, dialect).stream()
    told = once.feed(stream) + once.end()
    assert problem(client, told) is None
    assert terminals(client, told) == 1
    right(read(client, told))
    by_byte = translation(client, dialect).stream()
    pieces = b"".join(by_byte.feed(stream[i : i + 1]) for i in range(len(stream))) + by_byte.end()
    right(read(client, pieces))
    edges = [n for event in (b"\n\n", b"data", b'"delta"') for n in _places(stream, event)]
    for edge in edges:
        for cut in (edge - 1, edge, edge + 1):
            again = translation(client, dialect).stream()
            halves = again.feed(stream[:cut]) + again.feed(stream[cut:]) + again.end()
            assert says(read(client, halves)) == says(read(client, told))


def _places(stream, word):
    found, at = [], stream.find(word)
    while at > 0:
        found.append(at)
        at = stream.find(word, at + 1)
    return found
