"""The benchmarks of speech, on parts whose answers are known."""

import json
import sys

import numpy as np
import pytest

from benchmarks.decoder import resynthesis
from benchmarks.end_to_end import independent_cer
from data_pipelines.synthesis import grammar
from step_audio_jax.audio import io
from step_audio_jax.corpus import manifest
from step_audio_jax.decoder import speech
from step_audio_jax.generation import restore
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.speech import dual
from tests.decoder import tiny_decoder as tiny
from tests.evaluation import parrot


@pytest.fixture
def corpus(tmp_path, monkeypatch):
  """Three tones as a corpus, a decoder of known parts, a parrot as model."""
  utterances = []
  for number, hertz in enumerate([150, 200, 260]):
    t = np.arange(9600 + 800 * number) / 16000
    wave = sum(np.sin(2 * np.pi * hertz * k * t) / k for k in range(1, 9))
    io.write_audio(tmp_path / f'{number}.wav', 0.2 * wave, 16000)
    utterances.append(
      manifest.Utterance(
        id=str(number),
        split='test' if number else 'train',
        text='abc',
        audio=f'{number}.wav',
        duration=len(t) / 16000,
        sample_rate=16000,
        speaker='f2',
      )
    )
  manifest.write(tmp_path, utterances)
  files.write_json(
    tmp_path / 'dual.json', {'linguistic_codes': 27, 'semantic_codes': 5}
  )
  decoders = iter(
    speech.SpeechDecoder(flow, tiny.Steps(), tiny.speaker(), tiny.MEL)
    for flow in (tiny.Painted(), tiny.Painted(vocabulary=4096, rate=25.0))
  )
  monkeypatch.setattr(speech.SpeechDecoder, 'load', lambda _: next(decoders))
  monkeypatch.setattr(dual.DualTokenizer, 'load', lambda _: tiny.Ruler())
  monkeypatch.setattr(
    restore,
    'load_model',
    lambda run: (parrot.Parrot(), parrot.VARIABLES, parrot.VOCABULARY),
  )
  return tmp_path


def run(monkeypatch, capsys, module, *flags):
  monkeypatch.setattr(sys, 'argv', ['benchmark', *flags])
  module.main()
  return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_resynthesis_measures_every_way(corpus, monkeypatch, capsys):
  result = run(
    monkeypatch,
    capsys,
    resynthesis,
    f'--corpus={corpus}',
    '--second=other',
    '--windows',
  )
  assert result['utterances'] == 2 and result['vocoder'] == 'steps'
  names = {'mel', 'mcd', 'cents', 'correlation', 'voicing', 'speaker', 'cer'}
  for way in ('ceiling', 'codes', 'second', 'windows'):
    assert {*names, 'rtf'} == set(result[way])
    assert result[way]['mel'] > 0
    # The second flow paints small numbers: nobody is heard.
    silent = way == 'second'
    assert np.isnan(result[way]['speaker']) == silent
  # The stepping vocoder has no tone of its own; its steps repeat every frame.
  assert result['ceiling']['voicing'] > 0 or result['ceiling']['cents'] > 0
  # Pieces begin and end at other frames than the whole.
  whole = result['codes']['mel']
  assert result['windows']['mel'] == pytest.approx(whole, rel=1e-3)
  assert result['codes']['mel'] != result['second']['mel']
  assert result['mel_of_flow'] > 0
  # What is heard are the codes of the sound, read as letters.
  assert 0 < result['original']['cer'] < 2


def test_a_recording_is_at_no_distance_from_itself(corpus):
  decoder = speech.SpeechDecoder.load('')
  utterance = manifest.read(corpus)[0]
  original = resynthesis.Original(utterance, corpus, decoder, tiny.Ruler())
  found = resynthesis.compared(original, original.wave, decoder)
  assert found['mel'] == 0 and found['cents'] == 0 and found['voicing'] == 0
  assert found['speaker'] == pytest.approx(1, abs=1e-2)
  noise = np.random.default_rng(0).normal(size=len(original.wave)) * 0.1
  other = resynthesis.compared(original, noise.astype('f'), decoder)
  assert other['mel'] > 0.5 and other['mcd'] > 1


def test_the_grammar_holds_every_word_and_pattern():
  text = independent_cer.jsgf(grammar.ENGLISH)
  head, *rules = text.rstrip().split('\n')
  assert head == '#JSGF V1.0;' and all(rule.endswith(';') for rule in rules)
  for name, words in grammar.ENGLISH.classes.items():
    assert f'<{name}> = {" | ".join(words)};' in rules
  assert rules[-1].count(' | ') == len(grammar.ENGLISH.patterns) - 1
  assert '/0.6/ <determiner> <who> <verb> <determiner> <thing>' in rules[-1]


def test_the_recogniser_reads_a_clear_voice():
  pytest.importorskip('pocketsphinx')
  recogniser = independent_cer.Recogniser(grammar.ENGLISH)
  texts = ['the bird likes your chair', 'my horse opens the big window']
  waves = [independent_cer.said_by('f2', text) for text in texts]
  right, read = independent_cer.rate(recogniser, texts, waves)
  wrong, _ = independent_cer.rate(recogniser, texts[::-1], waves)
  assert right < 0.3 < wrong and len(read) == 2
  assert recogniser.read(np.zeros(8000, np.float32)) == ''


def test_the_independent_figure_runs_on_any_decoder(
  corpus, monkeypatch, capsys
):
  class Letters:
    """Reads nothing; only the plumbing is of interest."""

    def __init__(self, grammar):
      pass

    def read(self, wave):
      assert np.isfinite(wave).all()
      return 'abc' if len(wave) < 10000 else 'ab'

  monkeypatch.setattr(independent_cer, 'Recogniser', Letters)
  result = run(
    monkeypatch,
    capsys,
    independent_cer,
    f'--corpus={corpus}',
    f'--tokenizer={corpus}',
    f'--wavs={corpus}/out',
  )
  assert result['voice'] == 'f2' and result['sentences'] == 2
  assert result['by_voice'] == {'f2': 0.0}
  # Three letters are three groups, 0.36 s.
  assert result['generated'] == 0.0 and result['finished'] == 2
  assert [item['read'] for item in result['read']] == ['abc', 'abc']
  assert len(list((corpus / 'out').iterdir())) == 2
