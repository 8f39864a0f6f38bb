"""How sure means and shares of ratings are.

Ratings of one rater, and those of one item, resemble each other. So both are
drawn again, with replacement (a bootstrap over two ways, Owen 2007): with
weights u of raters and v of items, the counts of what was drawn,

    mean = Σ u_r v_i x_ri / Σ u_r v_i          over ratings that there are

and the interval is what 95 % of such means lie in. Shapes: R raters, I items, B
draws.
"""

import math

import numpy as np

DRAWS = 2000
_SHARE = 0.95


def means(
  x_RI: np.ndarray, seed: int = 0, draws: int = DRAWS
) -> tuple[float, np.ndarray]:
  """The mean of ratings, and means of ratings drawn anew.

  Args:
    x_RI: Ratings; NaN where there is none.
    seed: Of what is drawn; two calls with the same one and the same shape draw
      the same raters and items, so that their differences are paired.
    draws: How often.

  Returns:
    The mean, and those of draws (B,); NaN where nothing rated was drawn.
  """
  there_RI = np.isfinite(x_RI)
  if not there_RI.any():
    return math.nan, np.full(draws, math.nan)
  value_RI = np.where(there_RI, x_RI, 0.0)
  generator = np.random.default_rng(seed)
  u_BR, v_BI = (_counts(generator, size, draws) for size in x_RI.shape)
  total_B = ((u_BR @ value_RI) * v_BI).sum(axis=1)
  count_B = ((u_BR @ there_RI) * v_BI).sum(axis=1)
  with np.errstate(invalid='ignore', divide='ignore'):
    drawn_B = total_B / count_B
  return float(x_RI[there_RI].mean()), drawn_B


def interval(drawn_B: np.ndarray) -> tuple[float, float]:
  """What 95 % of draws lie in; NaN of none."""
  drawn_B = drawn_B[np.isfinite(drawn_B)]
  if not len(drawn_B):
    return math.nan, math.nan
  edge = (1 - _SHARE) / 2
  low, high = np.quantile(drawn_B, (edge, 1 - edge))
  return float(low), float(high)


def binomial_p(first: int, second: int) -> float:
  """Two-sided exact probability that chance divides so unevenly, or more.

  Of a fair coin; 1 where there is nothing to divide.
  """
  total, least = first + second, min(first, second)
  tail = sum(math.comb(total, k) for k in range(least + 1))
  # Whole numbers, of any size: a float cannot hold 2^2000.
  return min(1.0, 2 * tail / 2**total)


def _counts(generator, size, draws) -> np.ndarray:
  """How often each of `size` is drawn when `size` are, float64 (B, size)."""
  return generator.multinomial(size, np.full(size, 1 / size), draws).astype('d')
