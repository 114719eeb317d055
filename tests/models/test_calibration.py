"""Calibration: three kinds, rising everywhere, and the graph's nodes equal to numpy."""

from __future__ import annotations

import msgspec
import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.calibration import Calibration, calibrated
from models.export import build_graph, export_heads
from models.heads import Heads, Part
from models.parity import MAX_ABS_DP
from models.table import EXTRA_COLUMNS

KINDS = st.one_of(
    st.builds(Calibration, st.floats(0, 3), st.floats(-2, 2)),
    st.builds(
        lambda low, high, offset: Calibration(1.1, 0.2, 1.0, "beta", (low, high, offset)),
        st.floats(0, 4),
        st.floats(0, 4),
        st.floats(-3, 3),
    ),
    st.lists(st.tuples(st.floats(-8, 8), st.floats(0.001, 0.999)), min_size=2, max_size=20).map(
        lambda knots: Calibration(
            1.0,
            0.0,
            1.0,
            "isotonic",
            None,
            tuple(
                zip(
                    np.cumsum(np.abs([k[0] for k in knots]) + 1e-3) - 20,
                    sorted(k[1] for k in knots),
                    strict=True,
                )
            ),
        )
    ),
)
RAW = np.concatenate([np.linspace(-30, 30, 241), [-1e6, 1e6, 0.0, -0.0]])


@given(KINDS)
def test_it_never_falls_and_stays_a_probability(calibration: Calibration) -> None:
    p = calibrated(calibration, np.sort(RAW))
    assert np.isfinite(p).all()
    assert ((p >= 0) & (p <= 1)).all()
    assert (np.diff(p) >= -1e-12).all()


@settings(max_examples=25, deadline=None)
@given(KINDS)
def test_the_graph_says_what_numpy_says(calibration: Calibration) -> None:
    graph = build_graph(Heads(Part(), calibration, 3, {}))
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    rows = np.zeros((len(RAW), 3 + len(EXTRA_COLUMNS)), dtype=np.float32)
    at = 3 + EXTRA_COLUMNS.index("table_logit")
    rows[:, at] = RAW
    found = session.run(None, {"X": rows})[0]
    np.testing.assert_allclose(found, calibrated(calibration, rows[:, at]), atol=1e-7)


@settings(max_examples=10, deadline=None)
@given(KINDS)
def test_every_kind_passes_the_proof(calibration: Calibration) -> None:
    _, report = export_heads(Heads(Part(), calibration, 3, {}))
    assert report.rows_wrong == report.decisions_flipped == 0
    assert report.max_abs_dp <= MAX_ABS_DP


def test_beta_of_ones_is_the_line() -> None:
    line = Calibration(1.3, -0.4)
    beta = msgspec.structs.replace(line, kind="beta", beta=(1.0, 1.0, 0.0))
    np.testing.assert_allclose(calibrated(beta, RAW[:241]), calibrated(line, RAW[:241]), atol=1e-12)


def test_a_manifest_from_before_there_were_kinds_is_read_as_it_was_meant() -> None:
    read = msgspec.json.decode(b'{"a": 0.9, "b": 0.1, "design_effect": 2.5}', type=Calibration)
    assert (read.kind, read.design_effect) == ("platt", 2.5)
    assert calibrated(read, np.array([1.0])) == pytest.approx(1 / (1 + np.exp(-1.0)))
