"""Made documents, rows and corpora: what is measured on."""

import pathlib

import numpy as np

from step_audio_jax.corpus import speech_codes

LENGTH = 8192


def documents(sizes, cut):
  """Documents of so many random ids; `cut` is `Document.cut`."""
  from step_audio_jax import documents as documents_lib

  rng = np.random.default_rng(0)
  for number, size in enumerate(sizes.tolist()):
    yield documents_lib.Document(
      str(number),
      rng.integers(100, 70_000, size, dtype=np.int32),
      np.ones(size, np.float32),
      header=2 if cut else 0,
      cut=cut,
    )


def write_rows(
  folder: pathlib.Path, rows: int, length: int, tasks=('continuation', 'text')
) -> None:
  """Rows of several documents for each task."""
  from data_pipelines.rows import folders as rows_lib
  from data_pipelines.rows import packing
  from step_audio_jax import vocabulary

  rng = np.random.default_rng(0)
  for task in tasks:
    sizes = rng.integers(length // 8, length // 2, 4 * rows)
    packed = packing.pack(documents(sizes, 5), length)
    rows_lib.write(
      folder / task / 'train',
      (row for _, row in zip(range(rows), packed)),
      table=vocabulary.Vocabulary(),
      length=length,
      about={'task': task, 'split': 'train', 'dropped': 0},
      quarantine=[],
      image_shape=(),
    )


def make_corpus(folder: pathlib.Path, utterances: int) -> None:
  """Manifest, codes and a text model, as `ingest` and `tokenize` leave them."""
  from data_pipelines import records
  from data_pipelines.tasks import vocabulary as vocabulary_door
  from step_audio_jax.corpus import manifest
  from step_audio_jax.storage import files

  rng = np.random.default_rng(0)
  words = ('every', 'cat', 'hears', 'a', 'small', 'dog', 'sing', 'softly')
  groups = rng.integers(8, 140, utterances)  # 1 to 17 s

  def lines():
    for k, count in enumerate(groups.tolist()):
      said = ' '.join(words[i] for i in rng.integers(0, 8, count // 3 + 1))
      yield manifest.Utterance(
        id=f'u{k:07d}',
        text=said,
        audio=f'wav/{k}.flac',
        duration=0.12 * count,
        sample_rate=16000,
        speaker=f's{k // 50}',
      )

  manifest.write(folder / 'speech', lines())

  def packed(some):
    for k in some:
      count = int(groups[k])
      yield records.pack(
        {
          'linguistic': rng.integers(0, 1024, 2 * count).astype(np.uint16),
          'semantic': rng.integers(0, 4096, 3 * count).astype(np.uint16),
        },
        {'id': f'u{k:07d}'},
      )

  (folder / 'codes').mkdir()
  shards = -(-utterances // 500)
  for shard in range(shards):
    name = records.shard_name(speech_codes.STEM, shard, shards)
    some = range(500 * shard, min(500 * (shard + 1), utterances))
    records.write_shard(folder / 'codes' / name, packed(some))
  files.write_json(
    folder / 'codes' / 'stats.json', {'digest': 'made', 'kept': utterances}
  )
  (folder / 'text.model').write_bytes(vocabulary_door.train([' '.join(words)]))
