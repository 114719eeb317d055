"""A policy held to its bundle's certificate: its threshold, for what it was certified on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.bundle import CandidateView
    from models.certificate import Certificate
    from models.manifest import Manifest
    from router.policy import Arm, Policy


class Held(NamedTuple):
    """A policy as it is played, the certificate it stands on, and what is to be said of that."""

    policy: Policy
    certificate: Certificate | None = None
    said: tuple[str, ...] = ()


def held(policy: Policy, manifest: Manifest) -> Held:
    """The policy itself, or where it demands a certificate the threshold that has one: else the reference."""
    if policy.certified is None:
        return Held(policy)
    stays = msgspec.structs.replace(policy, kind="pin", certified=None)
    found = next((c for c in manifest.certificates if c.risk == policy.certified), None)
    if found is None:
        return Held(stays, said=("the bundle has no certificate of this risk, so the reference stays",))
    if found.refitted:
        why = "the bundle was fitted anew after its certificate: the reference stays; train with this policy"
        return Held(stays, said=(why,))
    certificate = found.at_level(policy.risk or found.level)
    if certificate.tau is None:
        return Held(stays, said=(certificate.said,))
    played = msgspec.structs.replace(policy, max_loss=1.0, tau=certificate.tau)
    return Held(played, certificate, (certificate.said,))


def held_to(
    certificate: Certificate, arms: list[Arm], views: Sequence[CandidateView], reference: str
) -> list[Arm]:
    """The arms, of which only the one that the certificate would choose keeps its success, and the reference.

    `views` are of the first arms. That one is the cheapest by list price whose success reaches the threshold;
    where the reference is another than the certificate's, there is none.
    """
    named = {view.candidate: arm for view, arm in zip(views, arms, strict=False) if arm.excluded_by is None}
    own = next((name for name, arm in named.items() if arm.candidate == reference), None)
    if own is None:
        return arms
    tau = certificate.tau or 1.0
    reached = (named.get(name) for name in certificate.candidates if name != certificate.reference)
    chosen = next((arm for arm in reached if arm is not None and (arm.p_success or 0.0) >= tau), None)
    kept = {reference} if chosen is None or own != certificate.reference else {reference, chosen.candidate}
    return [arm if arm.candidate in kept else msgspec.structs.replace(arm, p_success=None) for arm in arms]
