"""The manifest: what is accepted, what is refused and how it is said."""

import inspect
import json

import hypothesis
from hypothesis import strategies as st
import pytest

from step_audio_jax import errors
from step_audio_jax.audio import io
from step_audio_jax.corpus import manifest

SPEECH = {
  'id': 'a1',
  'kind': 'speech',
  'split': 'train',
  'audio': 'wav/a1.wav',
  'duration': 1.5,
  'sample_rate': 16000,
  'text': 'the cat',
  'language': 'en',
  'speaker': 'm1',
  'words': [['the', 0.05, 0.2], ['cat', 0.2, 0.6]],
}


def write_lines(folder, *lines):
  (folder / 'manifest.jsonl').write_text(
    '\n'.join(json.dumps(line) for line in lines) + '\n', encoding='utf-8'
  )
  return folder


def test_a_line_survives_a_round_trip(tmp_path):
  write_lines(tmp_path, SPEECH)
  (utterance,) = manifest.read(tmp_path)
  assert utterance.words == (('the', 0.05, 0.2), ('cat', 0.2, 0.6))
  assert manifest.write(tmp_path / 'again', [utterance]) == 1
  line = (tmp_path / 'again' / 'manifest.jsonl').read_text(encoding='utf-8')
  assert json.loads(line) == SPEECH


def test_marked_text_has_one_spelling(tmp_path):
  line = {**SPEECH, 'marked': '（Fast 2）the (pause)cat'}
  write_lines(tmp_path, line, {**SPEECH, 'id': 'a2', 'marked': ''})
  one, two = manifest.read(tmp_path)
  assert one.to_json()['marked'] == '(快速2)the (停顿2)cat'
  assert two.marked is None and 'marked' not in two.to_json()
  assert manifest.Utterance.from_json(one.to_json()) == one


@pytest.mark.parametrize(
  'marked, message',
  [
    (
      '(fast 2)the dog',
      r"marked: found '\(fast 2\)the dog', expected the text",
    ),
    ('(fasst 2)the cat', r'\(fast 2\), the nearest'),
    ('(fast 1)(slow 1)the cat', 'both say the speed'),
    (3, 'marked: found 3, expected a string or null'),
  ],
)
def test_marks_that_are_wrong_are_named(tmp_path, marked, message):
  write_lines(tmp_path, {**SPEECH, 'marked': marked})
  with pytest.raises(errors.UserError, match=message):
    manifest.read(tmp_path)


def test_folder_and_file_name_the_same_manifest(tmp_path):
  write_lines(tmp_path, SPEECH)
  assert manifest.read(tmp_path) == manifest.read(tmp_path / 'manifest.jsonl')


def test_splits_and_kinds_are_selected(tmp_path):
  write_lines(
    tmp_path,
    SPEECH,
    {'id': 't1', 'kind': 'text', 'text': '小猫', 'language': 'zh'},
    {'id': 't2', 'kind': 'text', 'split': 'dev', 'text': 'b'},
    {'id': 'i', 'kind': 'image_text', 'image': 'img/i.png', 'text': 'c'},
  )

  def ids(**kw):
    return [u.id for u in manifest.read(tmp_path, **kw)]

  assert ids() == ['a1', 't1', 't2', 'i']
  assert ids(splits=['dev']) == ['t2']
  assert ids(splits='train', kind='text') == ['t1']
  assert ids(kind='image_text') == ['i']
  with pytest.raises(errors.UserError, match="no split 'tset'; it has dev"):
    manifest.read(tmp_path, splits=['train', 'tset'])


@pytest.mark.parametrize(
  'change, said',
  [
    ({'id': 7}, 'id: found 7, expected a string'),
    ({'id': ' '}, 'id: found an empty string'),
    ({'kind': 'video'}, "kind: found 'video'"),
    ({'audio': '../x.wav'}, "audio: found '../x.wav'"),
    ({'audio': 'a/../../x.wav'}, 'inside the corpus folder'),
    ({'audio': '/etc/passwd'}, 'inside the corpus folder'),
    ({'audio': 'a\\x.wav'}, 'inside the corpus folder'),
    ({'audio': ''}, 'inside the corpus folder'),
    ({'duration': -1.0}, 'duration: found -1.0'),
    ({'duration': float('nan')}, 'duration: found nan'),
    ({'duration': 0}, 'expected both to be positive'),
    ({'duration': '1.5'}, "duration: found '1.5', expected a number"),
    ({'duration': True}, 'duration: found True'),
    ({'offset': -0.1}, 'offset: found -0.1'),
    ({'sample_rate': 16000.0}, 'sample_rate: found 16000.0'),
    ({'text': ['a']}, 'text: found'),
    ({'speaker': 3}, 'speaker: found 3'),
    ({'words': 'the cat'}, 'words: found'),
    ({'words': [['the', 0.1]]}, 'rising order'),
    ({'words': [['the', 0.3, 0.2]]}, 'rising order'),
    ({'words': [['a', 0.3, 0.4], ['b', 0.1, 0.2]]}, 'rising order'),
    ({'txt': 'x'}, 'txt: unknown field'),
    ({'kind': 'text', 'text': None}, 'text: missing'),
    ({'kind': 'image_text'}, 'image: missing'),
  ],
)
def test_a_wrong_field_is_named_with_its_line(tmp_path, change, said):
  write_lines(tmp_path, {**SPEECH, 'id': 'ok'}, {**SPEECH, **change})
  with pytest.raises(errors.UserError) as caught:
    manifest.read(tmp_path)
  assert said in str(caught.value)
  assert f'{tmp_path}/manifest.jsonl: item 2' in str(caught.value)


def test_other_broken_files(tmp_path):
  with pytest.raises(errors.UserError, match='no such file'):
    manifest.read(tmp_path)
  write_lines(tmp_path, SPEECH, SPEECH)
  with pytest.raises(errors.UserError, match="'a1' occurs twice"):
    manifest.read(tmp_path)
  write_lines(tmp_path, ['a'])
  with pytest.raises(errors.UserError, match='expected a JSON object'):
    manifest.read(tmp_path)
  write_lines(tmp_path, {'text': 'a'})
  with pytest.raises(errors.UserError, match='id: missing'):
    manifest.read(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
  write_lines(tmp_path, SPEECH)
  twin = manifest.Utterance(id='x', kind='text', text='a')
  with pytest.raises(errors.UserError, match='occurs twice'):
    manifest.write(tmp_path, [twin, twin])
  assert [u.id for u in manifest.read(tmp_path)] == ['a1']
  assert [p.name for p in tmp_path.iterdir()] == ['manifest.jsonl']


def test_audio_paths_stay_inside(tmp_path):
  root = tmp_path / 'corpus'
  root.mkdir()
  utterance = manifest.Utterance.from_json(SPEECH)
  assert utterance.audio_path(root) == root.resolve() / 'wav' / 'a1.wav'
  (root / 'wav').symlink_to(tmp_path)
  with pytest.raises(errors.UserError, match='leads out of the corpus'):
    utterance.audio_path(root)
  silent = manifest.Utterance.from_json({**SPEECH, 'audio': None})
  with pytest.raises(errors.UserError, match='a1: audio is null'):
    silent.audio_path(root)
  with pytest.raises(errors.UserError, match='image is null'):
    silent.image_path(root)


@hypothesis.given(
  st.builds(
    manifest.Utterance,
    id=st.text('abc/_-09', min_size=1),
    kind=st.just('text'),
    text=st.text(),
    language=st.sampled_from(['en', 'zh']),
    split=st.sampled_from(['train', 'test']),
    speaker=st.none() | st.text(),
  )
)
def test_any_text_line_survives(utterance):
  line = json.loads(json.dumps(utterance.to_json()))
  again = manifest.Utterance.from_json(line)
  assert again.text == utterance.text
  assert again.to_json() == utterance.to_json()


@pytest.mark.parametrize(
  'given, kept',
  [(0, 0), (1, 1), ([1], 1), ([1, 0], [1, 0]), (None, None)],
)
def test_a_channel_survives_a_round_trip(given, kept):
  """The first one is number 0, which is not the same as none."""
  one = manifest.Utterance.from_json({**SPEECH, 'channel': given})
  line = json.loads(json.dumps(one.to_json()))
  assert line == (SPEECH if kept is None else {**SPEECH, 'channel': kept})
  assert manifest.Utterance.from_json(line) == one


@pytest.mark.parametrize('bad', [-1, 1.0, True, 'left', [], [0, 0], ['0']])
def test_what_is_no_channel_is_refused(bad):
  with pytest.raises(errors.UserError, match='^channel: found'):
    manifest.Utterance.from_json({**SPEECH, 'channel': bad})


def test_a_part_is_what_is_read_of_the_file():
  one = manifest.Utterance.from_json({**SPEECH, 'offset': 2, 'channel': 1})
  assert one.part() == {'offset': 2.0, 'duration': 1.5, 'channel': 1}
  assert one.part(0.5, 0.25) == {'offset': 2.5, 'duration': 0.25, 'channel': 1}
  assert one.part(1.0, 9.0) == {'offset': 3.0, 'duration': 0.5, 'channel': 1}
  assert set(inspect.signature(io.read_blocks).parameters) >= set(one.part())


PREFERENCE = {
  'id': 'p',
  'kind': 'preference',
  'split': 'train',
  'language': 'en',
  'turns': [{'role': 'user', 'speech': 'a1'}],
  'chosen': {'role': 'assistant', 'text': 'a cat'},
  'rejected': {'role': 'assistant', 'text': 'a dog'},
  'margin': 0.5,
  'category': 'hearing',
}


def test_a_preference_survives_a_round_trip(tmp_path):
  plain = {k: v for k, v in PREFERENCE.items() if k not in ('margin',)}
  plain |= {'id': 'q', 'category': ''}
  whole = {**PREFERENCE, 'id': 'r', 'margin': 2}
  write_lines(tmp_path, SPEECH, PREFERENCE, plain, whole)
  _, *found = manifest.read(tmp_path)
  assert [one.margin for one in found] == [0.5, 0.0, 2.0]
  assert [one.category for one in found] == ['hearing', None, 'hearing']
  assert found[0].all_turns == (
    *PREFERENCE['turns'], PREFERENCE['chosen'], PREFERENCE['rejected'],
  )  # fmt: skip
  manifest.write(tmp_path / 'again', found)
  told = (tmp_path / 'again' / 'manifest.jsonl').read_text(encoding='utf-8')
  assert json.loads(told.splitlines()[0]) == PREFERENCE
  assert manifest.read(tmp_path / 'again') == found


@pytest.mark.parametrize('name', ['chosen', 'rejected'])
def test_an_answer_that_stands_alone_survives_a_round_trip(name, tmp_path):
  lacks = ({'chosen', 'rejected'} - {name}).pop()
  alone = {k: v for k, v in PREFERENCE.items() if k not in (lacks, 'margin')}
  write_lines(tmp_path, SPEECH, alone)
  _, found = manifest.read(tmp_path)
  told = json.loads(json.dumps(found.to_json()))
  assert getattr(found, lacks) is None and told == alone
  assert found.all_turns == (*PREFERENCE['turns'], PREFERENCE[name])


@pytest.mark.parametrize(
  'change, message',
  [
    ({'turns': None}, 'turns: missing, expected them in a preference'),
    ({'chosen': None}, 'margin: found 0.5, expected it between two answers.'),
    (
      {'chosen': None, 'rejected': None, 'margin': 0.0},
      'chosen: missing, as is rejected, expected one of them or both',
    ),
    ({'rejected': {}}, 'rejected.role: found None, expected system'),
    ({'rejected': 'a dog'}, "rejected: found 'a dog', expected an object or"),
    ({'rejected': PREFERENCE['chosen']}, 'rejected: found the same answer'),
    ({'margin': -0.5}, 'margin: found -0.5, expected a number >= 0'),
    ({'margin': float('nan')}, 'margin: found nan, expected a number >= 0'),
    ({'margin': float('inf')}, 'margin: found inf, expected a number >= 0'),
    ({'margin': 1e300}, r'margin: found 1e.300, expected .* below 1e.15'),
    ({'margin': 'x'}, "margin: found 'x', expected a number"),
    ({'category': 'two words'}, "category: found 'two words', expected a word"),
    (
      {'kind': 'chat'},
      'chosen: found one in chat, expected it in a preference',
    ),
    ({'kind': 'text', 'text': 'x'}, 'turns: found some in text, expected a ch'),
  ],
)
def test_what_is_no_preference_is_named(tmp_path, change, message):
  write_lines(tmp_path, {**PREFERENCE, **change})
  with pytest.raises(errors.UserError, match=message):
    manifest.read(tmp_path)


@pytest.mark.parametrize('field', ['chosen', 'rejected', 'margin', 'category'])
def test_other_kinds_have_no_answers(tmp_path, field):
  write_lines(tmp_path, {**SPEECH, field: PREFERENCE[field]})
  with pytest.raises(errors.UserError, match=f'{field}: found one in speech'):
    manifest.read(tmp_path)
