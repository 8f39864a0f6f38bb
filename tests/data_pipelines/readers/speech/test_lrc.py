"""Songs with lyrics beside them: what is cut, and what is left out and why."""

import pytest

from data_pipelines.ingestion import ingest
from data_pipelines.readers.common import base
from data_pipelines.songs import artists
from step_audio_jax import errors
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files
from tests.data_pipelines.readers import trees
from tests.data_pipelines.readers.material import put
from tests.data_pipelines.readers.material import tone

WHOLE = '[00:00.50]la la la\n[00:02.00]\n'


def song(root, name, lyrics=f'[ar:Ann]\n{WHOLE}', seconds=3.0):
  if lyrics is not None:
    put(root / f'{name}.lrc', lyrics)
  if seconds:
    put(root / f'{name}.wav', tone(seconds, 8000))


def ingested(source, output, **extra):
  options = base.Options(extra=extra)
  told = ingest.ingest(source, output, format='lrc', options=options)
  left = {
    (one['id'], one['reason'])
    for one in files.read_jsonl(output / 'quarantine.jsonl')
  }
  return told, {one.id: one for one in manifest.read(output)}, left


def test_what_is_left_out_is_told_and_counted(tmp_path):
  root = tmp_path / 'in'
  song(root, 'good')
  song(root, 'mute', seconds=0)
  song(root, 'wordless', lyrics=None)
  song(root, 'twice')
  put(root / 'twice.flac', tone(3.0, 8000, form='FLAC'))
  song(root, 'of_another', f'[ar:Ann]\n{WHOLE}[00:09.00]more')
  song(root, 'nobody', WHOLE)
  song(root, 'nothing', '[ar:Ann]\n')
  song(root, 'credits', '[ar:Ann]\n[00:00.50]作词：某人\n')
  song(root, 'odd', '[ar:Ann]\n[00:99.00]la')
  song(root, 'latin', b'[ar:Ann]\n[00:00.50]caf\xe9\n')
  song(root, 'long', f'[ar:Ann]\n{WHOLE}[00:02.10]and on\n', 20.0)
  song(root, 'damaged', seconds=0)
  put(root / 'damaged.mp3', b'no sound at all')
  song(root, 'foreign', seconds=0)
  put(root / 'foreign.m4a', b'\0\0\0\x20ftypM4A ')
  put(root / 'cover.jpg', b'')
  told, kept, left = ingested(root, tmp_path / 'out')
  assert set(kept) == {'good-000', 'long-000'}
  reasons = dict(left)
  for name, said in (
    ('mute', 'audio: missing, expected a recording so called.'),
    ('wordless', 'lyrics: missing, expected wordless.lrc.'),
    ('twice', 'audio: found twice.flac and twice.wav, expected one of them.'),
    ('of_another', 'a line at 9 s, expected none behind the end of the track'),
    ('nobody', 'artist: found None, expected a name, as in [ar:NAME]'),
    ('nothing', 'nothing is sung in it, expected lines'),
    ('credits', 'lyrics: found credits alone, expected lines.'),
    ('odd', "odd.lrc:2: found the time '00:99.00', expected minutes:seconds"),
    ('latin', 'latin.lrc: not utf-8 at byte'),
    ('long', '17.9 s until the next, expected at most 12 s of a line.'),
    ('damaged', 'damaged.mp3'),
    ('foreign', 'MP4 (m4a'),
  ):
    assert said in reasons.pop(name), name
  assert not reasons
  assert (told['read'], told['kept'], told['quarantined']) == (14, 2, 12)


def test_artists_are_in_one_split(tmp_path):
  singers = ['Ann', 'Bob', 'Eve', 'ann feat. Zoë', 'Zoë', 'Max', 'Ida & Max']
  for number, singer in enumerate(singers * 2):
    song(tmp_path / 'in', f't{number}', f'[ar:{singer}]\n{WHOLE}')
  ingest.ingest(
    tmp_path / 'in', tmp_path / 'out', format='lrc',
    rules=ingest.admission.Rules(dev=0.3, test=0.3),
  )  # fmt: skip
  kept = manifest.read(tmp_path / 'out')
  found = {one.id.removesuffix('-000'): one.split for one in kept}
  names = {one.id.removesuffix('-000'): one.speaker for one in kept}
  assert len(found) == 14 and found == artists.splits_of(names, 0.3, 0.3)
  assert len(set(found.values())) > 1


def test_tags_and_artists_by_option(tmp_path):
  song(tmp_path / 'in' / 'Bob', 'x', WHOLE)
  song(tmp_path / 'in' / 'Bob', 'y', f'[genre:Hip Hop/Trap]\n{WHOLE}')
  song(tmp_path / 'in' / 'Bob', 'z', f'[ge:Wrapped Strings]\n{WHOLE}')
  for number, (extra, marks) in enumerate(
    (
      ({}, ('(哼唱)', '(RAP)', '(哼唱)')),
      ({'tag': 'rap'}, ('(RAP)',) * 3),
      ({'tag': '唱歌'}, ('(哼唱)',) * 3),
      ({'tag': 'none'}, (None,) * 3),
    )
  ):
    _, kept, left = ingested(
      tmp_path / 'in', tmp_path / f'{number}', artist='folder', **extra
    )
    assert not left
    wanted = [None if mark is None else f'{mark}la la la' for mark in marks]
    assert [kept[f'Bob/{x}-000'].marked for x in 'xyz'] == wanted
    assert {one.speaker for one in kept.values()} == {'Bob'}


def test_rules_and_encoding_by_option(tmp_path):
  text = '[ar:某人]\n[00:00.50]一二三\n[00:02.00]四五六\n[00:04.00]\n'
  song(tmp_path / 'in', 'x', text.encode('gb18030'), seconds=5.0)
  _, kept, _ = ingested(
    tmp_path / 'in', tmp_path / 'out', encoding='gb18030', longest='2.5',
    longest_line='2.5',
  )  # fmt: skip
  assert [one.text for one in kept.values()] == ['一二三', '四五六']
  assert {one.audio for one in kept.values()} == {'audio/x.wav'}


@pytest.mark.parametrize(
  'extra, said',
  [
    ({'tag': 'opera'}, "tag: found 'opera', expected RAP, humming or none"),
    ({'tag': 'fast 2'}, "tag: found 'fast 2', expected RAP"),
    ({'artist': 'me'}, "artist: found 'me', expected folder"),
    ({'encoding': 'morse'}, "encoding: found 'morse', expected one that"),
    ({'longest': 'x'}, "longest: found 'x', expected seconds"),
    ({'longest': '2'}, 'shortest, longest_line, longest: found 1.0, 12.0, 2.0'),
    ({'genre': 'x'}, "unknown option 'genre', expected tag, artist"),
  ],
)
def test_options_that_are_wrong(tmp_path, extra, said):
  song(tmp_path / 'in', 'x')
  with pytest.raises(errors.UserError) as caught:
    ingested(tmp_path / 'in', tmp_path / 'out', **extra)
  assert said in str(caught.value)


def test_no_song_at_all(tmp_path):
  put(tmp_path / 'in' / 'x.wav', tone(1.0))
  with pytest.raises(errors.UserError, match=r'found no \*.lrc in it'):
    ingested(tmp_path / 'in', tmp_path / 'out')
  with pytest.raises(errors.UserError, match='a file, expected a folder'):
    ingested(tmp_path / 'in' / 'x.wav', tmp_path / 'out')


def test_links_that_lead_out(tmp_path):
  song(tmp_path / 'in', 'good')
  song(tmp_path, 'secret')
  song(tmp_path / 'in', 'x', lyrics=None)
  (tmp_path / 'in' / 'x.lrc').symlink_to(tmp_path / 'secret.lrc')
  song(tmp_path / 'in', 'y', seconds=0)
  (tmp_path / 'in' / 'y.wav').symlink_to(tmp_path / 'secret.wav')
  _, kept, left = ingested(tmp_path / 'in', tmp_path / 'out')
  assert set(kept) == {'good-000'} and {name for name, _ in left} == {'x', 'y'}
  assert all('leads out of' in reason for _, reason in left), left


def test_songs_elsewhere(tmp_path):
  source, _ = trees.TREES['lrc'](tmp_path / 'in')
  (source / 'two.flac').rename(tmp_path / 'two.flac')
  options = base.Options(audio_root=tmp_path)
  told = ingest.ingest(source, tmp_path / 'out', format='lrc', options=options)
  assert told['kept'] == 1 and told['quarantined'] == 2
