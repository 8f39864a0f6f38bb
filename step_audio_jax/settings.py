"""Which settings of a run may be another when it is resumed.

A field that changes how fast, how long or on what a run computes, and not what
it computes, says so where it is declared:

    remat: str = settings.free('none')

All others are fixed for the life of a run; `training.resume` compares them.
"""

import dataclasses
from typing import Any

_KEY = 'resume'


def free(default: Any = dataclasses.MISSING) -> Any:
  """A field of a dataclass that a resumed run may change."""
  return dataclasses.field(default=default, metadata={_KEY: 'free'})


def is_free(field: dataclasses.Field) -> bool:
  """Whether a resumed run may change this field."""
  return field.metadata.get(_KEY) == 'free'
