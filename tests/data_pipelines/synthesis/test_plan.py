"""What synthesize decides and how it resumes, with a voice of no effort."""

import collections
import dataclasses
import json
import shutil

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from data_pipelines import __main__ as doors
from data_pipelines.synthesis import drawing
from data_pipelines.synthesis import grammar
from data_pipelines.synthesis import images
from data_pipelines.synthesis import plan
from data_pipelines.synthesis import speech
from data_pipelines.synthesis import synthesize
from data_pipelines.synthesis.voices import espeak
from data_pipelines.synthesis.voices import speakers
from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files

UNSEEN = manifest.UNSEEN_VOICE
SMALL = plan.Config(
  train=11, dev=3, test=4, unseen=2, images=20, text_lines=30, part=3
)


@pytest.fixture
def voice(monkeypatch):
  """Speaks a tone as long as the text; `spoken` lists the ids."""
  spoken = []

  def speak(line, performer=None):
    assert performer is None
    spoken.append(line.id)
    samples = np.full(1600 * len(line.words) + line.seed, 900, np.int16)
    words = [[w, 0.1 * k, 0.1 * k + 0.1] for k, w in enumerate(line.words)]
    return samples, words

  monkeypatch.setattr(speech, 'speak_line', speak)
  return spoken


def tree(root):
  return {
    str(path.relative_to(root)): path.read_bytes()
    for path in root.rglob('*')
    if path.is_file()
  }


COUNTS = st.integers(0, 30)


@hypothesis.settings(max_examples=30)
@hypothesis.given(
  COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, st.floats(0, 1), st.integers(0, 9)
)
def test_no_held_out_sentence_is_ever_trained_on(
  train, dev, test, unseen, text_lines, english, seed
):
  config = plan.Config(
    seed=seed, train=train, dev=dev, test=test, unseen=unseen,
    text_lines=text_lines, english_share=english,
  )  # fmt: skip
  lines = plan.plan_speech(config)
  counts = collections.Counter(line.split for line in lines)
  wanted = {'train': train, 'dev': dev, 'test': test, UNSEEN: unseen}
  assert counts == collections.Counter(wanted)
  texts = collections.defaultdict(list)
  for line in lines:
    texts[line.split].append(line.text)
    rules = grammar.GRAMMARS[line.language]
    assert set(line.words) <= set(rules.words)
    low, high = {
      'en': config.english_rates, 'zh': config.mandarin_rates
    }[line.language]  # fmt: skip
    assert low <= line.rate <= high
    assert config.pitches[0] <= line.pitch <= config.pitches[1]
    assert (line.voice == config.unseen_voice) == (line.split == UNSEEN)
  for split, count in wanted.items():
    here = [x for x in lines if x.split == split]
    spoken = sum(x.language == 'en' for x in here)
    assert spoken == round(count * english)
  everything = [text for found in texts.values() for text in found]
  assert len(set(everything)) == len(everything)
  assert len({line.id for line in lines}) == len(lines)
  assert len({line.seed for line in lines}) == len(lines)
  plain = plan.plan_text(config)
  trained = [u.text for u in plain if u.split == 'train']
  assert len(trained) == len(set(trained)) == text_lines
  for split in ('dev', 'test', UNSEEN):
    assert not set(trained) & set(texts[split])
  assert [u.text for u in plain if u.split == 'dev'] == [
    ' '.join(words) if language == 'en' else ''.join(words)
    for language, words in plan.plan_sentences(config)['dev']
  ]


def test_every_setting_is_in_the_fingerprint():
  someone = speakers.Speaker('joe', 'joe', '0' * 64, '0', ('en',))
  changes = {
    field.name: {
      int: lambda v: v + 1, float: lambda v: v / 2, str: lambda v: 'm8',
      bool: lambda v: not v,
      tuple: lambda v: v[::-1] or (someone,),
    }[type(getattr(SMALL, field.name))](getattr(SMALL, field.name))
    for field in dataclasses.fields(SMALL)
  }  # fmt: skip
  found = {SMALL.fingerprint}
  for name, value in changes.items():
    found.add(dataclasses.replace(SMALL, **{name: value}).fingerprint)
  assert len(found) == 1 + len(changes)


@pytest.mark.parametrize(
  'change, said',
  [
    *(({name: -1}, f'--{name}: found -1, expected 0 or more') for name in (
      'train', 'dev', 'test', 'unseen', 'images', 'text_lines'
    )),
    ({'english_share': 1.01}, '--english_share: found 1.01, expected 0..1'),
    ({'english_share': float('nan')}, '--english_share: found nan'),
    ({'unseen_voice': 'f4'}, "'f4' is also one of the voices"),
  ],
)  # fmt: skip
def test_impossible_configs_are_refused(change, said):
  with pytest.raises(errors.UserError, match=said):
    dataclasses.replace(SMALL, **change)


@pytest.mark.parametrize(
  'flags, said',
  [
    (['--train=9000'], 'zh: 3600 sentences beside'),
    (['--text_lines=900000'], 'are too many for a grammar of'),
    (['--english_share=7'], '--english_share: found 7'),
    (['--images=-1'], '--images: found -1'),
    (['--train=many'], '--train'),
  ],
)
def test_the_door_refuses_before_it_writes(tmp_path, capsys, flags, said):
  argv = [
    'data_pipelines', 'synthesize', f'--output={tmp_path}/x', *flags
  ]  # fmt: skip
  for more in ([], ['--dry_run']):
    assert cli.dispatch('data_pipelines', doors.DOORS, [*argv, *more]) == 2
    told = capsys.readouterr().err
    assert told.startswith('error: ') and said in told
    assert len(told.strip().splitlines()) == 1
  assert not (tmp_path / 'x').exists()


@pytest.mark.parametrize('stop', [0, 2, 5, 10, 19])
def test_stopped_at_any_line_and_continued(tmp_path, voice, monkeypatch, stop):
  synthesize.synthesize(tmp_path / 'whole', SMALL, processes=1)
  whole, count = tree(tmp_path / 'whole'), len(voice)
  assert count == 20
  easy = speech.speak_line
  voice.clear()

  def stops(line, performer=None):
    if len(voice) == stop:
      raise KeyboardInterrupt
    return easy(line)

  monkeypatch.setattr(speech, 'speak_line', stops)
  root = tmp_path / 'again'
  with pytest.raises(KeyboardInterrupt):
    synthesize.synthesize(root, SMALL, processes=1)
  assert not (root / 'speech' / 'manifest.jsonl').exists()
  assert not (root / 'images').exists()
  monkeypatch.setattr(speech, 'speak_line', easy)
  finished = stop // SMALL.part * SMALL.part
  voice.clear()
  synthesize.synthesize(root, SMALL, processes=1)
  # Parts that were finished are not spoken again.
  assert len(voice) == count - finished
  assert tree(root) == whole
  synthesize.synthesize(root, SMALL, processes=1)
  assert len(voice) == count - finished


@pytest.mark.parametrize('name', ['speech', 'images', 'text'])
def test_killed_between_manifest_and_stamp(tmp_path, voice, monkeypatch, name):
  # The narrowest place: the manifest is there and corpus.json is not.
  synthesize.synthesize(tmp_path / 'whole', SMALL, processes=1)
  real = files.write_json

  def stops(path, value):
    if path == tmp_path / 'again' / name / 'corpus.json':
      raise KeyboardInterrupt
    real(path, value)

  monkeypatch.setattr(files, 'write_json', stops)
  with pytest.raises(KeyboardInterrupt):
    synthesize.synthesize(tmp_path / 'again', SMALL, processes=1)
  assert (tmp_path / 'again' / name / 'manifest.jsonl').exists()
  monkeypatch.setattr(files, 'write_json', real)
  voice.clear()
  synthesize.synthesize(tmp_path / 'again', SMALL, processes=1)
  assert not voice
  assert tree(tmp_path / 'again') == tree(tmp_path / 'whole')


def test_one_missing_corpus_is_made_beside_the_others(tmp_path, voice):
  first = synthesize.synthesize(tmp_path, SMALL, processes=1)
  before, count = tree(tmp_path), len(voice)
  shutil.rmtree(tmp_path / 'images')
  assert synthesize.synthesize(tmp_path, SMALL, processes=1) == first
  assert tree(tmp_path) == before and len(voice) == count


def test_another_grammar_is_another_corpus(tmp_path, voice, monkeypatch):
  synthesize.synthesize(tmp_path, SMALL, processes=1)
  before = tree(tmp_path)
  small = dataclasses.replace(
    grammar.MANDARIN, patterns=grammar.MANDARIN.patterns[:2]
  )
  monkeypatch.setitem(grammar.GRAMMARS, 'zh', small)
  with pytest.raises(errors.UserError, match='another version of the grammar'):
    synthesize.synthesize(tmp_path, SMALL, processes=1)
  assert tree(tmp_path) == before


def test_images_of_dev_and_test_show_scenes_of_their_own(tmp_path):
  config = dataclasses.replace(SMALL, images=200)
  lines = images.make_images(tmp_path, config)
  counts = collections.Counter(u.split for u in lines)
  assert counts == {'train': 200, 'dev': 20, 'test': 20}
  scenes = {
    scene.caption(language): place
    for place, scene in enumerate(drawing.scenes())
    for language in ('en', 'zh')
  }
  shown = collections.defaultdict(set)
  for utterance in lines:
    shown[utterance.split].add(scenes[utterance.text])
    assert drawing.load(utterance.image_path(tmp_path)).shape == (32, 32, 3)
  assert not shown['train'] & shown['dev']
  assert not shown['train'] & shown['test']
  assert not shown['dev'] & shown['test']
  again = images.make_images(tmp_path / 'again', config)
  assert again == lines
  for utterance in lines:
    path = utterance.image_path(tmp_path / 'again')
    assert path.read_bytes() == utterance.image_path(tmp_path).read_bytes()


@hypothesis.given(
  st.integers(0, 300), st.integers(1, 200), st.integers(0, 300),
  st.sampled_from([1000, 16000, 22050]),
)  # fmt: skip
def test_trimming_keeps_the_sound_and_its_times(before, loud, after, rate):
  sound = np.linspace(201, 3000, loud).astype(np.int16)
  samples = np.concatenate(
    [np.full(before, 200), sound, np.full(after, -200)]
  ).astype(np.int16)
  trimmed, shift = speech.trim(samples, rate)
  margin = round(0.05 * rate)
  assert len(trimmed) == loud + 2 * margin
  np.testing.assert_array_equal(trimmed[margin : margin + loud], sound)
  # A time t of the old samples is t + shift in the new ones.
  assert round((before / rate + shift) * rate) == margin


@hypothesis.given(
  st.lists(st.text('abc', min_size=1, max_size=6), min_size=1, max_size=8),
  st.data(),
)
def test_words_start_where_they_were_reported(words, data):
  places = np.cumsum([0, *(len(word) + 1 for word in words[:-1])]).tolist()
  gaps = data.draw(
    st.lists(st.floats(0.01, 1), min_size=len(words), max_size=len(words))
  )
  times = np.cumsum(gaps).tolist()
  total = times[-1] + 0.3
  whole = speech.word_starts(words, list(zip(places, times)), total)
  np.testing.assert_allclose(whole, times)
  kept = data.draw(st.sets(st.integers(1, len(words)))) | {0}
  events = [e for k, e in enumerate(zip(places, times)) if k in kept]
  starts = speech.word_starts(words, events, total)
  assert (np.diff(starts) >= 0).all() and starts[-1] <= total
  for k, start in enumerate(starts):
    if k in kept:
      assert start == pytest.approx(times[k])
  for k in set(range(len(words))) - kept:
    later = [times[j] for j in kept if j > k and j < len(words)] or [total]
    earlier = [times[j] for j in kept if j < k]
    assert max(earlier) <= starts[k] <= min(later)


def test_a_spoken_line_has_its_words_inside_the_sound():
  for line in plan.plan_speech(SMALL)[:6]:
    samples, words = speech.speak_line(line)
    again, _ = speech.speak_line(line)
    np.testing.assert_array_equal(samples, again)
    seconds = len(samples) / 16000
    assert samples.dtype == np.int16
    assert tuple(word for word, _, _ in words) == line.words
    times = [t for _, start, end in words for t in (start, end)]
    assert times == sorted(times) and 0 <= times[0] and times[-1] <= seconds


@pytest.mark.parametrize('rules', grammar.GRAMMARS.values())
def test_patterns_come_as_often_as_their_weights_say(rules):
  rng, draws = np.random.default_rng(0), 4000
  classes = {
    word: name for name, words in rules.classes.items() for word in words
  }
  found = collections.Counter(
    tuple(classes[word] for word in rules.draw(rng)) for _ in range(draws)
  )
  total = sum(weight for _, weight in rules.patterns)
  assert set(found) == {pattern for pattern, _ in rules.patterns}
  for pattern, weight in rules.patterns:
    share = weight / total
    spread = 4 * np.sqrt(share * (1 - share) / draws)
    assert abs(found[pattern] / draws - share) < spread
  with pytest.raises(errors.UserError, match='too many for a grammar of'):
    rules.draw_unique(rng, rules.size)


@hypothesis.settings(max_examples=60)
@hypothesis.given(st.data())
def test_a_damaged_image_is_read_or_refused(tmp_path_factory, data):
  raw = drawing.png(drawing.draw(drawing.scenes()[3], np.random.default_rng(1)))
  path = tmp_path_factory.getbasetemp() / 'damaged.png'
  changed = bytearray(raw)
  place = data.draw(st.integers(0, len(raw) - 1))
  if cut := data.draw(st.booleans()):
    del changed[place:]
  else:
    changed[place] ^= data.draw(st.integers(1, 255))
  path.write_bytes(changed)
  try:
    pixels = drawing.load(path)
  except ValueError as error:
    assert str(error).startswith('not a readable image: ')
  else:
    assert pixels.shape == (32, 32, 3) and pixels.dtype == np.uint8
    assert not (cut and place < raw.index(b'IDAT') + 20)


@pytest.mark.parametrize('name, least, most', [('rate', 80, 450),
                                               ('pitch', 0, 100)])  # fmt: skip
def test_the_limits_of_a_voice(name, least, most):
  for value in (least, most):
    assert len(espeak.speak('a cat', voice='en-us', **{name: value}).samples)
  for value in (least - 1, most + 1):
    with pytest.raises(errors.UserError, match=f'{name}: found {value}'):
      espeak.speak('a cat', voice='en-us', **{name: value})


def test_faster_speech_is_shorter():
  text = 'my old dog finds a blue stone'
  lengths = [
    len(espeak.speak(text, voice='en-us+m3', rate=rate).samples)
    for rate in (90, 130, 170, 220, 300)
  ]
  assert all(a > b for a, b in zip(lengths, lengths[1:]))


def test_statistics_count():
  made = [
    manifest.Utterance(
      id=f'u{k}', text=text, language=language, split=split, audio='a.wav',
      duration=seconds, sample_rate=16000, speaker=speaker,
      words=[[w, 0, 1] for w in text.split()] if text else None,
    )
    for k, (text, language, split, seconds, speaker) in enumerate(
      [('a b', 'en', 'dev', 1.0, 'z'), ('b a', 'en', 'dev', 3.0, None),
       ('小', 'zh', 'train', 2.0, 'y'), (None, 'zh', 'dev', 2.0, 'z')]
    )
  ]  # fmt: skip
  found = synthesize.statistics(made)
  assert json.loads(json.dumps(found)) == {
    'utterances': 4, 'splits': {'dev': 3, 'train': 1},
    'languages': {'en': 2, 'zh': 2}, 'texts': 3, 'characters': 3,
    'mean_seconds': 2.0, 'max_seconds': 3.0, 'hours': 0.0022,
    'speakers': ['y', 'z'], 'words': 3,
  }  # fmt: skip
  assert synthesize.statistics([]) == {
    'utterances': 0, 'splits': {}, 'languages': {}, 'texts': 0,
    'characters': 0,
  }  # fmt: skip
