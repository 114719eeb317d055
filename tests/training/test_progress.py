"""The progress bar stays away from short work and from anything that is no terminal."""

from training import progress
from training.progress import Progress, track


def test_short_work_shows_nothing(capfd):
    assert list(track(range(3), "work", 3)) == [0, 1, 2]
    assert capfd.readouterr() == ("", "")


def test_long_work_counts_and_stays_off_stdout(monkeypatch, capfd):
    monkeypatch.setattr(progress, "AFTER_S", -1.0)
    with Progress("reading", 10, "bytes") as bar:
        bar.advance(4)
        bar.advance(6)
        assert bar.done == 10
    with Progress("rows") as bar:
        bar.advance()
    assert capfd.readouterr().out == ""


def test_a_terminal_sees_the_rate(monkeypatch, capfd):
    monkeypatch.setattr(progress, "AFTER_S", -1.0)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    with Progress("rows", 10) as bar:
        bar.advance(5)
        assert bar._bar is not None
        assert bar._bar.tasks[0].completed == 5
    assert "rows" in capfd.readouterr().err
