"""`quiz`: a corpus that asks aloud what an open language model knows.

    OUTPUT/manifest.jsonl, wav/*.wav (16 kHz, 16 bit)

Sentences that are transcribed, and chats: a question, spoken or written, and
its answer in writing. A third of the subjects is only ever heard in sentences;
questions about them are asked in the split `test_heard` alone, and about the
others in `test_asked`, both by a voice that nothing else is said with but the
sentences of `test_unseen_voice`. Everything follows from the seed. A finished
corpus is recognised by `corpus.json`; a job that was killed continues behind
its last finished part.
"""

import dataclasses
import os
import sys
from typing import Any, Mapping, Sequence

from absl import flags

from data_pipelines.synthesis import speech
from data_pipelines.synthesis import synthesize
from data_pipelines.synthesis.quiz import plan as plan_lib
from data_pipelines.synthesis.voices import catalogue
from data_pipelines.synthesis.voices import espeak
from data_pipelines.synthesis.voices import speakers
from data_pipelines.synthesis.voices import voice as voice_lib
from step_audio_jax import errors
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files

_STAMP = 'corpus.json'


def make(
  output: str | os.PathLike,
  config: plan_lib.Config,
  *,
  voices: Sequence[voice_lib.Voice] = (),
  processes: int = 2,
) -> dict[str, Any]:
  """Makes the corpus if it is not there yet.

  Args:
    output: Its folder.
    config: What to make; its speakers are those of `voices`.
    voices: Those that speak in place of espeak-ng.
    processes: How many speak at once.

  Returns:
    What `corpus.json` holds.

  Raises:
    UserError: `output` holds another corpus.
  """
  output = files.check_writable(output, '--output', folder=True)
  config = dataclasses.replace(config, speakers=speakers.cast(voices))
  stamp = output / _STAMP
  if files.exists(stamp):
    found = files.read_json(stamp)
    if found.get('fingerprint') != config.fingerprint:
      raise errors.UserError(
        f'{stamp}: made with other settings or voices; name another --output '
        'or remove the folder.'
      )
    return found
  parts = output / f'.parts-{config.fingerprint}'
  if files.exists(output / manifest.NAME) and not files.exists(parts):
    raise errors.UserError(
      f'{output}: holds a manifest that quiz did not finish; name another '
      '--output or remove the folder.'
    )
  planned = plan_lib.plan(config)
  synthesize.claim(parts)
  spoken = speech.make_lines(
    output,
    parts,
    planned.lines,
    speech.performers_of(config.speakers, voices),
    processes,
    config.part,
  )
  manifest.write(output, [*spoken, *planned.chats])
  mine = voices or (espeak.Espeak(),)
  found = {
    'fingerprint': config.fingerprint,
    'settings': config.settings,
    **synthesize.statistics(spoken),
    'chats': len(planned.chats),
    'voices': {voice.name: voice_lib.record(voice) for voice in mine},
  }
  files.write_json(stamp, found)
  files.remove_tree(parts)
  return found


def _define(fv: flags.FlagValues) -> None:
  default = plan_lib.Config()
  flags.DEFINE_string('output', None, 'Folder to write.', flag_values=fv)
  flags.mark_flag_as_required('output', flag_values=fv)
  for name, help_text in (
    ('seed', 'Everything follows from it.'),
    ('sentences', 'That are only transcribed, in train.'),
    ('test', 'The same in dev, in test and by the unseen voice.'),
    ('times', 'How often each question that is trained is said.'),
    ('follow_ups', 'Chats of train that ask a second time.'),
    ('silences', 'Chats of train in which nobody speaks.'),
  ):
    flags.DEFINE_integer(
      name, getattr(default, name), help_text, flag_values=fv
    )
  flags.DEFINE_integer('processes', 2, 'Processes.', flag_values=fv)
  flags.DEFINE_multi_string(
    'voice',
    [],
    'A voice that speaks in place of espeak-ng, as of `synthesize`.',
    flag_values=fv,
  )


def _main(fv: flags.FlagValues) -> Mapping[str, Any]:
  names = ('seed', 'sentences', 'test', 'times', 'follow_ups', 'silences')
  config = plan_lib.Config(**{name: getattr(fv, name) for name in names})
  files.check_writable(fv.output, '--output', folder=True)
  voices, notes = catalogue.load_all(fv.voice, (), ('en',))
  for note in notes:
    print(f'note: {note}', file=sys.stderr)
  if fv.dry_run:
    found = plan_lib.plan(config)
    print(
      f'would say {len(found.lines)} sentences and make {len(found.chats)} '
      f'chats in {fv.output}'
    )
    return {'dry_run': True, 'utterances': len(found.lines)}
  result = make(fv.output, config, voices=voices, processes=fv.processes)
  print(
    f'{fv.output}: {result["utterances"]} utterances and {result["chats"]} '
    f'chats, {result["splits"]}'
  )
  return {key: value for key, value in result.items() if key != 'settings'}


DOOR = cli.Door(
  summary="""Makes a corpus of questions that an open language model can answer.

    python -m data_pipelines quiz --output=data/quiz --voice=en_US-joe.onnx
""",
  main=_main,
  define=_define,
  uses_gin=False,
  texts=('voice',),
)
