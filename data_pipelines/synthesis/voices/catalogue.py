"""The voices that a user names, and what speaks where one is not there."""

from typing import Collection, Sequence

from data_pipelines.synthesis.voices import kokoro
from data_pipelines.synthesis.voices import piper
from data_pipelines.synthesis.voices import runtime
from data_pipelines.synthesis.voices import sources
from data_pipelines.synthesis.voices import voice as voice_lib
from step_audio_jax import errors


def load(named: str, flag: str = '--voice') -> voice_lib.Voice:
  """One voice (`sources` and `own` say how voices are named).

  Args:
    named: By a user.
    flag: What named it, for messages.

  Raises:
    UserError: There is none, its runtime is not installed, or its files are
      wrong.
  """
  if named.startswith('run:'):
    # Networks of ours, and what runs them, are loaded for nobody else.
    from data_pipelines.synthesis.voices import own

    return own.load(named, flag)
  source = sources.find(named, flag)
  found = (kokoro if source.styles else piper).load(source)
  runtime.require()
  return found


def load_all(
  required: Sequence[str],
  optional: Sequence[str] = (),
  languages: Collection[str] | None = None,
) -> tuple[list[voice_lib.Voice], list[str]]:
  """Voices, and a sentence for each optional one that is not there.

  Args:
    required: Named by a user.
    optional: Spoken with where they are installed.
    languages: Subtags of what is to be spoken; None takes any.

  Raises:
    UserError: A required voice is missing or speaks no such language, or any is
      wrong.
  """
  voices, notes = [], []
  for named in required:
    voices.append(load(named))
    if lack := _lack(voices[-1], languages):
      raise errors.UserError(f'--voice: {named}: {lack}.')
  for named in optional:
    try:
      voice = load(named, '--optional_voice')
      if lack := _lack(voice, languages):
        notes.append(f'{named} is not used, espeak-ng speaks instead: {lack}.')
      else:
        voices.append(voice)
    except (runtime.Missing, sources.Missing) as error:
      reason = str(error).rstrip('.')
      notes.append(f'{named} is not used, espeak-ng speaks instead: {reason}.')
  return voices, notes


def _lack(
  voice: voice_lib.Voice, languages: Collection[str] | None
) -> str | None:
  """Why a voice would say nothing, if so."""
  if languages is None or set(voice.languages) & set(languages):
    return None
  wanted = ' or '.join(sorted(languages)) or 'no speech at all'
  return f'it speaks {", ".join(voice.languages)}, the corpus needs {wanted}'
