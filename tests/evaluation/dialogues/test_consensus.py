import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from step_audio_jax.evaluation.dialogues import consensus

TURN, FLOOR, ATTEMPT = (
  'Normal Turn',
  'Floor-taking Competitive Interruption',
  'Non-floor Taking Cooperative Interruption',
)
YES = 'Acknowledgement Backchannel'
NOBODY = {a: () for a in consensus.ANNOTATORS}


def segments(*found):
  return [consensus.Segment(*one) for one in found]


def all_three(*found):
  return {a: segments(*found) for a in consensus.ANNOTATORS}


def agreed(a=(), b=(), c=(), labels=consensus.LABELS):
  tracks = {'a': segments(*a), 'b': segments(*b), 'c': segments(*c)}
  view = consensus.agree(tracks, labels)
  return [tuple(e) for e in view.events], view.disputed_N2.tolist()


def test_times_are_medians():
  events, disputed = agreed(
    [(1, 2, TURN)], [(1.1, 2.1, TURN)], [(1.2, 2, TURN)]
  )
  assert events == [(1.1, 2, 'turn')] and disputed == []


def test_two_settle_it():
  # c writes something else, and is outvoted: nothing is disputed.
  found = agreed([(1, 2, TURN)], [(1.1, 2.1, TURN)], [(1, 2, YES)])
  assert found == ([(1.05, 2.05, 'turn')], [])
  # a and c, as b is too far away for all three.
  found = agreed([(1, 2, TURN)], [(1.3, 2.3, TURN)], [(0.9, 2, TURN)])
  assert found == ([(0.95, 2, 'turn')], [])


def test_without_a_majority_it_is_disputed():
  found = agreed([(1, 2, TURN)], [(1, 2.5, TURN)], [(1.6, 3, YES)])
  assert found == ([], [[1, 3]])
  assert agreed([(1, 2, TURN)]) == ([], [[1, 2]])
  # Labels that are unknown say nothing.
  assert agreed([(1, 2, 'Sneeze')]) == ([], [])


def test_each_segment_agrees_once():
  events, disputed = agreed(
    [(1, 2, YES), (1.1, 2, YES)], [(1, 2, YES)], [(5, 6, YES)]
  )
  assert events == [(1, 2, 'backchannel')] and disputed == [[5, 6]]


def test_whose_floor_is_a_coarser_question():
  tracks = [[(1, 2, TURN)], [(1, 2, FLOOR)], [(1, 2, 'Overlap')]]
  assert agreed(*tracks)[0] == [(1, 2, 'turn')]  # a and c
  tracks[2] = [(1, 2, YES)]
  assert agreed(*tracks) == ([], [[1, 2]])
  found = agreed(*tracks, labels=consensus.FLOOR)
  assert found == ([(1, 2, 'turn')], [])


def ends_and_pauses(one, two=(), tracks_two=None):
  two = tracks_two or all_three(*two)
  ends, _ = consensus.gold({1: all_three(*one), 2: two})
  return ends[1].times_N.tolist(), ends[1].traps_N2.tolist()


def test_turns_end_where_the_floor_passes():
  turns = [(1, 2, TURN), (3, 4, TURN), (6, 7, TURN)]
  # The other follows after 4; before that the speaker only pauses.
  found = ends_and_pauses(turns, [(4.5, 5.5, TURN)])
  assert found == ([4, 7], [[2, 3]])
  # Spoken over at its end, it is an end, too.
  found = ends_and_pauses(turns, [(1.5, 2.5, TURN)])
  assert found == ([2, 7], [[4, 6]])
  # A backchannel of the other leaves the floor where it is.
  assert ends_and_pauses(turns, [(2.2, 2.8, YES)]) == ([7], [[2, 3], [4, 6]])


def test_an_end_within_the_own_turn_is_none():
  found = ends_and_pauses([(1, 5, TURN), (2, 3, FLOOR)], [(6, 7, TURN)])
  assert found == ([5], [])


@pytest.mark.parametrize(
  'own, two, pause',
  [
    ([(2.4, 2.6, YES)], [], [2, 2.4]),  # it listens
    ([(2.4, 2.6, 'Laughter')], [], [2, 2.4]),
    ([], [(2.3, 2.9, ATTEMPT)], [2, 2.3]),
    ([], [(2.3, 2.9, YES)], [2, 4]),
    ([(1.9, 2.1, YES)], [], [2, 4]),  # not in the pause
  ],
)
def test_pauses_end_where_something_speaks_against_them(own, two, pause):
  turns = [(1, 2, TURN), (4, 5, TURN)]
  assert ends_and_pauses([*turns, *own], two) == ([5], [pause])


def test_disputes_end_pauses():
  turns = [(1, 2, TURN), (4, 5, TURN)]
  alone = {**NOBODY, 'a': segments((3, 3.5, YES))}
  assert ends_and_pauses(turns, tracks_two=alone) == ([5], [[2, 3]])
  alone = {**NOBODY, 'a': segments((1.5, 3.5, YES))}
  assert ends_and_pauses(turns, tracks_two=alone) == ([5], [])


def test_interruptions():
  _, found = consensus.gold(
    {
      1: all_three((1, 5, TURN)),
      2: all_three((2, 2.5, YES), (3, 3.5, ATTEMPT), (4, 6, FLOOR)),
    }
  )
  assert found[2].times_N.tolist() == [4]
  assert found[2].traps_N2.tolist() == [[2, 2.5]]
  assert found[2].ignored_N2.tolist() == [[3, 3.5]]
  assert not len(found[1].times_N)


TRACK = st.lists(
  st.tuples(
    st.integers(0, 400),
    st.integers(1, 60),
    st.sampled_from([TURN, FLOOR, ATTEMPT, YES, 'Laughter', 'Sneeze']),
  ),
  max_size=12,
)


def shifted(tracks, seconds):
  return {
    speaker: {
      annotator: segments(
        *(
          # Ticks of 1/16 s, so that sums of them are exact.
          (start / 16 + seconds, (start + more) / 16 + seconds, label)
          for start, more, label in one
        )
      )
      for annotator, one in zip(consensus.ANNOTATORS, three, strict=True)
    }
    for speaker, three in zip(consensus.SPEAKERS, tracks, strict=True)
  }


@hypothesis.settings(max_examples=60)
@hypothesis.given(st.tuples(*[st.tuples(*[TRACK] * 3)] * 2), st.integers(0, 9))
def test_gold_moves_with_the_annotations(tracks, seconds):
  here = consensus.gold(shifted(tracks, 0))
  there = consensus.gold(shifted(tracks, seconds))
  for one, other in zip(here, there, strict=True):
    for speaker in consensus.SPEAKERS:
      for a, b in zip(one[speaker], other[speaker], strict=True):
        np.testing.assert_allclose(a + seconds, b, atol=1e-3)
