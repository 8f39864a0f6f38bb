"""The one table of what each training stage is fed.

Published (arXiv 2502.11946, section 4.2): audio : text : image is 2:1:1,
2:1:1 and 4:3:3; inside audio, stage 1 is continuation only, stage 2 continues
and interleaves 1:1, stage 3 takes continuation, interleaved, ASR and TTS
1:1:1:1. Stage 1 runs for 1.2 T tokens, stage 2 for 0.8 T.

This project's own are the text-only phase that gives the backbone, the equal
split of the task SFT between ASR and TTS, and the length of stage 3: what the
first two leave of the 3.3 T tokens that the corpus has. Of the SFT on questions
the report names the tasks (`chats.views`) and says that much of it is TQTA; the
shares are ours.

SeqIO mixtures and the training schedule are both made from `STAGES`.
"""

from fractions import Fraction
import types
from typing import Mapping, Sequence

from step_audio_jax import errors
from step_audio_jax.corpus import schedule


def _ratios(
  audio: int, text: int, image: int, inside_audio: Mapping[str, int]
) -> Mapping[str, Fraction]:
  """Shares of every source of a stage; they sum to one."""
  whole = audio + text + image
  parts = sum(inside_audio.values())
  shares = {
    name: Fraction(audio, whole) * Fraction(part, parts)
    for name, part in inside_audio.items()
  }
  shares['text'] = Fraction(text, whole)
  shares['image_text'] = Fraction(image, whole)
  return types.MappingProxyType(shares)


STAGES: Mapping[str, Mapping[str, Fraction]] = types.MappingProxyType(
  {
    'text': types.MappingProxyType({'text': Fraction(1)}),
    'stage1': _ratios(2, 1, 1, {'continuation': 1}),
    'stage2': _ratios(2, 1, 1, {'continuation': 1, 'interleaved': 1}),
    'stage3': _ratios(
      4, 3, 3, {'continuation': 1, 'interleaved': 1, 'asr': 1, 'tts': 1}
    ),
    'sft': types.MappingProxyType(
      {'sft_asr': Fraction(1, 2), 'sft_tts': Fraction(1, 2)}
    ),
    'sft_tts': types.MappingProxyType({'tts_turns': Fraction(1)}),
    'sft_edit': types.MappingProxyType({'audio_edit': Fraction(1)}),
    'sft_aqta': types.MappingProxyType(
      {
        'tqta': Fraction(4, 10),
        'aqta': Fraction(2, 10),
        **dict.fromkeys(
          ('taqta', 'aqtqta', 'aqaa', 'sft_asr'), Fraction(1, 10)
        ),
      }
    ),
    # Of reward models, in this order (5.2.3); DPO and KTO take the same.
    'preference_tqta': types.MappingProxyType({'preference_tqta': Fraction(1)}),
    'preference_aqta': types.MappingProxyType({'preference_aqta': Fraction(1)}),
  }
)

# Those that a corpus without chats, speakers or preferences has no rows for.
OPTIONAL = frozenset(
  {'sft_tts', 'sft_edit', 'sft_aqta', 'preference_tqta', 'preference_aqta'}
)

TOKEN_BUDGETS: Mapping[str, float] = types.MappingProxyType(
  {'stage1': 1.2e12, 'stage2': 0.8e12, 'stage3': 1.3e12}
)
PUBLISHED_BUDGETS = frozenset({'stage1', 'stage2'})


Override = Mapping[str, schedule.Weight]


def ratios(
  stage: str,
  override: Override | Sequence[tuple[int, Override]] | None = None,
) -> dict[str, Fraction] | tuple[tuple[int, dict[str, Fraction]], ...]:
  """Shares of a stage; for gin files.

  Args:
    stage: A key of `STAGES`.
    override: Source → share, replacing the table's; for experiments only. Or
      (step, source → share) for each phase of a curriculum: from that step
      on, the table with these shares in it.

  Returns:
    Source → share, or (step, source → share) for each phase.

  Raises:
    UserError: There is no such stage, or a share is no number.
  """
  if stage not in STAGES:
    raise errors.UserError(
      f'stage {stage!r} is not in the table; expected one of '
      f'{", ".join(STAGES)}.'
    )
  if schedule.is_curriculum(override):
    return tuple((step, _replaced(stage, part)) for step, part in override)
  return _replaced(stage, override or {})


def _replaced(stage: str, override: Override) -> dict[str, Fraction]:
  if not isinstance(override, Mapping):
    raise errors.UserError(
      f'ratios: found {override!r}, expected {{source: share}}, or (step, '
      '{source: share}) for each phase.'
    )
  shares = dict(STAGES[stage])
  for name, value in override.items():
    shares[name] = schedule.weight(name, value)
  return shares
