"""Training of the speaker encoder: the margin, the feed, a run, its export."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.audio import io
from step_audio_jax.corpus import manifest
from step_audio_jax.decoder.exports import speaker as export
from step_audio_jax.decoder.speaker import encoder as speaker
from step_audio_jax.decoder.speaker import feed as speaker_feed
from step_audio_jax.decoder.speaker import objective
from step_audio_jax.models.speaker import campplus
from step_audio_jax.parallel import mesh
from step_audio_jax.storage import files
from step_audio_jax.training import loop
from step_audio_jax.training import optimizers
from step_audio_jax.training.checkpoints import checkpoints
from tests.decoder.speaker import tiny_speaker

SECONDS = 0.64


def test_the_margin_turns_the_angle():
  angles = np.array([0.1, 1.0, 2.0, 2.9, 3.1])
  cosines = np.cos(angles)[:, None] * np.array([[1.0, 0.5, -0.5]])
  labels = np.array([0, 1, 2, 0, 0])
  got = objective.with_margin(
    jnp.asarray(cosines, jnp.float32), jnp.asarray(labels), 0.2
  )
  for row, (label, values) in enumerate(zip(labels, cosines)):
    for place, cos in enumerate(values):
      want = cos
      if place == label:
        theta = math.acos(cos)
        want = math.cos(theta + 0.2)
        if theta > math.pi - 0.2:  # where it would rise again: a line
          want = cos - 0.2 * math.sin(0.2)
      assert got[row, place] == pytest.approx(want, abs=1e-5)


def test_the_margin_has_finite_slopes_everywhere():
  """Also at cosines of 1 and −1, where the sine has none."""
  cosines = jnp.array([[1.0, -1.0], [-1.0, 1.0]])

  def total(c):
    return objective.with_margin(c, jnp.array([0, 0]), 0.3).sum()

  assert np.isfinite(jax.grad(total)(cosines)).all()


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  lines = [
    (f'{voice}{i}', voice, 0.5 + 0.25 * i, 'train')
    for voice in ('bob', 'ann')
    for i in range(4)
  ]
  lines += [
    ('short', 'ann', 0.3, 'train'),
    ('nobody', None, 1.0, 'train'),
    ('eve1', 'ann', 1.0, 'dev'),
  ]
  return tiny_speaker.write_corpus(tmp_path_factory.mktemp('corpus'), lines)


def make_feed(corpus, **settings):
  return speaker_feed.SpeakerFeed(
    **{
      'corpus': corpus,
      'speakers': ('ann', 'bob'),
      'batch_size': 4,
      'seconds': SECONDS,
      **settings,
    }
  )


def test_speakers_are_sorted_and_at_least_two(corpus):
  assert speaker_feed.speakers_of(corpus) == ('ann', 'bob')
  with pytest.raises(errors.UserError, match='found 1 different in dev, expec'):
    speaker_feed.speakers_of(corpus, ('dev',))


def test_batches_are_crops_with_their_speakers(corpus):
  feed = make_feed(corpus)
  told = feed.describe()
  assert feed.dropped == {'no speaker': 1, 'shorter than 0.4 s': 1}
  assert told['utterances'] == 8 and told['speakers'] == 2
  json.dumps(told)
  known = {u.id: u for u in manifest.read(corpus)}
  width = round(SECONDS * 16000)
  for step in range(4):
    batch, ids = feed.batch(step), feed.row_ids(step)
    assert batch['wave'].shape == (4, width)
    for row, name in enumerate(ids):
      utterance, samples = known[name], batch['samples'][row]
      assert samples == min(width, round(utterance.duration * 16000))
      assert not batch['wave'][row, samples:].any()
      assert ('ann', 'bob')[batch['speakers'][row]] == utterance.speaker
      whole, _ = io.read_audio(utterance.audio_path(corpus))
      parts = np.lib.stride_tricks.sliding_window_view(whole, samples)
      assert (parts == batch['wave'][row, :samples]).all(axis=1).sum() == 1
  assert batch['weights'].tolist() == [1] * 4
  seen = [name for step in range(2) for name in feed.row_ids(step)]
  assert sorted(seen) == sorted(set(seen)) and len(seen) == 8  # one epoch


def test_batches_are_a_pure_function_of_the_step(corpus):
  one, two = make_feed(corpus), make_feed(corpus)
  for step in (5, 0, 2):
    whole = one.batch(step)
    for name, array in two.batch(step).items():
      np.testing.assert_array_equal(array, whole[name])
      parts = [two.batch(step, i, i + 1)[name] for i in range(4)]
      np.testing.assert_array_equal(np.concatenate(parts), array)
  other = make_feed(corpus, seed=1)
  assert any(one.row_ids(i) != other.row_ids(i) for i in range(4))


def test_crops_of_a_long_recording_move_from_epoch_to_epoch(corpus):
  feed = make_feed(corpus)
  firsts = {}
  for step in range(16):
    batch = feed.batch(step)
    for row, name in enumerate(feed.row_ids(step)):
      firsts.setdefault(name, set()).add(float(batch['wave'][row, :50].sum()))
  assert len(firsts['ann3']) > 4
  assert len(firsts['ann0']) == 1  # shorter than a crop: always whole


def test_an_unreadable_file_weighs_nothing(corpus, tmp_path, capsys):
  other = tmp_path / 'corpus'
  lines = [(f'{v}0', v, 0.5, 'train') for v in ('ann', 'bob')]
  tiny_speaker.write_corpus(other, lines)
  (other / 'wav' / 'ann0.wav').write_bytes(b'no sound')
  feed = make_feed(other, batch_size=2)
  for step in range(2):
    batch = feed.batch(step)
    assert sorted(batch['weights'].tolist()) == [0, 1]
  assert list(feed.quarantine) == ['ann0']
  assert capsys.readouterr().err.count('ann0 is left out') == 1


@pytest.mark.parametrize(
  'change, said',
  [
    ({'batch_size': 0}, 'batch_size is 0, expected >= 1'),
    ({'seconds': 0.2}, 'seconds is 0.2, expected >= 0.4'),
    ({'speakers': ('eve', 'kim')}, "nothing to train on .*'a speaker without"),
    ({'splits': ('no',)}, "no split 'no'"),
  ],
)
def test_a_bad_feed_says_what_is_wrong(corpus, change, said):
  with pytest.raises(errors.UserError, match=said):
    make_feed(corpus, **change)


OBJECTIVE = objective.SpeakerAAM(
  tiny_speaker.CONFIG, ('ann', 'bob'), margin_steps=10, noise=0.1
)


@pytest.fixture(scope='module')
def run(corpus, tmp_path_factory):
  """A short run on one device: it compiles faster than eight."""
  folder = tmp_path_factory.mktemp('runs') / 'speaker'
  config = mesh.MeshConfig()
  trainer = loop.Trainer(
    objective=OBJECTIVE,
    feed=make_feed(corpus, batch_size=8),
    optimizer=optimizers.OptimizerConfig(1e-2, weight_decay=0.0),
    config=loop.LoopConfig(steps=40, log_every=1),
    mesh=config.build(jax.devices()[:1]),
    rules=config.rules,
  )
  files.write_json(folder / 'config.json', OBJECTIVE.describe())
  loop.run(trainer, folder)
  lines = list(files.read_jsonl(folder / 'metrics.jsonl'))
  return folder, lines


def test_it_learns_to_tell_two_voices(run):
  _, lines = run
  assert lines[-1]['loss'] < 0.3 * lines[0]['loss']
  assert lines[-1]['accuracy'] > 0.9


def test_the_export_is_the_encoder_of_the_run(run, tmp_path):
  folder, _ = run
  encoder = export.open_encoder(folder)
  assert encoder.config == tiny_speaker.CONFIG
  waves = [
    tiny_speaker.sound(name, seconds, seed)
    for seed, (name, seconds) in enumerate(
      [('ann', 0.9), ('ann', 1.6), ('bob', 1.2), ('bob', 1.5)]
    )
  ]
  vectors = encoder.embed_batch(waves)
  vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
  alike = vectors @ vectors.T
  same = min(alike[0, 1], alike[2, 3])
  assert same > alike[:2, 2:].max() + 0.1
  # And of a decoder that was made from it.
  sealed = tmp_path / 'sealed'
  encoder.save(sealed)
  config = {
    'format': 'step_audio_jax.decoder',
    'speaker': dataclasses.asdict(encoder.config),
  }
  files.write_json(sealed / 'config.json', config)
  again = export.open_encoder(sealed)
  np.testing.assert_array_equal(
    again.params['params']['dense']['kernel'],
    encoder.params['params']['dense']['kernel'],
  )


def test_other_folders_are_refused(run, tmp_path):
  for config, said in (
    ({'decoder': 'vocoder'}, 'found a run of vocoder, expected one of the sp'),
    ({'tokenizer': 'semantic'}, 'found a run of another model'),
    ({'format': 'x', 'speaker': None}, 'speaker: found none, expected a spee'),
  ):
    files.write_json(tmp_path / 'config.json', config)
    with pytest.raises(errors.UserError, match=said):
      export.open_encoder(tmp_path)
  with pytest.raises(errors.UserError, match='config.json: no such file'):
    export.open_encoder(tmp_path / 'none')


def test_a_row_without_weight_changes_nothing(run, corpus):
  variables, _ = checkpoints.load_variables(run[0])
  batch = {**make_feed(corpus, batch_size=8).batch(0), 'step': np.int32(3)}
  silent = {k: np.array(v) for k, v in batch.items()}
  silent['weights'][2], silent['samples'][2] = 0, 0
  loud = {k: np.array(v) for k, v in silent.items()}
  loud['wave'][2], loud['samples'][2], loud['speakers'][2] = 0.9, 10240, 1
  loss = jax.jit(OBJECTIVE.loss)
  one, two = (loss(variables, b, jax.random.key(0)) for b in (silent, loud))
  assert float(one[1]) == 7
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two)):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
  assert set(one[3]) == {'batch_stats'}


@pytest.mark.parametrize(
  'change, said',
  [
    ({'speakers': ('one',)}, '1 speakers, expected at least 2'),
    ({'margin': 2.0}, 'margin is 2.0, expected 0 to below'),
    ({'scale': 0.0}, 'scale is 0.0, expected a positive number'),
  ],
)
def test_a_bad_objective_says_what_is_wrong(change, said):
  with pytest.raises(errors.UserError, match=said):
    dataclasses.replace(OBJECTIVE, **change)


def test_the_description_rebuilds_the_network():
  told = json.loads(json.dumps(OBJECTIVE.describe()))
  assert campplus.CampplusConfig(**told['model']) == tiny_speaker.CONFIG
  assert told['speakers'] == ['ann', 'bob']
  assert speaker.shapes(tiny_speaker.CONFIG)['params']['dense']
