"""A corpus of spoken questions whose recordings are tones."""

import numpy as np

from step_audio_jax.audio import io as audio_io
from step_audio_jax.corpus import manifest

RATE = 16000
DEAF = 'I did not hear you.'


def recording(root, name, split, text, loud=True, **more):
  """A line of speech whose wav is a tone, or silence."""
  place = np.arange(RATE // 4) / RATE
  samples = 0.5 * np.sin(2 * np.pi * 440 * place) * loud
  audio_io.write_audio(root / f'wav/{name}.wav', samples, RATE)
  return manifest.Utterance(
    id=name,
    split=split,
    text=text,
    audio=f'wav/{name}.wav',
    duration=0.25,
    sample_rate=RATE,
    **more,
  )


def chat(name, split, *turns, **more):
  """A chat whose spoken turns are ids, and written ones texts in lists."""
  roles = ('user', 'assistant')
  told = []
  for n, turn in enumerate(turns):
    content = {'text': turn[0]} if isinstance(turn, list) else {'speech': turn}
    told.append({'role': roles[n % 2], **content})
  return manifest.Utterance(
    id=name, kind='chat', split=split, turns=tuple(told), **more
  )


def make(root, questions=12):
  """Questions in two languages and splits, and all that is none."""
  lines = []
  for k in range(questions):
    split = ('train', 'train', 'dev', 'test')[k % 4]
    language = ('en', 'zh')[k // 2 % 2]
    said = (
      f'which number comes behind {"one " * k}' if k % 2 else f'第{k}个数是几'
    )
    lines += [
      recording(root, f's{k}', split, said, language=language, speaker=f'v{k}'),
      chat(f'q{k}', split, f's{k}', [f'answer {k}'], language=language),
    ]
  lines += [
    chat('written', 'train', ['why'], ['so']),
    chat('aloud', 'train', 's0', 's1'),
    recording(root, 'nobody', 'quiet', '', loud=False),
    chat('silent', 'train', 'nobody', [DEAF]),
    recording(root, 'lost', 'train', 'why', loud=False),
    chat('broken', 'train', 'lost', ['because']),
    chat('hacked', 'train', 's0', [DEAF]),
    recording(root, 'french', 'train', 'pourquoi', language='fr'),
    chat('fr', 'train', 'french', ['parce que'], language='fr'),
    chat('more', 'train', ['one'], ['two'], 's0', ['three']),
  ]
  manifest.write(root, lines)
  return root
