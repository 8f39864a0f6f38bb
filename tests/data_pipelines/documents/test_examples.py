"""Lines with their codes: whole or in parts, in order or not, chats too."""

import itertools

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from data_pipelines import id_marks
from data_pipelines.codes import stream as code_stream
from data_pipelines.documents import examples as corpus_examples
from data_pipelines.documents import survey
from step_audio_jax import errors
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import array_records
from step_audio_jax.storage import files
from tests.data_pipelines import tiny

Part = corpus_examples.Part
Utterance = manifest.Utterance


def codes_of(name):
  """Codes that tell whose they are, of ragged lengths."""
  rng = np.random.default_rng(list(name.encode()))
  return rng.integers(0, 1024, rng.integers(2, 9)), rng.integers(0, 4096, 6)


def speech(name, split='train', **more):
  return Utterance(
    id=name, split=split, text='a', audio=f'{name}.wav', duration=1.0,
    sample_rate=16000, **more,
  )  # fmt: skip


def write(folder, utterances, order=None, size=3, without=()):
  """A corpus and its codes in shards of `size`, in the manifest's order."""
  manifest.write(folder, utterances)
  names = [u.id for u in utterances if u.audio and u.id not in without]
  if order is not None:
    names = [names[k] for k in order]
  shards = [names[k : k + size] for k in range(0, len(names), size)] or [[]]
  # `tiny` deals codes out in turn, so that shard k gets every n-th.
  dealt = [
    name
    for row in itertools.zip_longest(*shards)
    for name in row
    if name is not None
  ]
  tiny.write_codes(
    folder / 'codes', {name: codes_of(name) for name in dealt}, 'd', len(shards)
  )
  lines = [{'id': name, 'reason': 'silent'} for name in without]
  files.write_jsonl(folder / 'codes' / 'quarantine.jsonl', lines)
  return str(folder), str(folder / 'codes')


def told(examples):
  return [
    (e['id'], e['linguistic'].tolist(), e['semantic'].tolist())
    for e in examples
  ]


def expected(utterances, split, without=()):
  return [
    (u.id, *(np.asarray(c).tolist() for c in (
      codes_of(u.id) if u.audio and u.id not in without else ((), ())
    )))
    for u in utterances
    if u.split == split and u.kind == 'speech'
  ]  # fmt: skip


lines = st.lists(
  st.tuples(
    st.sampled_from(['train', 'train', 'dev']),
    st.sampled_from(['kept', 'kept', 'kept', 'silent', 'no audio']),
  ),
  max_size=14,
)


@hypothesis.settings(
  max_examples=40,
  deadline=None,
  suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(lines, st.integers(1, 5), st.integers(1, 4), st.randoms())
def test_parts_are_the_whole_in_whatever_order_codes_lie(
  tmp_path, made, count, size, random
):
  utterances = [
    Utterance(id=f'u{k}', split=split, text='a')
    if kind == 'no audio'
    else speech(f'u{k}', split)
    for k, (split, kind) in enumerate(made)
  ]
  silent = [f'u{k}' for k, (_, kind) in enumerate(made) if kind == 'silent']
  with_codes = [u for u in utterances if u.audio and u.id not in silent]
  for order in (None, random.sample(range(len(with_codes)), len(with_codes))):
    if not with_codes:
      continue
    corpus, codes = write(tmp_path, utterances, order, size, silent)
    want = expected(utterances, 'train', silent)
    parts = [
      told(
        corpus_examples.read(
          corpus, 'speech', 'train', codes, Part(index, count)
        )
      )
      for index in range(count)
    ]
    assert list(itertools.chain(*parts)) == want
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert told(corpus_examples.read(corpus, 'speech', 'train', codes)) == want


def test_a_part_reads_only_its_own_shards_and_holds_nothing(
  tmp_path, monkeypatch
):
  utterances = [speech(f'u{k:02d}', 'dev' if k % 3 else 'train') for k in range(
    36
  )]  # fmt: skip
  corpus, codes = write(tmp_path, utterances)
  stream, opened = array_records.stream_records, []

  def counted(path, *more):
    for number, record in enumerate(stream(path, *more)):
      opened.append((int(path.name.split('-')[1]), number))
      yield record

  monkeypatch.setattr(array_records, 'stream_records', counted)
  for index, shards in ((0, range(3)), (2, range(5, 9)), (3, range(8, 12))):
    opened.clear()
    examples = corpus_examples.read(
      corpus, 'speech', 'train', codes, Part(index, 4)
    )
    assert (
      told(examples) == expected(utterances, 'train')[3 * index : 3 * index + 3]
    )
    # The first record of any may be looked at to find the place, and that
    # is in the shard of the last line of the part before.
    read = {shard for shard, number in opened if number}
    assert read <= set(shards), (index, opened)


def test_codes_are_dropped_as_they_are_passed(tmp_path):
  utterances = [speech(f'u{k:02d}') for k in range(20)]
  _, codes = write(tmp_path, utterances)
  stream = code_stream.CodeStream(codes)
  for utterance in utterances:
    pair = stream.get(utterance.id)
    np.testing.assert_array_equal(pair[0], codes_of(utterance.id)[0])
    assert not stream._ahead
  assert stream.get('u03') is None  # passed, and dropped
  again = code_stream.CodeStream(codes)
  assert again.get('u04') and set(again._ahead) == {f'u0{k}' for k in range(4)}
  assert again.get('u02') and 'u02' not in again._ahead
  assert [again.shard_of(name) for name in ('u00', 'u03', 'u04', 'u18')] == [
    0, 1, 0, 6
  ]  # fmt: skip


def chat(name, *turns, split='train'):
  return Utterance(
    id=name,
    kind='chat',
    split=split,
    turns=[{'role': role, key: value} for role, key, value in turns],
  )


@pytest.mark.parametrize('count', [1, 2, 3])
def test_turns_have_their_codes_also_twice_and_from_afar(tmp_path, count):
  utterances = [
    speech('far'), speech('a'), speech('b'), speech('mute'),
    chat('c0', ('user', 'speech', 'a'), ('assistant', 'speech', 'b')),
    speech('d', 'dev'),
    chat('c1', ('user', 'speech', 'd'), ('assistant', 'text', 'x'),
         split='dev'),
    chat('c2', ('user', 'speech', 'a'), ('assistant', 'text', 'again')),
    speech('e'),
    chat('c3', ('user', 'speech', 'mute'), ('assistant', 'speech', 'e')),
    chat('c4', ('user', 'speech', 'far'), ('assistant', 'speech', 'gone')),
    chat('c5', ('user', 'text', 'hi'), ('assistant', 'text', 'ho')),
  ]  # fmt: skip
  corpus, codes = write(tmp_path, utterances, without=['mute'], size=2)
  found = {
    e['id']: e
    for index in range(count)
    for e in corpus_examples.read(
      corpus, 'chat', 'train', codes, Part(index, count)
    )
  }
  assert list(found) == ['c0', 'c2', 'c3', 'c4', 'c5']
  spoken = {
    'c0': ['a', 'b'], 'c2': ['a'], 'c3': [None, 'e'], 'c4': ['far', None],
    'c5': [],
  }  # fmt: skip
  for name, voices in spoken.items():
    example = found[name]
    turns = [t for t in example['turns'] if 'speech' in t]
    assert [('codes' in t) for t in turns] == [v is not None for v in voices]
    at = [0, 0]
    for turn, voice in zip(turns, voices):
      if voice is None:
        continue
      for k, field in enumerate(('linguistic', 'semantic')):
        here = example[field][at[k] : at[k] + turn['codes'][k]]
        np.testing.assert_array_equal(here, codes_of(voice)[k])
        at[k] += turn['codes'][k]
    assert at == [len(example['linguistic']), len(example['semantic'])]
    assert example['linguistic'].dtype == np.uint16


def test_texts_need_no_codes(tmp_path):
  manifest.write(
    tmp_path,
    [Utterance(id=f't{k}', kind='text', text='a cat') for k in range(7)],
  )
  for count in (1, 3, 9):
    found = [
      e['id']
      for index in range(count)
      for e in corpus_examples.read(
        str(tmp_path), 'text', 'train', None, Part(index, count)
      )
    ]
    assert found == [f't{k}' for k in range(7)]


# The survey


def test_a_survey_counts_kinds_and_splits(tmp_path):
  word = [['a', 0.0, 0.5]]
  manifest.write(
    tmp_path,
    [
      speech('a', 'test'), speech('b'), speech('c', 'dev', words=word),
      Utterance(id='d', kind='text', split='dev', text='x'),
      speech('e'),
    ],
  )  # fmt: skip
  found = survey.read_survey(tmp_path)
  assert found.lines == {
    ('speech', 'test'): 1, ('speech', 'train'): 2, ('speech', 'dev'): 1,
    ('text', 'dev'): 1,
  }  # fmt: skip
  assert found.splits('speech') == ['test', 'train', 'dev']
  assert found.splits('text') == ['dev'] and found.splits('chat') == []
  assert found.timed == {('speech', 'dev')}


def test_a_survey_is_kept_until_the_file_changes(tmp_path, monkeypatch):
  manifest.write(tmp_path, [speech('a')])
  first = survey.read_survey(tmp_path)
  stream = manifest.stream
  monkeypatch.setattr(manifest, 'stream', None)
  assert survey.read_survey(tmp_path) is first
  monkeypatch.setattr(manifest, 'stream', stream)
  manifest.write(tmp_path, [speech('b', 'dev')])  # as long as before
  assert survey.read_survey(tmp_path).splits('speech') == ['dev']


def test_ids_that_occur_twice_are_named(tmp_path, monkeypatch):
  utterances = [speech(f'u{k}').to_json() for k in range(50)]
  utterances[41]['id'] = 'u7'
  files.write_jsonl(tmp_path / 'manifest.jsonl', utterances)
  with pytest.raises(errors.UserError, match="item 42: id 'u7' occurs twice"):
    survey.read_survey(tmp_path)
  # Marks that collide are no ids that do.
  utterances[41]['id'] = 'u41'
  files.write_jsonl(tmp_path / 'manifest.jsonl', utterances)
  monkeypatch.setattr(id_marks, 'hash', len, raising=False)
  assert survey.read_survey(tmp_path).lines == {('speech', 'train'): 50}
  with pytest.raises(errors.UserError, match='no such file'):
    survey.read_survey(tmp_path / 'nowhere')


@hypothesis.given(st.lists(st.text('ab', max_size=3)))
def test_the_first_id_that_was_there_before_is_found(names):
  marks, seen, want = id_marks.Marks(), set(), None
  for number, name in enumerate(names, start=1):
    marks.add(name)
    if name in seen and want is None:
      want = number, name
    seen.add(name)
  assert marks.repeated(iter(names)) == want
