"""What ids belong to: names, what is refused, what is only said."""

import pytest

from step_audio_jax import errors
from step_audio_jax.storage import bindings
from step_audio_jax.storage import files

WHOLE = {
  'text_model': 'a/text.model',
  'text_size': 400,
  'table_size': 5520,
  'linguistic_size': 1024,
  'semantic_size': 4096,
  'pieces_sha256': 'a' * 64,
  'encoder_sha256': 'b' * 64,
}
ONE = bindings.tokenizer('runs/one', '1' * 64)
TWO = bindings.tokenizer('runs/two', '2' * 64)


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
  monkeypatch.setattr(bindings, '_said', set())


def check(found, expected, **settings):
  bindings.check_vocabulary(
    'rows/asr', found, 'runs/mine', expected, 'build again', **settings
  )


def test_equal_vocabularies_pass_in_silence(capsys):
  check(WHOLE, {**WHOLE, 'text_model': 'elsewhere.model', 'table_size': 6000})
  assert capsys.readouterr().err == ''


@pytest.mark.parametrize(
  'change',
  [
    {'pieces_sha256': 'c' * 64},  # of the same size
    {'pieces_sha256': 'c' * 64, 'text_size': 401},
    {'text_size': 401},  # the speech block lies elsewhere
    {'pieces_sha256': None, 'text_size': 401},  # of before there were digests
    {'linguistic_size': 0, 'semantic_size': 0},
    {'semantic_size': 512},
  ],
)
def test_ids_that_mean_something_else_are_refused_with_both_names(change):
  with pytest.raises(errors.UserError) as refusal:
    check({**WHOLE, 'text_model': 'b/text.model', **change}, WHOLE)
  told = str(refusal.value)
  assert told.startswith('rows/asr: ') and 'runs/mine' in told
  assert told.endswith('; build again.')
  if 'text_size' in change or 'pieces_sha256' in change:
    assert 'b/text.model' in told and 'a/text.model' in told
    assert 'aaaaaaaaaaaa' in told and 'a' * 13 not in told


def test_rows_without_speech_need_no_speech_block():
  deaf = {**WHOLE, 'linguistic_size': 0, 'semantic_size': 0}
  check(WHOLE, deaf, speech=False)
  check({**WHOLE, 'text_size': 410}, deaf, speech=False)  # the same pieces


def test_what_cannot_be_checked_is_said_once(capsys):
  old = {k: v for k, v in WHOLE.items() if not k.endswith('sha256')}
  check(old, WHOLE)
  check(old, WHOLE)
  said = capsys.readouterr().err
  assert said.count('\n') == 1 and 'cannot be checked' in said


def test_another_encoder_of_equal_pieces_is_said(capsys):
  check({**WHOLE, 'encoder_sha256': 'd' * 64}, WHOLE)
  said = capsys.readouterr().err
  assert 'dddddddddddd' in said and 'bbbbbbbbbbbb' in said


def test_codes_of_another_tokenizer_are_refused(capsys):
  bindings.check_tokenizer('codes', ONE, 'decoder', dict(ONE), 'mend it')
  moved = {**ONE, 'folder': 'moved'}
  bindings.check_tokenizer('codes', moved, 'decoder', ONE, 'mend it')
  assert capsys.readouterr().err == ''
  with pytest.raises(errors.UserError) as refusal:
    bindings.check_tokenizer('codes', ONE, 'decoder', TWO, 'mend it')
  for word in ('runs/one (1111', 'runs/two (2222', 'mend it'):
    assert word in str(refusal.value)
  bindings.check_tokenizer('codes', None, 'decoder', TWO, 'mend it')
  assert 'codes: which speech tokenizer' in capsys.readouterr().err


def test_an_entry_is_checked_where_it_is_read(tmp_path):
  assert bindings.tokenizer_of({'speech_tokenizer': ONE}, 'x') == ONE
  assert bindings.tokenizer_of({}, 'x') is None
  for wrong in ('one', {'folder': 'a'}, {'folder': 'a', 'sha256': 3}):
    with pytest.raises(errors.UserError, match=r'x\.json: speech_tokenizer'):
      bindings.tokenizer_of({'speech_tokenizer': wrong}, 'x.json')


def test_codes_tell_their_tokenizer_by_stats_and_receipts(tmp_path):
  assert bindings.of_codes(tmp_path) is None
  first = {'tokenizer_sha256': '1' * 64, 'tokenizer': 'runs/one'}
  files.write_json(tmp_path / 'stats.json', first)
  files.write_json(tmp_path / 'codes-00000-of-00002.json', first)
  files.write_json(tmp_path / 'codes-00001-of-00002.json', {'digest': 'old'})
  assert bindings.of_codes(tmp_path) == ONE
  # A job that was stopped between two tokenizers leaves shards of both.
  (tmp_path / 'stats.json').unlink()
  files.write_json(
    tmp_path / 'codes-00001-of-00002.json', {'tokenizer_sha256': '2' * 64}
  )
  with pytest.raises(errors.UserError, match='tokenize` again'):
    bindings.of_codes(tmp_path)
