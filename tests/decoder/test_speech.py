"""The decoder as a whole: what comes out, what is refused, what is kept."""

import errno
import json

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.audio.features import vocoder_mel
from step_audio_jax.decoder import speech
from step_audio_jax.decoder.vocoder import vocoder
from step_audio_jax.models.vocoder import hift
from step_audio_jax.tokenizers.speech import storage
from tests.decoder import tiny_decoder as tiny


def known(**settings):
  """A decoder of parts whose answers are known."""
  flow = tiny.Painted(**settings)
  return speech.SpeechDecoder(flow, tiny.Steps(), None, tiny.MEL)


@pytest.mark.parametrize('groups', [1, 2, 7, 23])
def test_length_follows_the_codes(groups):
  decoder = known()
  wave, rate = decoder.decode(tiny.ids(groups), tiny.voice(3))
  assert rate == 8000 and wave.dtype == np.float32
  assert len(wave) == int(groups * 0.12 * 8000 / 64) * 64
  # The flow was given the prompt and all ids, in their order.
  assert decoder.flow.calls == [(15, 5 * groups)]


def test_a_semantic_flow_hears_semantic_codes_only():
  decoder = known(vocabulary=4096, rate=25.0)
  ids = tiny.ids(5)
  mel = decoder.mel_of(ids, tiny.voice(2))
  assert decoder.flow.calls == [(6, 15)]
  semantic = speech.voice_lib.IDS.deinterleave(ids)[1]
  assert set(np.round(mel[:, 0] * 5120).astype(int)) == set(semantic.tolist())


def test_the_real_parts_speak_and_depend_on_their_inputs():
  decoder = tiny.decoder(tiny.voice(2))
  ids = tiny.ids(9)
  wave, rate = decoder.decode(ids)
  assert rate == tiny.MEL.sample_rate
  assert np.isfinite(wave).all() and np.ptp(wave) > 0
  np.testing.assert_array_equal(wave, decoder.decode(ids)[0])
  others = [
    decoder.mel_of(ids, seed=1),
    decoder.mel_of(tiny.ids(9, seed=1)),
    decoder.mel_of(ids, tiny.voice(2, seed=1)),
    decoder.mel_of(ids, steps=4),
  ]
  mel = decoder.mel_of(ids)
  assert all(np.abs(mel - other).max() > 1e-3 for other in others)


def changed(ids, place, value):
  ids = np.array(ids)
  ids[place] = value
  return ids


@pytest.mark.parametrize(
  'ids, message',
  [
    ([], r'an array \(0,\), expected at least one group of 5'),
    (np.zeros((2, 5), int), r'an array \(2, 5\)'),
    (tiny.ids(2) * 1.0, 'float64, expected whole numbers'),
    (changed(tiny.ids(4), 7, 5120), 'id 5120 at position 7, expected 0..5119'),
    (changed(tiny.ids(4), 3, -1), 'id -1 at position 3, expected 0..5119'),
    (tiny.ids(3)[:-1], 'found 14 ids, expected a multiple of 5'),
    (changed(tiny.ids(4), 11, 2000), 'id 2000 at position 11 breaks the pat'),
    (np.delete(tiny.ids(4), 6), r'at position 6 breaks the pattern of 2 ling'),
  ],
)
def test_wrong_ids_are_named_with_their_place(ids, message):
  decoder = known()
  with pytest.raises(errors.UserError, match=message):
    decoder.decode(ids, tiny.voice())
  assert not decoder.flow.calls


def test_what_is_not_finite_never_becomes_a_wave():
  with pytest.raises(errors.UserError, match='the flow made a mel that is not'):
    known(broken=True).decode(tiny.ids(2), tiny.voice())
  decoder = speech.SpeechDecoder(
    tiny.Painted(), tiny.Steps(broken=True), None, tiny.MEL
  )
  with pytest.raises(errors.UserError, match='the vocoder steps made samples'):
    decoder.decode(tiny.ids(2), tiny.voice())


def test_a_voice_is_needed_and_a_speaker_encoder_for_new_ones():
  with pytest.raises(errors.UserError, match='no voice; expected a recording'):
    known().decode(tiny.ids(2))
  with pytest.raises(errors.UserError, match='ref.wav: this decoder has no sp'):
    known().voice_from(np.ones(9000, 'f'), 8000, tiny.Ruler(), name='ref.wav')


@pytest.mark.parametrize('own', [None, 0, 2])
def test_a_folder_keeps_the_decoder(tmp_path, own):
  decoder = tiny.decoder(None if own is None else tiny.voice(own))
  decoder.save(tmp_path)
  loaded = speech.SpeechDecoder.load(tmp_path)
  assert loaded.mel == tiny.MEL and loaded.vocoder.name == 'griffin-lim'
  assert (loaded.voice is None) == (own is None)
  if own is not None:
    np.testing.assert_array_equal(loaded.voice.tokens, decoder.voice.tokens)
    assert loaded.voice.text == decoder.voice.text
  given = None if own is not None else tiny.voice(2)
  np.testing.assert_array_equal(
    loaded.mel_of(tiny.ids(9), given), decoder.mel_of(tiny.ids(9), given)
  )
  wave = np.random.default_rng(0).normal(size=16000).astype('f') * 0.1
  np.testing.assert_array_equal(
    loaded.speaker.embed(wave), decoder.speaker.embed(wave)
  )


def test_saving_again_leaves_nothing_of_what_was_there(tmp_path):
  tiny.decoder(tiny.voice(3)).save(tmp_path)
  decoder = tiny.decoder()
  decoder.speaker = None
  decoder.save(tmp_path)
  assert sorted(p.name for p in tmp_path.iterdir()) == [
    'config.json',
    'flow.safetensors',
  ]
  assert speech.SpeechDecoder.load(tmp_path).speaker is None


def test_saving_that_fails_leaves_the_old_decoder(tmp_path, monkeypatch):
  folder = tmp_path / 'decoder'
  tiny.decoder(tiny.voice(3)).save(folder)
  before = {p: p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()}
  write = storage.write_tree

  def failing(path, tree):
    if path.name.startswith('voice'):
      raise OSError(errno.ENOSPC, 'No space left on device')
    write(path, tree)

  monkeypatch.setattr(storage, 'write_tree', failing)
  with pytest.raises(errors.UserError, match='No space left'):
    tiny.decoder(tiny.voice(2)).save(folder)
  assert {
    p: p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()
  } == before
  (folder / 'notes.txt').write_text('mine')
  with pytest.raises(errors.UserError, match="holds 'notes.txt'"):
    tiny.decoder().save(folder)
  assert len(list(folder.iterdir())) == len(before) + 1


def test_bytes_that_changed_are_another_decoder(tmp_path):
  tiny.decoder(tiny.voice(3)).save(tmp_path)
  for name in ('flow', 'speaker', 'voice'):
    path = tmp_path / f'{name}.safetensors'
    whole = path.read_bytes()
    path.write_bytes(whole[:-8] + bytes(8))
    with pytest.raises(
      errors.UserError, match=f'{name}.safetensors: not the file .* sha256'
    ):
      speech.SpeechDecoder.load(tmp_path)
    path.write_bytes(whole)
  path = tmp_path / 'config.json'
  config = json.loads(path.read_text())
  del config['sha256']  # as folders of before have it
  path.write_text(json.dumps(config))
  speech.SpeechDecoder.load(tmp_path)


def edit(folder, **changes):
  path = folder / 'config.json'
  value = json.loads(path.read_text())
  for name, change in changes.items():
    if isinstance(change, dict) and isinstance(value[name], dict):
      value[name] |= change
    else:
      value[name] = change
  path.write_text(json.dumps(value))


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'format': 'other'}, "config.json: format: found 'other', expected 'step"),
    ({'flow': None}, 'config.json: flow: found None, expected the fields of'),
    (
      {'flow': {'colour': 1}},
      r'config.json: flow.colour: no such field of',
    ),
    ({'flow': {'vocabulary': 0}}, 'config.json: flow: vocabulary is 0'),
    (
      {'flow': {'vocabulary': 4096}},
      r'flow.safetensors: embedding/emb',
    ),
    ({'mel': {'bands': 20}}, 'the mel has 20 bands, expected 16'),
    ({'mel': {'hop': 'x'}}, 'config.json: mel: not a VocoderMel'),
    ({'speaker': {'embedding': 9}}, r'speaker.safetensors: .*: found \('),
    ({'voice': {'tokens': [1, 2]}}, 'config.json: speech ids: found 2 ids'),
    ({'voice': {'frames': 2}}, r'voice.safetensors: mel: found \(45, 16\), ex'),
    ({'voice': 'me'}, 'config.json: voice: expected its text, tokens and fr'),
  ],
)
def test_a_folder_of_another_decoder_is_named(tmp_path, changes, message):
  tiny.decoder(tiny.voice(3)).save(tmp_path)
  edit(tmp_path, **changes)
  with pytest.raises(errors.UserError, match=message):
    speech.SpeechDecoder.load(tmp_path)


def test_missing_and_broken_files_are_named(tmp_path):
  with pytest.raises(errors.UserError, match='config.json: no such file; exp'):
    speech.SpeechDecoder.load(tmp_path)
  tiny.decoder().save(tmp_path)
  (tmp_path / 'flow.safetensors').write_bytes(b'half')
  with pytest.raises(errors.UserError, match='flow.safetensors: not a whole'):
    speech.SpeechDecoder.load(tmp_path)
  (tmp_path / 'flow.safetensors').unlink()
  with pytest.raises(errors.UserError, match='flow.safetensors: no such file'):
    speech.SpeechDecoder.load(tmp_path)


def test_a_checkpoint_of_another_vocoder_is_named(tmp_path):
  other = vocoder_mel.VocoderMel(
    sample_rate=8000, bands=16, fft=256, window=256, hop=32, high_hz=None
  )
  with pytest.raises(errors.UserError, match='steps has hop 64, expected 32'):
    speech.SpeechDecoder(tiny.Painted(), tiny.Steps(), None, other)
  tiny.decoder().save(tmp_path)
  edit(tmp_path, vocoder={'sample_rate': 8000, 'bands': 16, 'channels': 16})
  storage.write_tree(tmp_path / 'vocoder.safetensors', {'a': np.zeros(3)})
  with pytest.raises(errors.UserError, match='vocoder.safetensors: .*nothing'):
    speech.SpeechDecoder.load(tmp_path)


def test_a_folder_keeps_a_hift_vocoder(tmp_path):
  config = hift.HiftConfig(
    bands=16,
    channels=8,
    sample_rate=8000,
    harmonics=2,
    upsample_rates=(16,),
    upsample_kernels=(32,),
    resblock_kernels=(3,),
    resblock_dilations=((1,),),
    source_resblock_kernels=(3,),
    source_resblock_dilations=((1,),),
    f0_channels=8,
  )
  spoken_by = vocoder.HiftVocoder(
    config, tiny.drawn(vocoder.shapes(config), seed=3)
  )
  decoder = speech.SpeechDecoder(
    tiny.flow(), spoken_by, tiny.speaker(), tiny.MEL, tiny.voice(2)
  )
  decoder.save(tmp_path)
  loaded = speech.SpeechDecoder.load(tmp_path)
  assert loaded.vocoder.name == 'hift' and loaded.vocoder.config == config
  mel = np.random.default_rng(0).normal(size=(20, 16)).astype('f')
  wave = loaded.vocoder.wave(mel, seed=1)
  assert len(wave) == 20 * 64 and np.ptp(wave) > 0
  np.testing.assert_array_equal(wave, decoder.vocoder.wave(mel, seed=1))
  # Saved over with Griffin-Lim, nothing of it is left.
  tiny.decoder(tiny.voice(2)).save(tmp_path)
  assert not (tmp_path / 'vocoder.safetensors').exists()
  assert speech.SpeechDecoder.load(tmp_path).vocoder.name == 'griffin-lim'
