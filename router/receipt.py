"""A receipt's decision made again from what the receipt holds, byte for byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from msgspec.structs import replace

from features.cache import rules_digest
from features.errors import BadInput
from features.records import ArmRecord
from router import prices
from router.arms import Option, absent_record, split_of, terms_of
from router.catalogrows import BARRED
from router.cost import Asked
from router.given import Given

if TYPE_CHECKING:
    from features.records import DecisionRecord
    from features.wire.types import Dialect
    from router.arms import Terms
    from router.catalog import Catalog, Deployment
    from router.decide import Decider


MONEY = tuple(name for name in ArmRecord.__struct_fields__ if name.endswith("_usd"))


def recompute(receipt: DecisionRecord, decider: Decider) -> DecisionRecord:
    """Make a receipt's decision again from what it holds; equal byte for byte under the same digests.

    Raises BadInput when the decider has another bundle, policy, catalogue, price table or cache rules than
    the receipt; one of before cache rules were kept can be read, and not be made again.
    """
    here = {
        "bundle_digest": decider.bundle.digest,
        "policy_digest": decider.policy.digest,
        "catalog_digest": decider.catalog.digest,
        "price_version": prices.PRICE_VERSION,
        "cache_version": rules_digest(),
    }
    for field, ours in here.items():
        if getattr(receipt, field) != ours:
            raise BadInput(
                f"receipt {receipt.request_id}: its {field} is {getattr(receipt, field)}, here it is {ours}"
            )
    if receipt.facts is None:
        raise BadInput(f"receipt {receipt.request_id}: holds no facts (log.prompts was 'none')")
    again = decider.judge(_given_again(receipt, decider.catalog))
    arms = again.arms
    if len(arms) == len(receipt.arms):
        arms = [_as_written(arm, was) for arm, was in zip(arms, receipt.arms, strict=True)]
    return replace(again, arms=arms, decide_ms=receipt.decide_ms)


def _as_written(arm: ArmRecord, was: ArmRecord) -> ArmRecord:
    """The arm with equal money in the receipt's own form: nothing was once written as 0E-12."""
    same = {name: old for name in MONEY if (old := getattr(was, name)) == getattr(arm, name)}
    return replace(arm, **same)


def _given_again(receipt: DecisionRecord, catalog: Catalog) -> Given:
    """Read the parts of a decision back out of its receipt."""
    said = dict(line.split("=", 1) for line in receipt.constraints)
    dialect: Dialect = said["dialect"]  # type: ignore[assignment]  # written by _receipt
    target = catalog._replace(dialects="any").resolve(said["model"], dialect)  # all that could be asked
    asked = {d.id: d for d in target.deployments} if target else {}
    assert receipt.facts is not None
    ours = said.get("cache_control") == "ours"
    how = Asked(bool(receipt.facts.cache_markers), ours, said.get("cache_lifetime"))
    options, absent = [], []
    for arm in receipt.arms:
        deployment = (asked or catalog.deployments).get(arm.deployment or "")
        if deployment is None:
            absent.append(absent_record(arm.candidate, arm.excluded_by))
        else:
            terms = terms_of(deployment, receipt.ts_ms, said.get("service_tier"), how)
            options.append(_option_again(arm, deployment, terms))
    return Given(
        request_id=receipt.request_id,
        session_id=receipt.session_id,
        ts_ms=receipt.ts_ms,
        model=said["model"],
        dialect=dialect,
        dialect_guessed="dialect_by" in said,
        reference=receipt.reference or receipt.chosen,
        pinned=bool(asked),
        last_candidate=said.get("session_candidate"),
        last_by_client=said.get("session_candidate_by") == "client",
        service_tier=said.get("service_tier"),
        task_type=receipt.task_type,
        facts=receipt.facts,
        offset=receipt.offset,
        embedding=None if receipt.embedding is None else np.array(receipt.embedding, dtype=np.float32),
        options=options,
        absent=absent,
        asked=how,
    )


def _option_again(arm: ArmRecord, deployment: Deployment, terms: Terms) -> Option:
    split = split_of(arm)
    given = arm.excluded_by if arm.excluded_by in ("dialect", "service_tier", *BARRED) else None
    seen = (arm.cache_age_ms, arm.retry_rate, arm.broken_calls)
    rates = prices.step(terms.ladder, split.tokens)
    return Option(arm.candidate, deployment, terms, split.tokens, rates, split, given, *seen)
