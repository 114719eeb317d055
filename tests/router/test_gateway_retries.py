"""Retries: shares of answers that broke off, shrunk to all deployments' share, bounded and fading."""

from router.gateway.retries import DEPLOYMENTS, Retries

BOTH = {"a": None, "b": None}


def test_nothing_is_known_before_an_answer_was_seen() -> None:
    assert Retries().rates(BOTH) is None


def test_a_deployment_is_judged_by_its_own_answers_as_they_come_in() -> None:
    retries = Retries()
    for i in range(100):
        retries.note("a", broken=i % 2 == 0)
        retries.note("b", broken=False)
    rates = retries.rates(BOTH)
    assert rates is not None
    assert rates["b"] < 0.1 < 0.4 < rates["a"] < 0.5
    unseen = Retries()
    unseen.note("a", broken=False)
    assert unseen.rates(BOTH) == {"a": 0.0, "b": 0.0}


def test_old_trouble_fades_and_names_are_bounded() -> None:
    retries = Retries()
    for _ in range(500):
        retries.note("a", broken=True)
    for _ in range(6_000):
        retries.note("a", broken=False)
    rates = retries.rates(BOTH)
    assert rates is not None
    assert rates["a"] < 0.01
    for i in range(DEPLOYMENTS + 10):
        retries.note(f"made-up-{i}", broken=False)
    assert len(retries._seen) == DEPLOYMENTS
