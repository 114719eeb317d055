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


def calibration_nodes(calibration: Calibration, z: str, node: AddNode, constant: AddConstant) -> str:
    """Add nodes from `z`, a · raw + b (n,) float64, to P(success) (n,) float64; its name."""
    if calibration.kind == "isotonic":
        return _curve(np.array(calibration.knots), z, node, constant)
    if calibration.kind == "beta" and calibration.beta is not None:
        low, high, offset = calibration.beta
        # -low · softplus(-z) is low · (z - softplus(z)).
        bend = constant("bend", np.float64(high - low))
        up = node("Mul", [_softplus(z, node, constant), bend], ["up"])
        down = node("Mul", [z, constant("low", np.float64(low))], ["down"])
        z = node("Sum", [up, down, constant("offset", np.float64(offset))], ["bent"])
    return node("Sigmoid", [z], ["calibrated_p"])


def _softplus(z: str, node: AddNode, constant: AddConstant) -> str:
    """Nodes for max(z, 0) + ln(1 + e^-|z|), which nothing overflows."""
    positive = node("Max", [z, constant("flat", np.float64(0.0))], ["positive"])
    small = node("Exp", [node("Neg", [node("Abs", [z], ["far"])], ["near"])], ["small"])
    one = node("Add", [small, constant("whole", np.float64(1.0))], ["more"])
    return node("Add", [positive, node("Log", [one], ["rest"])], ["soft"])


def _curve(knots: np.ndarray, z: str, node: AddNode, constant: AddConstant) -> str:
    """Nodes for the first p plus, for each stretch between knots, its slope times what of it z has passed."""
    x, p = knots.T
    width = np.diff(x)
    past = node("Sub", [z, constant("knots", x[:-1, None])], ["past"])
    begun = node("Max", [past, constant("none", np.float64(0.0))], ["begun"])
    within = node("Min", [begun, constant("widths", width[:, None])], ["within"])
    risen = node("MatMul", [constant("slopes", np.diff(p) / width), within], ["risen"])
    return node("Add", [risen, constant("first_p", np.float64(p[0]))], ["calibrated_p"])
