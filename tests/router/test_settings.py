"""Settings: what can't be is refused in one line, and the reference has every key with its default."""

import re
from pathlib import Path

import msgspec
import pytest

from features.errors import BadInput
from router.gateway.settings import Settings

REFERENCE = Path(__file__).parents[2] / "docs/SETTINGS.md"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port = 99999", "port: 99999 must be from 0"),
        ("[upstream]\nread_s = -1", "read_s: -1 must be a finite number over 0 - at `$.upstream`"),
        ("[upstream]\nconnections = -3", "connections: -3 must be 1 or more"),
        ("max_body_mib = -1", "max_body_mib: -1 must be a finite number over 0"),
        ("sessions = 0", "sessions: 0 must be 1 or more"),
        ("client_s = -1", "client_s: -1 must be a finite number over 0"),
        ("follow_s = nan", "follow_s: nan must be a finite number over 0"),
        (
            "[idempotency]\nmax_mib = 1e400",
            "max_mib: inf must be a finite number over 0 - at `$.idempotency`",
        ),
        ("[retry]\nwait_s = inf", "wait_s: inf must be a finite number, 0 or more - at `$.retry`"),
        ("grace_s = -1", "grace_s: -1 must be 0 or more"),
        ("[log]\nqueue = -5", "queue: -5 must be 1 or more - at `$.log`"),
        ("dialects = 'all'", "`$.dialects`; it may be 'same', 'prefer_same', 'any'"),
        ("[budget]\nusd_per_day = 5", "unknown field `budget`"),  # none is held, so none is promised
        ("[tools]\ncheck = 'on'", "`$.tools.check`; it may be 'off', 'log', 'retry'"),
    ],
)
def test_a_value_that_cannot_be_is_refused_in_one_line(tmp_path, text, said) -> None:
    file = tmp_path / "s.toml"
    file.write_text(text)
    with pytest.raises(BadInput) as refused:
        Settings.load(file, {})
    assert said in str(refused.value)
    assert str(refused.value).startswith(str(file))
    assert "\n" not in str(refused.value)


def test_a_port_on_the_command_line_or_in_a_variable_is_checked_too() -> None:
    with pytest.raises(BadInput, match="--port: 99999 must be"):
        Settings().having(port=99_999)
    with pytest.raises(BadInput, match=r"SAMEDIFF_DIALECTS='all'.* 'prefer_same'"):
        Settings.load(environ={"SAMEDIFF_DIALECTS": "all"})


def every(table, prefix=""):
    for field in msgspec.structs.fields(table):
        value = getattr(table, field.name)
        if isinstance(value, msgspec.Struct):
            yield from every(value, f"{prefix}{field.name}.")
        else:
            said = "none" if value is None else msgspec.json.encode(value).decode()
            yield f"{prefix}{field.name}", said


def test_the_reference_has_every_setting_with_its_default() -> None:
    rows = re.findall(r"^\| `(\S+)` \|[^|]*\| `(.*?)` \| .+ \|$", REFERENCE.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(every(Settings()))
