"""Normalisation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from nearshot.vectors.normalise import find_faults, normalise

FINITE = st.floats(-(2.0**120), 2.0**120, width=32)


@given(arrays(np.float32, (3, 5), elements=FINITE))
def test_rows_have_length_one_and_keep_their_direction(vectors: NDArray[np.float32]) -> None:
    usable = vectors[[row for row in range(3) if row not in find_faults(vectors)]]
    unit = normalise(usable)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(unit.astype(np.float64), axis=1), 1.0, atol=1e-6)
    wide = usable.astype(np.float64)
    np.testing.assert_allclose((unit * wide).sum(axis=1), np.linalg.norm(wide, axis=1), rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    vectors = np.ones((3, 4), dtype=np.float32)
    vectors[1, 2] = bad
    assert find_faults(vectors) == {1: "the vector has values that are not finite"}
    with pytest.raises(ValueError, match="row 1"):
        normalise(vectors)


def test_a_zero_vector_is_refused() -> None:
    vectors = np.array([[1, 0], [0, 0]], dtype=np.float32)
    assert find_faults(vectors) == {1: "the vector is zero"}
    with pytest.raises(ValueError, match="row 1"):
        normalise(vectors)
