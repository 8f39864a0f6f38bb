"""Labels, and the feed of waveforms with transcripts."""

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.audio import io
from step_audio_jax.corpus import manifest
from step_audio_jax.tokenizers.speech import features
from step_audio_jax.tokenizers.training import audio_feed
from step_audio_jax.tokenizers.training import labels


def make_corpus(folder, lines):
  """`lines`: (id, text, seconds); each wave holds its own number."""
  utterances = []
  for number, (name, text, seconds) in enumerate(lines):
    wave = np.full(round(seconds * 16000), (number + 1) / 100, np.float32)
    if seconds:
      io.write_audio(folder / 'wav' / f'{name}.wav', wave)
    utterances.append(
      manifest.Utterance(
        id=name,
        text=text,
        audio=f'wav/{name}.wav' if seconds else None,
        duration=float(seconds),
        sample_rate=16000 if seconds else 0,
      )
    )
  manifest.write(folder, utterances)
  return folder


@pytest.fixture
def corpus(tmp_path):
  lines = [(f'u{i}', 'a cat', 0.6 + 0.1 * i) for i in range(10)]
  return make_corpus(tmp_path, lines)


def make_feed(corpus, **settings):
  return audio_feed.AudioFeed(
    **{
      'corpus': corpus,
      'labels': labels.of_corpus(corpus),
      'stream': 'linguistic',
      'batch_size': 3,
      **settings,
    }
  )


def test_spelling_keeps_letters_of_every_script():
  assert labels.spelling("It's 9, 妈妈！ Ａ") == 'its9妈妈a'


def test_labels_round_trip_and_merge_repeats(corpus):
  table = labels.of_corpus(corpus)
  assert table.characters == ('a', 'c', 't') and table.size == 4
  assert table.encode('A cat') == [1, 2, 1, 3]
  assert table.decode([0, 1, 1, 0, 1, 2, 2, 3, 0]) == 'aact'
  with pytest.raises(errors.UserError, match="no label for 'z'"):
    table.encode('zoo')


def test_labels_need_transcripts(tmp_path):
  make_corpus(tmp_path, [('u', None, 1.0)])
  with pytest.raises(errors.UserError, match='no transcripts'):
    labels.of_corpus(tmp_path)


def test_batches_are_a_pure_function_of_the_step(corpus):
  a, b = make_feed(corpus), make_feed(corpus)
  for step in (0, 7, 3):
    left, right = a.batch(step), b.batch(step)
    assert left.keys() == right.keys()
    for name in left:
      np.testing.assert_array_equal(left[name], right[name])
  other = make_feed(corpus, seed=1)
  assert any(
    not np.array_equal(a.batch(i)['wave'], other.batch(i)['wave'])
    for i in range(len(a))
    if a.batch(i)['wave'].shape == other.batch(i)['wave'].shape
  )


def test_parts_make_up_the_batch(corpus):
  feed = make_feed(corpus)
  whole = feed.batch(5)
  for name, array in whole.items():
    parts = [feed.batch(5, i, i + 1)[name] for i in range(3)]
    np.testing.assert_array_equal(np.concatenate(parts), array)


def test_rows_hold_wave_and_labels_of_one_utterance(corpus):
  feed = make_feed(corpus)
  for step in range(len(feed)):
    batch = feed.batch(step)
    for row in range(3):
      samples = batch['samples'][row]
      number = round(float(batch['wave'][row, 0]) * 100) - 1
      assert samples == round((0.6 + 0.1 * number) * 16000)
      assert not batch['wave'][row, samples:].any()
      count = batch['label_counts'][row]
      assert batch['labels'][row, :count].tolist() == [1, 2, 1, 3]
  assert batch['weights'].tolist() == [1, 1, 1]


def test_row_ids_name_the_utterances_of_a_batch(corpus):
  feed = make_feed(corpus)
  for step in range(2 * len(feed)):
    ids, batch = feed.row_ids(step), feed.batch(step)
    seconds = [0.6 + 0.1 * int(name[1:]) for name in ids]
    np.testing.assert_allclose(batch['samples'] / 16000, seconds, atol=0.01)


def test_an_epoch_shows_each_utterance_at_most_once(corpus):
  feed = make_feed(corpus, buckets=2)
  seen = []
  for step in range(len(feed)):
    seen += (feed.batch(step)['wave'][:, 0] * 100).round().tolist()
  assert len(seen) == len(set(seen)) == 6
  shapes = {feed.batch(step)['wave'].shape for step in range(40)}
  assert len(shapes) == 2
  later = set()
  for step in range(40):
    later |= set((feed.batch(step)['wave'][:, 0] * 100).round().tolist())
  assert len(later) == 10  # what one epoch leaves out, another brings


def test_a_corpus_smaller_than_a_batch_is_repeated(tmp_path):
  corpus = make_corpus(tmp_path, [('u', 'a', 1.0), ('v', 'b', 1.1)])
  batch = make_feed(corpus, batch_size=5).batch(0)
  assert batch['wave'].shape[0] == 5
  assert batch['weights'].all()


def test_what_cannot_be_used_is_counted(tmp_path):
  corpus = make_corpus(
    tmp_path,
    [
      ('good', 'abc', 1.0),
      ('silent', 'abc', 0),
      ('long', 'abc', 3.0),
      ('fast', 'aabbccaabbcc' * 3, 1.0),
      ('mute', None, 1.0),
      ('strange', 'xyz', 1.0),
    ],
  )
  feed = make_feed(
    corpus, labels=labels.Labels(('a', 'b', 'c')), max_seconds=2.0
  )
  assert dict(feed.dropped) == {
    'no audio': 1,
    'longer than 2 s': 1,
    'more labels than frames': 1,
    'no text': 1,
    'a character without a label': 1,
  }
  assert feed.describe()['utterances'] == 1
  assert feed.describe()['dropped'] == dict(feed.dropped)


def test_an_unreadable_file_becomes_a_row_without_weight(corpus, capsys):
  (corpus / 'wav' / 'u0.wav').write_bytes(b'no audio')
  io.write_audio(corpus / 'wav' / 'u1.wav', np.zeros(100))
  feed = make_feed(corpus)
  for step in range(20):
    batch = feed.batch(step)
    lost = batch['weights'] == 0
    assert (batch['samples'][lost] == 0).all()
    assert not batch['wave'][lost].any()
  assert set(feed.quarantine) == {'u0', 'u1'}
  assert 'u0.wav' in feed.quarantine['u0']
  assert 'expected 0.70 s' in feed.quarantine['u1']
  assert capsys.readouterr().err.count('u0 is left out') == 1


@pytest.mark.parametrize(
  'change, pattern',
  [
    ({'stream': 'audio'}, 'stream'),
    ({'batch_size': 0}, 'batch_size'),
    ({'max_seconds': 0.1}, 'nothing to train on.*longer than 0.1 s'),
    ({'splits': ('dev',)}, "no split 'dev'"),
  ],
)
def test_bad_settings_say_what_is_wrong(corpus, change, pattern):
  with pytest.raises(errors.UserError, match=pattern):
    make_feed(corpus, **change)


def test_frames_of_the_streams():
  assert features.frames('linguistic', 16000) == 16
  assert features.frames('semantic', 16000) == 25
