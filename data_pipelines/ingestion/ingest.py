"""`ingest`: a corpus in any known format → a corpus with a manifest.

    SOURCE                   in one of the formats of `data_pipelines.readers`

    OUTPUT/manifest.jsonl    the corpus
    OUTPUT/audio/…           links to the recordings, or copies; images/…
    OUTPUT/quarantine.jsonl  what was left out, and why
    OUTPUT/notes.jsonl       what is kept and odd, and how; if there is any
    OUTPUT/stats.json        read = kept + quarantined; figures of the corpus

Items stream from the reader to the files: memory holds 8-byte digests of
ids, names and texts. Items that name no split are shared out by a hash of
their id, so that the same line is always in the same split.
"""

import contextlib
import json
import os
import pathlib
import sys
from typing import Any, Iterator, Mapping

from absl import flags

from data_pipelines import readers
from data_pipelines.ingestion import admission
from data_pipelines.ingestion import intake
from data_pipelines.ingestion import looks
from data_pipelines.ingestion import staging
from data_pipelines.readers.common import base
from data_pipelines.readers.common import channels
from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files


def ingest(
  source: str | os.PathLike,
  output: str | os.PathLike,
  *,
  format: str = 'folder',
  options: base.Options | None = None,
  rules: admission.Rules | None = None,
  copy: bool = False,
) -> dict[str, Any]:
  """Makes a corpus with a manifest of a corpus in another format.

  Args:
    source: Folder or file, as the format wants it.
    output: Corpus folder.
    format: A name of `readers.READERS`, or `auto`.
    options: For the reader.
    rules: What is kept.
    copy: Copy the recordings; otherwise the corpus holds links to them.

  Returns:
    What `stats.json` says: counts (read = kept + quarantined) and figures.

  Raises:
    UserError: The source is not of that format, nothing of it can be used,
      or the output cannot be written. The output is as it was before.
  """
  source = files.path(source, '--source')
  output = files.check_writable(output, '--output', folder=True)
  options, rules = options or base.Options(), rules or admission.Rules()
  found = _opened(source, format, options, rules)
  far = _far(output, source, options)
  with (
    _one_sentence(output),
    staging.staged_folder(output, source) as part,
    files.background(far) as place,
  ):

    def put(content: pathlib.Path | bytes, target: str) -> None:
      if files.is_address(far):
        _check_is_there(content, target)
      try:
        place(files.put, content, part / target, copy)
      except OSError as error:
        if files.is_address(far):  # of some content before
          raise intake.OutputError(f'{error}') from error
        raise

    run = intake.Intake(put, rules)
    with (
      files.atomic(part / manifest.NAME, 'w') as kept,
      files.atomic(part / staging.QUARANTINE, 'w') as quarantine,
      files.atomic(part / staging.NOTES, 'w') as odd,
    ):
      for line in run.lines(found, quarantine, odd):
        kept.write(json.dumps(line, ensure_ascii=False) + '\n')
    if not run.kept:
      raise errors.UserError(
        f'{source}: none of {run.read} lines can be used; the first: '
        f'{run.first}'
      )
    result = run.result()
    _check_held_out(rules, result)
    files.write_json(part / staging.STATS, result)
    return result


def preview(
  source: str | os.PathLike,
  *,
  format: str = 'folder',
  options: base.Options | None = None,
  rules: admission.Rules | None = None,
) -> intake.Intake:
  """What `ingest` would keep; nothing is written.

  Raises:
    UserError: The source is not of that format.
  """
  source = files.path(source)
  options, rules = options or base.Options(), rules or admission.Rules()
  run = intake.Intake(_check_is_there, rules)
  found = _opened(source, format, options, rules)
  with (
    _one_sentence(source),
    open(os.devnull, 'w', encoding='utf-8') as nowhere,
  ):
    for _ in run.lines(found, nowhere):
      pass
  return run


def _check_held_out(rules: admission.Rules, result) -> None:
  """A name that nobody has would hold out nobody."""
  found = result.get('speakers', [])
  for name in rules.held_out_speakers:
    if name not in found:
      raise errors.UserError(
        f'--held_out_speaker: found {name!r}, expected a speaker of the corpus '
        f'({", ".join(found[:10]) or "it names none"}).'
      )


@contextlib.contextmanager
def _one_sentence(where: pathlib.Path) -> Iterator[None]:
  try:
    yield
  except OSError as error:
    raise errors.UserError(
      f'{error.filename or where}: {error.strerror or error}.'
    ) from error


def _opened(source, format, options, rules):
  """The items of a source, with a progress bar."""
  with _one_sentence(source):
    reader = readers.choose(format, source)
  found = reader.read(source, options)
  found = looks.looked_at(options.root(source), found, rules)
  return progress.bar(found, label='ingest', unit='item')


def _far(output, source, options) -> files.AnyPath:
  """Whichever of both ends is in a bucket; the output where none is."""
  root = options.root(source)
  return root if files.is_address(root) else output


def _check_is_there(content: pathlib.Path | bytes, target: str) -> None:
  del target
  if isinstance(content, pathlib.Path):
    files.state(content)


def _define(fv: flags.FlagValues) -> None:
  default, options = admission.Rules(), base.Options()
  flags.DEFINE_enum(
    'format',
    'auto',
    ['auto', *readers.READERS],
    'What SOURCE is; auto looks at its files.',
    flag_values=fv,
  )
  flags.DEFINE_string(
    'source', None, 'The corpus: a folder or a file.', flag_values=fv
  )
  flags.DEFINE_string('output', None, 'Corpus folder.', flag_values=fv)
  flags.mark_flags_as_required(['source', 'output'], flag_values=fv)
  flags.DEFINE_string(
    'language', default.language, 'Of lines that name none.', flag_values=fv
  )
  flags.DEFINE_float(
    'dev',
    default.dev,
    'Share for dev of lines that name no split.',
    flag_values=fv,
  )
  flags.DEFINE_float('test', default.test, 'Share for test.', flag_values=fv)
  flags.DEFINE_bool(
    'copy', False, 'Copy recordings instead of linking.', flag_values=fv
  )
  flags.DEFINE_bool(
    'trust_durations',
    False,
    'Do not open recordings whose duration the corpus states.',
    flag_values=fv,
  )
  flags.DEFINE_integer(
    'sample_rate',
    default.sample_rate,
    'Of recordings that are not opened and state none, Hz.',
    flag_values=fv,
  )
  flags.DEFINE_bool(
    'untranscribed', False, 'Keep speech without a transcript.', flag_values=fv
  )
  flags.DEFINE_multi_string(
    'held_out_speaker',
    [],
    f'A speaker whose recordings all go to the split {manifest.UNSEEN_VOICE}.',
    flag_values=fv,
  )
  flags.DEFINE_string(
    'channel',
    None,
    'Which channel is heard, from 0, of recordings of several whose line names '
    'none; `mean` hears all of them, whatever a line names.',
    flag_values=fv,
  )
  flags.DEFINE_string(
    'audio_root',
    None,
    'Where recordings lie; by default the folder of SOURCE. No path leads out '
    'of it.',
    flag_values=fv,
  )
  flags.DEFINE_string(
    'subset', None, 'Only this part of a corpus with parts.', flag_values=fv
  )
  flags.DEFINE_bool(
    'allow_pipes',
    options.allow_pipes,
    'Run the commands of a Kaldi wav.scp, each without a shell.',
    flag_values=fv,
  )
  flags.DEFINE_multi_string(
    'reader_option',
    [],
    'NAME=VALUE, an option of one format.',
    flag_values=fv,
  )


def _options(fv: flags.FlagValues) -> base.Options:
  extra = {}
  for option in fv.reader_option:
    name, sign, value = option.partition('=')
    if not sign or not name:
      raise errors.UserError(
        f'--reader_option: found {option!r}, expected NAME=VALUE.'
      )
    extra[name] = value
  root = fv.audio_root
  if root is not None and not files.is_dir(root):
    raise errors.UserError(f'--audio_root: {root} is no folder.')
  return base.Options(
    audio_root=None if root is None else files.path(root),
    subset=fv.subset,
    allow_pipes=fv.allow_pipes,
    extra=extra,
  )


def _channel(fv: flags.FlagValues) -> dict[str, Any]:
  """Rules about channels."""
  if fv.channel == 'mean':
    return {'all_channels': True}
  channel = channels.parse(fv.channel, '--channel')
  if not isinstance(channel, int | None):
    raise errors.UserError(
      f'--channel: found {fv.channel!r}, expected a number from 0 on, or mean.'
    )
  return {'channel': channel}


def _main(fv: flags.FlagValues) -> Mapping[str, Any]:
  told = {
    'format': fv.format,
    'options': _options(fv),
    'rules': admission.Rules(
      language=fv.language,
      dev=fv.dev,
      test=fv.test,
      trust_durations=fv.trust_durations,
      sample_rate=fv.sample_rate,
      untranscribed=fv.untranscribed,
      held_out_speakers=tuple(fv.held_out_speaker),
      **_channel(fv),
    ),
  }
  files.check_writable(fv.output, '--output', folder=True)
  if fv.dry_run:
    run = preview(fv.source, **told)
    print(
      f'would read {run.read} lines of {fv.source} and keep {run.kept} in '
      f'{fv.output}; {run.quarantined} cannot be used'
      + (f', the first: {run.first}' if run.quarantined else '')
    )
    _tell(run.result())
    return {'dry_run': True, **run.counts()}
  result = ingest(fv.source, fv.output, copy=fv.copy, **told)
  print(
    f'{fv.output}: {result["read"]} lines read, {result["kept"]} kept, '
    f'{result["quarantined"]} in quarantine; {result["splits"]}'
  )
  _tell(result)
  return result


def _tell(result: Mapping[str, Any]) -> None:
  for note in result.get('notes', ()):
    print(f'note: {note}', file=sys.stderr)


_FORMATS = '\n'.join(
  f'  {name:<18} {value.summary}' for name, value in readers.READERS.items()
)

DOOR = cli.Door(
  summary=f"""Turns a corpus of a known format into one with a manifest.

    python -m data_pipelines ingest --source=recordings --output=data/mine
    python -m data_pipelines ingest --format=kaldi --source=data/train \\
      --audio_root=/corpora --output=data/mine

Formats, and what SOURCE is:

{_FORMATS}
""",
  main=_main,
  define=_define,
  uses_gin=False,
)
