"""Benchmarks that are half there, of another version, or damaged."""

import io

import numpy as np
import pytest
import soundfile

from data_pipelines.benchmarks import catalogue
from data_pipelines.benchmarks import gathering
from data_pipelines.benchmarks import recordings
from data_pipelines.benchmarks import texts
from step_audio_jax import errors
from tests.data_pipelines.benchmarks import layouts
from tests.data_pipelines.readers.material import put
from tests.data_pipelines.readers.material import tone


def read(name, folder, **changed):
  (one,) = catalogue.benchmarks(
    (name,), {name: str(folder)}, changed={name: changed} if changed else None
  )
  return one.read()


def not_a_number():
  out = io.BytesIO()
  samples = np.full(4000, np.nan, np.float32)
  soundfile.write(out, samples, 16000, 'FLOAT', format='WAV')
  return out.getvalue()


def chapter(root):
  return root / 'LibriSpeech' / 'test-clean' / '1089' / '134686'


def test_a_table_of_other_columns_names_those_that_it_has(tmp_path):
  place = tmp_path / 'data' / 'test.parquet'
  place.parent.mkdir()
  parquet(place, [{'frage': 'a', 'ton': b'x'}])
  with pytest.raises(errors.UserError, match='the columns frage, ton; expect'):
    read('web_questions', tmp_path)
  parquet(place, [{'id': '1', 'answer': 'x'}])
  told = 'question: missing, found the fields answer, id, split; expected'
  with pytest.raises(errors.UserError, match=told):
    read('web_questions', tmp_path)


def test_half_a_download_is_told(tmp_path):
  place = chapter(tmp_path)
  rows = [f'1089-134686-{n:04d} WORDS {n}\n' for n in range(5)]
  put(place / '1089-134686.trans.txt', ''.join(rows))
  for n in (0, 3):
    sound = tone(0.25, 16000, form='FLAC')
    put(place / f'1089-134686-{n:04d}.flac', sound)
  put(place / '1089-134686-0009.flac', tone(0.25, 16000, form='FLAC'))
  found = read('librispeech_clean', tmp_path, expected=8)
  assert [item.id[-1] for item in found.items] == ['0', '3']
  assert found.left_out == {
    'audio: no recording … in …': tuple(
      f'1089-134686-{n:04d}' for n in (1, 2, 4)
    ),
    'no line of a *.trans.txt gives its transcript': ('1089-134686-0009',),
    'not in the folder, which has 6 of 8': ('item 7', 'item 8'),
  }
  assert found.counted() == {
    'scored': 2, 'of': 8, 'unit': 'items', 'cut': {},
    'left_out': {why: len(ids) for why, ids in found.left_out.items()},
  }  # fmt: skip


def test_another_version_is_told(tmp_path):
  layouts.aishell1(tmp_path)
  found = read('aishell1', tmp_path, expected=1)
  assert len(found.items) == found.of == 2
  assert found.version == '2 items, the public set has 1'


def test_a_part_that_is_not_there(tmp_path):
  layouts.aishell1(tmp_path)
  with pytest.raises(errors.UserError, match='found no folder dev'):
    read('aishell1', tmp_path, subset='dev')
  # Recordings of another part are not looked at, its transcripts not missed.
  for path in (tmp_path / 'wav' / 'test').rglob('*.wav'):
    path.rename(path.with_name('BAC009S0764W0999.wav'))
  with pytest.raises(errors.UserError) as told:
    read('aishell1', tmp_path)
  assert '2 a transcript without a recording in …' in str(told.value)


def test_a_release_tells_its_name(tmp_path):
  folder = tmp_path / 'cv-corpus-15.0-2023-09-08' / 'en'
  layouts.LAYOUTS['common_voice_en'](folder)
  (one,) = catalogue.benchmarks(
    ('common_voice_en',), {'common_voice_en': str(folder)}
  )
  assert one.read().version == 'cv-corpus-15.0-2023-09-08'
  above = {'folder': str(folder.parent), 'locale': 'en'}
  found = recordings.CommonVoice('cv', **above).read()
  assert [item.id for item in found.items] == ['cv_1']


def test_bad_lines_cost_themselves(tmp_path):
  put(tmp_path / 'good.wav', tone(0.25))
  put(tmp_path / 'cut.wav', tone(0.5)[:-1000])
  put(tmp_path / 'words.wav', b'these are words')
  put(
    tmp_path / 'metadata.csv',
    'file,text,id\ngood.wav,one,a\ngood.wav,two,a\ngood.wav,,b\n'
    'cut.wav,cut,c\nwords.wav,words,d\nlost.wav,lost,e\n../x.wav,out,f\n'
    'good.wav,cells,too,many\n',
  )
  found = read('recordings', tmp_path)
  assert [(item.id, item.text) for item in found.items] == [('a', 'one')]
  assert found.of == 8
  left = {ids: why for why, ids in found.left_out.items()}
  assert left[('a',)] == 'an id that was there before'
  assert left[('b',)] == 'text: missing, expected what is said in …'
  assert 'cut short' in left[('c',)]
  assert left[('e',)].startswith('…: no such file')
  assert "without '..'" in left[('f',)]


def test_a_recording_that_is_no_number_is_asked_and_fails(tmp_path):
  # Its header is whole: who hears it finds out, and counts it as wrong.
  put(tmp_path / 'metadata.csv', 'file,text\nx.wav,one\n')
  put(tmp_path / 'x.wav', not_a_number())
  from step_audio_jax.audio import io as audio_io

  (item,) = read('recordings', tmp_path).items
  (speech,) = item.recordings
  with pytest.raises(errors.UserError, match='finite'):
    audio_io.read_audio(speech.path, **speech.part)


def test_a_segment_is_the_part_that_its_line_means(tmp_path):
  from step_audio_jax.audio import io as audio_io
  from step_audio_jax.evaluation.benchmarks import benchmark

  layouts.LAYOUTS['wenetspeech_net'](tmp_path)
  (item,) = read('wenetspeech_net', tmp_path).items
  (speech,) = item.recordings
  assert speech.part == {'offset': 0.25, 'duration': 0.5, 'channel': None}
  samples_S, rate = audio_io.read_audio(speech.path, **speech.part)
  assert len(samples_S) == rate // 2
  whole = benchmark.heard('Y1_S1', type(speech)(path=speech.path), '你好')
  part = benchmark.heard('Y1_S1', speech, '你好')
  assert benchmark.asked(whole) != benchmark.asked(part)


def test_a_manifest_without_its_files(tmp_path):
  rows = [
    {'id': 'gone', 'audio': 'wav/gone.wav', 'text': 'one'},
    {'id': 'mute', 'audio': None, 'text': 'two'},
    {'id': 'wordless', 'audio': 'wav/a.wav'},
    {'id': 'a', 'audio': 'wav/a.wav', 'text': 'three'},
    {'id': 'a', 'audio': 'wav/a.wav', 'text': 'four'},
  ]
  times = {'split': 'test', 'duration': 0.25, 'sample_rate': 8000}
  rows = [
    row | (times if row['audio'] else {'split': 'test'})
    if 'audio' in row
    else row
    for row in rows
  ]
  put(tmp_path / 'manifest.jsonl', rows)
  put(tmp_path / 'wav' / 'a.wav', tone(0.25))
  found = read('manifest', tmp_path)
  assert [item.id for item in found.items] == ['a']
  assert found.left_out == {
    'audio: no such file': ('gone',),
    'audio: missing, expected a recording': ('mute',),
    'text: missing, expected what is said': ('wordless',),
    'an id that was there before': ('a',),
  }


def test_a_voice_that_is_missing_costs_its_lines(tmp_path):
  place = tmp_path / 'en'
  put(place / 'prompt-wavs' / 'p1.wav', tone(0.25))
  put(place / 'wavs' / 'u1.wav', tone(0.25))
  put(
    place / 'meta.lst',
    'u1|says|prompt-wavs/p1.wav|One.\nu2|says|prompt-wavs/p2.wav|Two.\n'
    'u3|says|prompt-wavs/p2.wav|Three.\nu4|else|prompt-wavs/p1.wav|Four.\n'
    'u5|says|prompt-wavs/p1.wav\n',
  )
  found = read('seed_tts_en', tmp_path, expected=0)
  (item,) = found.items
  (voice,) = item.recordings
  assert (voice.text, item.text, item.references) == ('says', 'One.', ('One.',))
  assert voice.path.endswith('p1.wav')
  left = {ids: why for why, ids in found.left_out.items()}
  assert 'no such file' in left[('u2', 'u3')]
  assert found.of == 5
  again = read('seed_resynthesis_en', tmp_path, expected=0)
  (item,) = again.items
  assert item.recordings[0].path.endswith('u1.wav')
  assert again.left_out[
    'without a recording, expected one that is made again'
  ] == ('u2', 'u3')


@pytest.mark.parametrize(
  'row, why',
  [
    ({'label': ''}, 'label: missing, expected the one that is right'),
    ({'label': 7}, 'label: found none of the continuations'),
    ({'endings': ['one']}, 'continuations: found …, expected two at least'),
    ({'ctx_a': None}, 'ctx_a: missing, expected it in every row'),
  ],
)
def test_rows_without_an_answer_are_left_out(row, why, tmp_path):
  good = {
    'activity_label': 'A', 'ctx_a': 'B.', 'ctx_b': '', 'label': '0',
    'endings': ['c', 'd'],
  }  # fmt: skip
  put(tmp_path / 'hellaswag_val.jsonl', [good, good | row])
  found = read('hellaswag', tmp_path, expected=0)
  assert len(found.items) == 1
  assert found.left_out == {why: ('hellaswag_val-2',)}


def test_labels_that_are_too_few(tmp_path):
  row = {'goal': 'g', 'sol1': 'a', 'sol2': 'b'}
  put(tmp_path / 'valid.jsonl', [row, row])
  put(tmp_path / 'valid-labels.lst', '0\n')
  found = read('piqa', tmp_path, expected=0)
  assert found.left_out == {
    'label: missing, expected the one that is right': ('valid-2',)
  }
  (tmp_path / 'valid-labels.lst').unlink()
  with pytest.raises(errors.UserError, match='expected the labels'):
    read('piqa', tmp_path)


def test_a_table_with_cells_too_many(tmp_path):
  put(tmp_path / 'test' / 'law_test.csv', 'Q,a,b,c,d,A\nQ,a,b,c,d,e,A\n')
  found = read('mmlu', tmp_path, expected=0)
  assert found.items[0].about['subject'] == 'law_test'
  assert found.left_out == {
    'found too few or too many cells': ('law_test-0001',)
  }


@pytest.mark.parametrize('name', sorted(layouts.LAYOUTS))
def test_an_empty_folder_is_one_sentence(name, tmp_path):
  with pytest.raises(errors.UserError) as told:
    read(name, tmp_path)
  assert str(tmp_path) in str(told.value)
  assert str(told.value).endswith('.')


def test_reasons_are_of_a_kind():
  told = gathering.kind_of(
    "audio: '/a/b/x-1.wav' holds 17 of x-1 at 0.25 s.", 'x-1'
  )
  assert told == 'audio: … holds … of … at … s'


def parquet(path, rows):
  import pyarrow as pa
  from pyarrow import parquet as pq

  path.parent.mkdir(parents=True, exist_ok=True)
  pq.write_table(pa.Table.from_pylist(rows), path)


def test_rows_of_parquet_are_those_of_json(tmp_path):
  """As the hub has them: labels are texts, choices lists of a struct."""
  samples = {
    'hellaswag': (
      'data/validation-00000-of-00001.parquet',
      {'label': '3'},
      'hellaswag_val.jsonl',
    ),
    'winogrande': (
      'winogrande_xl/validation-00000-of-00001.parquet', {}, 'dev.jsonl',
    ),
    'piqa': (
      'plain_text/validation-00000-of-00001.parquet', {'label': 1},
      'valid.jsonl',
    ),
  }  # fmt: skip
  for name, (path, changed, lines) in samples.items():
    layouts.LAYOUTS[name](tmp_path / name)
    (expected,) = read(name, tmp_path / name, expected=0).items
    from step_audio_jax.storage import files

    (row,) = files.read_jsonl(tmp_path / name / lines)
    (tmp_path / name / lines).unlink()
    parquet(tmp_path / name / path, [row | changed])
    (found,) = read(name, tmp_path / name, expected=0).items
    assert (found.text, found.about) == (expected.text, expected.about)


def test_questions_of_the_hub(tmp_path):
  choices = {'text': ['ice', 'rock'], 'label': ['1', '2']}
  row = {
    'id': 'q',
    'question': 'What melts?',
    'answerKey': '2',
    'choices': choices,
  }
  parquet(tmp_path / 'ARC-Easy' / 'test-00000-of-00001.parquet', [row])
  (item,) = read('arc_easy', tmp_path, expected=0).items
  assert item.text == 'Question: What melts?\nAnswer:'
  assert item.about == {'continuations': [' ice', ' rock'], 'right': 1}
  del row['question']
  row['question_stem'] = 'It melts, and is'
  parquet(tmp_path / 'main' / 'test-00000-of-00001.parquet', [row])
  (item,) = read('openbookqa_text', tmp_path, expected=0).items
  assert item.text == 'It melts, and is'


def test_texts_of_the_hub(tmp_path):
  row = {
    'text_to_synthesize': 'Hm?',
    'category': 'Questions',
    'audio': {'bytes': b'x'},
  }
  parquet(
    tmp_path / 'data' / 'train-00000-of-00001.parquet',
    [row, row | {'text_to_synthesize': ' '}],
  )
  found = read('emergent_tts', tmp_path, expected=0)
  assert [(i.id, i.text, i.about) for i in found.items] == [
    ('emergent-0000', 'Hm?', {'category': 'Questions'})
  ]
  assert found.left_out == {
    'text_to_synthesize: found no text, expected one': ('emergent-0001',)
  }
  assert texts.LETTERS.startswith('ABCD')
