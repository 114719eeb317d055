"""One decision: request -> facts -> predictions -> cost -> policy -> receipt. Knows no HTTP and no clock.

Every decision is made by `Decider.judge` from what its receipt keeps; `router.receipt` goes that way again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import xxhash
from msgspec.structs import replace

from features.assemble import facts_of, trajectory_of
from features.cache import rules_digest
from features.context import TokenRatios, next_prompt_tokens
from features.errors import BadInput
from features.records import SCHEMA_VERSION, DecisionRecord, OffsetRecord, TypeShare
from router import prices
from router.arms import Judged, Learned, arm_records, judged, moved, unseen_reason, weighed
from router.catalogrows import BARRED
from router.certified import held, held_to
from router.cost import asked_by
from router.given import CallContext, Given, Unavailable, UnknownModel, constraints_of
from router.options import Moment, Seats, asking
from router.policy import Arm, Choice, Policy, Situation, choose

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from features.facts import Facts
    from features.wire.types import WireRequest
    from models.bundle import Bundle, CandidateView
    from router.arms import Option
    from router.catalog import Catalog
    from router.options import Found

PRIOR_NOTICE = "runs on the prior that ships with samediff: nothing has been learned from your logs yet"


class Decider:
    """Decides with one bundle, catalogue and policy; `environ` says which keys there are (None: all).

    Of candidates that can't be called the receipt holds names and why; for somebody who asks what a key would
    buy (`CallContext.all_arms`) they are predicted and priced like the rest.
    """

    def __init__(
        self,
        bundle: Bundle,
        catalog: Catalog,
        policy: Policy,
        *,
        environ: Mapping[str, str] | None = None,
        ratios: TokenRatios | None = None,
    ) -> None:
        named = [policy.candidate] if policy.candidate else list(policy.weights)
        unknown = next((name for name in named if name not in catalog.candidates), None)
        if unknown is not None:
            raise BadInput(f"policy {policy.name!r}: {unknown!r} is no candidate of the catalogue")
        self.bundle = bundle
        self.catalog = catalog
        self.policy = policy
        self.ratios = ratios or TokenRatios()
        self._seats = Seats(catalog, environ, self.ratios, named)
        self._policy_name, self._policy_digest = policy.name, policy.digest
        self._learned = Learned(bundle.profiles.values(), catalog.candidates)
        self.held = held(policy, bundle.manifest)

    def decide(self, request: WireRequest, context: CallContext) -> DecisionRecord:
        """Decide where a request goes; UnknownModel or Unavailable if it can go nowhere."""
        target = self.catalog.resolve(request.model, request.dialect)
        if target is None:
            raise UnknownModel(self.catalog.why_unknown(request.model, request.dialect))
        session = context.session
        asked = asked_by(request, control=context.cache_control)
        now = Moment(context.now_ms, request.service_tier, asked)
        if target.deployments:
            reference = target.deployments[0].candidate
            facts, embedding = self._read(request, context, reference)
            lineup: tuple[Found, ...] = (self._seats.at(reference, target.deployments, now, anyway=True),)
        else:
            reference = self._reference(request)
            facts, embedding = self._read(request, context, reference)
            same = context.same_dialect or _bound(request, facts)
            lineup = self._seats.of(request.model, request.dialect, now, same=same, all_arms=context.all_arms)
        one = asking(request, context, asked, facts.n_images)
        options, absent = self._seats.options(lineup, one)
        given = Given(  # in its own order, as receipts are made
            context.request_id,
            context.session_id,
            context.now_ms,
            request.model,
            request.dialect,
            context.dialect_guessed,
            reference,
            bool(target.deployments),
            session.last_candidate,
            session.last_by_client,
            request.service_tier,
            context.task_type,
            facts,
            embedding,
            options,
            absent,
            self._offset(context.offset),
            asked,
        )
        return self.judge(given)

    def _offset(self, said: OffsetRecord | None) -> OffsetRecord | None:
        """The offset to go by: a certificate is of what the bundle says, so there it may only take away."""
        return said if said is None or self.held.certificate is None or said.log_odds < 0 else None

    def _reference(self, request: WireRequest) -> str:
        """The reference of the alias asked for in the dialect."""
        reference = self.catalog.aliases[request.model].reference.get(request.dialect)
        if reference is None:
            raise Unavailable(f"alias {request.model!r} has no reference for the dialect {request.dialect}")
        return reference

    def _read(
        self, request: WireRequest, context: CallContext, reference: str
    ) -> tuple[Facts, np.ndarray | None]:
        """Read the facts of a request and embed its salient text, going through the messages once."""
        session = context.session
        so_far = context.trajectory or trajectory_of(request)
        hidden = request.previous_response_id is not None  # only its last messages are here: turn unknown
        counted = next_prompt_tokens(session.last, so_far.n_assistant_messages, so_far.new_bytes)
        if counted is None:
            counted = self._seats.tokens(reference, request, session)
        encoder = self.bundle.encoder
        embedding = None if encoder is None else encoder.encode_pieces(so_far.salient_pieces())
        facts = facts_of(
            request,
            trajectory=None if hidden else so_far,
            cache=session.shared,
            context_tokens_est=counted,
            context_tokens_last=None if session.last_tokens is None else float(session.last_tokens),
            turn=session.turn,
            is_subagent=session.is_subagent,
            headers=context.headers,
        )
        return facts, embedding

    def judge(self, given: Given) -> DecisionRecord:
        """Make the decision from its parts: the one way for new requests and for receipts."""
        options = given.options
        if not options:
            raise Unavailable(f"no candidate of {given.model!r} speaks the dialect {given.dialect}")
        views = self._learned.views(options, given.facts.effort)
        beliefs = self.bundle.believe(given.facts, given.embedding, views, given.task_type)
        held, outside = beliefs.arms, beliefs.outside
        if given.offset is not None:
            held = moved(held, given.offset.log_odds)
        arms = judged(given, held, {} if given.pinned else self.catalog.candidates)
        seed = xxhash.xxh3_64_intdigest(given.request_id.encode()) >> 1  # fits the log's signed 64 bits
        choice = _as_asked(given) if given.pinned else self._chosen(arms, views, given, seed)
        if outside:
            said = f"{', '.join(outside)} outside what the bundle was trained on: its tables alone answer"
            choice = replace(choice, reasons=(*choice.reasons, said))
        if not given.pinned and self.policy.kind == "learned":
            choice = _with_newcomers(choice, views, options)
        inferred = [TypeShare(task_type=name, p=p) for name, p in beliefs.types]
        return self._receipt(given, arms, choice, seed, inferred)

    def _chosen(self, found: list[Judged], views: Sequence[CandidateView], given: Given, seed: int) -> Choice:
        """The policy's choice, held to the certificate where it demands one."""
        policy, certificate, said = self.held
        situation = _situation(given, seed)
        arms = weighed(found, priced=situation.lock() is None)
        if certificate is not None:
            arms = held_to(certificate, arms, views, given.reference)
        choice = choose(policy, arms, situation)
        return replace(choice, reasons=(*choice.reasons, *said)) if said else choice

    def _receipt(
        self, given: Given, arms: list[Judged], choice: Choice, seed: int, inferred: list[TypeShare]
    ) -> DecisionRecord:
        chosen = None
        for arm in arms:
            if arm.option.candidate == choice.chosen:
                chosen = arm
                break
        if chosen is None or chosen.excluded_by in BARRED:
            why = chosen.option.deployment.why_barred(chosen.excluded_by) if chosen else ""
            raise Unavailable(f"{choice.chosen!r} can't be called in the dialect {given.dialect}{why}")
        deployment = chosen.option.deployment
        bundle = self.bundle
        reasons = [*choice.reasons, PRIOR_NOTICE] if bundle.kind == "prior" else list(choice.reasons)
        return DecisionRecord(  # in the record's own order, see there
            given.request_id,
            given.session_id,
            given.ts_ms,
            f"pin:{choice.chosen}" if given.pinned else self._policy_name,
            choice.chosen,
            SCHEMA_VERSION,
            deployment.id,
            deployment.provider,
            deployment.region,
            deployment.checkpoint,
            given.reference,
            given.task_type,
            inferred,
            given.offset,
            list(choice.plan),
            arm_records(arms, choice) + given.absent,
            list(choice.locks),
            constraints_of(given),
            reasons,
            choice.explored,
            seed,
            given.facts,
            None if given.embedding is None else given.embedding.tolist(),
            bundle.feature_hash,
            bundle.encoder.digest if bundle.encoder else None,
            self._policy_digest,
            bundle.digest,
            bundle.kind,
            prices.version(),
            rules_digest(),
            self.catalog.digest,
        )


def _with_newcomers(choice: Choice, views: Sequence[CandidateView], options: list[Option]) -> Choice:
    """The choice, which says what arms that the bundle never saw are judged by.

    Of those that can be called: whoever asks, the same ones.
    """
    named, probed = [], False
    for view, option in zip(views, options, strict=True):
        said = view.descriptor
        if said is not None and option.excluded_by not in BARRED:
            named.append(view.candidate)
            probed = probed or bool(said.probe)
    if not named:
        return choice
    return replace(choice, reasons=(*choice.reasons, unseen_reason(tuple(named), probed=probed)))


def _bound(request: WireRequest, facts: Facts) -> bool:
    """Whether a conversation rests on what only providers of its own dialect have, or is to."""
    return request.stored or facts.provider_bound == 1


def _situation(given: Given, seed: int) -> Situation:
    return Situation(
        reference=given.reference,
        last_candidate=given.last_candidate,
        in_tool_loop=given.facts.in_tool_loop == 1,
        provider_bound=given.facts.provider_bound == 1,
        draw=seed / 2**63,
        last_by_client=given.last_by_client,
    )


def _as_asked(given: Given) -> Choice:
    """Answer a client that asked for one model with that model."""
    asked = given.reference
    return replace(
        choose(
            Policy(kind="pin", candidate=asked),
            [Arm(asked, None, None, None)],
            Situation(asked, None, in_tool_loop=False, provider_bound=False, draw=0.0),
        ),
        reasons=(f"the client asked for {given.model}",),
    )
