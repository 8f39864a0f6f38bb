"""What a stranger understands, from `evaluate` to the report."""

import json

import pytest

from step_audio_jax import errors
from step_audio_jax.audio import io
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.evaluation import door
from step_audio_jax.evaluation.metrics import judge
from step_audio_jax.evaluation.metrics import sound
from step_audio_jax.evaluation.metrics import stranger as stranger_lib
from step_audio_jax.evaluation.reports import report
from tests.evaluation import corpus
from tests.evaluation import ear
from tests.evaluation.metrics import test_sound

TASKS = stranger_lib.TASKS
ALL = [f'{task}/dev' for task in TASKS]


@pytest.fixture
def run(tmp_path, monkeypatch):
  """A run, recordings that are one letter off, a decoder and an ear."""
  run = corpus.make(tmp_path, monkeypatch)
  run.heard = ear.stand_in(monkeypatch)
  ear.write_folder(tmp_path / 'base')
  for name in ('decoder', 'tokenizer'):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'weights').write_text(name)
  run.decoder = test_sound.Levels()
  for owner, made in (
    (sound.decoder_lib.SpeechDecoder, run.decoder),
    (sound.dual.DualTokenizer, test_sound.Ears()),
  ):
    monkeypatch.setattr(owner, 'load', lambda folder, made=made: made)
  write_recordings(run)
  return run


def write_recordings(run, **said):
  """Recordings of dev; `said` is what is heard instead of the text."""
  texts = corpus.TEXTS['dev']
  manifest.write(
    run.root / 'corpus',
    [
      manifest.Utterance(
        id=f'dev{n}', text=text, split='dev', audio=f'dev{n}.wav',
        duration=1.0, sample_rate=16000, language='en',
      )
      for n, text in enumerate(texts)
    ],
  )  # fmt: skip
  for n, text in enumerate(texts):
    wave = ear.wave(said.get(f'dev{n}', text))
    io.write_audio(run.root / 'corpus' / f'dev{n}.wav', wave, ear.RATE)


def config(run, **changes):
  return judge.JudgeConfig(**{'model': str(run.root / 'base'), **changes})


def score(run, told=None, **changes):
  return corpus.score(
    run,
    **{
      'judge': config(run, **(told or {})),
      'sound': sound.SoundConfig(
        decoder=str(run.root / 'decoder'), tokenizer=str(run.root / 'tokenizer')
      ),
      **changes,
    },
  )


def saved(run, step=20):
  path = run.root / 'run' / 'evaluation' / f'{step}.json'
  return json.loads(path.read_text())


def test_the_three_figures(run):
  write_recordings(run, dev1='rex')
  corpus.write_codes(run.root, {'dev0': 'a bat'})
  found = score(run)
  assert found['not_computed'] == {} and found['left_out'][20] == {}
  figures = found['results'][20]
  assert figures['stranger_recordings_cer/dev'] == pytest.approx(1 / 8)
  assert figures['stranger_codes_cer/dev'] == pytest.approx(1 / 8)
  assert figures['stranger_tts_cer/dev'] == 0
  (told,) = found['judges']
  assert told.startswith('base (Whisper, SHA-256 ') and 'beam 5' in told
  result = saved(run)
  assert result['judges'] == [told] and result['not_computed'] == {}
  heard = result['stranger_recordings']['dev']
  assert heard['by_language'] == {'en': pytest.approx(1 / 8)}
  assert heard['hypotheses'][1]['transcript'] == 'Rex.'
  assert heard['hypotheses'][1]['reference'] == 'red'
  assert heard['judge']['beam'] == 5 and heard['judge']['prompt'] is None
  item = result['stranger_tts']['dev']['hypotheses'][0]
  assert (run.root / 'run/evaluation/20_sound' / item['wav']).is_file()
  assert told in (run.root / 'run/evaluation/index.html').read_text()


def plan(run, told=None, **changes):
  return score(run, told, dry_run=True, **changes)['scored'][20]


def test_what_is_heard_again(run):
  score(run)
  path = run.root / 'run' / 'evaluation' / '20.json'
  before = path.stat().st_mtime_ns
  assert plan(run) == [] and score(run)['scored'][20] == []
  assert path.stat().st_mtime_ns == before
  assert plan(run, {'beam': 1}) == ALL
  assert plan(run, {'fold': ()}) == ALL
  assert plan(run, {'utterances': 1}) == ALL
  score(run, {'beam': 1})
  assert plan(run) == plan(run, {'beam': 1}) == []
  # The same judge elsewhere is the same, another is not.
  ear.write_folder(run.root / 'copy')
  assert plan(run, {'model': str(run.root / 'copy')}) == []
  ear.write_folder(run.root / 'other', config=b'{"x": 1}')
  assert plan(run, {'model': str(run.root / 'other')}) == ALL
  write_recordings(run, dev1='rex')
  assert plan(run) == ['stranger_recordings/dev']
  (run.root / 'decoder' / 'weights').write_text('others')
  assert set(plan(run)) == {'sound/dev', *ALL}
  write_recordings(run)
  corpus.write_codes(run.root, {'dev0': 'a bat'})
  assert {'asr/dev', 'stranger_codes/dev'} <= set(plan(run))


def test_what_the_model_does_not_change_is_heard_once_in_a_sweep(run):
  found = score(run, steps='all')
  assert len(run.heard) == 1 and set(found['results']) == {10, 20}
  # Two utterances: sound of two steps, and of codes once.
  assert len(run.decoder.calls) == 2 * 2 + 2


def test_figures_stay_where_no_judge_is_named(run):
  score(run)
  found = score(run, judge=None)
  reason = 'no judge is named (evaluate.judge)'
  assert found['not_computed'] == dict.fromkeys(TASKS, reason)
  assert 'stranger_tts_cer/dev' not in found['results'][20]
  assert saved(run)['not_computed'] == {}
  assert saved(run)['stranger_tts']['dev']['cer'] == 0
  # Sound of another decoder is another sound.
  (run.root / 'decoder' / 'weights').write_text('others')
  score(run, judge=None)
  assert 'stranger_tts' not in saved(run)
  assert saved(run)['not_computed'] == {'stranger_tts': reason}


@pytest.mark.parametrize(
  'changes, tasks, reason',
  [
    ({'judge': None}, TASKS, 'no judge is named'),
    ({'judge': 'package:no-such-ear'}, TASKS, 'no-such-ear is not installed'),
    ({'sound': None}, TASKS[:2], 'no decoder and tokenizer are named'),
    ({'tts_splits': ()}, TASKS, 'no split is named'),
    ({'manifest': None}, TASKS, 'no corpus is named'),
  ],
)
def test_what_is_not_computed_says_why(run, changes, tasks, reason):
  found = score(run, **changes)
  assert list(found['not_computed']) == list(tasks)
  assert all(reason in told for told in found['not_computed'].values())
  assert saved(run)['not_computed'] == found['not_computed']
  page = (run.root / 'run/evaluation/index.html').read_text()
  told = f'not computed: {found["not_computed"][tasks[0]]}'
  assert told in page or not found['results'][20]
  scored = {name.split('_cer/')[0] for name in found['results'][20]}
  assert scored & set(TASKS) == set(TASKS) - set(tasks)


def test_the_door_says_who_heard_and_what_nobody_did(run, capsys):
  flags = [
    '--gin_file=gin/eval/speech_text.gin',
    f'--checkpoints={run.root / "run"}',
    f'--gin.MANIFEST="{run.root / "corpus"}"',
    f'--gin.CODES="{run.root / "codes"}"',
    '--gin.ROWS=None',
    f'--gin.evaluate.evaluate.judge="{run.root / "base"}"',
  ]
  assert cli.run('evaluate', door.DOOR, flags) == 0
  lines = capsys.readouterr().out.splitlines()
  (who,) = [line for line in lines if line.startswith('the stranger: ')]
  assert 'base (Whisper' in who and 'no prompt, no grammar' in who
  assert (
    'stranger_tts, stranger_codes  not computed: no decoder and tokenizer are '
    'named (evaluate.sound)'
  ) in lines
  assert any(
    line.split()[:2] == ['stranger_recordings_cer/dev', '0.0'] for line in lines
  )


def test_without_the_library(run, monkeypatch):
  def absent():
    raise judge.NotInstalledError('judge: faster-whisper is not installed.')

  score(run)
  monkeypatch.setattr(judge, 'check_library', absent)
  found = score(run)
  told = dict.fromkeys(TASKS, 'faster-whisper is not installed')
  assert found['not_computed'] == told
  # What was heard before still holds.
  assert saved(run)['stranger_tts']['dev']['cer'] == 0


def test_a_judge_that_is_broken_is_told_before_anything_is_scored(run):
  (run.root / 'base' / 'tokenizer.json').unlink()
  with pytest.raises(errors.UserError, match='tokenizer.json not found'):
    score(run)
  with pytest.raises(errors.UserError, match='expected abab'):
    score(run, {'model': str(ear.write_folder(run.root / 'b')),
                'sha256': 'ab' * 32})  # fmt: skip
  assert run.loaded == []


def test_a_judge_that_does_not_load_is_told_before_anything_is_scored(
  run, monkeypatch
):
  def broken(place, config):
    raise errors.UserError('judge: it cannot be loaded.')

  monkeypatch.setattr(judge, 'Judge', broken)
  with pytest.raises(errors.UserError, match='cannot be loaded'):
    score(run)
  assert run.loaded == []
  assert set(plan(run)) >= set(ALL)


def test_what_is_left_out_is_counted(run):
  (run.root / 'corpus' / 'dev1.wav').unlink()
  corpus.write_codes(run.root, without=('dev0',))
  found = score(run, asr_splits=())
  counted = found['counts'][20]
  assert counted['stranger_recordings_cer/dev']['left_out'] == {
    'without a recording': 1
  }
  assert counted['stranger_codes_cer/dev']['left_out'] == {'without codes': 1}
  (run.root / 'corpus' / 'dev0.wav').unlink()
  found = score(run, asr_splits=())
  told = found['left_out'][20]['stranger_recordings/dev']
  assert told == 'nothing can be heard: 2 without a recording'
  assert 'stranger_recordings_cer/dev' not in found['results'][20]


def test_the_first_of_each_language_and_unknown_ones():
  utterances = [
    manifest.Utterance(id=name, text=text, language=name[:2])
    for name, text in (
      ('en1', 'a'), ('zh1', '好'), ('en2', ' '), ('en3', 'b'), ('en4', 'c'),
    )
  ]  # fmt: skip
  told = judge.JudgeConfig('x', utterances=2)
  chosen = stranger_lib.choose(utterances, told)
  assert [u.id for u in chosen] == ['en1', 'zh1', 'en3']
  said = [
    stranger_lib.Said(stranger_lib.about(u), lambda u=u: ear.wave(u.text))
    for u in chosen
    if u.id != 'en3'
  ]
  said.append(stranger_lib.Said(stranger_lib.about(chosen[-1]), lambda: None))
  result = stranger_lib.score(ear.Ear(None, told), said, told, 'x')
  assert result['unknown'] == 1 and result['silent'] == 1
  assert result['utterances'] == 2 and result['cer'] == 0.5


def test_languages_that_nobody_asked_for_are_not_heard(run):
  score(run)
  assert plan(run, {'languages': ('en',)}) == ALL  # another figure
  found = score(run, {'languages': ('en',)})
  counted = found['counts'][20]['stranger_recordings_cer/dev']
  assert counted['scored'] == 2 and not counted['left_out']
  found = score(run, {'languages': ('zh', 'th')})
  told = found['left_out'][20]['stranger_recordings/dev']
  assert told == 'nothing can be heard: 2 not zh or th (judge.languages)'
  assert judge.JudgeConfig('x', languages=('zh',)).hears('zh-Hant')
  assert not judge.JudgeConfig('x', languages=('zh',)).hears('en')


def make_report(run):
  return report.report(
    runs=[str(run.root / 'run')],
    output=str(run.root / 'out'),
    asr_split='dev',
    tts_split='dev',
    manifest=str(run.root / 'corpus'),
  )


def first_card(run):
  page = (run.root / 'out' / 'report.html').read_text()
  return page.split('<div class="tiles">')[1].split('</div>')[0]


def test_the_first_card_is_what_a_stranger_understands(run):
  write_recordings(run, dev1='rex')
  score(run)
  found = make_report(run)
  assert found['stranger_tts'] == 0
  assert found['stranger_recordings'] == pytest.approx(1 / 8)
  assert found['stranger_by_language']['stranger_tts'] == {'en': 0}
  assert found['not_computed'] == {} and len(found['judges']) == 1
  card = first_card(run)
  assert '<b>0.0 %</b>' in card and 'as a stranger understands it' in card
  page = (run.root / 'out' / 'report.html').read_text()
  assert found['judges'][0] in page
  assert 'Generated speech, heard by a stranger' in page


def test_the_first_card_says_why_there_is_none(run):
  score(run, judge=None)
  found = make_report(run)
  assert [found[task] for task in TASKS] == [None] * 3
  assert 'not computed' in first_card(run)
  assert 'no judge is named' in first_card(run)
  score(run, sound=None)
  found = make_report(run)
  assert found['stranger_recordings'] == 0
  assert set(found['not_computed']) == set(TASKS[:2])
  assert 'no decoder and tokenizer are named' in first_card(run)
