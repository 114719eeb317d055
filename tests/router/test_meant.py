"""A mistake in a settings file, a catalogue or a script says what may have been meant."""

import json

import pytest

from features.errors import BadInput
from router.catalog import Catalog
from router.meant import meant
from router.scripted.script import load_script


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ({"step": []}, "unknown field `step`; is it `steps`?"),
        ({"steps": [{"txt": "x"}]}, "; is it `text`?"),
        ({"steps": [{"fault": {"the": "drop"}}]}, "; is it `then`?"),
        ({"steps": [{"fault": {"then": "dropp"}}]}, "; it may be 'drop', 'end', 'garbage', 'error', 'stall'"),
        ({"models": {"*": [{"calls": [{"name": "a", "otherwise": [{"nme": 1}]}]}]}}, "; is it `name`?"),
        (
            {"rules": [{"when": {"zzz": 1}, "steps": []}]},
            "; there are model, dialect, contains, no_tools, max_",
        ),
        ({"steps": 1}, "Expected `array`, got `int` - at `$.steps`"),
    ],
)
def test_a_script_says_which_key_is_near(tmp_path, script, said) -> None:
    (tmp_path / "s.json").write_text(json.dumps(script))
    with pytest.raises(BadInput) as caught:
        load_script(tmp_path / "s.json")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            "api_key_env = 'K'",
            "endpoints.east: Object contains unknown field `api_key_env`; is it `key_env`?",
        ),
        ("limits = { concurent = 1 }", "; is it `concurrent`?"),
    ],
)
def test_a_catalogue_says_which_key_is_near(tmp_path, more, said) -> None:
    head = '[endpoints.east]\nprovider = "openai"\nbase_urls = { openai_chat = "http://127.0.0.1:9/v1" }\n'
    (tmp_path / "c.toml").write_text(head + more)
    with pytest.raises(BadInput) as caught:
        Catalog.load(tmp_path / "c.toml")
    assert said in str(caught.value)


def test_of_what_is_no_table_nothing_is_said() -> None:
    assert meant("Object contains unknown field `a` - at `$[0].b`", int) == ""
