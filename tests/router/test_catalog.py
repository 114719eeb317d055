"""The catalogue: what ships is sound, a user's file lies over it, and mistakes name file and key."""

import pytest

from features.errors import BadInput
from router import prices
from router.catalog import Catalog


@pytest.fixture
def own(tmp_path):
    def write(text):
        file = tmp_path / "own.toml"
        file.write_text(text)
        return file

    return write


def test_what_ships_is_priced_and_every_reference_is_deployed() -> None:
    catalog = Catalog.load()
    assert all(prices.rates(d.model, d.provider) for d in catalog.deployments.values())
    for alias in catalog.aliases.values():
        assert all(catalog.deployments_of(who, dialect) for dialect, who in alias.reference.items())


def test_names_are_resolved_by_dialect() -> None:
    catalog = Catalog.load()
    assert catalog.resolve("auto", "openai_chat").alias == "auto"
    assert catalog.resolve("minimax-m2.7", "openai_chat").deployments[0].model == "MiniMax-M2.7"
    assert catalog.resolve("MiniMax-M2.7", "openai_chat").deployments[0].candidate == "minimax-m2.7"
    assert catalog.resolve("gpt-5.4", "anthropic_messages") is None
    assert catalog.resolve("no-such-model", "openai_chat") is None


def test_a_dated_snapshot_of_a_known_seller_is_called_as_asked() -> None:
    (found,) = Catalog.load().resolve("claude-haiku-4-5-20251001", "anthropic_messages").deployments
    assert (found.model, found.checkpoint, found.floating) == ("claude-haiku-4-5-20251001", "20251001", False)


def test_a_name_stands_for_all_deployments_of_its_candidate_and_no_others(own) -> None:
    catalog = Catalog.load(
        own(
            "[candidates.glm-5]\nendpoints = { zai = 'glm-5', openrouter = 'z-ai/glm-5' }\n"
            "[candidates.'glm-5@high']\nendpoints = { zai = 'glm-5' }\n"
            "[endpoints.minimax]\naccepts = ['M-*']\n[endpoints.zai]\naccepts = ['M-*']\n"
        )
    )
    for asked, ids in (
        ("glm-5", ["zai/glm-5/openai_chat", "openrouter/glm-5/openai_chat"]),
        ("z-ai/glm-5", ["openrouter/glm-5/openai_chat"]),
        ("M-9", ["zai/M-9/openai_chat", "minimax/M-9/openai_chat"]),
    ):
        found = catalog.resolve(asked, "openai_chat")
        assert [d.id for d in found.deployments] == ids


def test_a_snapshot_at_the_end_of_a_name_is_no_effort(own) -> None:
    rows = (f"[candidates.'{name}']\nendpoints = {{ zai = 'm' }}\n" for name in ("m@20251101", "m@low"))
    candidates = Catalog.load(own("".join(rows))).candidates
    assert (candidates["m@20251101"].effort, candidates["m@low"].effort) == (None, "low")


def test_a_users_file_changes_keys_and_leaves_the_rest(own) -> None:
    shipped = Catalog.load()
    mine = Catalog.load(own('[endpoints.openai]\nbase_urls = { openai_chat = "http://127.0.0.1:9/v1" }\n'))
    assert mine.endpoints["openai"].key_env == "OPENAI_API_KEY"
    assert mine.deployments["openai/gpt-5.4/openai_chat"].base_url == "http://127.0.0.1:9/v1"
    assert mine.candidates == shipped.candidates
    assert mine.digest != shipped.digest


def test_replace_drops_what_ships(own) -> None:
    catalog = Catalog.load(
        own(
            "replace = true\n"
            "[endpoints.rack]\nprovider = 'own'\nbase_urls = { openai_chat = 'http://h/v1' }\n"
            "[candidates.big]\nendpoints = { rack = 'big-1' }\n"
            "[aliases.auto]\ncandidates = ['big']\nreference = { openai_chat = 'big' }\n"
        )
    )
    assert list(catalog.candidates) == ["big"]
    assert catalog.deployments["rack/big/openai_chat"].reachable({})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[candidates.x]\ncolour = 1\nendpoints = {}",
            "candidates.x: Object contains unknown field `colour`",
        ),
        ("[candidates.x]\nendpoints = { nowhere = 'x' }", "candidates.x.endpoints: no [endpoints.nowhere]"),
        (
            "[candidates.gpt-5]\ncontext_tokens = 'big'\nendpoints = {}",
            "got `str` - at `$.context_tokens`",
        ),
        ("[aliases.a]\ncandidates = ['zzz']\nreference = {}", "aliases.a: no [candidates.'zzz']"),
        (
            "[aliases.glm-5]\ncandidates = ['glm-5']\nreference = {}",
            "aliases.glm-5: a candidate has the same",
        ),
        (
            "[aliases.a]\ncandidates = ['glm-5']\nreference = { openai_chat = 'gpt-5.4' }",
            "aliases.a.reference: 'gpt-5.4' is no candidate of it",
        ),
        (
            "[candidates.x]\neffort = 'hihg'\nendpoints = {}",
            "candidates.x.effort: 'hihg' is no effort; use none",
        ),
        ("[candidates.'x@hihg']\nendpoints = {}", "candidates.x@hihg.effort: 'hihg' is no effort"),
        ("[candidate.x]\n", "unknown key 'candidate'"),
        ("[candidates.x\n", "not valid TOML"),
        ('[candidates."a b"]\nendpoints = {}', "candidates.'a b': use letters"),
        ("[endpoints.openai]\nbase_urls = { openai_chat = 'host:1' }", "openai_chat: 'host:1' is no URL"),
        (
            "[endpoints.openai]\nbase_urls = { openai_chat = 'https://me:secret@host/v1' }",
            "openai_chat: holds a name or password; put a key into `key_env` instead",
        ),
    ],
)
def test_mistakes_are_one_line_with_file_and_key(own, text, said) -> None:
    file = own(text)
    with pytest.raises(BadInput) as refused:
        Catalog.load(file)
    assert said in str(refused.value)
    assert str(file) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(BadInput, match=r"nowhere\.toml: No such file"):
        Catalog.load(tmp_path / "nowhere.toml")


def test_reachable_needs_a_key_or_a_credential_that_may_pass() -> None:
    rows = Catalog.load().deployments
    assert rows["anthropic/claude-opus-5-5/anthropic_messages"].reachable({})
    assert not rows["zai/glm-5/openai_chat"].reachable({})
    assert rows["zai/glm-5/openai_chat"].reachable({"ZAI_API_KEY": "made-up"})
