"""What --policy may say: an inline policy, a cascade, a TOML file, or a bundle's folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from features.errors import BadInput
from router.policy import KINDS, Policy, parse_policy
from router.tomlfile import read_toml
from training.replay.logged.arms import key_of

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_LEARNED = "learned:max_loss=0.02"
ROUNDED = 0.011  # that three weights of two places may miss 1 by


class Spec(NamedTuple):
    """One policy to play: a served policy, or two candidates of a cascade; `bundle` None is the settings'."""

    name: str
    policy: Policy | None = None
    cascade: tuple[str, str] | None = None
    bundle: str | None = None

    @property
    def doubt(self) -> str | None:
        """What a reader of this policy might take otherwise: weights of a mix that aren't shares already."""
        weights = {} if self.policy is None else self.policy.weights
        whole = sum(weights.values())
        if not weights or abs(whole - 1) <= ROUNDED:
            return None
        shares = ", ".join(f"{name} {weight / whole:.0%}" for name, weight in weights.items())
        return f"weights of {self.name} add up to {whole:g}, not 1: they are read as shares, {shares}"

    @property
    def named(self) -> tuple[str, ...]:
        """Candidates that it names."""
        if self.cascade:
            return self.cascade
        assert self.policy is not None
        return tuple(filter(None, (self.policy.candidate, *self.policy.weights)))


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A policy file: `policy = "learned:max_loss=0.02"`, and a bundle of its own if it has one."""

    policy: str
    name: str | None = None
    bundle: str | None = None


def parse_specs(given: Sequence[str]) -> list[Spec]:
    """Read what --policy says; BadInput names the one that is off, and what may stand there."""
    return [parse_spec(one) for one in given]


def parse_spec(said: str) -> Spec:
    """Read one policy."""
    text = said.strip()
    if text.startswith("cascade:"):
        arms = tuple(name.strip() for name in text.removeprefix("cascade:").split(",") if name.strip())
        if len(arms) != 2:
            raise BadInput(f"--policy {said!r}: a cascade names two candidates: cascade:CHEAP,STRONG")
        if key_of(arms[0]) == key_of(arms[1]):
            raise BadInput(f"--policy {said!r}: both are {arms[0]}; a cascade goes on to another candidate")
        return Spec(text, cascade=(arms[0], arms[1]))
    path = Path(text)
    if path.suffix == ".toml":
        return _from_file(path)
    if path.is_dir():
        return Spec(f"{DEFAULT_LEARNED} by {path.name}", parse_policy(DEFAULT_LEARNED), bundle=str(path))
    if ":" not in text and text not in ("learned", "pin", "mix"):
        raise BadInput(
            f"--policy {said!r}: neither a file, nor a bundle's folder, nor a policy such as "
            "learned:max_loss=0.02, pin:MODEL, mix:A=0.7,B=0.3 or cascade:CHEAP,STRONG"
        )
    if (kind := text.partition(":")[0]) not in KINDS:
        raise BadInput(
            f"--policy {said!r}: unknown kind {kind!r}; use one of {', '.join((*KINDS, 'cascade'))}"
        )
    policy = parse_policy(text)
    return Spec(policy.name, policy)


def _from_file(path: Path) -> Spec:
    if not path.is_file():
        raise BadInput(f"--policy {path}: no such file")
    try:
        file = msgspec.convert(read_toml(path, "policy file"), _File)
    except msgspec.ValidationError as error:
        raise BadInput(f"policy file {path}: {error}") from error
    spec = parse_spec(file.policy)
    bundle = None if file.bundle is None else str(path.parent / file.bundle)
    return spec._replace(name=file.name or spec.name, bundle=bundle or spec.bundle)
