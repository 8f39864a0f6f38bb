"""Parity with recorded and with other people's implementations.

Every compared quantity becomes a row of the table that ends the run: name,
max error, tolerance.
"""

import importlib.util

import numpy as np
import pytest

# `make parity` brings torch; elsewhere the peers are not even imported.
if importlib.util.find_spec('torch') is None:
  collect_ignore = [
    'test_chats.py',
    'test_exports.py',
    'test_language.py',
    'test_preferences.py',
    'test_vision.py',
  ]

_ROWS = 'parity rows'


class Rows:
  """Compared quantities of one test; `close` fails if one is outside."""

  def __init__(self):
    self.rows, self._outside = [], []

  def __call__(self, name, got, want, tolerance, quantile=1.0):
    """Compares `got` with `want`.

    Args:
      name: What the row is called.
      got: Ours.
      want: The reference's.
      tolerance: Largest allowed absolute error; 0 means equal.
      quantile: Share of the values that must be inside; the largest error of
        these is shown.
    """
    got, want = np.asarray(got), np.asarray(want)
    error = float('inf')
    if got.shape == want.shape:
      difference = np.abs(got.astype(np.float64) - want.astype(np.float64))
      error = float(np.quantile(difference, quantile)) if got.size else 0.0
    else:
      name = f'{name}: found shape {got.shape}, expected {want.shape}'
    # Not `>`: a NaN is outside.
    fits = error <= tolerance
    self.rows.append((name, error, tolerance, 'ok' if fits else 'OUTSIDE'))
    if not fits:
      self._outside.append(f'{name}: {error:.2e}, tolerance {tolerance:.0e}')

  def note(self, text):
    """A line without numbers: what was not compared, and why."""
    self.rows.append((text, None, None, ''))

  def close(self):
    """Fails if a row so far is outside its tolerance."""
    outside, self._outside = self._outside, []
    assert not outside, '; '.join(outside)


@pytest.fixture
def parity(record_property):
  """Rows of this test; its end closes them if it does not do so itself."""
  rows = Rows()
  # As a property: it reaches the terminal from pytest-xdist's workers too.
  record_property(_ROWS, rows.rows)
  yield rows
  rows.close()


@pytest.fixture
def compare(parity):
  """One quantity, checked at once."""

  def check(name, got, want, tolerance):
    parity(name, got, want, tolerance)
    parity.close()

  return check


def pytest_terminal_summary(terminalreporter):
  """The table."""
  rows, seen = [], set()
  for reports in terminalreporter.stats.values():
    for report in reports:
      for key, value in getattr(report, 'user_properties', ()):
        if key == _ROWS and report.nodeid not in seen:
          seen.add(report.nodeid)
          rows += value
  if not rows:
    return
  terminalreporter.section('parity: max error, tolerance')
  width = max(len(name) for name, error, _, _ in rows if error is not None)
  for name, error, tolerance, verdict in rows:
    if error is None:
      terminalreporter.line(name)
    else:
      terminalreporter.line(
        f'{name:<{width}}  {error:.2e}  {tolerance:.0e}  {verdict}'
      )
