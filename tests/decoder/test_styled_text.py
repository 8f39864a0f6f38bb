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
  spans, *_ = styled_text.parse(text, known, style, 'RUN')
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
  spans, _, notes = styled_text.parse('(fast 1)hi', SOME, STILL, 'RUN')
  assert markup.write(spans) == '(快速1)hi' and not notes


def test_a_release_may_follow_what_it_does_not_list():
  known = SOME._replace(more=True)
  spans, _, (note,) = styled_text.parse('(fast 5)hi', known, STILL, 'RUN')
  assert markup.write(spans) == '(快速5)hi'
  assert note.startswith('(fast 5): not among the tags') and 'RUN' in note


def test_what_no_model_was_taught_is_done_to_the_sound():
  text = '(fast 2) Hi (see page 3) (pause 1) you, (sad 1)(loud 3)and you'
  spans, made, (note,) = styled_text.parse(text, NONE, STILL, 'RUN')
  assert markup.write(spans) == 'Hi (see page 3) you, and you'
  assert markup.plain(made) == markup.plain(spans)
  assert [(span.style.english, span.pause) for span in made] == [
    ('(fast 2)', 0), ('(fast 2)', 1), ('(fast 2)(loud 3)', 0)
  ]  # fmt: skip
  assert 'RUN was trained without tags' in note
  assert 'done to the sound: (fast 2), (pause 1), (loud 3);' in note
  assert 'left out of the text: (sad 1).' in note
  # What is no tag is a word.
  for text in (
    '(chapter 2) begins',
    '(fasst 2) hi',
    'plain',
    '(fast 1)(slow 1)a',
  ):
    spans, made, notes = styled_text.parse(text, NONE, STILL, 'RUN')
    assert markup.plain(spans) == markup.plain(made) == text and not notes


def test_a_style_of_sound_holds_for_a_model_without_tags():
  style = markup.style('(slow 1)(high pitch 2)')
  for text in ('hi', '(fasst 2) hi'):
    spans, made, (note,) = styled_text.parse(text, NONE, style, 'RUN')
    assert [span.style for span in made] == [style] and not spans[0].style
    assert 'done to the sound' in note
  with pytest.raises(
    errors.UserError, match='--style: found .sad 2., but RUN .* of speed, pitch'
  ):
    styled_text.parse('hi', NONE, markup.style('(sad 2)(fast 1)'), 'RUN')


def test_the_volume_is_never_left_to_codes():
  spans, made, notes = styled_text.parse(
    '(loud 2)(fast 1)hi', SOME, STILL, 'RUN'
  )
  assert markup.write(spans) == '(快速1)hi' and not notes
  assert [span.style.english for span in made] == ['(loud 2)']
  # A model that was taught it is asked for it, too.
  spans, made, _ = styled_text.parse('(loud 2)hi', ALL, STILL, 'RUN')
  assert markup.write(spans) == '(大声2)hi'
  assert [span.style.english for span in made] == ['(loud 2)']


def test_sentences_are_parted_where_the_sound_changes():
  text = (
    '(fast 1)One two. "(slow 2)Three," (pause 2)four, (normal)five! '
    '(pause 1)Six (quiet 1)... seven?'
  )
  _, made, _ = styled_text.parse(text, NONE, STILL, 'RUN')
  pieces = sentences.split(markup.plain(made))
  found = styled_text.parts(made, pieces)
  assert [(one.text, one.style.english, one.gap) for one in found] == [
    ('One two.', '(fast 1)', None),
    ('"Three,"', '(slow 2)', None),
    ('four,', '(slow 2)', 0.45),
    ('five!', '', 0.0),
    ('Six', '', 0.25),
    ('... seven?', '(quiet 1)', 0.0),
  ]
