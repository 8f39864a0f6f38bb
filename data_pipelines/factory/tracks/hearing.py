"""`songs`: a corpus of songs → those whose lyrics are where their times say.

    CORPUS                   of `ingest --format=lrc`

    OUTPUT/manifest.jsonl    clips that passed the gates, of tracks that did
    OUTPUT/audio/…           links to their recordings, or copies
    OUTPUT/quarantine.jsonl  what did not pass, and why
    OUTPUT/hearing.json      settings and counts; written last

Track by track; what was heard outlives a kill in `OUTPUT/.hearing.journal`.
"""

import json
import os
from typing import Any, Mapping, Sequence

from absl import flags

from data_pipelines.codes import journal
from data_pipelines.factory import provenance
from data_pipelines.factory.gates import base
from data_pipelines.factory.gates import line as line_lib
from data_pipelines.factory.making import items as items_lib
from data_pipelines.factory.tracks import alignment as alignment_lib
from step_audio_jax import errors
from step_audio_jax import progress
from step_audio_jax.audio import io as audio_io
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import digests
from step_audio_jax.storage import files

STAMP = 'hearing.json'
AUDIO = 'audio'  # the gate of clips that cannot be read
_JOURNAL = '.hearing.journal'
_VERSION = 1  # part of the digest; raise it when the output changes


def hear(
  corpus: str | os.PathLike,
  output: str | os.PathLike,
  alignment: alignment_lib.Alignment,
  copy: bool = False,
) -> dict[str, Any]:
  """Keeps what is heard where it should be.

  Args:
    corpus: Its speech is heard; clips of one file are a track.
    output: Another corpus folder.
    alignment: What is to pass.
    copy: Copy the recordings; otherwise the corpus holds links to them.

  Returns:
    What `hearing.json` says.

  Raises:
    UserError: The corpus is broken or has no recordings, `output` holds
      another one, or nothing passed.
  """
  output = files.check_writable(output, '--output', folder=True)
  settings = _settings(alignment)
  digest = digests.of_value(
    [_VERSION, settings, digests.of_file(manifest.path_of(corpus))]
  )
  if files.exists(output / STAMP):
    found = files.read_json(output / STAMP)
    if found.get('digest') != digest:
      raise errors.UserError(
        f'{output / STAMP}: made of another corpus or with other settings; '
        'name another --output or remove the folder.'
      )
    return found
  if files.exists(output / manifest.NAME):
    raise errors.UserError(
      f'{output}: holds a manifest that `songs` did not finish; name another '
      '--output or remove the folder.'
    )
  tracks = _tracks(corpus)
  files.make_folder(output)
  with journal.open_journal(output / _JOURNAL, digest) as book:
    told = [files.parsed(entry) for entry in book.entries]
    with progress.bar(
      label='songs', total=len(tracks), initial=len(told), unit='track'
    ) as bar:
      for track in tracks[len(told) :]:
        told.append(_heard(corpus, track, alignment))
        book.append(json.dumps(told[-1], ensure_ascii=False).encode())
        bar.update(1)
    counts = line_lib.Counts(
      (
        AUDIO,
        *(gate.name for gate in alignment.gates.gates),
        alignment_lib.TRACK,
      )
    )
    kept, refused = [], []
    for track, verdicts in zip(tracks, told, strict=True):
      for clip, one in zip(track, verdicts, strict=True):
        counts.add_outcomes(one['outcomes'], one['quarantine'] is None)
        if one['quarantine'] is None:
          kept.append(clip)
        else:
          refused.append(one['quarantine'])
    files.write_jsonl(output / provenance.QUARANTINE, refused)
    if not kept:
      raise errors.UserError(
        f'{output}: none of {len(refused)} clips passed; the first, '
        f'{refused[0]["id"]}: {refused[0]["reason"]}'
      )
    with files.background(output) as place:
      for audio in dict.fromkeys(clip.audio for clip in kept):
        source = files.resolve(manifest.path_of(corpus).parent / audio)
        place(files.put, source, output / audio, copy)
    manifest.write(output, kept)
    result = {
      'digest': digest,
      'settings': settings,
      'seconds': round(sum(clip.duration for clip in kept), 3),
      'tracks': len({clip.audio for clip in kept}),
      **counts.result(),
    }
    files.write_json(output / STAMP, result)
    book.done()
  return files.read_json(output / STAMP)  # as whoever comes later gets it


def _settings(alignment: alignment_lib.Alignment) -> dict[str, Any]:
  told = items_lib.Recipe(gates=alignment.gates).settings
  return {
    'gates': told['gates'],
    'stop_early': told['stop_early'],
    'recogniser': alignment.recogniser,
    'least': alignment.least,
  }


def _tracks(corpus) -> list[list[manifest.Utterance]]:
  """Clips by their file, in the manifest's order."""
  found: dict[str, list[manifest.Utterance]] = {}
  for one in manifest.stream(corpus):
    if one.audio is not None:
      found.setdefault(one.audio, []).append(one)
  if not found:
    raise errors.UserError(
      f'{manifest.path_of(corpus)}: no recordings, expected songs of `ingest '
      '--format=lrc`.'
    )
  return list(found.values())


def _heard(
  corpus,
  track: Sequence[manifest.Utterance],
  alignment: alignment_lib.Alignment,
) -> list[dict[str, Any]]:
  """{'outcomes', 'quarantine' or None} of each clip of a track."""
  takes, reports = [], {}
  for clip in track:
    try:
      takes.append(_take(corpus, clip))
    except errors.UserError as error:
      files.raise_outage(error)
      verdict = base.Verdict(AUDIO, base.UNMEASURED, None, str(error))
      reports[clip.id] = line_lib.Report(clip.id, (verdict,))
  read = base.Verdict(AUDIO, base.PASSED, None)
  for report in alignment.check(takes):
    reports[report.id] = line_lib.Report(report.id, (read, *report.verdicts))
  return [
    {
      'outcomes': reports[clip.id].outcomes,
      'quarantine': None
      if reports[clip.id].passed
      else reports[clip.id].quarantine(),
    }
    for clip in track
  ]


def _take(corpus, clip: manifest.Utterance) -> base.Take:
  samples, rate = audio_io.read_audio(
    clip.audio_path(manifest.path_of(corpus).parent), **clip.part()
  )
  return base.Take(
    clip.id, samples, rate, clip.text, clip.language, clip.speaker
  )


def _define(fv: flags.FlagValues) -> None:
  flags.DEFINE_string(
    'corpus', None, 'Songs of `ingest --format=lrc`.', flag_values=fv
  )
  flags.DEFINE_string('output', None, 'Another corpus folder.', flag_values=fv)
  flags.mark_flags_as_required(['corpus', 'output'], flag_values=fv)
  flags.DEFINE_bool(
    'copy', False, 'Copy recordings instead of linking.', flag_values=fv
  )


def _main(fv: flags.FlagValues) -> Mapping[str, Any]:
  alignment = cli.configure(fv, alignment_lib.Alignment)()
  files.check_writable(fv.output, '--output', folder=True)
  if fv.dry_run:
    tracks = _tracks(fv.corpus)
    count = sum(map(len, tracks))
    print(f'would hear {count} clips of {len(tracks)} tracks of {fv.corpus}')
    return {'dry_run': True, 'tracks': len(tracks), 'clips': count}
  result = hear(fv.corpus, fv.output, alignment, fv.copy)
  print(
    f'{fv.output}: {result["kept"]} clips of {result["tracks"]} tracks kept, '
    f'{result["rejected"]} in quarantine, {result["seconds"]} s; '
    f'{result["gates"]}'
  )
  return {key: value for key, value in result.items() if key != 'settings'}


DOOR = cli.Door(
  summary="""Keeps songs whose lyrics are heard where their times say.

    python -m data_pipelines songs --corpus=data/songs --output=data/heard \\
      --gin_file=songs.gin

Who hears is an object of gin: docs/data_engine.md.
""",
  main=_main,
  define=_define,
)
