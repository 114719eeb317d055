"""Calibration of P(success): Platt's line, and on top of it a beta map or a curve where they are better.

One definition in numpy, and the same as nodes of the exported graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    AddNode = Callable[..., str]
    AddConstant = Callable[[str, object], str]

Kind = Literal["platt", "beta", "isotonic"]


class Calibration(msgspec.Struct, frozen=True, omit_defaults=True):
    """P(success) from raw log-odds, and how many rows of a group are worth one independent row.

    z = a · raw + b and q = sigmoid(z). Platt: q. Beta (Kull, Silva Filho & Flach, AISTATS 2017):
    sigmoid(low · ln q - high · ln(1 - q) + offset). Isotonic: linear between the knots (z, p), flat beyond.
    """

    a: float = 1.0
    b: float = 0.0
    design_effect: float = 1.0
    kind: Kind = "platt"
    beta: tuple[float, float, float] | None = None  # low, high, offset
    knots: tuple[tuple[float, float], ...] = ()  # (z, p), both ascending


def calibrated(calibration: Calibration, raw: np.ndarray) -> np.ndarray:
    """P(success) (n,) float64 of raw log-odds (n,)."""
    z = calibration.a * raw.astype(np.float64) + calibration.b
    if calibration.kind == "isotonic":
        x, p = np.array(calibration.knots).T
        curve: np.ndarray = np.interp(z, x, p)
        return curve
    if calibration.kind == "beta" and calibration.beta is not None:
        low, high, offset = calibration.beta
        z = high * np.logaddexp(0.0, z) - low * np.logaddexp(0.0, -z) + offset  # ln q = -softplus(-z)
    result: np.ndarray = 0.5 * (1.0 + np.tanh(0.5 * z))
    return result


def calibration_nodes(calibration: Calibration, source: str, node: AddNode, constant: AddConstant) -> str:
    """Add nodes from `source`, raw log-odds (n, 1) float64, to P(success) (n, 1) float64; its name."""
    scaled = node("Mul", [source, constant("a", np.float64(calibration.a))], ["scaled"])
    z = node("Add", [scaled, constant("b", np.float64(calibration.b))], ["shifted"])
    if calibration.kind == "isotonic":
        return _curve(np.array(calibration.knots), z, node, constant)
    if calibration.kind == "beta" and calibration.beta is not None:
        low, high, offset = calibration.beta
        up = node("Mul", [_softplus(z, "up", node, constant), constant("high", np.float64(high))], ["ups"])
        minus = node("Neg", [z], ["negated"])
        down = _softplus(minus, "down", node, constant)
        below = node("Mul", [down, constant("low", np.float64(low))], ["downs"])
        both = node("Sub", [up, below], ["both"])
        z = node("Add", [both, constant("offset", np.float64(offset))], ["bent"])
    return node("Sigmoid", [z], ["calibrated_p"])


def _softplus(z: str, name: str, node: AddNode, constant: AddConstant) -> str:
    """Nodes for max(z, 0) + ln(1 + e^-|z|), which nothing overflows."""
    positive = node("Max", [z, constant(f"{name}_zero", np.float64(0.0))], [f"{name}_max"])
    small = node("Exp", [node("Neg", [node("Abs", [z], [f"{name}_abs"])], [f"{name}_neg"])], [f"{name}_exp"])
    one = node("Add", [small, constant(f"{name}_one", np.float64(1.0))], [f"{name}_plus"])
    return node("Add", [positive, node("Log", [one], [f"{name}_log"])], [f"{name}_softplus"])


def _curve(knots: np.ndarray, z: str, node: AddNode, constant: AddConstant) -> str:
    """Nodes for the first p plus, for each stretch between knots, its slope times what of it z has passed."""
    x, p = knots.T
    width = np.diff(x)
    past = node("Sub", [z, constant("knots", x[:-1][None, :])], ["past"])
    floor = node("Max", [past, constant("none", np.float64(0.0))], ["begun"])
    within = node("Min", [floor, constant("widths", width[None, :])], ["within"])
    risen = node("Mul", [within, constant("slopes", (np.diff(p) / width)[None, :])], ["risen"])
    total = node("ReduceSum", [risen, constant("stretches", np.array([1]))], ["rise"], keepdims=1)
    return node("Add", [total, constant("first_p", np.float64(p[0]))], ["calibrated_p"])
