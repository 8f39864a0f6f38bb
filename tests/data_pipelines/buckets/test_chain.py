"""All doors with every path in a bucket: the same bytes as on a disk."""

import json

import pytest

from data_pipelines.codes import align
from data_pipelines.codes import tokenize
from data_pipelines.synthesis import speech
from data_pipelines.synthesis.quiz import door
from data_pipelines.synthesis.quiz import facts
from data_pipelines.synthesis.quiz import plan
from step_audio_jax.corpus import manifest
from step_audio_jax.storage import files
from tests import stores
from tests.data_pipelines import stand_in
from tests.data_pipelines.readers import material

# What tells where something lies, or when: it differs by its nature.
_APART = (
  *('digest', 'inputs', 'worker_seconds', 'real_time_factor'),
  'tokens_per_second',
)
TASKS = ('asr', 'interleaved', 'text', 'image_text')


@pytest.fixture(autouse=True)
def stand_in_tokenizer(monkeypatch):
  monkeypatch.setattr(tokenize, '_load_dual', stand_in.StandIn)


def chain(call, source, made, times):
  """Every door that needs no network, from below `source` to below `made`.

  Args:
    call: Calls a door.
    source: Folder of a corpus that is made, and of a tokenizer.
    made: Folder of all that comes of them.
    times: How often what may be done already is asked for.

  Returns:
    What the doors said.
  """
  told = {}

  def go(door, *flags):
    status, found = call(door, *flags)
    assert status == 0, (door, found)
    told[f'{door} {len(told)}'] = found

  sizes = ('train=5', 'dev=1', 'test=1', 'unseen=1', 'images=3', 'text_lines=9')
  for _ in range(times):
    go('synthesize', *(f'--{size}' for size in sizes),
       '--processes=1', f'--output={source}/corpora')  # fmt: skip
  go('inspect', '--verify', f'--path={source}/corpora/speech')
  files.write_jsonl(
    source / 'corpora/speech/metadata.jsonl',
    [
      {'file': line['audio'], 'text': line['text'], 'words': line['words']}
      for line in files.read_jsonl(source / 'corpora/speech/manifest.jsonl')
    ],
  )
  for _ in range(times):
    go('ingest', '--format=folder', f'--source={source}/corpora/speech',
       f'--output={made}/speech', '--dev=0.3', '--test=0')  # fmt: skip
  go('inspect', f'--path={made}/speech')
  for _ in range(times):
    go('vocabulary', f'--corpus={source}/corpora/text',
       f'--corpus={made}/speech', f'--output={made}/text.model')  # fmt: skip
  tokenizer = source / 'tokenizer'
  files.write_json(tokenizer / 'dual.json', {'linguistic': 64, 'semantic': 512})
  for _ in range(times):
    go('tokenize', f'--corpus={made}/speech', f'--tokenizer={tokenizer}',
       f'--output={made}/codes', '--shard_size=5')  # fmt: skip
  go('inspect', f'--path={made}/codes')
  go('inspect', '--verify', f'--path={made}/codes')
  for _ in range(times):
    forget_tasks()
    go('build', '--name=q', '--length=256', f'--speech={made}/speech',
       f'--codes={made}/codes', f'--text={source}/corpora/text',
       f'--images={source}/corpora/images', f'--text_model={made}/text.model',
       f'--output={made}/rows', '--parts=2', '--splits=train',
       f'--tasks={",".join(f"q_{task}" for task in TASKS)}')  # fmt: skip
  go('inspect', f'--path={made}/rows')
  go('inspect', '--verify', f'--path={made}/rows')
  go('inspect', '--schedule', '--ratios={"asr": 1, "text": 1}', '--prefix=q_',
     f'--path={made}/rows', '--budget=1e6')  # fmt: skip
  go('inspect', f'--path={made}/rows/q_asr/train')
  for task in ('asr', 'image_text'):
    go('inspect', f'--path={made}/rows/q_{task}/train',
       f'--html={made}/{task}.html')  # fmt: skip
  forget_tasks()
  return told


def forget_tasks():
  """A new process would know no task yet."""
  from data_pipelines.tasks import corpora

  for name in list(corpora.DEFINITIONS):
    corpora.DEFINITIONS.pop(name)
    corpora.seqio.TaskRegistry.remove(name)


def everything(*folders):
  """Name → content of all below some folders, without what is theirs alone."""
  found = {}
  for number, folder in enumerate(folders):
    for path in files.list_files(folder):
      raw = files.read_bytes(path)
      if path.suffix in ('.json', '.html'):
        raw = nowhere(raw.decode(), folders)
      if path.suffix == '.json':
        raw = plain(json.loads(raw))
      found[number, path.relative_to(folder).as_posix()] = raw
  return found


def nowhere(text, folders):
  for number, folder in enumerate(folders):
    text = text.replace(str(folder), f'FOLDER{number}')
  return text


def plain(value):
  if isinstance(value, dict):
    apart = {*_APART, *(('seconds',) if 'tokens_per_second' in value else ())}
    return {k: plain(v) for k, v in value.items() if k not in apart}
  return value


@pytest.fixture(scope='module')
def on_disk(tmp_path_factory):
  """What the doors do on a disk, once."""
  known = {}

  def get(call):
    if not known:
      folders = [tmp_path_factory.mktemp(name) for name in ('source', 'made')]
      known['told'] = chain(call, *folders, times=2)
      known['folders'] = folders
    return known['told'], known['folders']

  return get


@pytest.mark.parametrize(
  ('root', 'ends', 'times'),
  [('gs', 'both', 2), ('s3', 'second', 2), ('gs', 'first', 2)],
  indirect=['root'],
)
def test_every_door_with_paths_in_a_bucket(
  call, on_disk, root, ends, times, tmp_path
):
  told, folders = on_disk(call)
  there = [root / ends / 'source', root / ends / 'made']
  if ends != 'both':
    there[ends == 'first'] = tmp_path / 'here'
  found = chain(call, *there, times)
  for name, one in found.items():
    want = nowhere(json.dumps(told[name]), folders)
    assert plain(json.loads(want)) == plain(
      json.loads(nowhere(json.dumps(one), there))
    ), name
  want, found = everything(*folders), everything(*there)
  assert sorted(want) == sorted(found)
  assert [name for name in want if want[name] != found[name]] == []


class Even:
  """An aligner that gives every word of a text the same time."""

  def words(self, waves, texts, rows):
    found = []
    for wave, text in zip(waves, texts):
      words = text.split()
      step = len(wave) / 16000 / len(words)
      found.append(
        tuple((w, k * step, (k + 1) * step) for k, w in enumerate(words))
      )
    return found


def test_words_of_a_corpus_in_a_bucket(root, tmp_path):
  folders = [tmp_path / 'aligned', root / 'aligned']
  for folder in folders:
    for k in range(5):
      files.write_bytes(folder / f'{k}.wav', material.tone(0.5 + k / 8, 16000))
    manifest.write(
      folder,
      [
        manifest.Utterance(
          id=f'u{k}', text='a b c', audio=f'{k}.wav', duration=0.5 + k / 8,
          sample_rate=16000,
        )
        for k in range(6)
      ],
    )  # fmt: skip
    told = align.align(folder, Even(), batch_size=2)
    assert told == {'read': 6, 'aligned': 5, 'had_words': 0, 'left': 1}
  here, there = (
    {name: raw.replace(str(folder).encode(), b'FOLDER')
     for name, raw in stores.contents(folder).items()}
    for folder in folders
  )  # fmt: skip
  assert here.pop('unaligned.jsonl') != there.pop('unaligned.jsonl')
  assert here == there


def test_what_was_killed_goes_on(root, tmp_path, monkeypatch):
  """A quiz, killed between its parts and before its end."""
  some = facts.facts()[:3]
  monkeypatch.setattr(facts, 'facts', lambda: some)
  config = plan.Config(sentences=4, test=1, times=1, part=4)
  door.make(tmp_path / 'whole', config, processes=1)
  spoken = []

  def killed_at(place, function):
    def calls(*args):
      if len(spoken) == place:
        raise KeyboardInterrupt
      spoken.append(args[0])
      return function(*args)

    return calls

  speak_line, write = speech.speak_line, files.write_json
  for place in (6, 9):
    with monkeypatch.context() as patch:
      patch.setattr(speech, 'speak_line', killed_at(place, speak_line))
      with pytest.raises(KeyboardInterrupt):
        door.make(root / 'quiz', config, processes=1)
    assert not files.exists(root / 'quiz/manifest.jsonl')
  spoken.clear()
  with monkeypatch.context() as patch:
    patch.setattr(files, 'write_json', killed_at(0, write))
    with pytest.raises(KeyboardInterrupt):
      door.make(root / 'quiz', config, processes=1)
  with monkeypatch.context() as patch:
    patch.setattr(speech, 'speak_line', None)  # all is said
    door.make(root / 'quiz', config, processes=1)
  assert stores.contents(root / 'quiz') == stores.contents(tmp_path / 'whole')
