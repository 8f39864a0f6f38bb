"""What ratings say of systems: means, preferences, agreement.

Catch trials take no part. A mean opinion score is the mean of all ratings of a
system; its interval, and those of differences, are drawn over raters and items
(`intervals`). A preference is a share of the answers that had one; the exact
binomial test asks whether a fair coin would divide them so, and counts each
answer as if it were a rater of its own. The interval beside it does not.
"""

import itertools
from typing import Any, Mapping

import numpy as np

from step_audio_jax.evaluation.listening import design
from step_audio_jax.evaluation.listening import intervals
from step_audio_jax.evaluation.listening import ratings as ratings_lib
from step_audio_jax.evaluation.statistics import agreement

Found = dict[str, Any]


def compute(
  ratings: ratings_lib.Ratings,
  key: Mapping[str, Any],
  draws: int = intervals.DRAWS,
) -> Found:
  """All figures of a page.

  Args:
    ratings: That came back.
    key: Of the page.
    draws: Of each interval.

  Returns:
    JSON-able: `raters`, `rows`, `files`, `catch`, and of the questions that
    were asked `mos` and `ab`.
  """
  found: Found = {
    'page': key['page'],
    'systems': key['systems'],
    'questions': key.get('questions', {}),
    'rule': key['rule'],
    'draws': draws,
    'raters': {
      'given': ratings.given,
      'kept': len(ratings.kept),
      'excluded': ratings.excluded,
      'missing': ratings.missing,
    },
    'rows': ratings.rows,
    'files': ratings.files,
    'catch': {
      'failed': ratings.caught,
      'same_told_apart': ratings.told_apart,
    },
  }
  asked = {trial['question'] for trial in key['trials'].values()}
  if design.MOS in asked:
    found['mos'] = _opinions(ratings, key, draws)
  if design.AB in asked:
    found['ab'] = _preferences(ratings, key, draws)
  return found


def _opinions(ratings, key, draws) -> Found:
  names = {name: place for place, name in enumerate(ratings.kept)}
  items = {name: place for place, name in enumerate(key['items'])}
  shape = (len(key['systems']), len(names), len(items))
  x_SRI = np.full(shape, np.nan)
  seconds = []
  for rater, one in _answers(ratings, key, design.MOS):
    owner = key['sounds'][one.sounds[0]]
    system = key['systems'].index(owner['system'])
    x_SRI[system, names[rater], items[owner['item']]] = float(one.score)
    seconds.append(one.seconds)
  drawn = [intervals.means(x_RI, draws=draws) for x_RI in x_SRI]
  systems = {}
  for name, x_RI, (mean, mean_B) in zip(key['systems'], x_SRI, drawn):
    low, high = intervals.interval(mean_B)
    there_RI = np.isfinite(x_RI)
    systems[name] = {
      'mean': _number(mean),
      'low': _number(low),
      'high': _number(high),
      'ratings': int(there_RI.sum()),
      'raters': int(there_RI.any(axis=1).sum()),
      'items': int(there_RI.any(axis=0).sum()),
      'scores': [int((x_RI == score).sum()) for score in range(1, 6)],
    }
  differences = []
  for (a, one), (b, two) in itertools.combinations(enumerate(drawn), 2):
    low, high = intervals.interval(one[1] - two[1])
    differences.append(
      {
        'first': key['systems'][a],
        'second': key['systems'][b],
        'difference': _number(one[0] - two[0]),
        'low': _number(low),
        'high': _number(high),
        'sure': bool(low > 0 or high < 0),
      }
    )
  # Each sound is rated by everybody: (S · I, R).
  sounds_UR = np.concatenate([x_RI.T for x_RI in x_SRI])
  return {
    'systems': systems,
    'differences': differences,
    'alpha_ordinal': agreement.krippendorffs_alpha(
      sounds_UR.tolist(), agreement.ORDINAL
    ),
    'alpha_interval': agreement.krippendorffs_alpha(
      sounds_UR.tolist(), agreement.INTERVAL
    ),
    'median_seconds': _number(np.median(seconds) if seconds else np.nan),
  }


def _preferences(ratings, key, draws) -> Found:
  names = {name: place for place, name in enumerate(ratings.kept)}
  items = {name: place for place, name in enumerate(key['items'])}
  order = list(itertools.combinations(key['systems'], 2))
  x_PRI = np.full((len(order), len(names), len(items)), np.nan)
  asked: dict[str, list[str]] = {}
  firsts = [0, 0]  # chosen first, chosen at all
  for rater, one in _answers(ratings, key, design.AB):
    owners = [key['sounds'][name] for name in one.sounds]
    pair = sorted(
      (owner['system'] for owner in owners), key=key['systems'].index
    )
    score = 0.0
    if one.winner is not None:
      winner = key['sounds'][one.winner]['system']
      score = 1.0 if winner == pair[0] else -1.0
      firsts[0] += one.score == 'a'
      firsts[1] += 1
    place = order.index(tuple(pair))
    x_PRI[place, names[rater], items[owners[0]['item']]] = score
    asked.setdefault(one.trial, []).append(str(int(score)))
  pairs = []
  for (first, second), x_RI in zip(order, x_PRI):
    wins, losses, same = (int((x_RI == value).sum()) for value in (1, -1, 0))
    decided_RI = np.where(x_RI == 0, np.nan, (x_RI + 1) / 2)
    share, share_B = intervals.means(decided_RI, draws=draws)
    low, high = intervals.interval(share_B)
    pairs.append(
      {
        'first': first,
        'second': second,
        'first_wins': wins,
        'second_wins': losses,
        'same': same,
        'share': _number(share),
        'low': _number(low),
        'high': _number(high),
        'p': intervals.binomial_p(wins, losses),
      }
    )
  return {
    'pairs': pairs,
    'alpha_nominal': agreement.krippendorffs_alpha(list(asked.values())),
    # Half of them, of raters without a side.
    'side_a': _number(firsts[0] / firsts[1] if firsts[1] else np.nan),
  }


def _answers(ratings, key, question):
  """(rater, answer) of trials that are no catch."""
  for rater, answers in ratings.kept.items():
    for one in answers.values():
      if one.question == question and not key['trials'][one.trial]['catch']:
        yield rater, one


def _number(value) -> float | None:
  """Four digits behind the point; None of what is none."""
  return round(float(value), 4) if np.isfinite(value) else None
