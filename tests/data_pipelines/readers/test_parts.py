"""seed-tts lists; tables on disk; recordings and images as bytes."""

import io

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import PIL.Image
import pytest
import soundfile

from data_pipelines.ingestion import admission
from data_pipelines.readers.common import base
from data_pipelines.readers.common import media
from data_pipelines.readers.common import tables
from data_pipelines.readers.speech import seed_tts
from step_audio_jax import errors
from step_audio_jax.audio import io as audio_io
from tests.data_pipelines.ingestion import ingesting
from tests.data_pipelines.readers import trees

WAV = trees.tone(0.25)


def listed(tmp_path, text, name='meta.lst'):
  """(id → utterance, quarantine) of a list beside two prompts."""
  source = tmp_path / 'en'
  for prompt in ('p1', 'p2'):
    trees.put(source / 'prompt-wavs' / f'{prompt}.wav', WAV)
  trees.put(source / 'wavs' / 'u1.wav', trees.tone(0.5))
  trees.put(source / name, text)
  place = source if name == 'meta.lst' else source / name
  return ingesting.ingested(place, tmp_path / 'out', 'seed_tts')


@pytest.mark.parametrize('name', ['meta.lst', 'hardcase.lst'])
def test_a_list_with_and_without_recordings(name, tmp_path):
  text = (
    '\ufeffu1|he said|prompt-wavs/p1.wav|to say\r\n'
    'u2 | he said | prompt-wavs/p1.wav | more, to say\r\n'
    'u3|she said|prompt-wavs/p2.wav|again|wavs/u1.wav\r\n'
  )
  kept, left = listed(tmp_path, text, name)
  assert left == [] and list(kept) == [
    'prompt-prompt-wavs/p1', 'u1', 'u2', 'prompt-prompt-wavs/p2', 'u3',
  ]  # fmt: skip
  assert {u.language for u in kept.values()} == {'en'}
  assert [u.duration for u in kept.values()] == [0.25, 0.5, 0, 0.25, 0.5]
  assert kept['u2'].audio is None and kept['u2'].text == 'more, to say'
  # By the speaker an utterance finds its prompt.
  prompts = {u.speaker: u for u in kept.values() if u.split == 'prompt'}
  assert prompts[kept['u3'].speaker].text == 'she said'


@pytest.mark.parametrize(
  'line, reason',
  [
    ('u2|said|prompt-wavs/p1.wav', 'found 3 fields'),
    ('u2|said|prompt-wavs/p1.wav|a|b|c', 'found 6 fields'),
    ('u2|said|../p1.wav|a', "without '..'"),
    ('u2|said|/etc/passwd|a', 'leads out of'),
    ('u2|said|prompt-wavs/gone.wav|a', 'no such file'),
    ('u2|said|.|a', 'expected two names'),
    ('u2|said|/|a', 'expected two names'),
    ('u2|said||a', 'expected two names'),
    ('|said|prompt-wavs/p1.wav|a', 'expected two names'),
    ('u2|other words|prompt-wavs/p1.wav|a', "says 'he said' in an earlier"),
    ('u2|he said|prompt-wavs/p1.wav|', 'text: missing'),
    ('u2||prompt-wavs/p2.wav|a', 'text: missing'),
    ('u1|he said|prompt-wavs/p1.wav|a', 'occurs twice'),
    ('u2|he said|prompt-wavs/p1.wav|a|wavs/gone.wav', 'no such file'),
    ('u2|he said|prompt-wavs/p1.wav|a|../u1.wav', "without '..'"),
    ('u2|he said|prompt-wavs/p1.wav|' + 'x' * 10**7, 'expected at most'),
  ],
)
def test_a_bad_line_of_a_list(line, reason, tmp_path):
  good = 'u1|he said|prompt-wavs/p1.wav|to say\n'
  kept, left = listed(tmp_path, f'{good}{line}\n')
  assert {'prompt-prompt-wavs/p1', 'u1'} <= set(kept)
  assert len(left) == 1 and reason in left[0]['reason']
  assert left[0]['line'] == 2


CELL = st.one_of(
  st.text(max_size=4), st.sampled_from(['', '.', '..', '/', 'a/..', '~', '\0'])
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.lists(CELL, min_size=3, max_size=6), max_size=3))
def test_any_cells_of_a_list(tmp_path_factory, rows):
  path = tmp_path_factory.getbasetemp() / 'any.lst'
  text = '\n'.join('|'.join(cells) for cells in rows)
  path.write_bytes(text.encode())
  for one in seed_tts.read(path, base.Options()):
    if isinstance(one, base.Item):
      assert one.audio is None or one.audio.is_relative_to(path.parent)
      try:
        admission.admit(one, admission.Rules())
      except errors.UserError:
        pass


KEYS = st.lists(st.text(st.characters(), max_size=3), max_size=12)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(KEYS, KEYS, st.booleans())
def test_a_table_on_disk_is_a_dictionary(keys, asked, many):
  """Halves of surrogate pairs too, which JSON may hold."""
  expected = {}
  with tables.Lookup('x', many=many) as found:
    for line, key in enumerate(keys, start=1):
      refused = found.add(line, key, f'v{line}')
      if key in expected and not many:
        assert (refused.id, refused.line) == (key, line)
      else:
        assert refused is None
        expected.setdefault(key, []).append((line, f'v{line}'))
    for key in asked:
      assert found.take(key) == expected.get(key, [])
      values = expected.get(key, [(0, None)])
      assert found.get(key) == values[0][1]
    left = [(one.id, one.line) for one in found.left('why')]
  rest = [
    (key, line)
    for key, lines in expected.items()
    for line, _ in lines
    if key not in asked
  ]
  assert left == sorted(rest, key=lambda pair: pair[1])


@pytest.mark.parametrize(
  'name, split',
  [
    ('train-clean-100', 'train'), ('dev_other', 'dev'), ('Test', 'test'),
    ('validation', 'dev'), ('eval2000', 'test'), ('training', 'train'),
    ('latest', None), ('trainer', None), ('', None),
  ],
)  # fmt: skip
def test_splits_by_their_names(name, split):
  assert tables.split_named(name) == split


@pytest.mark.parametrize(
  'form',
  ['WAV', 'FLAC', 'OGG', 'AIFF', 'MP3', 'RF64', 'W64', 'CAF', 'AU', 'NIST'],
)
def test_recordings_are_told_by_their_first_bytes(form):
  suffix = media.audio_suffix(trees.tone(0.25, 16000, form=form))
  assert suffix == {'RF64': '.wav', 'NIST': '.sph'}.get(
    form, f'.{form.lower()}'
  )


@pytest.mark.parametrize(
  'head, name',
  [
    (b'\0\0\0\x1cftypM4A ', 'MP4'), (b'\x1aE\xdf\xa3\x9fB', 'WebM'),
    (b'#!AMR\n', 'AMR'), (b'\xff\xf1\x50\x80', 'AAC'),
    (b'0&\xb2u\x8ef\xcf\x11', 'Windows Media'), (b'wvpk', 'WavPack'),
  ],
)  # fmt: skip
def test_formats_that_are_not_decoded_are_named(head, name):
  data = head + bytes(range(1, 200))
  for read in (media.audio_suffix, audio_io.probe, audio_io.read_audio):
    with pytest.raises(errors.UserError, match=f'{name}.*expected wav.*ffmpeg'):
      read(data)


@pytest.mark.parametrize('form', ['PNG', 'JPEG', 'GIF', 'BMP', 'WEBP'])
def test_images_are_told_by_their_first_bytes(form):
  out = io.BytesIO()
  PIL.Image.new('RGB', (4, 3)).save(out, form)
  suffix = media.image_suffix(out.getvalue())
  assert suffix == {'JPEG': '.jpg'}.get(form, f'.{form.lower()}')


@given(st.binary(max_size=12))
def test_other_bytes_are_told_apart(data):
  for function, endings in (
    (media.audio_suffix, media.AUDIO), (media.image_suffix, media.IMAGES),
  ):  # fmt: skip
    try:
      assert function(data) in endings
    except errors.UserError as error:
      assert 'expected' in str(error)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
  st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1, max_size=50),
  st.sampled_from([np.int16, np.int32, np.int64]),
  st.sampled_from([8000, 16000, 44100]),
)
def test_whole_samples_keep_their_values(values, kind, rate):
  samples = np.array(values, kind)
  found, rate_found = soundfile.read(
    io.BytesIO(media.wav_bytes(samples, rate)), dtype='int16'
  )
  np.testing.assert_array_equal(found, values)
  assert rate_found == rate


@pytest.mark.parametrize('rate', [0, -8000, float('nan'), 2**31, 2**40])
def test_rates_that_no_file_has(rate):
  with pytest.raises(errors.UserError, match='a sample rate of .*expected Hz'):
    media.wav_bytes(np.zeros(4), rate)
