"""The synthesised corpus: its plan, its files, its resumption."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from data_pipelines.synthesis import plan
from data_pipelines.synthesis import speech
from data_pipelines.synthesis import synthesize
from data_pipelines.synthesis.voices import speakers
from data_pipelines.synthesis.voices import voice as voice_lib
from step_audio_jax import errors
from step_audio_jax.corpus import manifest

SMALL = plan.Config(
  train=9, dev=3, test=3, unseen=2, images=10, text_lines=40, part=4
)


def tree(root):
  """Every file below a folder with its bytes."""
  return {
    str(path.relative_to(root)): path.read_bytes()
    for path in sorted(root.rglob('*'))
    if path.is_file()
  }


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  root = tmp_path_factory.mktemp('synthetic')
  synthesize.synthesize(root, SMALL, processes=1)
  return root


def test_the_default_plan_keeps_the_splits_apart():
  config = plan.Config()
  lines = plan.plan_speech(config)
  texts = {}
  for line in lines:
    texts.setdefault(line.split, []).append(line.text)
  assert {split: len(t) for split, t in texts.items()} == {
    'train': 1600, 'dev': 60, 'test': 70, manifest.UNSEEN_VOICE: 30,
  }  # fmt: skip
  everything = [text for found in texts.values() for text in found]
  assert len(set(everything)) == len(everything)
  held = {t for split, t in texts.items() if split != 'train' for t in t}
  text = plan.plan_text(config)
  train = {u.text for u in text if u.split == 'train'}
  assert len(train) == config.text_lines and not train & held
  assert {u.text for u in text if u.split == 'test'} == set(texts['test'])
  voices = {s: {x.voice for x in lines if x.split == s} for s in texts}
  assert voices[manifest.UNSEEN_VOICE] == {'f3'}
  assert len(voices['train']) >= 8 and 'f3' not in voices['train']
  assert len({line.rate for line in lines}) > 30
  share = np.mean([line.language == 'en' for line in lines])
  assert abs(share - 0.6) < 0.01


def test_the_plan_is_the_seeds():
  assert plan.plan_speech(SMALL) == plan.plan_speech(SMALL)
  other = dataclasses.replace(SMALL, seed=1)
  assert plan.plan_speech(SMALL) != plan.plan_speech(other)
  assert SMALL.fingerprint != other.fingerprint


def test_manifests_describe_the_files(corpus):
  speech = manifest.read(corpus / 'speech')
  assert len(speech) == 17
  for utterance in speech:
    samples, rate = soundfile.read(utterance.audio_path(corpus / 'speech'))
    assert rate == utterance.sample_rate == 16000
    assert abs(len(samples) / rate - utterance.duration) < 1e-5
    assert samples.ndim == 1 and 0.05 < np.abs(samples).max() <= 1
    joint = ' ' if utterance.language == 'en' else ''
    assert joint.join(w for w, _, _ in utterance.words) == utterance.text
    assert 0 <= utterance.words[0][1] < 0.12
    assert abs(utterance.words[-1][2] - utterance.duration) < 0.051
    gaps = [b[1] - a[2] for a, b in zip(utterance.words, utterance.words[1:])]
    assert np.abs(gaps or 0).max() < 1e-6
  images = manifest.read(corpus / 'images', kind='image_text')
  assert all(u.image_path(corpus / 'images').exists() for u in images)
  captions = {
    s: {u.text for u in images if u.split == s} for s in ('train', 'test')
  }
  assert not captions['train'] & captions['test']
  assert len(manifest.read(corpus / 'text', splits=['train'])) == 40


def test_a_second_call_does_nothing(corpus):
  before = tree(corpus)
  times = {p: p.stat().st_mtime_ns for p in corpus.rglob('*')}
  result = synthesize.synthesize(corpus, SMALL, processes=1)
  assert result['speech']['utterances'] == 17
  assert times == {p: p.stat().st_mtime_ns for p in corpus.rglob('*')}
  assert tree(corpus) == before


def test_other_settings_are_refused(corpus):
  other = dataclasses.replace(SMALL, train=10)
  with pytest.raises(errors.UserError, match='train is 9, asked for 10'):
    synthesize.synthesize(corpus, other)
  with pytest.raises(errors.UserError, match='is also one of the voices'):
    dataclasses.replace(SMALL, unseen_voice='m1')
  with pytest.raises(errors.UserError, match='--dev: found -1'):
    dataclasses.replace(SMALL, dev=-1)


def test_a_foreign_folder_is_left_alone(tmp_path):
  manifest.write(
    tmp_path / 'text', [manifest.Utterance(id='a', kind='text', text='b')]
  )
  with pytest.raises(errors.UserError, match='did not finish'):
    synthesize.synthesize(tmp_path, SMALL)
  assert os.listdir(tmp_path) == ['text']


def test_killed_and_continued_gives_the_same_files(corpus, tmp_path):
  root = tmp_path / 'again'
  program = (
    'import sys, time\n'
    'from data_pipelines.synthesis import plan, speech, synthesize\n'
    'real = speech.speak_line\n'
    'def slow(line, performer=None):\n'
    '  time.sleep(0.1)\n'
    '  return real(line)\n'
    'speech.speak_line = slow\n'
    'config = plan.Config(train=9, dev=3, test=3, unseen=2, images=10,'
    ' text_lines=40, part=4)\n'
    f'synthesize.synthesize({str(root)!r}, config, processes=1)\n'
  )
  process = subprocess.Popen([sys.executable, '-c', program])
  parts = root / 'speech' / f'.parts-{SMALL.fingerprint}'
  deadline = time.time() + 60
  while not list(parts.glob('*.jsonl')) and time.time() < deadline:
    time.sleep(0.02)
  time.sleep(0.15)
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert not (root / 'speech' / 'manifest.jsonl').exists()
  finished = {p: p.stat().st_mtime_ns for p in parts.glob('[0-9]*.jsonl')}
  assert finished
  synthesize.synthesize(root, SMALL, processes=2)
  again = {k: v for k, v in tree(root).items() if '.tmp' not in k}
  assert again == tree(corpus)


class Broken:
  """A voice whose samples are no numbers."""

  name, languages, speakers = 'broken', ('en', 'zh'), ('0',)
  sha256 = 'ab' * 32
  sample_rate = 16000

  def __init__(self, good=0):
    self.good = good  # so many lines it says

  def speak(self, text, **keywords):
    self.good -= 1
    value = 0.1 if self.good >= 0 else np.nan
    return voice_lib.Speech(np.full(900, value, np.float32), 16000)


def test_what_is_refused_leaves_nothing(tmp_path):
  root = tmp_path / 'out'
  with pytest.raises(errors.UserError, match=r"broken says '.*' as NaN or an"):
    synthesize.synthesize(root, SMALL, processes=1, voices=[Broken(2)])
  assert not root.exists()
  # Nor does it take what somebody else has there.
  (root / 'speech').mkdir(parents=True)
  (root / 'speech' / 'mine').touch()
  with pytest.raises(errors.UserError, match='as NaN'):
    synthesize.synthesize(root, SMALL, processes=1, voices=[Broken()])
  assert list(tree(root)) == ['speech/mine']


def test_only_the_parts_of_the_last_settings_stay(tmp_path, corpus):
  for seed, good in ((0, 5), (1, 6), (2, 0), (3, 6)):
    config = dataclasses.replace(SMALL, seed=seed)
    with pytest.raises(errors.UserError, match='as NaN'):
      synthesize.synthesize(
        tmp_path, config, processes=1, voices=[Broken(good)]
      )
    parts = list((tmp_path / 'speech').glob('.parts-*'))
    # Of its first part, which four lines are; then a resume has it.
    assert [len(list(p.glob('*.jsonl'))) for p in parts] == [1] * (good > 0)
    config = dataclasses.replace(config, speakers=speakers.cast([Broken(good)]))
    assert all(p.name == f'.parts-{config.fingerprint}' for p in parts)
  synthesize.synthesize(tmp_path, SMALL, processes=1)
  assert tree(tmp_path) == tree(corpus)


def test_trimming_leaves_fifty_milliseconds():
  sound = np.full(100, 9000, np.int16)
  for before, after in ((0, 0), (400, 0), (5, 900)):
    samples = np.concatenate(
      [np.zeros(before, np.int16), sound, np.zeros(after, np.int16)]
    )
    trimmed, shift = speech.trim(samples, 1000)
    assert len(trimmed) == 200
    np.testing.assert_array_equal(trimmed[50:150], sound)
    assert shift == pytest.approx((50 - before) / 1000)
  silent, shift = speech.trim(np.zeros(9, np.int16), 1000)
  assert len(silent) == 9 and shift == 0


def test_a_word_without_a_report_is_placed_between_its_neighbours():
  starts = speech.word_starts(['aa', 'bb', 'cc'], [(0, 0.0), (6, 0.6)], 0.9)
  np.testing.assert_allclose(starts, [0.0, 0.3, 0.6])
  starts = speech.word_starts(['aa', 'b'], [(0, 0.1)], 0.5)
  np.testing.assert_allclose(starts, [0.1, 0.4])
  starts = speech.word_starts(['aa', 'b'], [], 0.4)
  np.testing.assert_allclose(starts, [0.0, 0.3])


def test_the_door_dry_run_and_json(tmp_path):
  done = subprocess.run(
    [
      sys.executable, '-m', 'data_pipelines', 'synthesize', '--dry_run',
      '--json', f'--output={tmp_path}/x', '--train=20',
    ],
    capture_output=True,
    text=True,
    check=True,
  )  # fmt: skip
  assert json.loads(done.stdout.splitlines()[-1])['utterances'] == 180
  assert not (tmp_path / 'x').exists()
