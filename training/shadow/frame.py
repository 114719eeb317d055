"""The requests of a log that can be asked again, what each would cost and teach, and why the others can't."""

from __future__ import annotations

import math
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import polars as pl
import xxhash

from features.errors import BadInput
from features.facts import Facts
from features.vector import featurize_one
from models.bundle import CandidateView
from router import prices
from router.arms import Learned
from router.constraints import exclusion
from training.shadow.bodies import CUT, edits, logged_answer, output_limit, read_body
from training.shadow.exchange import now_ms
from training.shadow.ledger import PlannedCall
from training.shadow.money import prompt_bound, prompt_estimate, worst_case
from training.shadow.sampling import uniform

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from features.wire.types import Dialect, WireRequest
    from models.bundle import Bundle
    from router.catalog import Catalog, Deployment
    from training.log import LogStore

NO_BODY = 'no full body in the log: serve with log.prompts = "full" and ingest with --prompts full'
NO_ANSWER = "no complete answer in the log"
NO_EDIT = "its answer edits nothing"
NOT_THERE = "the reference or every candidate is out: dialect, context, capabilities or effort"
UNBOUNDED = "images of unknown size in tokens"
TOO_DEAR = "dearer than --per-request at its worst"
_COLUMNS = (
    *(
        "request_id",
        "session_id",
        "source",
        "dialect",
        "candidate",
        "model_served",
        "status",
        "finish_reason",
    ),
    *("task_type", "tools_called", "facts", "embedding", "encoder_digest", "prompt_text", "response_text"),
    *("input_tokens_uncached", "cached_tokens", "cache_write_tokens", "output_tokens"),
)
BATCH_ROWS = 256
_GUESSED_OUTPUT = 500  # tokens, only to weigh requests whose answer wasn't counted


class Aim(NamedTuple):
    """What is to be compared, with what, and within which limits."""

    candidates: tuple[str, ...]
    reference: str
    seed: int
    self_share: float
    max_output_tokens: int
    per_request_usd: Decimal
    now_ms: int


class Found(NamedTuple):
    """One request that can be asked again."""

    request_id: str
    session_id: str
    dialect: Dialect
    calls: list[PlannedCall]
    logged: bool
    answered_by: str | None
    logged_model: str | None
    logged_tokens: int | None
    worst_usd: Decimal
    expected_usd: float
    uncertainty: float


class Frame(NamedTuple):
    """The requests that can be asked again, how often each body occurs, and why others can't."""

    found: list[Found]
    traffic: list[int]
    requests: int
    reasons: dict[str, int]


class Surveyor:
    """Looks at logged requests one by one."""

    def __init__(self, catalog: Catalog, bundle: Bundle, aim: Aim, environ: Mapping[str, str]) -> None:
        self._catalog = catalog
        self._bundle = bundle
        self._aim = aim
        self._environ = environ
        self._learned = Learned(bundle.profiles.values(), catalog.candidates)

    def survey(self, log: LogStore) -> Frame:
        """Go through the log a batch at a time; repeats of one body are one request with more traffic."""
        found: list[Found] = []
        traffic: list[int] = []
        at: dict[str, int] = {}
        reasons: Counter[str] = Counter()
        requests = 0
        for row in _rows(log):
            requests += 1
            digest = xxhash.xxh3_128_hexdigest((row["prompt_text"] or "").encode("utf-8", "surrogatepass"))
            if digest in at:
                traffic[at[digest]] += 1
                continue
            looked = self._look(row)
            if isinstance(looked, str):
                reasons[looked] += 1
                continue
            at[digest] = len(found)
            found.append(looked)
            traffic.append(1)
        return Frame(found, traffic, requests, dict(reasons.most_common()))

    def _look(self, row: dict[str, Any]) -> Found | str:
        """One request, or the reason why it can't be asked again."""
        if row["source"] != "journal" or not row["prompt_text"] or row["dialect"] is None:
            return NO_BODY
        if row["status"] != "ok" or row["finish_reason"] in CUT:
            return NO_ANSWER
        answer = logged_answer(row["response_text"], row["tools_called"])
        if not edits(answer, row["response_text"], row["tools_called"]):
            return NO_EDIT
        request, body, reason = read_body(row["dialect"], row["prompt_text"])
        if request is None or reason is not None:
            return reason or NO_ANSWER
        logged = _logged_tokens(row)
        if logged is None and any(part.kind == "image" for m in request.messages for part in m.parts):
            return UNBOUNDED
        return self._priced(row, request, body, answer is not None and not request.thinking)

    def _priced(
        self, row: dict[str, Any], request: WireRequest, body: dict[str, Any], kept: bool
    ) -> Found | str:
        aim, facts = self._aim, _facts(row)
        limit = output_limit(request, body, aim.max_output_tokens)
        logged = _logged_tokens(row)
        chosen = {
            name: self._deployment(name, request, facts, logged) for name in (aim.reference, *aim.candidates)
        }
        reference = chosen[aim.reference]
        candidates = [chosen[name] for name in aim.candidates]
        if reference is None or not any(candidates):
            return NOT_THERE
        usable = kept and row["candidate"] == aim.reference
        again = uniform(aim.seed, row["request_id"], "self") < aim.self_share
        calls = [] if usable else [_call("reference", reference)]
        calls += [_call("self", reference)] if again else []
        calls += [_call("candidate", deployment) for deployment in candidates if deployment is not None]
        hourly = '"1h"' in row["prompt_text"]
        worst = [self._worst(c, request.body_bytes, limit, logged, hourly) for c in calls]
        total = sum(worst, start=Decimal(0))
        if total > aim.per_request_usd:
            return TOO_DEAR
        return Found(
            request_id=row["request_id"],
            session_id=row["session_id"],
            dialect=row["dialect"],
            calls=calls,
            logged=usable,
            answered_by=row["candidate"],
            logged_model=logged[0] if logged else None,
            logged_tokens=logged[1] if logged else None,
            worst_usd=total,
            expected_usd=self._expected(calls, request, logged, row["output_tokens"]),
            uncertainty=self._uncertainty(row, facts, [d for d in candidates if d is not None]),
        )

    def _worst(
        self, call: PlannedCall, size: int, limit: int, logged: tuple[str, int] | None, hourly: bool
    ) -> Decimal:
        deployment = self._catalog.deployments[call.deployment]
        tokens = prompt_bound(prompt_estimate(deployment.model, size, logged))
        usd = worst_case(deployment, tokens, limit, self._aim.now_ms, hourly=hourly)
        assert usd is not None, "only priced deployments are chosen"
        return usd

    def _deployment(
        self, name: str, request: WireRequest, facts: Facts, logged: tuple[str, int] | None
    ) -> Deployment | None:
        """The first deployment of a candidate that may be called, is priced, and fits the request."""
        row = self._catalog.candidates[name]
        for deployment in callable_deployments(self._catalog, name, self._environ):
            if deployment.dialect != request.dialect:
                continue
            window = prices.context_window(deployment.model, deployment.provider)
            tokens = round(prompt_estimate(deployment.model, request.body_bytes, logged))
            if exclusion(row, window, facts, tokens) is None:
                return deployment
        return None

    def _expected(
        self,
        calls: list[PlannedCall],
        request: WireRequest,
        logged: tuple[str, int] | None,
        output: int | None,
    ) -> float:
        """Roughly what asking costs; it only weighs requests against each other."""
        total = 0.0
        for call in calls:
            deployment = self._catalog.deployments[call.deployment]
            prompt = round(prompt_estimate(deployment.model, request.body_bytes, logged))
            usd = worst_case(deployment, prompt, output or _GUESSED_OUTPUT, self._aim.now_ms, hourly=False)
            total += float(usd or 0)
        return total

    def _uncertainty(self, row: dict[str, Any], facts: Facts, deployments: list[Deployment]) -> float:
        """Mean standard deviation of the candidates' success as the bundle sees it; 0.5 where it can't."""
        if row["facts"] is None:
            return 0.5
        views = [self._view(deployment, facts.effort) for deployment in deployments]
        beliefs = self._bundle.predict(
            featurize_one(facts, self._embedding(row)), views, row["task_type"]
        ).p_success
        spread = [0.5 if math.isnan(p) else math.sqrt(p * (1 - p)) for p in beliefs.tolist()]
        return sum(spread) / len(spread)

    def _view(self, deployment: Deployment, effort: float | None) -> CandidateView:
        """Describe a candidate to the bundle, under the name it was trained under."""
        known = self._learned.name(deployment.candidate, deployment.model, effort)
        found = prices.rates(deployment.model, deployment.provider, self._aim.now_ms)
        assert found is not None, "only priced deployments are chosen"
        return CandidateView(known, float(found.input), float(found.output))

    def _embedding(self, row: dict[str, Any]) -> np.ndarray | None:
        encoder = self._bundle.encoder
        if encoder is None:
            return None
        if row["embedding"] is None or row["encoder_digest"] != encoder.digest:
            return np.full(encoder.dim, np.nan, dtype=np.float32)
        return np.array(row["embedding"], dtype=np.float32)


def callable_deployments(catalog: Catalog, name: str, environ: Mapping[str, str]) -> list[Deployment]:
    """Deployments of a candidate that our own keys open and whose price is known."""
    own = [d for d in catalog.deployments.values() if d.candidate == name]
    keyed = [d for d in own if d.key_env is None or environ.get(d.key_env)]
    return [d for d in keyed if worst_case(d, 1, 1, now_ms(), hourly=False) is not None]


def check_candidate(catalog: Catalog, name: str, environ: Mapping[str, str], *, asks: bool = True) -> None:
    """Raise BadInput unless a candidate is in the catalogue and, if it is asked, has a key and a price."""
    if name not in catalog.candidates:
        raise BadInput(f"{name!r} is no candidate of the catalogue; it has {', '.join(catalog.candidates)}")
    if not asks:
        return
    own = [d for d in catalog.deployments.values() if d.candidate == name]
    if not any(d.key_env is None or environ.get(d.key_env) for d in own):
        names = " or ".join(sorted({d.key_env for d in own if d.key_env}))
        raise BadInput(f"no key for {name}: set {names}")
    if not callable_deployments(catalog, name, environ):
        raise BadInput(f"{name} has no published price, so no cap can hold it; leave it out")


def most_served(log: LogStore, catalog: Catalog) -> str:
    """The candidate that answered most requests of the gateway's log; BadInput if there is none."""
    served = (
        log.scan("request")
        .filter(pl.col("candidate").is_in(list(catalog.candidates)) & (pl.col("source") == "journal"))
        .group_by("candidate")
        .len()
        .sort("len", "candidate", descending=[True, False])
        .collect()
    )
    if served.is_empty():
        raise BadInput(f"{log.path}: names no candidate of the catalogue; say which with --reference")
    return str(served["candidate"][0])


def _rows(log: LogStore) -> Iterator[dict[str, Any]]:
    """Logged requests but for earlier shadow calls, a few hundred in memory at a time."""
    rows = log.scan("request").filter(pl.col("source") != "shadow").select(_COLUMNS)
    for batch in rows.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):
        yield from batch.iter_rows(named=True)


def bodies(log: LogStore, request_ids: list[str]) -> dict[str, dict[str, Any]]:
    """Body and logged answer of some requests, by id."""
    columns = ("request_id", "prompt_text", "response_text", "tools_called")
    rows = log.scan("request").filter(pl.col("request_id").is_in(request_ids)).select(columns).collect()
    return {row["request_id"]: row for row in rows.iter_rows(named=True)}


def _call(role: Any, deployment: Deployment) -> PlannedCall:
    return PlannedCall(role=role, candidate=deployment.candidate, deployment=deployment.id)


def _logged_tokens(row: dict[str, Any]) -> tuple[str, int] | None:
    """Model and whole prompt in tokens, as the provider counted the logged call; None if it didn't."""
    if row["input_tokens_uncached"] is None:
        return None
    counts = (row["input_tokens_uncached"], row["cached_tokens"], row["cache_write_tokens"])
    total = sum(count or 0 for count in counts)
    return (row["model_served"] or row["candidate"] or "", total) if total > 0 else None


def _facts(row: dict[str, Any]) -> Facts:
    return Facts() if row["facts"] is None else msgspec.convert(row["facts"], Facts)
