"""Which tags a model has learnt, and where they go in what it is asked."""

import pytest

from step_audio_jax import errors
from step_audio_jax.decoder import sentences
from step_audio_jax.decoder import styled_text
from step_audio_jax.storage import files
from step_audio_jax.styles import markup
from step_audio_jax.styles import tags

NONE = styled_text.Known()
SOME = styled_text.Known(
  frozenset((tags.Tag('快速', 1), tags.Tag('快速', 2), tags.Tag('停顿', 2)))
)
ALL = styled_text.Known(frozenset(tags.every()))
STILL = tags.Style()


def run(folder, **config):
  files.write_json(folder / 'config.json', {'model': {}, **config})
  return folder


def test_a_run_says_what_it_has_learnt(tmp_path):
  told = run(tmp_path, tags=['快速1', '快速2', '停顿2'])
  assert styled_text.of_run(told, False) == SOME
  # What rows say goes before what a release is known for.
  assert styled_text.of_run(told, True) == SOME


def test_a_run_that_says_nothing_has_learnt_none(tmp_path):
  assert styled_text.of_run(run(tmp_path), False) == NONE
  assert styled_text.of_run(run(tmp_path, tags=[]), False) == NONE


def test_the_release_has_learnt_what_its_prompt_lists(tmp_path):
  known = styled_text.of_run(run(tmp_path), True)
  assert known.more and len(known.tags) == 18
  assert tags.Tag('撒娇', 1) in known.tags
  assert tags.Tag('撒娇', 2) not in known.tags


@pytest.mark.parametrize('told', ['快速1', ['happily'], [3], ['快速9'], 7, {}])
def test_what_are_no_tags_is_refused(tmp_path, told):
  folder = run(tmp_path, tags=told)
  if told == {}:
    assert styled_text.of_run(folder, False) == NONE
    return
  with pytest.raises(errors.UserError, match='config.json: tags: found') as e:
    styled_text.of_run(folder, False)
  assert 'expected a list of tags' in str(e.value)


def written(text, style=STILL, known=ALL):
  spans, _ = styled_text.parse(text, known, style, 'RUN')
  pieces = sentences.split(markup.plain(spans))
  return list(styled_text.written(spans, pieces))


@pytest.mark.parametrize(
  'text, style, expected',
  [
    ('One. Two!', '(fast 2)', ['(快速2)One.', '(快速2)Two!']),
    (
      '(sad 1)One. (fast 1)Two, (normal)three.\nFour.',
      None,
      ['(悲伤1)One.', '(悲伤1)(快速1)Two, (正常)three.', 'Four.'],
    ),
    ('One. (slow 1)Two.', '(fast 2)', ['(快速2)One.', '(慢速1)Two.']),
    ('One. (pause 3) Two.', None, ['One.', '(停顿3)Two.']),
    ('One.(pause 3) Two (pause 1)go.', None, ['One.', '(停顿3)Two (停顿1)go.']),
    (
      '（四川话）(RAP)你好。再见。',
      None,
      ['(RAP)(四川话)你好。', '(RAP)(四川话)再见。'],
    ),
    (r'\(fast 2) it says.', None, ['(fast 2) it says.']),
    ('See (page 3).', None, ['See (page 3).']),
    ('Go. (fast 1)Go. Go.', None, ['Go.', '(快速1)Go.', '(快速1)Go.']),
  ],
)
def test_each_sentence_has_the_tags_that_hold_in_it(text, style, expected):
  style = markup.style(style) if style else STILL
  assert written(text, style) == expected


def test_tags_that_were_not_learnt_are_named():
  with pytest.raises(errors.UserError, match=r'found \(sad 1\), expected tags'):
    styled_text.parse('(sad 1)(fast 1)hi', SOME, STILL, 'RUN')
  with pytest.raises(errors.UserError, match='RUN has learnt: .fast 1., .fast'):
    styled_text.parse('hi', SOME, markup.style('(slow 1)'), 'RUN')
  spans, notes = styled_text.parse('(fast 1)hi', SOME, STILL, 'RUN')
  assert markup.write(spans) == '(快速1)hi' and not notes


def test_a_release_may_follow_what_it_does_not_list():
  known = SOME._replace(more=True)
  spans, (note,) = styled_text.parse('(fast 5)hi', known, STILL, 'RUN')
  assert markup.write(spans) == '(快速5)hi'
  assert note.startswith('(fast 5): not among the tags') and 'RUN' in note


def test_to_a_model_without_tags_they_are_left_out():
  text = '(fast 2) Hi (see page 3) (pause 1) you'
  spans, (note,) = styled_text.parse(text, NONE, STILL, 'RUN')
  assert markup.write(spans) == 'Hi (see page 3) you'
  assert 'RUN was trained without tags' in note
  assert '(fast 2), (pause 1)' in note
  # What is no tag is a word.
  for text in (
    '(chapter 2) begins',
    '(fasst 2) hi',
    'plain',
    '(fast 1)(slow 1)a',
  ):
    spans, notes = styled_text.parse(text, NONE, STILL, 'RUN')
    assert markup.plain(spans) == text and not notes


def test_a_style_is_not_asked_of_a_model_without_tags():
  with pytest.raises(
    errors.UserError, match='--style: found .fast 2., but RUN'
  ):
    styled_text.parse('hi', NONE, markup.style('(fast 2)'), 'RUN')
