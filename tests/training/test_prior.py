"""The prior's model card is the one that its manifest gives, and says where it stays away."""

from __future__ import annotations

from models.folder import Layout, read_manifest
from models.prior import PRIOR
from training.prior import CARD_FILE, SOURCES, card


def test_the_card_is_read_off_the_manifest_that_ships() -> None:
    manifest, _ = read_manifest(Layout(PRIOR))
    said = (PRIOR / CARD_FILE).read_text(encoding="utf-8")
    assert said == card(manifest), "run `make prior`"
    assert all(source.name in said and source.licence in said for source in SOURCES.values())
    for certificate in manifest.certificates:
        assert certificate.said[1:] in said
    assert f"ECE {manifest.metrics['held_out_ece']:.3f}" in said
