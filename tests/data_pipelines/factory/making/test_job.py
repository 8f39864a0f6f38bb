"""Texts become a corpus, the same one however often the job is killed."""

import collections
import json

import numpy as np
import pytest
import soundfile

from data_pipelines import __main__ as doors
from data_pipelines.factory import provenance
from data_pipelines.factory.gates import line
from data_pipelines.factory.gates import sound
from data_pipelines.factory.gates import speech as speech_gates
from data_pipelines.factory.leaks import held_out as held_out_lib
from data_pipelines.factory.making import items as items_lib
from data_pipelines.factory.making import job
from data_pipelines.factory.making import shards as shards_lib
from data_pipelines.synthesis import speech
from data_pipelines.synthesis.voices import espeak
from data_pipelines.synthesis.voices import speakers
from step_audio_jax import errors
from step_audio_jax.audio import io as audio_io
from step_audio_jax.audio.augmentation import chain
from step_audio_jax.audio.augmentation import levels
from step_audio_jax.audio.augmentation import noise
from step_audio_jax.audio.augmentation import pools
from step_audio_jax.audio.augmentation import speed
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files

TEXTS = [
  ('train', 'en', 'the red cat sees a small ball.'),
  ('train', 'zh', '红猫看见一个小球。'),
  ('train', 'en', 'What is the capital of France?'),
  ('test', 'en', 'this is asked in a test and said by nobody'),
  ('train', 'fr', 'le chat voit une balle'),
  ('train', 'en', 'Hi'),
  ('train', 'en', 'An old dog sleeps in front of the house, all day long.'),
  ('train', 'en', '…'),
  ('train', 'en', 'Seven birds are in the tree behind the garden.'),
]
RECIPE = items_lib.Recipe(
  seed=3,
  times=2,
  chain=chain.Chain(
    (
      chain.Step(speed.Speed(), 0.5),
      chain.Step(noise.Noise(('white', 'pink'), (15.0, 25.0)), 0.5),
      chain.Step(levels.Ceiling()),
    )
  ),
  gates=line.Gates((sound.Duration(0.8, 9.0), speech_gates.SpeakingRate())),
)
VOICES = (espeak.Espeak(),)


@pytest.fixture(autouse=True)
def small(monkeypatch):
  monkeypatch.setattr(shards_lib, '_TOGETHER', 2)


@pytest.fixture(scope='module')
def texts(tmp_path_factory):
  folder = tmp_path_factory.mktemp('texts')
  manifest.write(
    folder,
    [
      manifest.Utterance(
        id=f't{n}', kind='text', split=split, language=language, text=text
      )
      for n, (split, language, text) in enumerate(TEXTS)
    ],
  )
  return folder


@pytest.fixture(scope='module')
def held_out(tmp_path_factory):
  folder = tmp_path_factory.mktemp('tests')
  manifest.write(
    folder,
    [
      manifest.Utterance(
        id='q', kind='text', split='test', text='what is the capital of France'
      )
    ],
  )
  return folder


def planned(texts, held_out=None, recipe=RECIPE):
  held_out = None if held_out is None else held_out_lib.HeldOut([held_out])
  return items_lib.plan_items([texts], recipe, VOICES, held_out)


def run(output, texts, held_out, recipe=RECIPE, **more):
  plan = planned(texts, held_out, recipe)
  return job.make(output, plan, recipe, VOICES, **{'shard_size': 3, **more})


def tree(folder):
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file()
  }


@pytest.fixture(scope='module')
def made(tmp_path_factory, texts, held_out):
  folder = tmp_path_factory.mktemp('made')
  return folder, run(folder, texts, held_out)


def test_what_is_made(made):
  folder, result = made
  kept = manifest.read(folder)
  names = [one.id for one in kept]
  assert names == ['t0.0', 't0.1', 't1.0', 't1.1', 't6.0', 't6.1', 't8.0',
                   't8.1']  # fmt: skip
  quarantine = list(files.read_jsonl(folder / 'quarantine.jsonl'))
  told = {(one['id'], one['gate'], one['outcome']) for one in quarantine}
  assert told == {
    ('t4', 'voice', 'unmeasured'),
    ('t2.0', 'leak', 'failed'),
    ('t2.1', 'leak', 'failed'),
    ('t5.0', 'duration', 'failed'),
    ('t5.1', 'duration', 'failed'),
  }
  assert (result['kept'], result['rejected']) == (8, 5)
  assert result['gates'] == {
    'leak': {'passed': 10, 'failed': 2, 'not_asked': 1},
    'voice': {'passed': 10, 'unmeasured': 1, 'not_asked': 2},
    'duration': {'passed': 8, 'failed': 2, 'not_asked': 3},
    'speaking_rate': {'passed': 8, 'not_asked': 5},
  }
  assert not list(provenance.faults(folder, collections.Counter()))
  for one in kept:
    samples, rate = soundfile.read(one.audio_path(folder))
    assert rate == 16000 and len(samples) / rate == pytest.approx(one.duration)
    if one.language == 'en':
      assert [w[0] for w in one.words] == one.text.split()
      assert one.words[-1][2] <= one.duration + 0.01
    else:
      assert one.words is None
  assert sorted(path.name for path in (folder / 'wav').iterdir()) == [
    one.audio[4:] for one in kept
  ]
  assert not list(folder.glob('.*'))


def test_provenance_makes_the_same_samples_again(made, texts):
  folder, _ = made
  lines = {item.line.id: item.line for item in planned(texts).items}
  cast = speakers.cast(VOICES)
  performers = speech.performers_of(cast, VOICES)
  told, items = provenance.read(folder)
  for utterance, origin in items:
    assert origin.voice == 'espeak-ng' and origin.voice in told.voices
    line_ = lines[origin.id]
    assert origin.seed == line_.seed
    samples, _ = speech.speak_line(line_, performers[line_.voice])
    wave = samples.astype(np.float32) / 32768
    again = chain.replay(wave, 16000, origin.augmentation)
    kept, _ = audio_io.read_audio(utterance.audio_path(folder))
    np.testing.assert_allclose(kept, again, atol=1 / 32000)


def test_a_finished_job_is_left_alone(made, texts, held_out, monkeypatch):
  folder, result = made
  before = tree(folder)
  monkeypatch.setattr(shards_lib, 'make_shard', None)
  assert run(folder, texts, held_out) == result
  assert run(folder, texts, held_out, shard_size=7) == result
  assert tree(folder) == before
  other = items_lib.Recipe(seed=4)
  with pytest.raises(errors.UserError, match='made of other texts, voices or'):
    run(folder, texts, held_out, other)


def test_killed_five_times_it_makes_the_same(
  made, texts, held_out, tmp_path, monkeypatch
):
  folder, _ = made
  real_batch, real_append = shards_lib._make_batch, files.persist
  kills = 0
  for kill in range(5):
    left = [1]  # batches; there are seven

    def batch(*args, left=left):
      if not left[0]:
        raise KeyboardInterrupt
      left[0] -= 1
      return real_batch(*args)

    def persist(handle, left=left, odd=kill % 2):
      if odd and not left[0]:
        raise KeyboardInterrupt  # recordings are there, the entry may not be
      real_append(handle)

    monkeypatch.setattr(shards_lib, '_make_batch', batch)
    monkeypatch.setattr(files, 'persist', persist)
    try:
      run(tmp_path / 'killed', texts, held_out)
    except KeyboardInterrupt:
      kills += 1
  assert kills == 5
  half = tmp_path / 'killed' / 'wav' / '.0000001.wav.123.tmp'
  half.write_bytes(b'what a killed process was writing')
  monkeypatch.setattr(shards_lib, '_make_batch', real_batch)
  monkeypatch.setattr(files, 'persist', real_append)
  run(tmp_path / 'killed', texts, held_out)
  assert tree(tmp_path / 'killed') == tree(folder)


def test_shards_and_order_of_texts_decide_nothing(
  made, texts, held_out, tmp_path
):
  folder, _ = made
  run(tmp_path / 'one', texts, held_out, shard_size=100)
  assert tree(tmp_path / 'one') == tree(folder)
  # An item is the same whatever else is made.
  plan = planned(texts)
  few = items_lib.plan_items([texts], RECIPE, VOICES, most=2)
  assert few.items == plan.items[:4]


def test_beam_makes_the_same(made, texts, held_out, tmp_path):
  run(tmp_path / 'beam', texts, held_out, runner='DirectRunner')
  assert tree(tmp_path / 'beam') == tree(made[0])


def test_another_job_that_was_killed_leaves_nothing(
  made, texts, held_out, tmp_path, monkeypatch
):
  def killed(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(provenance, 'write', killed)
    with pytest.raises(KeyboardInterrupt):
      run(tmp_path / 'x', texts, None)
  assert list((tmp_path / 'x').glob('.parts-*'))
  run(tmp_path / 'x', texts, held_out)
  assert tree(tmp_path / 'x') == tree(made[0])


def test_a_voice_that_fails_costs_its_item(texts, tmp_path, monkeypatch):
  real = espeak.Espeak.speak

  def speak(self, text, **settings):
    if 'birds' in text:
      raise errors.UserError('voice: it has no breath.')
    return real(self, text, **settings)

  monkeypatch.setattr(espeak.Espeak, 'speak', speak)
  run(tmp_path / 'x', texts, None)
  lines = list(files.read_jsonl(tmp_path / 'x' / 'quarantine.jsonl'))
  (first, _) = [one for one in lines if one['id'].startswith('t8')]
  assert first['reason'] == 'voice: it has no breath.'
  assert first['outcome'] == 'unmeasured'


def test_nothing_passes(texts, tmp_path):
  recipe = items_lib.Recipe(gates=line.Gates((sound.Duration(90.0, 99.0),)))
  with pytest.raises(errors.UserError, match=r'none of 7 items passed; the f'):
    run(tmp_path / 'x', texts, None, recipe)
  assert not (tmp_path / 'x' / 'manifest.jsonl').exists()


def test_a_corpus_of_others_is_left_alone(texts, tmp_path):
  manifest.write(tmp_path, [])
  with pytest.raises(
    errors.UserError, match='holds a manifest that `make` did'
  ):
    run(tmp_path, texts, None)


def test_bad_plans(texts, tmp_path):
  with pytest.raises(errors.UserError, match="id 't0' occurs twice"):
    items_lib.plan_items([texts, texts], RECIPE, VOICES)
  manifest.write(tmp_path, [])
  with pytest.raises(errors.UserError, match="no text of 'train'"):
    items_lib.plan_items([tmp_path], RECIPE, VOICES)
  for settings, message in (
    ({'times': 0}, 'times is 0'),
    ({'seed': -1}, 'seed: found -1'),
    ({'rates': (2.0, 1.0)}, 'rates: found'),
  ):
    with pytest.raises(errors.UserError, match=message):
      items_lib.Recipe(**settings)


def test_settings_tell_of_recordings_that_are_mixed_in(tmp_path):
  def settings():
    pools._listed.cache_clear()
    step = chain.Step(noise.Recordings(pools.Folder(str(tmp_path))))
    return items_lib.Recipe(chain=chain.Chain((step,))).settings

  with pytest.raises(errors.UserError, match='no recording in it'):
    settings()
  audio_io.write_audio(tmp_path / 'a.wav', np.ones(9, 'f'))
  before = settings()
  audio_io.write_audio(tmp_path / 'b.wav', np.ones(9, 'f'))
  assert before != settings() and json.dumps(before)


def test_settings_name_recognisers():
  class Own:
    identity = {'sha256': 'ab'}

    def __call__(self, waves, languages):
      return []

  for transcribe, told in (
    (Own(), {'sha256': 'ab'}),
    (len, 'builtins.len'),
  ):
    gates = line.Gates((speech_gates.Recognised(transcribe=transcribe),))
    (found,) = items_lib.Recipe(gates=gates).settings['gates']
    assert found['transcribe'] == told and found['most'] == 0.1
    json.dumps(found)


def test_the_door_takes_ears(texts, tmp_path, capsys):
  gin = tmp_path / 'recipe.gin'
  gin.write_text(
    """
from __gin__ import dynamic_registration
from data_pipelines.factory.gates import ears
from data_pipelines.factory.gates import line
from data_pipelines.factory.gates import speech
from data_pipelines.factory.making import items

items.Recipe.gates = @line.Gates()
line.Gates.gates = (@speech.Recognised(), @speech.SameSpeaker())
speech.Recognised.transcribe = @ears.Own()
ears.Own.run = 'run'
ears.Own.tokenizer = 'tokenizer'
speech.SameSpeaker.embed = @ears.Voices()
speech.SameSpeaker.reference = @ears.Speakers()
ears.Voices.encoder = 'run'
ears.Speakers.embeddings = 'speakers.npz'
ears.Speakers.corpus = 'corpus'
"""
  )
  argv = ['data_pipelines', 'make', f'--texts={texts}', f'--gin_file={gin}',
          f'--output={tmp_path}/made', '--json', '--dry_run']  # fmt: skip
  assert cli.dispatch('data_pipelines', doors.DOORS, argv) == 0
  assert json.loads(capsys.readouterr().out.splitlines()[-1])['items'] == 6
  wrong = gin.read_text().replace('@ears.Own()', '@line.Gates()')
  gin.write_text(wrong)
  assert cli.dispatch('data_pipelines', doors.DOORS, argv) == 2
  assert 'transcribe is @Gates(), expected the @' in capsys.readouterr().err


def test_the_door(texts, held_out, tmp_path, capsys):
  gin = tmp_path / 'recipe.gin'
  gin.write_text(
    """
from __gin__ import dynamic_registration
from data_pipelines.factory.gates import line
from data_pipelines.factory.gates import sound
from data_pipelines.factory.leaks import held_out
from data_pipelines.factory.making import items
from step_audio_jax.audio.augmentation import chain
from step_audio_jax.audio.augmentation import noise
from step_audio_jax.audio.augmentation import pools

items.Recipe.seed = 5
items.Recipe.chain = @chain.Chain()
items.Recipe.gates = @line.Gates()
items.Recipe.leaks = @held_out.Rules()
held_out.Rules.overlap = None
chain.Chain.steps = (@noisy/chain.Step(),)
noisy/chain.Step.operation = @noise.Noise()
noise.Noise.snr_db = [20, 30]
line.Gates.gates = (@sound.Duration(), @sound.Clipping())
"""
  )

  def call(*flags):
    argv = ['data_pipelines', 'make', f'--texts={texts}', '--processes=1',
            f'--output={tmp_path}/made', f'--held_out={held_out}',
            f'--gin_file={gin}', '--json', *flags]  # fmt: skip
    assert cli.dispatch('data_pipelines', doors.DOORS, argv) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])

  assert call('--dry_run') == {'dry_run': True, 'items': 5}
  assert not (tmp_path / 'made').exists()
  told = call()
  assert (told['kept'], told['rejected']) == (5, 2)
  assert call('--processes=2') == told
  told, items = provenance.read(tmp_path / 'made')
  for _, origin in items:
    (one,) = origin.augmentation['operations']
    assert one['kind'] == 'noise' and 20 <= one['snr_db'] <= 30
  assert told.seed == 5 and told.settings['leaks']['overlap'] is None
