"""What names and the shipped table tell of a candidate, and what stays unknown."""

from datetime import date

import pytest

from features.errors import BadInput
from models.descriptors import Descriptor, describe, load_facts, numbers, unprobed


@pytest.mark.parametrize(
    ("name", "family", "released", "size", "effort"),
    [
        ("claude-opus-4-6", "claude", None, None, None),
        ("openai/gpt-4o-2024-08-06", "gpt", date(2024, 8, 6), None, None),
        ("gpt-5.4@high", "gpt", None, None, 3.0),
        ("claude-3-opus-20240229-FC", "claude", date(2024, 2, 29), None, None),
        ("Mixtral-8x22B-Ins", "mistral", None, 176.0, None),
        ("llama3-chatqa-1.5-70b", "llama", None, 70.0, None),
        ("qwen2.5-7b-instruct", "qwen", None, 7.0, None),
        ("llama-3.1-nemotron-51b-instruct", "nemotron", None, 51.0, None),
        ("somebodys-own", None, None, None, None),
        ("model-20249999", None, None, None, None),
    ],
)
def test_a_name_tells_its_line_date_size_and_effort_and_no_more(name, family, released, size, effort):
    said = describe(name)
    assert (said.family, said.released, said.parameters_b, said.effort) == (family, released, size, effort)
    assert said.prices == (None, None)
    assert said.context_tokens is None


def test_unknown_is_no_number():
    assert numbers(Descriptor()) == {}
    known = numbers(Descriptor(input_usd_per_mtok=1.0, output_usd_per_mtok=5.0, scores=(("julia", -0.4),)))
    assert set(known) == {"log_price", "score:julia"}
    assert set(numbers(Descriptor(input_usd_per_mtok=1.0))) == set()


def test_the_shipped_table_loads_and_a_broken_one_says_where(tmp_path):
    assert "claude" in load_facts().families
    assert describe("gpt-4-0125-preview").scores
    broken = tmp_path / "mine.toml"
    broken.write_text('[families]\nclaude = ["claude"]\n[models.x]\nsize = 3\n', encoding="utf-8")
    with pytest.raises(BadInput, match=r"mine\.toml.*size.*models"):
        load_facts(broken)


def test_a_probe_tells_nothing_of_lengths():
    assert unprobed(None) is None
    assert unprobed(Descriptor(family="gpt", probe=(("fix", 1.0, 2.0),))) == Descriptor(family="gpt")
