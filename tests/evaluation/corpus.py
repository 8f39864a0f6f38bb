"""A corpus with codes, and a run that the parrot answers for, for tests."""

import types

from array_record.python import array_record_module
from safetensors import numpy as safetensors_numpy

from step_audio_jax.corpus import manifest
from step_audio_jax.evaluation import evaluate
from step_audio_jax.evaluation.metrics import speech
from step_audio_jax.generation import restore
from tests.evaluation import parrot

TEXTS = {
  'dev': ['a cat', 'red'],
  'test': ['a cat', 'big dogs', 'no'],
  'train': ['one'],
}


def write_manifest(root, texts=None, **fields):
  """Writes `<root>/corpus`; `fields` are of all utterances."""
  told = {'audio': 'x.wav', 'duration': 1.0, 'sample_rate': 16000, **fields}
  manifest.write(
    root / 'corpus',
    [
      manifest.Utterance(id=f'{split}{n}', text=text, split=split, **told)
      for split, some in (texts or TEXTS).items()
      for n, text in enumerate(some)
    ],
  )


def write_codes(root, heard=None, without=()):
  """Writes `<root>/codes`: what each utterance sounds like.

  Args:
    root: Holds the corpus.
    heard: Id → text that its codes say; by default its own.
    without: Ids that get no codes.
  """
  (root / 'codes').mkdir(exist_ok=True)
  writer = array_record_module.ArrayRecordWriter(
    str(root / 'codes' / 'codes-00000-of-00001.array_record'), 'group_size:1'
  )
  for u in manifest.read(root / 'corpus'):
    if u.id not in without:
      linguistic, semantic = parrot.codes((heard or {}).get(u.id, u.text))
      record = {'linguistic': linguistic, 'semantic': semantic}
      writer.write(safetensors_numpy.save(record, metadata={'id': u.id}))
  writer.close()


def write_checkpoint(root, step, content='parameters', run='run'):
  """A checkpoint with bytes; the parrot stands in for what they mean."""
  folder = root / run / 'checkpoints' / str(step) / 'variables'
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'array').write_text(content)


def make(root, monkeypatch, steps=(10, 20)):
  """A corpus, its codes and a run; `loaded` lists the steps as they load."""
  write_manifest(root)
  write_codes(root)
  for step in steps:
    write_checkpoint(root, step)
  loaded = []

  def load_model(run_dir, step):
    loaded.append(step)
    return parrot.Parrot(), parrot.VARIABLES, parrot.VOCABULARY

  monkeypatch.setattr(restore, 'load_model', load_model)
  return types.SimpleNamespace(root=root, loaded=loaded)


def score(run, decoding=None, **changes):
  """`evaluate` of that run; ASR and TTS of dev by default."""
  return evaluate.evaluate(
    **{
      'checkpoints': str(run.root / 'run'),
      'manifest': str(run.root / 'corpus'),
      'codes': str(run.root / 'codes'),
      'asr_splits': ('dev',),
      'tts_splits': ('dev',),
      'speech': speech.SpeechConfig(
        **{'batch_size': 4, 'max_speech_groups': 16, **(decoding or {})}
      ),
      **changes,
    }
  )
