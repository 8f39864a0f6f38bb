"""The voices that a user names, and what speaks where one is not there."""

from typing import Sequence

from data_pipelines.synthesis.voices import kokoro
from data_pipelines.synthesis.voices import piper
from data_pipelines.synthesis.voices import runtime
from data_pipelines.synthesis.voices import sources
from data_pipelines.synthesis.voices import voice as voice_lib


def load(named: str) -> voice_lib.Voice:
  """One voice (`sources` says how voices are named).

  Raises:
    UserError: There is none, its runtime is not installed, or its files are
      wrong.
  """
  source = sources.find(named)
  found = (kokoro if source.styles else piper).load(source)
  runtime.require()
  return found


def load_all(
  required: Sequence[str], optional: Sequence[str] = ()
) -> tuple[list[voice_lib.Voice], list[str]]:
  """Voices, and a sentence for each optional one that is not there.

  Args:
    required: Named by a user.
    optional: Spoken with where they are installed.

  Raises:
    UserError: A required voice is missing, or any is wrong.
  """
  voices, notes = [load(named) for named in required], []
  for named in optional:
    try:
      voices.append(load(named))
    except (runtime.Missing, sources.Missing) as error:
      reason = str(error).rstrip('.')
      notes.append(f'{named} is not used, espeak-ng speaks instead: {reason}.')
  return voices, notes
