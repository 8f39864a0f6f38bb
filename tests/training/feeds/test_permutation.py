"""Orders of any length that nothing keeps."""

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from step_audio_jax.training.feeds import permutation


@given(st.integers(1, 300), st.integers(0, 2**40))
@settings(max_examples=50, deadline=None)
def test_permuted_is_a_permutation(size, key):
  seen = {permutation.permute(i, size, key) for i in range(size)}
  assert seen == set(range(size))


def test_permutations_of_two_epochs_differ():
  orders = [
    [permutation.permute(i, 50, key) for i in range(50)] for key in (1, 2)
  ]
  assert orders[0] != orders[1]
