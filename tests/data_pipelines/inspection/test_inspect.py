"""Looking at rows, codes and corpora."""

import html.parser
import json
import re
import shutil

import numpy as np
import pytest

from data_pipelines import __main__ as doors
from data_pipelines.inspection import page as inspect_page
from data_pipelines.inspection import rows as inspect_rows
from data_pipelines.inspection import sound
from data_pipelines.rows import build
from data_pipelines.rows import folders as rows_lib
from data_pipelines.rows import packing
from data_pipelines.tasks import definitions
from step_audio_jax import documents
from step_audio_jax import vocabulary
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import schedule
from step_audio_jax.corpus import stages
from step_audio_jax.storage import files
from tests.data_pipelines import tiny


@pytest.fixture
def call(capsys):
  def go(*flags):
    argv = ['data_pipelines', 'inspect', '--json', *map(str, flags)]
    status = cli.dispatch('data_pipelines', doors.DOORS, argv)
    out = capsys.readouterr()
    if status:
      return status, out.err
    return status, json.loads(out.out.splitlines()[-1])

  return go


@pytest.fixture(scope='module')
def folder(made, tmp_path_factory):
  output = tmp_path_factory.mktemp('shown')
  tasks = {
    task.name: task
    for task in definitions.speech(
      'shown', made / 'speech', made / 'codes', made / 'text.model'
    )
    if task.name == 'shown_tts'
  }
  build.build(tasks, ['train'], output, build.Settings(200))
  return output / 'shown_tts' / 'train'


def test_a_row_is_shown_as_people_read_it(folder, made, call):
  told = {u.id: u for u in manifest.read(made / 'speech')}
  status, shown = call(f'--path={folder}', '--row=1')
  assert status == 0 and shown['row'] == 1
  for document in shown['documents']:
    text = told[document['id']].text
    assert document['text'].startswith(
      f'<s> <|TTS|> <text_start> {text!r} <audio_start> ['
    )
    assert document['text'].endswith(' …] <|EOT|>')
    assert document['loss_tokens'] == document['tokens'] - 3
  status, said = call(f'--path={folder}', '--row=999')
  assert status == 2 and '--row: found 999, expected 0..' in said


def test_everything_verifies(folder, made, call):
  for path, kind in (
    (folder, 'rows'),
    (made / 'codes', 'codes'),
    (made / 'speech', 'corpus'),
    (made / 'images', 'corpus'),
  ):
    status, told = call(f'--path={path}', '--verify')
    assert (status, told['kind'], told['faults']) == (0, kind, 0)
    assert told['checked'] and all(told['checked'].values())
    assert call(f'--path={path}', '--dry_run')[1]['kind'] == kind


def test_a_page_shows_rows_with_sound_and_mask(folder, made, tmp_path, call):
  page = tmp_path / 'rows.html'
  status, told = call(f'--path={folder}', f'--html={page}', '--rows=2')
  assert status == 0 and told['rows'] == 2
  assert told['documents'] == told['players'] > 2
  text = page.read_text(encoding='utf-8')
  assert text.count('<audio') == told['players'] == text.count('data:audio')
  for word in ('linguistic', 'semantic', 'learnt', 'loss weight 1'):
    assert word in text
  assert 'src="http' not in text and '<script src' not in text
  # Without its corpus the page says so, and still shows the rows.
  status, told = call(
    f'--path={folder}', f'--html={page}', f'--corpus={tmp_path}/gone'
  )
  assert status == 0 and told['players'] == 0
  assert 'is not here' in page.read_text(encoding='utf-8')
  status, said = call(f'--path={made}/codes', f'--html={page}')
  assert status == 2 and 'holds codes, expected rows' in said


class Words:
  """A text vocabulary that says one thing."""

  size = 100

  def decode(self, ids):
    return '<script>alert("&")</script>' * len(ids)


class Page(html.parser.HTMLParser):
  """Tags that are open, and all that is loaded from elsewhere."""

  VOID = ('meta', 'img', 'br', 'link')

  def __init__(self, text):
    super().__init__()
    self.open, self.tags, self.sources, self.words = [], [], [], []
    self.feed(text)
    self.close()
    assert not self.open

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.sources += [v for k, v in attrs if k in ('src', 'href')]
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.tags.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.words.append(data)


def test_a_page_is_one_file_and_escapes_what_the_rows_say(tmp_path):
  table = vocabulary.Vocabulary(100, 0, 8, 16, text=Words())
  codes = table.interleave([1, 2, 3, 4], [5, 6, 7, 8, 9, 10])
  tokens = np.array([1, 13, 13, 15, 90, 91, 31, *codes, 33, 92, 3], np.int32)
  one = documents.Document(
    '<b>id</b>', tokens, np.r_[np.zeros(6), np.ones(14)].astype(np.float32),
    np.array([1], np.int32), np.full((1, 2, 2, 3), 7, np.uint8),
  )  # fmt: skip
  rows_lib.write(
    tmp_path / 'rows',
    [packing.make_row([one, one], 48)],
    table=table,
    length=48,
    about={'task': '<i>task', 'split': 'train'},
    quarantine=[],
  )
  folder = rows_lib.open_folder(tmp_path / 'rows')
  text, counts = inspect_page.render(folder, table, None)
  assert counts == {'rows': 1, 'documents': 2, 'players': 0, 'images': 2}
  page = Page(text)
  assert all(source.startswith('data:image/png') for source in page.sources)
  assert len(page.sources) == 2 and 'b' in page.tags
  assert not {'audio', 'iframe', 'script'} & set(page.tags)
  assert '<script>alert' not in text and '<b>id' not in text
  assert '<i>task' not in text
  words = ' '.join(page.words)
  assert '<script>alert("&")</script>' in words and '<b>id</b>' in words
  # What is learnt and what is given, by kind.
  spans = re.findall(r'<span class="(\w+) (\w+)" title="[^"]*">([^<]*)', text)
  found = [(kind, mask, said) for kind, mask, said in spans][: len(spans) // 2]
  assert found[:3] == [
    ('special', 'given', '&lt;s&gt;'),
    ('image', 'given', '&lt;im_patch&gt;×2'),
    ('special', 'given', '&lt;im_end&gt;'),
  ]
  assert [(k, m) for k, m, _ in found[3:5]] == [
    ('text', 'given'), ('special', 'learnt')
  ]  # fmt: skip
  assert found[5:9] == [
    ('linguistic', 'learnt', '1 2'),
    ('semantic', 'learnt', '5 6 7'),
    ('linguistic', 'learnt', '3 4'),
    ('semantic', 'learnt', '8 9 10'),
  ]


def test_long_speech_is_shown_by_its_ends():
  table = vocabulary.Vocabulary(100, 0, 8, 16)
  codes = table.interleave([1, 2] * 40, [3, 4, 5] * 40)
  segment = inspect_rows.Segment(
    'x', 0, codes, np.ones(len(codes)), np.zeros((0, 1, 1, 3))
  )
  shown = ''.join(inspect_page._ids(segment, table))
  assert '… 32 groups …' in shown
  assert shown.count('>1 2<') == shown.count('>3 4 5<') == 8


def test_recordings_of_joined_documents_and_chats(tmp_path):
  def spoken(name, split='train'):
    return manifest.Utterance(
      id=name, split=split, audio=f'{name}.wav', duration=1.0, sample_rate=8000
    )

  names = ['a', 'b', 'c', 'd', 'e', 'f']
  lines = [spoken(name) for name in names]
  lines.insert(2, spoken('other', 'dev'))
  lines.append(
    manifest.Utterance(
      id='talk',
      kind='chat',
      turns=(
        {'role': 'user', 'speech': 'e'},
        {'role': 'assistant', 'text': 'yes'},
      ),
    )
  )
  lines.append(manifest.Utterance(id='t', kind='text', text='no sound'))
  manifest.write(tmp_path, lines)
  wanted = ['b', 'c+d', 'b+…+e', 'talk', 't', 'gone']
  found = sound.Recordings(tmp_path, wanted)

  def of(document):
    return ''.join(one.id for one in found.utterances_of(document))

  assert not found.note
  assert [of(one) for one in wanted] == ['b', 'cd', 'bcde', 'e', '', '']
  assert of('a') == ''  # was not asked for
  assert 'do not say' in sound.Recordings(None).note


def test_shares_of_a_stage_over_built_rows(folder, call):
  root = folder.parents[1]
  status, told = call(
    '--schedule', f'--path={root}', '--prefix=shown_',
    '--ratios={"tts": 1}', '--start=5', '--stop=25', '--budget=20000',
  )  # fmt: skip
  assert status == 0, told
  (line,) = told['sources']
  assert (line['rows'], line['tokens']) == (20, 4000)
  assert line['requested'] == line['realised'] == 1
  rows = files.read_json(folder / 'stats.json')['rows']
  assert line['stored_rows'] == rows
  assert line['budget_epochs'] == pytest.approx(100 / rows)
  (sentence,) = told['warnings']
  assert 'tts: 100 rows are drawn from' in sentence
  for flags, said in (
    (['--ratios={"tts": 1}', '--start=9', '--stop=3'], 'found 9, 3'),
    (['--ratios={"tts": 1}', '--budget=0'], '--budget: found 0.0'),
    (['--ratios={"asr": 1}'], 'stats.json'),
    (['--ratios=[1]'], '--ratios'),
    ([], '--stage: missing'),
  ):
    status, told = call(
      '--schedule', f'--path={root}', '--prefix=shown_', *flags
    )
    assert status == 2 and said in told


def test_shares_of_any_window_of_a_run(tmp_path, call, capsys):
  order = schedule.create([(0, {'a': 1, 'b': 1}), (20, {'b': 1, 'c': 3})])
  phases = [
    {'row': phase.start, 'shares': list(map(str, phase.shares))}
    for phase in order.phases
  ]
  sizes = {'a': 5, 'b': 400, 'c': 9}
  feed = {
    'sources': [
      {'name': n, 'share': s, 'rows': sizes[n]}
      for n, s in zip(order.names, phases[0]['shares'])
    ],
    'phases': phases,
    'row_length': 32,
    'batch_size': 10,
  }
  files.write_json(tmp_path / 'config.json', {'steps': 12, 'feed': feed})
  flags = '--schedule', f'--path={tmp_path}'
  # Under way: what the schedule says of it.
  status, told = call(*flags, '--start=20', '--stop=60')
  assert status == 0 and told['realised_from'] == 'schedule'
  assert [line['rows'] for line in told['sources']] == [0, 10, 30]
  assert [line['requested'] for line in told['sources']] == [0, 0.25, 0.75]
  assert told['budget_tokens'] == 12 * 10 * 32
  assert [line['budget_epochs'] for line in told['sources']] == [
    10 / 5, 35 / 400, 75 / 9
  ]  # fmt: skip
  (sentence,) = told['warnings']
  assert sentence.startswith('c: 75 rows are drawn from 9, which is 8.3')
  # Done: what it recorded, whatever the schedule says.
  sources = order.sources(0, 120)
  sources[[30, 31]] = 0
  np.save(tmp_path / 'sources.npy', sources.astype(np.int16))
  status, told = call(*flags, '--start=20', '--stop=60')
  assert told['realised_from'] == 'run'
  counted = np.bincount(sources[20:60], minlength=3).tolist()
  assert [line['rows'] for line in told['sources']] == counted
  assert counted[0] == told['sources'][0]['error_rows'] == 2
  assert call(*flags)[1]['window'] == [0, 120]
  status, said = call(*flags, '--stop=121')
  assert status == 2 and '--stop: found 121, expected at most 120' in said
  files.write_json(tmp_path / 'config.json', {'steps': 12, 'feed': {}})
  status, said = call(*flags)
  assert status == 2 and 'feed.sources is missing' in said


def test_a_budget_of_our_own_is_said_to_be_that(tmp_path, capsys):
  for task in stages.STAGES['stage3']:
    (tmp_path / task / 'train').mkdir(parents=True)
    files.write_json(
      tmp_path / task / 'train' / 'stats.json', {'rows': 100, 'length': 8192}
    )

  def shown(stage, *flags):
    argv = ['data_pipelines', 'inspect', '--schedule', f'--path={tmp_path}']
    argv += [f'--stage={stage}', *flags]
    assert cli.dispatch('data_pipelines', doors.DOORS, argv) == 0
    return capsys.readouterr().out

  assert '1,200,000,000,000 tokens\n' in shown('stage1')
  said = shown('stage3')
  assert "1,300,000,000,000 tokens; this project's own, not published" in said
  assert '1,000,000 tokens\n' in shown('stage3', '--budget=1e6')


def test_faults_end_with_status_two(corpus, call):
  (corpus / 'speech' / 'wav' / 'dev-00000.wav').unlink()
  status, said = call(f'--path={corpus}/speech', '--verify')
  assert status == 2 and "dev-00000: audio 'wav/dev-00000.wav'" in said
  stats = files.read_json(corpus / 'codes' / 'stats.json')
  files.write_json(corpus / 'codes' / 'stats.json', {**stats, 'kept': 3})
  status, said = call(f'--path={corpus}/codes', '--verify')
  assert status == 2 and 'kept is 3, found 37' in said
  status, said = call(f'--path={corpus}')
  assert status == 2 and 'holds no rows, codes or manifest' in said


def test_codes_and_corpora_are_summed_up(made, call):
  _, shown = call(f'--path={made}/codes')
  assert shown['utterances'] == 37
  assert shown['linguistic']['largest'] < 64
  assert 1 < shown['semantic']['perplexity'] <= shown['semantic']['used']
  _, shown = call(f'--path={made}/speech')
  assert shown['utterances'] == 37 and len(shown['speakers']) > 4


def test_all_row_folders_below_one_are_shown_and_verified(folder, call):
  root = folder.parents[1]
  status, told = call(f'--path={root}')
  assert (status, told['kind']) == (0, 'tree')
  stats = files.read_json(folder / 'stats.json')
  (figures,) = told['folders'].values()
  assert figures['rows'] == stats['rows'] and list(told['folders']) == [
    'shown_tts/train'
  ]
  assert figures['tokens_by_kind'] == stats['tokens_by_kind']
  status, told = call(f'--path={root}', '--verify')
  assert (status, told['kind'], told['faults']) == (0, 'tree', 0)
  assert told['checked']['speech'] == stats['rows']


def test_what_occurs_twice_or_leads_out_is_a_fault(tmp_path, call):
  line = {'id': 'x', 'kind': 'text', 'text': 'one'}
  path = tmp_path / 'manifest.jsonl'
  path.write_text((json.dumps(line) + '\n') * 2)
  status, said = call(f'--path={tmp_path}', '--verify')
  assert status == 2 and "item 2: id 'x' occurs twice" in said
  audio = {'audio': 'x.wav', 'duration': 1.0, 'sample_rate': 8000}
  path.write_text(json.dumps({'id': 'x', **audio}) + '\n')
  (tmp_path / 'x.wav').symlink_to('/etc/hostname')
  status, said = call(f'--path={tmp_path}', '--verify')
  assert status == 2 and 'leads out of the corpus folder' in said
  tiny.write_codes(tmp_path / 'codes', {'u': ([1, 2], [3, 4, 5])}, shards=1)
  (first,) = (tmp_path / 'codes').glob('*.array_record')
  second = first.with_name('codes-00001-of-00002.array_record')
  shutil.copy(first, second)
  first.rename(first.with_name('codes-00000-of-00002.array_record'))
  files.write_json(tmp_path / 'codes' / 'stats.json', {'kept': 2})
  status, said = call(f'--path={tmp_path}/codes', '--verify')
  assert status == 2 and "item 2: id 'u' occurs twice" in said


def test_runs_are_shortened():
  table = vocabulary.Vocabulary()
  shown = inspect_rows.show_tokens(
    [1, 13, 13, 13, 90, 91, 65536, 65537, 3], table
  )
  assert shown == (
    '<s> <im_patch>x3 2 text [0.05 s of speech: 65536 65537 …] <|EOT|>'
  )
