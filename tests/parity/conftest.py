"""Parity with other people's implementations, where they are installed."""

import importlib.util

import numpy as np
import pytest

# `make parity` brings torch; elsewhere nothing here is even imported.
if importlib.util.find_spec('torch') is None:
  collect_ignore_glob = ['test_*.py']


@pytest.fixture
def compare(capsys):
  """A function that prints one line for a quantity and checks it."""

  def check(name, got, want, tolerance):
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, name
    error = float(np.abs(got - want).max())
    with capsys.disabled():
      print(
        f'\n{name}: max error {error:.2e}, tolerance {tolerance:.0e}', end=''
      )
    assert error <= tolerance, name

  return check
