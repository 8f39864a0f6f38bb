"""What inspect shows and finds; Beam's runners; the vocabulary's door."""

import functools
import json
import os
import pathlib
import re

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest
import sentencepiece

from data_pipelines import __main__ as doors
from data_pipelines import beam
from data_pipelines import records
from data_pipelines.codes import tokenize
from data_pipelines.inspection import rows
from data_pipelines.rows import folders
from data_pipelines.rows import packing
from data_pipelines.tasks import vocabulary as trainer
from step_audio_jax import errors
from step_audio_jax import vocabulary
from step_audio_jax.commands import cli
from step_audio_jax.corpus import manifest
from step_audio_jax.corpus import speech_codes
from step_audio_jax.storage import files
from tests.data_pipelines import stand_in
from tests.data_pipelines import tiny


@pytest.fixture
def own(tmp_path):
  """A corpus that a test may spoil; its wav files are not audio."""
  root = tiny.make(tmp_path / 'corpus')
  for utterance in manifest.read(root / 'speech'):
    path = root / 'speech' / utterance.audio
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b'RIFF')
  return root


@pytest.fixture
def call(capsys):
  def go(door, *flags):
    argv = ['data_pipelines', door, '--json', *map(str, flags)]
    status = cli.dispatch('data_pipelines', doors.DOORS, argv)
    out = capsys.readouterr()
    if not status:
      return status, json.loads(out.out.splitlines()[-1])
    assert len(out.err.strip().splitlines()) == 1, out.err
    return status, out.err

  return go


def verified(call, path):
  return call('inspect', f'--path={path}', '--verify')


def test_a_corpus_is_named_by_its_folder_or_its_manifest(own, call):
  for path in (own / 'speech', own / 'speech' / 'manifest.jsonl'):
    checked = {'lines': 7, 'files': 7}
    assert verified(call, path) == (
      0,
      {'kind': 'corpus', 'faults': 0, 'checked': checked},
    )
    assert call('inspect', f'--path={path}')[1]['utterances'] == 7


def test_all_missing_files_are_counted(own, call):
  for name in ('0', '3', '5'):
    (own / 'speech' / 'wav' / f'{name}.wav').unlink()
  status, said = verified(call, own / 'speech')
  assert status == 2
  assert f"{own}/speech: u0: audio 'wav/0.wav' is not there. (2 more" in said
  (own / 'images' / 'img' / '2.png').unlink()
  status, said = verified(call, own / 'images')
  assert status == 2 and "i2: image 'img/2.png' is not there" in said
  assert 'more' not in said


@pytest.mark.parametrize(
  'line, said',
  [
    ({'id': 'u1'}, "id 'u1' occurs twice"),
    ({'id': 'new', 'audio': '../x.wav'}, "audio: found '../x.wav'"),
    ({'id': 'new', 'audio': 'a\0.wav'}, 'inside the corpus folder'),
    ({'id': 'new', 'kind': 'film'}, "kind: found 'film'"),
    ({'id': 'new', 'duration': -2}, 'duration: found -2.0'),
    ('new', 'expected a JSON object'),
  ],
)
def test_a_bad_line_of_a_manifest_is_placed(own, call, line, said):
  path = own / 'speech' / 'manifest.jsonl'
  files.write_jsonl(path, [*files.read_jsonl(path), line])
  status, told = verified(call, own / 'speech')
  assert status == 2 and said in told and f'{path}: item 8' in told


@pytest.mark.parametrize(
  'pair, said',
  [
    (([1024, 0], [1, 2, 3]), 'linguistic codes: code 1024 at position 0'),
    (([0, 1], [1, 2, 9999]), 'semantic codes: code 9999 at position 2'),
  ],
)
def test_codes_outside_their_books_are_found(own, call, pair, said):
  status, told = verified(call, own / 'codes')
  assert status == 0 and told['checked'] == {'codes': 7, 'counts': 7}
  codes = speech_codes.read_codes(own / 'codes')
  tiny.write_codes(own / 'codes', {**codes, 'u3': pair})
  status, told = verified(call, own / 'codes')
  assert status == 2 and f'{own}/codes: u3: {said}' in told


def test_shards_of_codes_that_are_gone_or_cut(own, call):
  first, second = records.shards_of(own / 'codes', 'codes')
  raw = second.read_bytes()
  second.write_bytes(raw[: len(raw) // 2])
  status, told = verified(call, own / 'codes')
  assert status == 2 and f'{second}: not a whole ArrayRecord file' in told
  records.write_shard(second, [records.pack({'linguistic': np.arange(2)})])
  status, told = verified(call, own / 'codes')
  assert status == 2 and f'{second}: record 0 is not a tokenised' in told
  second.unlink()
  status, told = verified(call, own / 'codes')
  assert status == 2 and 'found 1 shards, expected 2' in told
  first.unlink()
  status, told = verified(call, own / 'codes')
  assert status == 2 and 'holds no rows, codes or manifest' in told


def test_figures_of_codes(own, call):
  tiny.write_codes(
    own / 'codes',
    {'a': ([1, 1, 2, 2], [7] * 6), 'b': ([3, 3, 9, 9], [8, 8, 8])},
  )
  _, shown = call('inspect', f'--path={own}/codes')
  assert shown['utterances'] == 2
  # Four codes, each as often as another: the perplexity is four.
  assert shown['linguistic'] == {
    'codes': 8, 'used': 4, 'largest': 9, 'perplexity': 4.0
  }  # fmt: skip
  p = np.array([2 / 3, 1 / 3])
  want = round(float(np.prod(p**-p)), 1)
  assert shown['semantic'] == {
    'codes': 9, 'used': 2, 'largest': 8, 'perplexity': want
  }  # fmt: skip


def test_rows_are_shown_without_their_text_model(tmp_path, call):
  table = vocabulary.Vocabulary(
    text_size=100, linguistic_size=8, semantic_size=16
  )
  audio = table.interleave([1, 2], [3, 4, 5])
  packed = [
    packing.make_row(
      [
        inspect_document('a', [1, 31, *audio, 3]),
        inspect_document('b', [1, 70, 71, 3]),
      ],
      16,
    )
  ]
  folders.write(
    tmp_path / 'rows', packed, table=table, length=16,
    about={'task': 't', 'split': 's', 'text_model': '/gone.model'},
    quarantine=[],
  )  # fmt: skip
  status, shown = call('inspect', f'--path={tmp_path}/rows')
  assert status == 0
  assert [d['text'] for d in shown['documents']] == [
    '<s> <audio_start> [0.12 s of speech: 101 102 111 112 113 …] <|EOT|>',
    '<s> 2 text <|EOT|>',
  ]
  assert [d['tokens'] for d in shown['documents']] == [8, 4]
  assert [d['loss_tokens'] for d in shown['documents']] == [7, 3]
  assert call('inspect', f'--path={tmp_path}/rows', '--row=-1')[0] == 2
  (shard,) = records.shards_of(tmp_path / 'rows', 'rows')
  shard.write_bytes(shard.read_bytes()[:-60])
  status, told = call('inspect', f'--path={tmp_path}/rows')
  assert status == 2 and f'{shard}: not a whole ArrayRecord' in told


def inspect_document(name, tokens):
  weights = np.ones(len(tokens), np.float32)
  weights[0] = 0
  return packing.Document(name, np.array(tokens, np.int32), weights)


@hypothesis.given(st.lists(st.sampled_from(
  [1, 3, 13, 31, 33, *range(68, 72), *range(100, 124)]
), max_size=40))  # fmt: skip
def test_what_is_shown_counts_every_id(tokens):
  table = vocabulary.Vocabulary(
    text_size=100, linguistic_size=8, semantic_size=16
  )
  shown = rows.show_tokens(np.array(tokens, np.int32), table)
  pieces = re.findall(r'(<[^> ]+>)(?:x(\d+))?', shown)
  assert sum(int(count or 1) for _, count in pieces) == sum(
    t < 68 for t in tokens
  )
  assert sum(map(int, re.findall(r'(\d+) text', shown))) == sum(
    68 <= t < 100 for t in tokens
  )
  seconds = sum(map(float, re.findall(r'\[(\S+) s of', shown)))
  speech = sum(t >= 100 for t in tokens)
  assert seconds == pytest.approx(speech * 0.024, abs=0.006 * 20)


# Beam


def write_square(folder, number):
  """Picklable work: one file for each shard."""
  pathlib.Path(folder, f'{number}.txt').write_text(str(number * number))


def write_but_seven(folder, number):
  if number == 7:
    raise RuntimeError('no sevens')
  write_square(folder, number)


def test_beam_maps_every_shard_and_passes_failures_on(tmp_path):
  shards = [3, 5, 11]
  beam.map_shards(
    functools.partial(write_square, str(tmp_path)), shards,
    output=tmp_path, runner='DirectRunner', options=['--direct_num_workers=1'],
  )  # fmt: skip
  assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {
    f'{k}.txt': str(k * k) for k in shards
  }
  with pytest.raises(RuntimeError, match='no sevens'):
    beam.map_shards(
      functools.partial(write_but_seven, str(tmp_path)), [7],
      output=tmp_path, runner='DirectRunner',
    )  # fmt: skip


def test_a_runner_that_beam_has_not(own, call, monkeypatch):
  monkeypatch.setattr(tokenize, '_load_dual', stand_in.StandIn)
  tokenizer = stand_in.save(own / 'tokenizer')
  status, told = call(
    'tokenize', f'--corpus={own}/speech', f'--tokenizer={tokenizer}',
    f'--output={own}/again', '--runner=NoSuchRunner',
  )  # fmt: skip
  assert status == 2 and told.startswith('error: --runner=NoSuchRunner: ')
  assert 'DirectRunner' in told and not (own / 'again').exists()


# The vocabulary


def test_the_vocabulary_door(own, call):
  output = own / 'new' / 'text.model'
  flags = [f'--corpus={own}/text', f'--corpus={own}/speech',
           f'--output={output}']  # fmt: skip
  status, said = call('vocabulary', *flags, '--dry_run')
  assert status == 0 and said == {'dry_run': True, 'texts': 10}
  assert not output.parent.exists()
  status, said = call('vocabulary', *flags)
  assert status == 0 and said['made'] and said['texts'] == 10
  first = output.read_bytes()
  assert said['sha256'] == records.sha256(output)
  assert not call('vocabulary', *flags)[1]['made']
  other = ['--model_type=bpe', '--size=345']
  status, told = call('vocabulary', *flags, *other)
  assert status == 2 and 'say --overwrite' in told
  assert output.read_bytes() == first  # it may be in use
  assert call('vocabulary', *flags, *other, '--overwrite')[1]['made']
  assert output.read_bytes() != first
  assert call('vocabulary', *flags, '--overwrite')[1]['made']
  assert output.read_bytes() == first  # training is deterministic
  os.unlink(output)
  assert call('vocabulary', *flags)[1]['made']


@pytest.mark.parametrize(
  'flags, said',
  [
    (['--model_type=words'], "--model_type: found 'words'"),
    (['--model_type=bpe'], '--size: found 0, expected more than 324'),
    (['--size=-3'], '--size: found -3'),
    (['--model_type=bpe', '--size=326'], 'bpe: sentencepiece cannot train'),
    (['--corpus=/nowhere'], '/nowhere/manifest.jsonl: no such file'),
  ],
)
def test_the_vocabulary_door_refuses(own, call, flags, said):
  output = own / 'new' / 'text.model'
  status, told = call(
    'vocabulary', f'--corpus={own}/text', f'--output={output}', *flags
  )
  assert status == 2 and said in told
  assert not output.parent.exists()


def test_texts_that_cannot_be_kept_are_refused(tmp_path):
  # SentencePiece writes a space as this character and cannot tell them apart.
  with pytest.raises(errors.UserError, match="'a▁b' comes back as 'a b'"):
    trainer.train(['a▁b', 'the cat'])
  manifest.write(
    tmp_path, [manifest.Utterance(id='a'), manifest.Utterance(id='b', text='')]
  )
  with pytest.raises(errors.UserError, match="no text in split 'train'"):
    trainer.texts_of([str(tmp_path)])


@hypothesis.settings(max_examples=15)
@hypothesis.given(st.lists(
  st.text('abc 小猫é', min_size=1, max_size=12), min_size=3, max_size=8
))  # fmt: skip
def test_char_models_have_exactly_the_characters(texts):
  hypothesis.assume(any(text.strip() for text in texts))
  processor = sentencepiece.SentencePieceProcessor(
    model_proto=trainer.train(texts)
  )
  learnt = {
    processor.id_to_piece(k).replace('▁', ' ')
    for k in range(68 + 256, processor.vocab_size())
  }
  assert (
    learnt >= set(''.join(texts)) and len(learnt - set(''.join(texts))) <= 1
  )
  for text in texts:
    assert processor.decode(processor.encode(text)) == text
