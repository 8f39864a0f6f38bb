"""CTC forced alignment: which frames say which label of a known text.

With l₁ … l_N the labels and ∅ the blank, a path over T frames visits

    ∅* l₁⁺ ∅* l₂⁺ ∅* … l_N⁺ ∅*        (a blank between equal neighbours)

and the best one maximises Σ_t log p_t(label). Viterbi over the 2N + 1 states
∅ l₁ ∅ … l_N ∅ (Graves et al. 2006; segmentation as in Kürzinger et al.,
arXiv 2007.09127, without its skips at the edges).

Letters: B rows, T frames, L labels (id 0 the blank), N labels of a row,
S = 2 N + 1 states.
"""

from typing import NamedTuple, Sequence

import numpy as np

from step_audio_jax import errors
from step_audio_jax.tokenizers.training import labels as labels_lib

_BLANK = labels_lib.BLANK


class Alignment(NamedTuple):
  """The best path of one row.

  Attributes:
    spans_N2: First frame of each label and one past its last, int32.
    score: Log-probability of the path.
  """

  spans_N2: np.ndarray
  score: float


def frames_needed(labels: Sequence[int]) -> int:
  """The fewest frames that a path takes: equal neighbours need a blank."""
  return len(labels) + sum(a == b for a, b in zip(labels, labels[1:]))


def align(
  log_probs_BTL: np.ndarray,
  frames_B: Sequence[int],
  labels: Sequence[Sequence[int]],
) -> list[Alignment]:
  """The best CTC path of every row; one loop over frames for all of them.

  Args:
    log_probs_BTL: Log-probabilities; what is behind `frames_B` is not read.
    frames_B: Frames of each row.
    labels: Ids of each row, none of them the blank.

  Returns:
    An alignment for each row.

  Raises:
    UserError: A row has fewer frames than its labels need, a label is not
      among the L, or no path has a probability above zero.
  """
  log_probs_BTL = np.asarray(log_probs_BTL)
  frames_B = np.asarray(frames_B, np.int64)
  _check(log_probs_BTL, frames_B, labels)
  B, T = len(labels), int(frames_B.max(initial=0))
  counts_B = np.array([len(row) for row in labels], np.int64)
  states_BS = np.full((B, 2 * int(counts_B.max(initial=0)) + 1), _BLANK)
  for row, ids in enumerate(labels):
    states_BS[row, 1 : 2 * len(ids) : 2] = ids
  S = states_BS.shape[1]
  # From l to the next label without a blank, unless both are the same.
  skip_BS = np.zeros((B, S), bool)
  skip_BS[:, 2:] = (states_BS[:, 2:] != _BLANK) & (
    states_BS[:, 2:] != states_BS[:, :-2]
  )
  best_BS = np.full((B, S), -np.inf)
  best_BS[:, :2] = 0.0  # what a path may begin with
  moves_TBS = np.zeros((T, B, S), np.uint8)
  for t in range(T):
    if t:
      come_3BS = np.full((3, B, S), -np.inf)
      come_3BS[0] = best_BS
      come_3BS[1, :, 1:] = best_BS[:, :-1]
      come_3BS[2, :, 2:] = np.where(skip_BS[:, 2:], best_BS[:, :-2], -np.inf)
      moves_TBS[t] = come_3BS.argmax(axis=0)
      come_BS = come_3BS.max(axis=0)
    else:
      come_BS = best_BS
    said_BS = np.take_along_axis(log_probs_BTL[:, t], states_BS, axis=1)
    best_BS = np.where((t < frames_B)[:, None], come_BS + said_BS, best_BS)
  return _follow(best_BS, moves_TBS, frames_B, counts_B)


def _follow(best_BS, moves_TBS, frames_B, counts_B) -> list[Alignment]:
  """Back along the moves; a path ends in the last label or the last blank."""
  rows_B = np.arange(len(frames_B))
  last_B = 2 * counts_B
  label_B = np.maximum(last_B - 1, 0)
  state_B = np.where(
    best_BS[rows_B, label_B] > best_BS[rows_B, last_B], label_B, last_B
  )
  scores_B = best_BS[rows_B, state_B]
  if not np.isfinite(scores_B).all():
    row = int(np.argmin(np.isfinite(scores_B)))
    raise errors.UserError(
      f'alignment: row {row} has no path with a probability above zero.'
    )
  path_BT = np.full((len(frames_B), len(moves_TBS)), -1)
  for t in reversed(range(len(moves_TBS))):
    inside_B = t < frames_B
    path_BT[:, t] = np.where(inside_B, state_B, -1)
    state_B = state_B - np.where(inside_B, moves_TBS[t, rows_B, state_B], 0)
  found = []
  for path_T, frames, count, score in zip(
    path_BT, frames_B, counts_B, scores_B
  ):
    states = 2 * np.arange(count) + 1  # a path only ever rises
    begin = np.searchsorted(path_T[:frames], states, 'left')
    end = np.searchsorted(path_T[:frames], states, 'right')
    spans_N2 = np.stack([begin, end], axis=1).astype(np.int32)
    found.append(Alignment(spans_N2, float(score)))
  return found


def word_times(
  spans_N2: np.ndarray, letters: Sequence[int], frame_seconds: float
) -> list[tuple[float, float]]:
  """Frame spans of labels → begin and end of words, seconds.

  Args:
    spans_N2: Of `align`.
    letters: How many labels each word has, in order. A word without one (a
      dash) takes no time, where the word before it ends.
    frame_seconds: Length of a frame.

  Raises:
    UserError: The words do not have as many labels as there are spans.
  """
  if sum(letters) != len(spans_N2):
    raise errors.UserError(
      f'alignment: the words have {sum(letters)} labels, expected '
      f'{len(spans_N2)}, one for each span.'
    )
  times, at, end = [], 0, 0.0
  for count in letters:
    begin = end
    if count:
      begin = round(float(spans_N2[at, 0]) * frame_seconds, 4)
      end = round(float(spans_N2[at + count - 1, 1]) * frame_seconds, 4)
    times.append((begin, end))
    at += count
  return times


def _check(log_probs_BTL, frames_B, labels) -> None:
  if log_probs_BTL.ndim != 3 or not (
    len(log_probs_BTL) == len(frames_B) == len(labels)
  ):
    raise errors.UserError(
      f'alignment: found log-probabilities of shape {log_probs_BTL.shape}, '
      f'{len(frames_B)} frame counts and {len(labels)} label rows, expected '
      '(rows, frames, labels) and one of each a row.'
    )
  _, T, L = log_probs_BTL.shape
  for row, (frames, ids) in enumerate(zip(frames_B, labels)):
    wrong = [i for i in ids if not 0 < i < L]
    if wrong:
      raise errors.UserError(
        f'alignment: row {row} has the label {wrong[0]}, expected 1..{L - 1}.'
      )
    if not max(1, frames_needed(ids)) <= frames <= T:
      raise errors.UserError(
        f'alignment: row {row} has {frames} frames, expected '
        f'{max(1, frames_needed(ids))}..{T} for its {len(ids)} labels.'
      )
