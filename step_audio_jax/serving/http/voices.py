"""What a client says of how something is spoken → what a mouth is told."""

from typing import Any

from step_audio_jax.dialogue import services
from step_audio_jax.serving.guards import faults

# Names that every client of OpenAI's has: the model's own voice answers to
# them, unless it has one of that name.
USUAL = (
  *('alloy', 'ash', 'ballad', 'coral', 'echo', 'fable', 'onyx', 'nova'),
  *('sage', 'shimmer', 'verse', 'marin', 'cedar'),
)


def mouth_of(models: services.Models) -> services.Mouth:
  """The mouth.

  Raises:
    Fault: There is none.
  """
  if models.mouth is None:
    raise faults.Fault(
      404,
      f'The model {models.name!r} does not speak: this server has no speech '
      'decoder.',
      param='model',
      code='model_not_found',
    )
  return models.mouth


def voice_of(mouth: services.Mouth, given: Any, field: str) -> str | None:
  """The voice that is meant; None is the mouth's own.

  Raises:
    Fault: There is no such voice.
  """
  name = given['id'] if isinstance(given, dict) else given
  # A name out of a list, and never a path.
  if name in mouth.voices:
    return name
  if name in USUAL:
    return None
  raise faults.invalid(
    f'{field}: found {name!r:.60}, expected one of {", ".join(mouth.voices)}.',
    field,
    'voice_not_found',
  )
