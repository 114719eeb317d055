"""A replay's stage: a log, its candidates, prices, caches and beliefs, set up as the log itself had them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from features.errors import BadInput
from models.bundle import Bundle
from router import prices
from router.catalog import Catalog
from router.offline import bundle_folder
from training.replay.arms import Arms, arms_of, barred, excluded, spoken
from training.replay.beliefs import Beliefs, beliefs_of, lengths, lengths_ahead, prompts
from training.replay.book import Book, read_book
from training.replay.budget import budget_of
from training.replay.caches import caches_of, fare
from training.replay.court import Court
from training.replay.evidence import Decisions, Evidence, evidence_of, read_decisions, reference_of
from training.replay.matrix import Matrix, matrix_of, staged
from training.replay.money import Rates, rates_of
from training.replay.pricing import clock_of, priced_at
from training.replay.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from router.gateway.settings import Settings
    from training.replay.options import Options
    from training.replay.specs import Spec


class Stage(NamedTuple):
    """A world with what it was made of."""

    world: World
    catalog: Catalog
    bundle: Bundle
    decisions: Decisions
    evidence: Evidence
    barred: np.ndarray
    lengths: dict[str, str]
    matrix: Matrix | None = None

    @property
    def court(self) -> Court:
        """Where policies are judged."""
        return Court(self.evidence, self.world.reference, self.matrix)


def set_up(log: Path, options: Options, settings: Settings, specs: list[Spec]) -> Stage:
    """Read the log and set up the world at the log's own prices and caches."""
    book = read_book(log, options)
    catalog = Catalog.load(settings.catalog)
    bundle = Bundle.load(bundle_folder(settings))
    decisions = read_decisions(log, book)
    named = tuple(dict.fromkeys([*decisions.named, *(name for spec in specs for name in spec.named)]))
    arms = arms_of(book, catalog, bundle, options, named)
    tokens = prompts(book, arms)
    rates = rates_of(book, arms, tokens)
    unpriced = rates.at[np.arange(book.n), arms.logged] < 0
    if _is_matrix(book, arms, rates):  # what each answer cost is told by the log itself
        unpriced &= np.isnan(book.recorded)
    if unpriced.all():
        raise BadInput(f"{log}: {prices.why_unknown(*_first_model(book))}")
    if unpriced.any():
        book = book.without(unpriced, "no price is known of their model")
        decisions = read_decisions(log, book)
        arms = arms_of(book, catalog, bundle, options, named)
        tokens = prompts(book, arms)
        rates = rates_of(book, arms, tokens)
    beliefs = beliefs_of(log, book, arms, bundle)
    output, how = lengths(book, arms, beliefs, own_bundle=bundle.kind == "trained")
    world = _world(book, arms, (tokens, output), rates, beliefs, (decisions, options))
    return Stage(
        world, catalog, bundle, decisions, evidence_of(log, book, arms, decisions), barred(arms, options), how
    )


def _is_matrix(book: Book, arms: Arms, rates: Rates) -> bool:
    return (
        matrix_of(book, arms, np.where(np.isnan(book.recorded), _listed(book, arms, rates), 1.0)) is not None
    )


def _listed(book: Book, arms: Arms, rates: Rates) -> np.ndarray:
    """USD (n,) of every logged call by list price, as if nothing were cached."""
    own = rates.of(np.arange(book.n), arms.logged)
    found: np.ndarray = book.prompt * own[:, 0] + book.output * own[:, 1]
    return found


def _first_model(book: Book) -> tuple[str, str | None]:
    row = book.frame.row(0, named=True)
    return row["model_served"] or row["model_requested"] or row["candidate"], row["provider"]


def _world(
    book: Book,
    arms: Arms,
    sizes: tuple[np.ndarray, np.ndarray],
    rates: Rates,
    beliefs: Beliefs,
    about: tuple[Decisions, Options],
) -> World:
    tokens, output = sizes
    caches = caches_of(book, arms)
    listed = _listed(book, arms, rates)
    return World(
        book=book,
        arms=arms,
        tokens=tokens,
        output=output,
        rates=rates,
        ahead=rates_of(book, arms, lengths_ahead(tokens, beliefs)),
        caches=caches,
        fares=fare(book, arms, caches, tokens, output),
        beliefs=beliefs,
        excluded=excluded(book, arms, tokens) | spoken(book, arms),
        reference=reference_of(book, arms, about[0], about[1].reference, listed),
        draw=_draws(book),
        scale=np.ones(book.sessions),
    )


def _draws(book: Book) -> np.ndarray:
    """The number in 0..1 that a decision on each request id draws, as served."""
    import xxhash

    return np.array([(xxhash.xxh3_64_intdigest(i.encode()) >> 1) / 2**63 for i in book.frame["request_id"]])


def as_matrix(stage: Stage, usd: np.ndarray) -> Stage:
    """The stage of an outcome matrix, if the log is one; `usd` (n,) is what each row was billed."""
    matrix = matrix_of(stage.world.book, stage.world.arms, usd)
    if matrix is None:
        return stage
    return stage._replace(
        world=staged(stage.world, matrix), matrix=matrix, barred=stage.barred | ~matrix.arms
    )


def as_asked(world: World, options: Options) -> World:
    """The world as the question has it: other prices, other caches, candidates gone."""
    gone = barred(world.arms, options)
    out = world.excluded | gone[None, :]
    if gone[np.unique(world.reference)].any():
        raise BadInput("--without takes the reference away: name another one with --reference")
    world = world._replace(excluded=out, budget=budget_of(options.budget, world.book))
    if options.cache != "on":
        world = world._replace(caches=caches_of(world.book, world.arms, options.cache))
    if options.prices is not None:
        with priced_at(options.prices):
            clock = clock_of(options.prices)
            book, ahead = world.book, lengths_ahead(world.tokens, world.beliefs)
            rates = (rates_of(book, world.arms, sizes, clock) for sizes in (world.tokens, ahead))
            world = world._replace(rates=next(rates), ahead=next(rates), known=None)
    return world
