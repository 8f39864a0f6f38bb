"""Parts that were scored, put together as the scores of one step."""

from typing import Any, Mapping, Sequence

from step_audio_jax.evaluation.families import family as family_lib
from step_audio_jax.evaluation.metrics import scoring


def to_json(
  about: Mapping[str, Any],
  families: Sequence[family_lib.Family],
  parts: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
  """The scores of a step, as `<run>/evaluation/<step>.json` has them.

  Args:
    about: run, step, settings, not_computed (figure → reason).
    families: Whose parts they are; each says what it shows of its own.
    parts: What `parts.Store` holds of it.

  Returns:
    `about` with the sections of all families (`asr`, `tts`, `sound` and what a
    stranger understands by split, `perplexity` by source and `all` of them,
    `captions`, …); `judges`, who judged; `metrics`, the figures alone,
    with their `units` ('%' of fractions); `counts`, how many of how many each
    of them holds; `left_out`, why the model cannot be scored on a part;
    `parts`, the conditions that tell what can be compared.
  """
  tasks = [task for family in families for task in family.tasks]
  parts = [part for part in parts if part['task'] in tasks]
  parts.sort(key=lambda part: tasks.index(part['task']))
  found: dict[str, Any] = {
    **about,
    'convention': scoring.CONVENTION,
    'convention_version': scoring.VERSION,
    'model': parts[0]['model'] if parts else None,
    'parts': [
      {name: part[name] for name in ('task', 'name', 'condition', 'rules')}
      for part in parts
    ],
  }
  one = show(families, parts)
  found |= {
    'counts': dict(one.counts),
    'left_out': {
      f'{part["task"]}/{part["name"]}': part['left_out']
      for part in parts
      if part['left_out']
    },
    'judges': list(one.judges),
    **one.sections,
  }
  # What was heard before and still holds is there.
  there = {*one.sections, *one.figures}
  found['not_computed'] = {
    name: reason
    for name, reason in (
      *about.get('not_computed', {}).items(),
      *one.not_computed.items(),
    )
    if name not in there
  }
  found['metrics'] = {
    name: figure.value
    for name, figure in one.figures.items()
    if figure.value is not None
  }
  found['units'] = {name: one.figures[name].unit for name in found['metrics']}
  found['seconds'] = round(sum(part['seconds'] for part in parts), 2)
  return found


def show(
  families: Sequence[family_lib.Family], parts: Sequence[Mapping[str, Any]]
) -> family_lib.Shown:
  """What all families show of the parts of a step, put together."""
  shown = [
    family.show([part for part in parts if part['task'] in family.tasks])
    for family in families
  ]

  def joined(name):
    return {k: v for one in shown for k, v in getattr(one, name).items()}

  return family_lib.Shown(
    joined('sections'),
    joined('figures'),
    joined('counts'),
    list(dict.fromkeys(judge for one in shown for judge in one.judges)),
    joined('not_computed'),
  )
