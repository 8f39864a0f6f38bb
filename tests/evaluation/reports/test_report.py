"""report.html and report.json from run directories written by hand."""

import base64
import html.parser
import io
import json
import wave

import numpy as np
import pytest

from step_audio_jax import errors
from step_audio_jax.audio import io as audio_io
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.evaluation.reports import page
from step_audio_jax.evaluation.reports import report
from step_audio_jax.evaluation.reports import utterances

KEYS = {
  'wall_seconds',
  'peak_memory_bytes',
  'asr_cer',
  'asr_cer_by_stage',
  'asr_cer_unseen_voice',
  'tts_cer',
  'share_error_rows',
  'padding',
}


def scores(cer, text='a red <b>'):
  hypothesis = {
    'id': 'u0',
    'language': 'en',
    'speaker': None,
    'reference': text,
    'hypothesis': 'a rad <b> x',
    'cer': cer,
    'seconds': 1.2,
  }
  return {'cer': cer, 'utterances': 1, 'hypotheses': [hypothesis]}


def write(path, value):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(value))


@pytest.fixture
def runs(tmp_path):
  """Four runs, three of them scored, with rows, sound and timing."""
  for n, name in enumerate(('text', 'stage1', 'stage2', 'sft')):
    run = tmp_path / name
    run.mkdir()
    lines = [{'step': s, 'loss': 5.0 - n - s / 100} for s in (10, 20)]
    (run / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    np.save(run / 'sources.npy', np.asarray([0, 1] * 100, np.int16))
    record = {
      'names': ['asr', 'text'],
      'shares': ['1/2', '1/2'],
      'rows': 200,
      'row_length': 64,
    }
    write(run / 'sources.json', record)
    result = {'run': str(run), 'step': 20}
    if name != 'text':
      result['asr'] = {
        'test': scores(0.8 - 0.2 * n),
        'test_unseen_voice': scores(0.9 - 0.2 * n),
      }
      result['perplexity'] = {
        'all': {'text': {'perplexity': 4.0 - n}},
        'text': {'text': {'perplexity': 2.0 + n}},
      }
    if name == 'sft':
      result['tts'] = {'test': scores(0.215)}
      # An older checkpoint, worse: it must not be taken.
      write(run / 'evaluation' / '10.json', {'asr': {'test': scores(0.99)}})
    write(run / 'evaluation' / '20.json', result)
  for source, pads in (('asr', 64), ('text', 0)):
    stats = {'rows': 10, 'length': 64, 'pad_tokens': pads}
    write(tmp_path / 'rows' / source / 'train' / 'stats.json', stats)
  corpus = tmp_path / 'corpus'
  corpus.mkdir()
  samples = np.sin(np.arange(16000) / 10) * 0.5
  (corpus / 'u0.wav').write_bytes(
    base64.b64decode(utterances.wav_base64(samples, 16000))
  )
  utterance = manifest.Utterance(
    id='u0',
    audio='u0.wav',
    offset=0.25,
    duration=0.5,
    sample_rate=16000,
    text='a red <b>',
  )
  manifest.write(corpus, [utterance])
  write(
    tmp_path / 'timing.json',
    {
      'started': 5.0,
      'wall_seconds': 700.25,
      'peak_memory_bytes': 3_000_000_000,
      'commands': [{'name': 'build', 'seconds': 9.5, 'command': 'python <x>'}],
    },
  )
  return tmp_path


def make(root, **changes):
  return report.report(
    **{
      'runs': [str(root / n) for n in ('text', 'stage1', 'stage2', 'sft')],
      'output': str(root / 'out'),
      'rows': str(root / 'rows'),
      'manifest': str(root / 'corpus'),
      'timing': str(root / 'timing.json'),
      'targets': {'asr_cer': 0.1, 'tts_cer': 0.25},
      **changes,
    }
  )


def test_the_figures(runs):
  result = make(runs)
  saved = json.loads((runs / 'out' / 'report.json').read_text())
  assert KEYS <= set(saved)
  for key, expected in {
    'asr_cer': 0.2,
    'asr_cer_by_stage': [0.6, 0.4],
    'asr_cer_unseen_voice': 0.3,
    'tts_cer': 0.215,
    # Of stage 2 and what came behind it: 0.4 and 4 there.
    'forgetting': {'asr_cer': 0.2 / 0.4, 'text_perplexity': 5 / 4},
    'share_error_rows': 0.5,
    'padding': 0.05,
    'wall_seconds': 700.25,
    'peak_memory_bytes': 3_000_000_000,
  }.items():
    assert saved[key] == pytest.approx(expected), key
    assert result[key] == saved[key]
  assert [s['name'] for s in saved['stages']] == [
    'text',
    'stage1',
    'stage2',
    'sft',
  ]
  assert saved['stages'][1]['loss'] == pytest.approx(3.8)
  assert saved['stages'][3]['scored_step'] == 20


def test_stages_can_be_named(runs):
  result = make(runs, stage_runs=['stage2', 'sft'])
  assert result['asr_cer_by_stage'] == pytest.approx([0.4, 0.2])


def test_stages_are_scored_on_their_own_split(runs):
  for name, rate in (('stage1', 0.7), ('stage2', 0.5), ('sft', 0.1)):
    path = runs / name / 'evaluation' / '20.json'
    result = json.loads(path.read_text())
    if name != 'sft':  # test is kept for the last run
      result['asr'] = {}
    result['asr']['dev'] = scores(rate)
    path.write_text(json.dumps(result))
  found = make(runs, stage_split='dev', stage_runs=['stage1', 'stage2', 'sft'])
  assert found['asr_cer_by_stage'] == [0.7, 0.5, 0.1]
  assert found['asr_cer'] == pytest.approx(0.2)
  assert found['asr_cer_unseen_voice'] == pytest.approx(0.3)
  _, text = read(runs / 'out' / 'report.html')
  assert '%, on dev; dashed: wanted of ASR' in text


class Reader(html.parser.HTMLParser):
  """Checks nesting; collects text, sources and links."""

  VOID = {'meta', 'br', 'img', 'link', 'input'}

  def __init__(self):
    super().__init__()
    self.open, self.text, self.sources = [], [], []

  def handle_starttag(self, tag, attributes):
    if tag not in self.VOID:
      self.open.append(tag)
    self.sources += [v for k, v in attributes if k in ('src', 'href')]

  def handle_startendtag(self, tag, attributes):
    pass

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.text.append(data)


def read(path):
  reader = Reader()
  reader.feed(path.read_text())
  assert not reader.open
  return reader, ' '.join(' '.join(reader.text).split())


def test_the_page_is_well_formed_and_self_contained(runs):
  make(runs, title='My <run>')
  reader, text = read(runs / 'out' / 'report.html')
  assert reader.sources and all(s.startswith('data:') for s in reader.sources)
  assert 'url(' not in (runs / 'out' / 'report.html').read_text()
  for part in (
    'My <run>',
    'text → stage1 → stage2 → sft',
    'What to do next',
    'Requested'.lower(),
    'python <x>',
    'a red <b>',
    '11:40 min',
    '21.5 %',
  ):
    assert part in text


def test_a_player_holds_the_part_of_the_recording(runs):
  make(runs)
  reader, _ = read(runs / 'out' / 'report.html')
  sounds = [s for s in reader.sources if s.startswith('data:audio/wav')]
  assert len(sounds) == 2  # the seen and the unseen set; TTS has no sound yet
  data = base64.b64decode(sounds[0].split(',', 1)[1])
  with wave.open(io.BytesIO(data)) as handle:
    assert handle.getframerate() == 16000 and handle.getnframes() == 8000
    pcm = np.frombuffer(handle.readframes(8000), '<i2') / 32767
  expected = np.sin(np.arange(4000, 12000) / 10) * 0.5
  np.testing.assert_allclose(pcm, expected, atol=2e-4)


def test_generated_speech_is_played_and_its_speaker_named(runs):
  path = runs / 'sft' / 'evaluation' / '20.json'
  result = json.loads(path.read_text())
  assert 'sound' not in result and make(runs)['vocoder'] is None
  said = scores(0.25)
  said['hypotheses'][0]['wav'] = 'test/u0.wav'
  result |= {
    'run': str(runs / 'sft'),
    'step': 20,
    'sound': {'test': {**said, 'vocoder': 'griffin-lim'}},
  }
  path.write_text(json.dumps(result))
  tone = np.sin(np.arange(2205) / 9).astype(np.float32) / 2
  audio_io.write_audio(
    runs / 'sft' / 'evaluation' / '20_sound' / 'test' / 'u0.wav', tone, 22050
  )
  found = make(runs)
  assert found['sound_cer'] == 0.25 and found['vocoder'] == 'griffin-lim'
  reader, text = read(runs / 'out' / 'report.html')
  assert 'Generated speech' in text and 'Griffin-Lim (librosa)' in text
  sounds = [s for s in reader.sources if s.startswith('data:audio/wav')]
  assert len(sounds) == 3
  data = base64.b64decode(sounds[2].split(',', 1)[1])
  with wave.open(io.BytesIO(data)) as handle:
    assert handle.getframerate() == 22050 and handle.getnframes() == 2205


def test_sound_that_cannot_be_read_is_said(runs):
  (runs / 'corpus' / 'u0.wav').write_bytes(b'not sound')
  make(runs)
  reader, text = read(runs / 'out' / 'report.html')
  assert 'u0.wav' in text
  assert not any(s.startswith('data:audio') for s in reader.sources)


def test_targets_that_were_missed_are_listed(runs):
  make(runs, targets={'tts_cer': 0.05, 'padding': 0.2})
  _, text = read(runs / 'out' / 'report.html')
  assert 'TTS tokens read by its own ASR: 21.5 %, wanted at most 5.0 %.' in text
  assert 'wanted at most 20' not in text


def test_the_head_of_the_page_says_what_was_lost(runs):
  manifest = runs / 'corpus' / 'manifest.jsonl'
  stamp = manifest.with_name('corpus.json')
  for found in ([], {'notes': 'x'}, {'notes': [3]}, {}):
    stamp.write_text(json.dumps(found))
    assert make(runs)['remarks'] == []
  stamp.write_text(json.dumps({'notes': ['joe <is> not used.']}))
  assert make(runs, remarks=('Small.',))['remarks'] == [
    'Small.', 'joe <is> not used.'
  ]  # fmt: skip
  _, text = read(runs / 'out' / 'report.html')
  assert 'Small.' in text and 'joe <is> not used.' in text
  assert make(runs, manifest=str(manifest))['remarks'] == ['joe <is> not used.']


def test_nothing_scored_yet_still_gives_a_page(tmp_path):
  (tmp_path / 'stage1').mkdir()
  result = report.report(
    runs=[str(tmp_path / 'stage1')], output=str(tmp_path / 'out')
  )
  assert result['asr_cer'] is None
  assert result['asr_cer_by_stage'] == [None]
  assert result['padding'] is None and result['share_error_rows'] is None
  _, text = read(tmp_path / 'out' / 'report.html')
  assert 'nothing to draw yet' in text and 'No rows were scored' in text


def test_marked_hypotheses():
  found = utterances.mark_errors('a <b> cd', 'a <x>d', 'en')
  # Escaped letter by letter; b became x, a space and c are missing.
  assert found == (
    'a &lt;<span class="wrong">x</span>&gt;<span class="gap">‸</span>'
    '<span class="gap">‸</span>d'
  )


@pytest.mark.parametrize(
  'key, value, expected',
  [
    ('wall_seconds', 725.4, '12:05 min'),
    ('wall_seconds', 9.04, '9.0 s'),
    ('peak_memory_bytes', 3.21e9, '3.21 GB'),
    ('padding', 0.0123, '1.23 %'),
    ('share_error_rows', 0.75, '0.75'),
    ('asr_cer', 0.0444, '4.4 %'),
  ],
)
def test_figures_are_shown_in_their_unit(key, value, expected):
  assert page.format_figure(key, value) == expected


def flags(root, *more):
  return [
    '--gin_file=gin/eval/report.gin',
    f'--gin.RUNS=["{root / "stage1"}", "{root / "sft"}"]',
    f'--gin.OUTPUT="{root / "out"}"',
    *more,
  ]


def test_the_door(runs, capsys):
  assert cli.run('report', report.DOOR, flags(runs, '--json')) == 0
  out = capsys.readouterr().out.splitlines()
  assert out[0].startswith('ASR character errors, seen voices')
  assert json.loads(out[-1])['tts_cer'] == 0.215
  assert (runs / 'out' / 'report.html').is_file()


def test_a_dry_run_writes_nothing(runs, capsys):
  assert cli.run('report', report.DOOR, flags(runs, '--dry_run')) == 0
  assert 'report.report' in capsys.readouterr().out
  assert not (runs / 'out').exists()


def test_a_missing_run_is_named(runs, capsys):
  more = f'--gin.RUNS=["{runs / "nope"}"]'
  assert cli.run('report', report.DOOR, flags(runs, more)) == 2
  assert 'nope: no such run directory' in capsys.readouterr().err


def test_questions_are_played_with_their_answers(runs):
  def asked(*rows):
    answers = [
      {
        'id': f'q{place}',
        'speech': 'u0' if place else None,
        'question': 'who <is> it',
        'expected': 'the cat',
        'answer': answer,
        'right': exact,
        'exact': exact,
      }
      for place, (answer, exact) in enumerate(rows)
    ]
    exact = [row['exact'] for row in answers]
    return {
      'chance': 0.5,
      'exact': sum(exact) / len(exact),
      'answers': answers,
    }

  good, bad = ('the cat', True), ('<dog>', False)
  told = {
    'spoken': {
      'test_asked': asked(good, good, bad, good),
      'test_asked_unseen_voice': asked(bad, bad, good, bad),
    },
    'silenced': {'test_asked': asked(bad)},
  }
  told['spoken']['test_asked']['answers'][1]['wav'] = 'corpus/u0.wav'
  write(runs / 'answers.json', told)
  targets = {'aqta_exact': 0.7, 'aqta_exact_silenced': 0.1, 'tqta_exact': 0.9}
  result = make(runs, answers=str(runs / 'answers.json'), targets=targets)
  saved = json.loads((runs / 'out' / 'report.json').read_text())
  assert saved['aqta_exact'] == result['aqta_exact'] == 0.75
  assert saved['aqta_exact_unseen_voice'] == 0.25
  assert saved['aqta_exact_silenced'] == 0 and saved['tqta_exact'] is None
  assert saved['aqta_chance'] == 0.5
  text = (runs / 'out' / 'report.html').read_text()
  assert 'at least 70.0 %' in text and 'at most 10.0 %' in text
  assert 'Not reached' not in text
  # The first question was written, so three of four are played.
  shown = text[text.index('Asked aloud, test_asked') :]
  assert '2 of 3 answered exactly' in shown
  first = shown[: shown.index('</h2>', shown.index('Asked aloud, test_a', 9))]
  assert first.count('<audio') == 3 + 1  # one of the answers, too
  assert 'who &lt;is&gt; it' in shown
  assert '<span class="wrong">&lt;dog&gt;</span>' in shown
  write(runs / 'answers.json', {'spoken': 3})
  with pytest.raises(errors.UserError, match='not what `answer` writes'):
    make(runs, answers=str(runs / 'answers.json'))
