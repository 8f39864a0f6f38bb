"""`make` on engines: the same bytes, whoever makes a shard and dies of it."""

import os

from data_pipelines.factory.gates import line
from data_pipelines.factory.gates import sound
from data_pipelines.factory.making import items as items_lib
from data_pipelines.factory.making import job
from step_audio_jax.audio.augmentation import chain
from step_audio_jax.audio.augmentation import noise
from step_audio_jax.corpus import manifest
from tests import stores
from tests.data_pipelines.factory.making import frail

RECIPE = items_lib.Recipe(
  chain=chain.Chain((chain.Step(noise.Noise(snr_db=(15.0, 25.0))),)),
  gates=line.Gates((sound.Duration(0.9, 9.0),)),
)
COUNT = 12


def texts(folder):
  some = ('red', 'small', 'old', 'very very old and slow')
  manifest.write(
    folder,
    [
      manifest.Utterance(
        id=f't{n}', kind='text', text=f'{some[n % 4]} birds: {n}'
      )
      for n in range(COUNT)
    ],
  )
  return folder


def test_dask_makes_the_same_in_a_bucket_though_a_worker_dies(
  tmp_path, gs_folder, capfd, monkeypatch
):
  monkeypatch.setenv('PROGRESS', '1')
  source = texts(tmp_path / 'texts')
  told = {}
  for output, runner in (
    (tmp_path / 'here', {}),
    (gs_folder / 'dask', {
      'runner': 'DaskRunner', 'beam_options': ['--dask_workers=2']
    }),
  ):  # fmt: skip
    beside = tmp_path / f'beside_{output.name}'
    beside.mkdir()
    voices = [frail.Frail(folder=str(beside))]
    frail.doom(beside, 1 if runner else 0)
    planned = items_lib.plan_items([source], RECIPE, voices)
    told[output] = job.make(
      output, planned, RECIPE, voices, shard_size=3, **runner
    )
    assert not list((beside / 'deaths').iterdir())
  here, there = told
  assert told[here] == told[there] and told[here]['kept'] > 5
  assert stores.contents(here) == stores.contents(there)
  workers = frail.processes(tmp_path / 'beside_dask')
  assert len(workers) >= 2 and os.getpid() not in workers
  said = capfd.readouterr().err
  assert 'make: 100%' in said and 'Traceback' not in said
