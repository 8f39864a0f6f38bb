"""Flags that name models, and what they name."""

from typing import Any

from absl import flags

from step_audio_jax.commands import cli
from step_audio_jax.commands import compiled
from step_audio_jax.decoder.doors import speak

MODEL, TOKENIZER, DECODER = speak.MODEL, speak.TOKENIZER, speak.DECODER


def define(fv: flags.FlagValues, *, speaks: bool) -> None:
  """Adds flags for the folders of models.

  Args:
    fv: Has them.
    speaks: Whether there is a decoder among them.
  """
  kinds = {'model': MODEL, 'tokenizer': TOKENIZER}
  if speaks:
    kinds['decoder'] = DECODER
  told = {
    'model': 'Run of a speech-text model',
    'tokenizer': 'Speech tokenizer',
    'decoder': 'Speech decoder',
  }
  for name, (variable, default) in kinds.items():
    flags.DEFINE_string(
      name, None, f'{told[name]}; ${variable}, {default}.', flag_values=fv
    )
  flags.DEFINE_integer(
    'step', None, 'Which checkpoint; by default the newest.', flag_values=fv
  )


def of(
  fv: flags.FlagValues, door: str, *, hears: bool, speaks: bool
) -> dict[str, Any]:
  """The folders that flags name, as `load.Config` calls them.

  Args:
    fv: Has the flags of `define`.
    door: Who asks, for messages.
    hears: Whether a tokenizer is needed.
    speaks: Whether a decoder is.

  Raises:
    UserError: One is named nowhere.
  """

  def folder(name, where):
    return cli.default_folder(name, fv[name].value, *where, door)

  return {
    'model': folder('model', MODEL),
    'step': fv.step,
    'tokenizer': folder('tokenizer', TOKENIZER) if hears else None,
    'decoder': folder('decoder', DECODER) if speaks else None,
  }


def load(given: dict[str, Any], **changes: Any) -> Any:
  """Loads them, for one conversation.

  Args:
    given: Of `of`.
    **changes: More of `load.Config`.

  Raises:
    UserError: They are missing, or do not belong together.
  """
  from step_audio_jax.dialogue.models import load as load_lib
  from step_audio_jax.generation.batching import requests

  compiled.keep()
  settings = requests.Settings(slots=4)
  return load_lib.load(load_lib.Config(**given, engine=settings, **changes))
