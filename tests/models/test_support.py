"""Where learners may speak: a float32 lies outside exactly where it lies beyond the bounds in float64."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.manifest import Range
from models.support import MARGIN, Support

numbers = st.floats(-1e9, 1e9)


@given(numbers, numbers, st.integers(-2, 2), st.booleans())
def test_bounds_in_float32_are_those_in_float64(a, b, steps, high_end) -> None:
    low, high = min(a, b), max(a, b)
    margin = MARGIN * (high - low)
    bounds = low - margin, high + margin
    value = np.float32(bounds[high_end])
    for _ in range(abs(steps)):
        value = np.nextafter(value, np.float32(math.copysign(math.inf, steps)))
    support = Support([Range("a", low, high, False)], {"a": 0})
    beyond = support.beyond(np.array([[value]], dtype=np.float32))
    assert bool(beyond[0, 0]) is not (bounds[0] <= float(value) <= bounds[1])


def test_what_was_never_unknown_is_outside_where_it_is() -> None:
    support = Support([Range("a", 0.0, 1.0, False), Range("b", 0.0, 1.0, True)], {"a": 1, "b": 0})
    rows = np.array([[math.nan, 0.5], [0.5, math.nan], [2.0, 0.5]], dtype=np.float32)
    assert support.beyond(rows).tolist() == [[False, False], [True, False], [False, True]]
