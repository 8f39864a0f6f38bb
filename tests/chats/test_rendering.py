"""Conversations as ids: what is learnt, what is asked, what is cut."""

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from step_audio_jax import documents
from step_audio_jax import errors
from step_audio_jax.chats import formats
from step_audio_jax.chats import rendering
from tests.chats import conversations
from tests.data_pipelines.letters import TABLE

BOS, EOT, BOT, CALL, CALLED = 1, 3, 4, 5, 6


def letters(text):
  return [100 + ord(c) % 300 for c in text]


def turn(role, *ids, bos=()):
  return [BOT, *bos, *letters(f'{role}\n'), *ids, EOT]


WHOLE = {
  'messages': [
    {'role': 'system', 'content': 'be brief'},
    {'role': 'user', 'content': [
      {'type': 'text', 'text': 'hear'}, {'type': 'audio', 'audio': 'user-2'},
      {'type': 'text', 'text': 'well'}]},
    {'role': 'assistant', 'content': 'so', 'tool_calls': [
      {'function': {'name': 'clock', 'arguments': {'at': 1}}}]},
    {'role': 'tool', 'content': 'noon'},
    {'role': 'assistant', 'content': 'Noon.'},
  ],
  'tools': [conversations.CLOCK],
}  # fmt: skip
SPOKEN = conversations.ids_of(
  TABLE, rendering.chats.Speech(path='user-2')
).tolist()
SCHEMA = '[{"type": "function", "function": {"name": "clock"}}]'
WRITTEN = '{"name": "clock", "arguments": {"at": 1}}'
TURNS = conversations.turns_of(TABLE, WHOLE)


def parts(bos=()):
  """Every turn, id by id."""
  call = [CALL, *letters(WRITTEN), CALLED]
  heard = [*letters('hear'), *SPOKEN, *letters('well')]
  return [
    turn('system', *letters('be brief'), bos=bos),
    turn('tool_json_schemas', *letters(SCHEMA), bos=bos),
    turn('human', *heard, bos=bos),
    turn('assistant', *letters('so'), *call, bos=bos),
    turn('tool', *letters('noon'), bos=bos),
    turn('assistant', *letters('Noon.'), bos=bos),
  ]


@pytest.mark.parametrize('starts', [False, True])
def test_every_kind_of_turn_id_by_id(starts):
  bos = [BOS] * starts
  style = rendering.layout(starts)
  document, cut = rendering.document(TABLE, 'c', TURNS, style=style)
  assert cut is None and document.id == 'c'
  assert document.tokens.tolist() == [BOS, *sum(parts(bos), [])]
  head = len(bos) + 1 + len('assistant\n')
  weights = [0]
  for number, ids in enumerate(parts(bos)):
    said = number in (3, 5)
    weights += [0] * (head if said else len(ids)) + [1] * (
      (len(ids) - head) if said else 0
    )
  assert document.loss_weights.tolist() == weights
  asked, _ = rendering.prompt(TABLE, TURNS[:-1], style=style)
  assert asked == document.tokens[: len(asked)].tolist()
  assert np.flatnonzero(document.loss_weights)[-6] == len(asked)


def test_the_last_reply_alone_may_be_learnt():
  """All that is said behind the last human turn, calls too."""
  turns = [('user', 'a'), ('assistant', 'b'), *TURNS[2:]]
  one, _ = rendering.document(TABLE, 'c', turns, last_only=True)
  every, _ = rendering.document(TABLE, 'c', turns)
  assert one.tokens.tolist() == every.tokens.tolist()
  changed = np.flatnonzero(one.loss_weights != every.loss_weights)
  assert one.tokens[changed].tolist() == [*letters('b'), EOT]
  assert not one.loss_weights[changed].any()
  some, _ = rendering.document(
    TABLE, 'c', turns, last_only=True, prompt_loss=0.5
  )
  assert set(some.loss_weights[changed]) == {0.5}
  with pytest.raises(errors.UserError, match='behind the last of the user'):
    rendering.document(TABLE, 'c', turns[:3], last_only=True)


def test_old_chats_are_what_they_were():
  turns = [('system', 's'), ('user', np.array(SPOKEN)), ('assistant', 'x')]
  value = {'turns': [
    {'role': 'system', 'text': 's'}, {'role': 'user', 'speech': 'user-2'},
    {'role': 'assistant', 'text': 'x'}]}  # fmt: skip
  found = rendering.turns_of(formats.parse(value), lambda _: np.array(SPOKEN))
  new, _ = rendering.document(TABLE, 'x', found)
  old = documents.CHAT.document(TABLE, 'x', turns)
  assert new.tokens.tolist() == old.tokens.tolist()
  assert new.loss_weights.tolist() == old.loss_weights.tolist()
  assert new.tokens.dtype == np.int32


LONG = [
  ('system', 'sys'),
  ('user', 'a' * 10),
  ('assistant', 'b' * 20),
  ('user', 'c' * 30),
  ('assistant', documents.Mixed([documents.Call('{}')])),
  ('tool', 'd'),
  ('assistant', 'e' * 40),
  ('user', 'f' * 50),
  ('assistant', 'g' * 5),
]


def lengths():
  return [
    len(documents.CHAT.prompt(TABLE, [one]))
    - len(documents.CHAT.prompt(TABLE, []))
    for one in LONG
  ]


@pytest.mark.parametrize(
  ('less', 'dropped'), [(0, 0), (1, 2), (50, 2), (51, 2), (59, 6), (150, 6)]
)
def test_the_oldest_exchanges_are_cut(less, dropped):
  whole, _ = rendering.document(TABLE, 'c', LONG)
  longest = len(whole) - less
  found, cut = rendering.document(TABLE, 'c', LONG, longest=longest)
  sizes = lengths()
  while dropped and sum(sizes[1 : 1 + dropped]) < less:
    dropped += 4  # whole exchanges
  want, _ = rendering.document(TABLE, 'c', [LONG[0], *LONG[1 + dropped :]])
  assert found.tokens.tolist() == want.tokens.tolist()
  assert found.loss_weights.tolist() == want.loss_weights.tolist()
  assert len(found) <= longest
  if not dropped:
    assert cut is None
    return
  assert (cut.first, cut.turns) == (1, dropped)
  assert cut.ids == sum(sizes[1 : 1 + dropped]) == len(whole) - len(found)
  assert str(cut) == (
    f'{len(whole)} ids, {less} more than {longest}: turns 1 to {dropped} were '
    f'left out, {cut.ids} ids.'
  )


def test_the_last_human_turn_stays():
  whole, _ = rendering.document(TABLE, 'c', LONG)
  least = len(rendering.document(TABLE, 'c', [LONG[0], *LONG[-2:]])[0])
  found, cut = rendering.document(TABLE, 'c', LONG, longest=least)
  assert len(found) == least and cut.turns == 6
  with pytest.raises(errors.UserError) as caught:
    rendering.document(TABLE, 'c', LONG, longest=least - 1)
  assert str(caught.value) == (
    f'turns: {len(whole)} ids, {len(whole) - least + 1} more than {least - 1}; '
    'what stays when all older turns are cut (the system, the last turn of the '
    f'user and what is behind it) has {least}.'
  )
  with pytest.raises(errors.UserError, match='has 24.$'):
    rendering.document(TABLE, 'c', [('assistant', 'abcdefghijk')], longest=9)


def test_prompts_are_cut_alike():
  asked = LONG[:-1]
  whole, _ = rendering.prompt(TABLE, asked)
  longest = len(whole) - 1
  found, cut = rendering.prompt(TABLE, asked, longest=longest)
  want, _ = rendering.prompt(TABLE, [LONG[0], *asked[3:]])
  assert found == want and (cut.first, cut.turns) == (1, 2)
  assert rendering.prompt(TABLE, asked, longest=len(whole)) == (whole, None)


@hypothesis.settings(max_examples=50, deadline=None)
@hypothesis.given(st.integers(0, 999), st.integers(10, 700))
def test_a_prompt_and_its_answer_are_the_document(seed, longest):
  (value,) = conversations.generated(1, seed)
  turns = conversations.turns_of(TABLE, value)
  if turns[-1][0] != 'assistant':
    return
  try:
    document, cut = rendering.document(TABLE, 'x', turns, longest=longest)
  except errors.UserError as error:
    assert 'more than' in str(error)
    return
  assert len(document) <= longest
  kept = turns
  if cut is not None:
    kept = [*turns[: cut.first], *turns[cut.first + cut.turns :]]
    assert kept[cut.first][0] == 'user'
  asked, _ = rendering.prompt(TABLE, kept[:-1])
  assert document.tokens[: len(asked)].tolist() == asked
  learnt = document.loss_weights[len(asked) :]
  assert learnt.all() and document.tokens[-1] == EOT
