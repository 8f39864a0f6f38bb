"""`make`: texts → speech with provenance, judged by gates.

    OUTPUT/manifest.jsonl     what passed
    OUTPUT/provenance.jsonl   how each was made
    OUTPUT/quarantine.jsonl   what did not pass, and why
    OUTPUT/wav/*.wav          16 kHz, 16 bit
    OUTPUT/making.json        settings and counts; written last
    OUTPUT/answers/           what the recipe's writers answered

The work is cut into shards, which this process, several here, or a Beam runner
make. Everything follows from the recipe, the texts and the voices, whoever
makes it and however often it was killed.
"""

import contextlib
import os
import sys
from typing import Any, Iterator, Mapping, Sequence

from absl import flags

from data_pipelines import beam
from data_pipelines.factory import provenance
from data_pipelines.factory.gates import base
from data_pipelines.factory.gates import line as line_lib
from data_pipelines.factory.leaks import held_out as held_out_lib
from data_pipelines.factory.making import edits
from data_pipelines.factory.making import items as items_lib
from data_pipelines.factory.making import shards as shards_lib
from data_pipelines.factory.texts import source as source_lib
from data_pipelines.factory.texts import writing
from data_pipelines.synthesis import speech
from data_pipelines.synthesis.voices import catalogue
from data_pipelines.synthesis.voices import espeak
from data_pipelines.synthesis.voices import speakers
from data_pipelines.synthesis.voices import voice as voice_lib
from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax.audio.augmentation import chain as chain_lib
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.endpoints import answers as answers_lib
from step_audio_jax.runtimes import processes as processes_lib
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

STAMP = 'making.json'
ANSWERS = 'answers'  # of the recipe's writers
VERSION = 1  # part of every digest; raise it when the output changes
SHARD_SIZE = 128  # a multiple of what recognisers are given at once
_POLL_SECONDS = 2.0


def make(
  output: str | os.PathLike,
  planned: items_lib.Planned,
  recipe: items_lib.Recipe,
  voices: Sequence[voice_lib.Voice],
  *,
  shard_size: int = SHARD_SIZE,
  processes: int = 1,
  runner: str = 'local',
  beam_options: Sequence[str] = (),
) -> dict[str, Any]:
  """Makes a corpus, or what is missing of it.

  Args:
    output: Corpus folder.
    planned: Of `items.plan_items`.
    recipe: The same that it was planned with.
    voices: The same.
    shard_size: Items of a shard.
    processes: How many work here, where the runner is `local`.
    runner: `local` or a Beam runner.
    beam_options: More options for Beam, as flags.

  Returns:
    What `making.json` says: settings, counts, seconds.

  Raises:
    UserError: `output` holds another corpus, or nothing passed.
  """
  output = files.check_writable(output, '--output', folder=True)
  digest = digests.of_value(
    [
      *(VERSION, recipe.settings, chain_lib.made_with()),
      *([voice.sha256 for voice in voices], planned.refused),
      [item.to_json() for item in planned.items],
    ]
  )
  stamp = output / STAMP
  cut = digests.of_value([digest, shard_size])
  parts = output / f'.parts-{cut[:16]}'
  if files.exists(stamp):
    found = files.read_json(stamp)
    if found.get('digest') != digest:
      raise _other(stamp)
    for left in list(files.glob(output, '.parts-*')):
      files.remove_tree(left)
    return found
  if files.exists(output / manifest.NAME) and not files.exists(parts):
    raise errors.UserError(
      f'{output}: holds a manifest that `make` did not write; name another '
      '--output or remove the folder.'
    )
  for other in list(files.glob(output, '.parts-*')):
    if other != parts:  # of a job with other settings, whose names are ours
      files.remove_tree(output / 'wav')
      files.remove_tree(other)
  files.make_folder(parts)
  shards = _shards(output, parts, planned, recipe, voices, shard_size, cut)
  _work(shards, parts, processes, runner, beam_options)
  for folder in (output, output / 'wav'):
    for path in list(files.glob(folder, '.*.tmp')):  # of who was killed
      files.remove(path)
  before = {items_lib.LEAK: base.PASSED} if planned.is_checked else {}
  before[items_lib.VOICE] = base.PASSED
  met = {one['gate'] for one in planned.refused}
  met |= {items_lib.WRITER} if recipe.writers else set()
  written = [gate for gate in (items_lib.TEXT, items_lib.WRITER) if gate in met]
  names = (*written, *before, *(gate.name for gate in recipe.gates.gates))
  if any(recipe.grades.edits()):
    names = (*names, items_lib.EDIT)
  counts = line_lib.Counts(names)
  told = _told(shards, recipe.grades)
  quarantine = _quarantine(planned, told, before, counts)
  files.write_jsonl(output / provenance.QUARANTINE, quarantine)
  if not counts.kept:
    first = next(files.read_jsonl(output / provenance.QUARANTINE))
    raise errors.UserError(
      f'{output}: none of {counts.rejected} items passed; the first, '
      f'{first["id"]}: {first["reason"]}'
    )
  job = provenance.Job(
    seed=recipe.seed,
    settings=recipe.settings,
    voices={voice.name: voice_lib.record(voice) for voice in voices},
    writers=planned.writers,
    counts=counts.result(),
    made_with=chain_lib.made_with(),
  )
  provenance.write(output, job, _kept(_told(shards, recipe.grades)))
  seconds = sum(one.duration for one in manifest.stream(output))
  result = {
    'digest': digest,
    'settings': recipe.settings,
    'seconds': round(seconds, 3),
    **counts.result(),
  }
  files.write_json(stamp, result)
  files.remove_tree(parts)
  return files.read_json(stamp)  # as whoever comes later gets it


def _other(stamp) -> errors.UserError:
  return errors.UserError(
    f'{stamp}: made of other texts, voices or settings; name another --output '
    'or remove the folder.'
  )


def _check_settings(output, recipe) -> None:
  stamp = files.path(output) / STAMP
  if files.exists(stamp):
    wanted = digests.of_value(recipe.settings)
    if digests.of_value(files.read_json(stamp).get('settings')) != wanted:
      raise _other(stamp)


def _shards(output, parts, planned, recipe, voices, size, cut):
  items = planned.items
  performers = speech.performers_of(speakers.cast(voices), voices)
  starts = range(0, len(items), size)
  return [
    shards_lib.Shard(
      output=str(output),
      parts=str(parts),
      number=number,
      count=len(starts),
      first=start,
      items=tuple(items[start : start + size]),
      recipe=recipe,
      performers=performers,
      digest=digests.of_value([cut, number]),
    )
    for number, start in enumerate(starts)
  ]


def _work(shards, parts, processes, runner, beam_options) -> None:
  left = [shard for shard in shards if not shard.is_done()]
  total = sum(len(shard.items) for shard in shards)
  done = total - sum(len(shard.items) for shard in left)
  if not left:
    return
  with progress.bar(
    label='make', total=total, initial=done, unit='item'
  ) as bar:
    if runner != 'local':
      with _watched(left, bar):
        beam.map_shards(
          shards_lib.make_shard,
          left,
          output=parts,
          runner=runner,
          options=beam_options,
        )
      return
    jobs = [(shard,) for shard in left]
    for count in processes_lib.spread(shards_lib.make_shard, jobs, processes):
      bar.update(count)


@contextlib.contextmanager
def _watched(shards, bar) -> Iterator[None]:
  """Shows what workers elsewhere make, by the shards that stand."""
  waiting = list(shards)

  def look():
    for shard in [one for one in waiting if one.is_done()]:
      bar.update(len(shard.items))
      waiting.remove(shard)

  with progress.watching(look, _POLL_SECONDS):
    yield
  look()


def _told(shards, grades) -> Iterator[dict[str, Any]]:
  """What became of everything, in the manifest's order."""
  made = (
    pair
    for shard in shards
    for pair in zip(shard.items, shard.lines(), strict=True)
  )
  return edits.interleaved(made, grades)


def _quarantine(planned, told, before, counts) -> Iterator[dict[str, Any]]:
  """Lines of the quarantine; counts everything on the way."""
  for one in planned.refused:
    counts.add_outcomes({one['gate']: one['outcome']}, False)
    yield one
  for one in told:
    refused, outcomes = one.get('quarantine'), one['outcomes']
    if items_lib.EDIT not in outcomes:
      outcomes = {**before, **outcomes}
    counts.add_outcomes(outcomes, refused is None)
    if refused is not None:
      yield refused


def _kept(told):
  for one in told:
    if 'utterance' in one:
      yield (
        manifest.Utterance.from_json(one['utterance']),
        provenance.Origin(**one['origin']),
      )


def _define(fv: flags.FlagValues) -> None:
  flags.DEFINE_multi_string(
    'texts',
    None,
    'A corpus whose training texts are said, or given to the writers of the '
    'recipe: its folder, of any kind.',
    flag_values=fv,
  )
  flags.DEFINE_string('output', None, 'Corpus folder.', flag_values=fv)
  flags.mark_flag_as_required('output', flag_values=fv)
  flags.DEFINE_string(
    'answers',
    None,
    'Folder of what the writers of the recipe answered, and will; by default '
    'OUTPUT/answers.',
    flag_values=fv,
  )
  flags.DEFINE_multi_string(
    'voice',
    [],
    'A voice, as of `synthesize`; by default espeak-ng.',
    flag_values=fv,
  )
  flags.DEFINE_multi_string(
    'held_out',
    [],
    'A corpus of whose test splits nothing is made, by text and by speaker.',
    flag_values=fv,
  )
  flags.DEFINE_integer(
    'most', None, 'Texts of the corpora, at most.', flag_values=fv
  )
  flags.DEFINE_integer(
    'shard_size', SHARD_SIZE, 'Items per shard.', lower_bound=1, flag_values=fv
  )
  flags.DEFINE_integer('processes', 2, 'Processes.', flag_values=fv)
  beam.define_flags(fv)


def _main(fv: flags.FlagValues) -> Mapping[str, Any]:
  recipe = cli.configure(fv, items_lib.Recipe)()
  files.check_writable(fv.output, '--output', folder=True)
  voices, notes = catalogue.load_all(fv.voice)
  for note in notes:
    print(f'note: {note}', file=sys.stderr)
  voices = voices or [espeak.Espeak()]
  held_out = None
  if fv.held_out:
    held_out = held_out_lib.HeldOut(fv.held_out, recipe.leaks)
  texts = source_lib.Corpora(fv.texts or (), fv.most)
  if recipe.writers:
    answers = fv.answers or files.path(fv.output) / ANSWERS
    kept = answers_lib.Answers(answers)
    if fv.dry_run:
      return _would_ask(texts, recipe, fv.output)
    _check_settings(fv.output, recipe)  # before anybody is asked for nothing
    texts = writing.Written(texts, recipe.writers, kept, held_out)
  elif not fv.texts:
    raise errors.UserError(
      '--texts: found none, expected a corpus, or a recipe with writers that '
      'need no texts.'
    )
  planned = items_lib.plan_items(texts, recipe, voices, held_out)
  told = f'{len(planned.items)} items, {len(planned.refused)} refused before'
  if fv.dry_run:
    print(f'would make {told}, in {fv.output}')
    return {'dry_run': True, 'items': len(planned.items)}
  result = make(
    fv.output,
    planned,
    recipe,
    voices,
    shard_size=fv.shard_size,
    processes=fv.processes,
    runner=fv.runner,
    beam_options=fv.beam_option,
  )
  print(
    f'{fv.output}: {result["kept"]} kept, {result["rejected"]} in quarantine, '
    f'{result["seconds"]} s; {result["gates"]}'
  )
  return {key: value for key, value in result.items() if key != 'settings'}


def _would_ask(texts, recipe, output) -> Mapping[str, Any]:
  """Of a job with writers: how many questions, of whom; nobody is asked."""
  given = sum(1 for _ in texts.read())
  asked = {one.name: one.size(given) for one in recipe.writers}
  for writer in recipe.writers:
    print(f'would ask {writer.model.name} {asked[writer.name]} questions')
  print(f'would make speech of the answers and {given} texts, in {output}')
  return {'dry_run': True, 'texts': given, 'questions': asked}


DOOR = cli.Door(
  summary="""Makes speech of texts: voices, changes, gates, provenance.

    python -m data_pipelines make --texts=data/quickstart/text --most=100 \\
      --output=data/made --held_out=data/quickstart/speech

What it goes through and must pass is a recipe of gin: docs/data_engine.md.
""",
  main=_main,
  define=_define,
  texts=('beam_option', 'voice'),
)
