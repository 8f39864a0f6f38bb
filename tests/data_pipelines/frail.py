"""A tokenizer that writes down what it encodes, and dies when it is told to.

Beside its folder, `encoded` has a line for each batch, and `deaths` a file for
each worker that is still to be killed.
"""

import os
import pathlib
import signal
import time

from tests.data_pipelines import stand_in


class Frail(stand_in.StandIn):
  """The stand-in in a worker that may be killed in a batch."""

  def __init__(self, folder):
    super().__init__(folder)
    self._beside = pathlib.Path(folder).parent
    self._begun = False  # a kill leaves something that was finished

  def encode_batch(self, waves):
    for death in sorted((self._beside / 'deaths').glob('*')):
      if not self._begun:
        break
      victim = int(death.read_text() or os.getpid())
      try:
        death.unlink()
      except FileNotFoundError:  # another worker's
        continue
      os.kill(victim, signal.SIGKILL)
    self._begun = True
    with open(self._beside / 'encoded', 'a', encoding='utf-8') as log:
      log.write(f'{os.getpid()} {len(waves)}\n')
    time.sleep(0.05)  # so that no worker is done before another begins
    return super().encode_batch(waves)


class Impostor(stand_in.StandIn):
  """Says that it is another tokenizer than the one that was asked for."""

  identity = {'sha256': 'e' * 64}


class Times:
  """An aligner: a word begins at a time that its wave decides."""

  def __init__(self, folder, step):
    self._beside, self._step = pathlib.Path(folder).parent, step

  def words(self, waves, texts, rows):
    with open(self._beside / 'aligned', 'a', encoding='utf-8') as log:
      log.write(f'{os.getpid()} {len(waves)} {rows} {self._step}\n')
    return [
      'nothing is said.'
      if 'x' in text
      else tuple(
        (word, place / 10, place / 10 + abs(float(wave[0])))
        for place, word in enumerate(text.split())
      )
      for wave, text in zip(waves, texts)
    ]


def doom(tokenizer, *victims):
  """A kill for each victim: a process, or '' for the worker itself."""
  folder = pathlib.Path(tokenizer).parent / 'deaths'
  folder.mkdir(exist_ok=True)
  for number, victim in enumerate(victims):
    (folder / str(number)).write_text(str(victim))


def encoded(tokenizer):
  """(process, utterances) of each batch that was encoded."""
  text = (pathlib.Path(tokenizer).parent / 'encoded').read_text()
  return [tuple(map(int, line.split())) for line in text.splitlines()]
