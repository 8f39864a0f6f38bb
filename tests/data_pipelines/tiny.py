"""A corpus of known documents that takes no speech synthesis to make."""

import numpy as np

from data_pipelines import records
from data_pipelines.synthesis import drawing
from data_pipelines.tasks import vocabulary
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.storage import files

WORDS = ('the', 'cat', 'sees', 'a', 'big', 'dog')
STEP = 0.24  # seconds of a word: two groups of codes


def make(root, count=7):
  """Writes speech, codes, text, images and text.model; returns `root`.

  Utterance k says k % 4 + 2 words; every third one is in dev.
  """
  rng = np.random.default_rng(0)
  root.mkdir(parents=True, exist_ok=True)
  speech, codes = [], {}
  for k in range(count):
    said = [WORDS[(k + i) % len(WORDS)] for i in range(k % 4 + 2)]
    speech.append(
      manifest.Utterance(
        id=f'u{k}',
        split='dev' if k % 3 == 2 else 'train',
        text=' '.join(said),
        audio=f'wav/{k}.wav',
        duration=STEP * len(said),
        sample_rate=16000,
        speaker=f's{k // 4}',
        words=[[w, STEP * i, STEP * i + STEP] for i, w in enumerate(said)],
      )
    )
    # Ragged: one code of each stream is left over for the last group.
    codes[f'u{k}'] = (
      rng.integers(0, 1024, 4 * len(said) + 1),
      rng.integers(0, 4096, 6 * len(said) + 1),
    )
  manifest.write(root / 'speech', speech)
  write_codes(root / 'codes', codes)
  manifest.write(
    root / 'text',
    [
      manifest.Utterance(
        id=f't{k}',
        kind='text',
        split='dev' if k % 3 == 2 else 'train',
        text=' '.join(WORDS[: k % 5 + 1]),
      )
      for k in range(count)
    ],
  )
  (root / 'images' / 'img').mkdir(parents=True)
  for k, scene in enumerate(drawing.scenes()[:3]):
    pixels = drawing.draw(scene, rng)
    (root / 'images' / 'img' / f'{k}.png').write_bytes(drawing.png(pixels))
  manifest.write(
    root / 'images',
    [
      manifest.Utterance(
        id=f'i{k}', kind='image_text', text='a dog', image=f'img/{k}.png'
      )
      for k in range(3)
    ],
  )
  (root / 'text.model').write_bytes(vocabulary.train([' '.join(WORDS)]))
  return root


def write_codes(folder, codes, digest='first', shards=2):
  """Codes as `tokenize` leaves them; `codes` is id → (linguistic, semantic)."""
  folder.mkdir(parents=True, exist_ok=True)
  for path in records.shards_of(folder, speech_codes.STEM):
    path.unlink()
  packed = [
    records.pack(
      {
        'linguistic': np.asarray(pair[0], np.uint16),
        'semantic': np.asarray(pair[1], np.uint16),
      },
      {'id': name},
    )
    for name, pair in codes.items()
  ]
  for shard in range(shards):
    name = records.shard_name(speech_codes.STEM, shard, shards)
    records.write_shard(folder / name, packed[shard::shards])
  files.write_json(
    folder / 'stats.json', {'digest': digest, 'kept': len(codes)}
  )
