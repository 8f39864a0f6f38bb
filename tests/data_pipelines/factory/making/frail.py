"""A voice whose process dies in the middle of its work, as often as told."""

import dataclasses
import os
import pathlib
import signal

from data_pipelines.synthesis.voices import espeak


@dataclasses.dataclass(frozen=True)
class Frail(espeak.Espeak):
  """espeak-ng, in processes of which some are killed.

  Attributes:
    folder: `spoken` in it has a line for each text that was said, `deaths` a
      file for each process that is still to be killed.
    after: How many texts a process says before.
  """

  folder: str = ''
  after: int = 3

  def speak(self, text, **settings):
    log = pathlib.Path(self.folder) / 'spoken'
    mine = f'{os.getpid()} '
    if log.exists() and log.read_text().count(mine) >= self.after:
      for death in sorted((pathlib.Path(self.folder) / 'deaths').glob('*')):
        try:
          death.unlink()
        except FileNotFoundError:  # another process's
          continue
        os.kill(os.getpid(), signal.SIGKILL)
    with open(log, 'a', encoding='utf-8') as handle:
      handle.write(f'{mine}{text}\n')
    return super().speak(text, **settings)


def doom(folder, deaths):
  """So many processes are to be killed."""
  (folder / 'deaths').mkdir()
  for number in range(deaths):
    (folder / 'deaths' / str(number)).touch()


def processes(folder):
  """Those that spoke."""
  lines = (folder / 'spoken').read_text().splitlines()
  return {int(line.partition(' ')[0]) for line in lines}
