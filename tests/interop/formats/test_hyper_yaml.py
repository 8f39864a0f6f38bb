"""HyperPyYAML as data: references, tags, hostile files."""

import hypothesis
from hypothesis import strategies as st
import pytest

from step_audio_jax import errors
from step_audio_jax.interop.formats import hyper_yaml


def read(tmp_path, text):
  path = tmp_path / 'cosyvoice.yaml'
  path.write_text(text, encoding='utf-8')
  return hyper_yaml.read(path)


def test_tags_are_dropped_and_references_are_looked_up(tmp_path):
  tree = read(
    tmp_path,
    """
__set_seed: !apply:random.seed [1986]
width: 512
rates: [8, [3, 5]]
flow: !new:cosyvoice.flow.Flow
    size: !ref <width>
    again: !copy <width>
    inner: !new:omegaconf.DictConfig
        content: {sigma: 1e-06, big: 2E3, word: e5, text: '1e-06'}
    encoder: !ref <encoder>
    second: !ref <rates[1][0]>
    deep: !ref <flow[inner][content][big]>
encoder: &encoder
    blocks: 6
same: *encoder
pipeline: [!ref <opener>, !name:a.b.shuffle ]
opener: !name:a.b.open
odd: !ref <width> * 2
shape: !tuple (1, 2)
""",
  )
  flow = tree['flow']
  assert tree['__set_seed'] == [1986]
  assert (flow['size'], flow['again'], flow['second']) == (512, 512, 3)
  content = {'sigma': 1e-6, 'big': 2000.0, 'word': 'e5', 'text': '1e-06'}
  assert flow['inner'] == {'content': content}
  assert flow['deep'] == 2000.0
  assert flow['encoder'] == tree['same'] == {'blocks': 6}
  assert tree['pipeline'] == [{}, {}]
  assert tree['odd'] == '<width> * 2'
  assert tree['shape'] == '(1, 2)'


@pytest.mark.parametrize(
  'text, said',
  [
    ('a: !ref <b>', 'found !ref <b>, which names nothing in the file'),
    ('a: [1]\nb: !ref <a[3]>', r'found !ref <a\[3\]>, which names nothing'),
    ('a: !ref <b>\nb: !ref <a>', 'found a value that contains itself'),
    ('a: !ref <a>', 'found a value that contains itself'),
    ('a: &a [*a]', 'found a value that contains itself'),
    ('- 1', 'found a list, expected a mapping'),
    ('', 'found a NoneType, expected a mapping'),
    ('a: [1', 'cannot be read: while parsing'),
    ('? [a]\n: 1', 'cannot be read'),
    ('a: ' + '[' * 1_200, 'cannot be read'),
    ('a: ' + 'x' * 2**20, 'more than 1048576 bytes'),
  ],
)
def test_bad_files_get_one_sentence(tmp_path, text, said):
  with pytest.raises(errors.UserError, match=said) as caught:
    read(tmp_path, text)
  told = str(caught.value)
  assert 'cosyvoice.yaml: ' in told and '\n' not in told


@pytest.mark.parametrize(
  'tag',
  [
    '!!python/object/apply:os.system ["touch {victim}"]',
    '!apply:os.system ["touch {victim}"]',
    '!new:subprocess.Popen [["touch", "{victim}"]]',
    '!name:os.system',
    '!include:{victim}',
    '!applyref:os.system ["touch {victim}"]',
  ],
)
def test_nothing_runs(tmp_path, tag):
  victim = tmp_path / 'it_ran'
  text = f'a: 1\nb: {tag.format(victim=victim)}\n'
  if tag.startswith('!!'):
    with pytest.raises(errors.UserError, match='cannot be read'):
      read(tmp_path, text)
  else:
    assert read(tmp_path, text)['a'] == 1
  assert not victim.exists()


def test_many_aliases_stay_one_value(tmp_path):
  """A laugh of a billion laughs takes no time and no memory."""
  lines = ['a0: &a0 [x, x, x, x]']
  for level in range(1, 40):
    names = ', '.join([f'*a{level - 1}'] * 4)
    lines.append(f'a{level}: &a{level} [{names}]')
  value = read(tmp_path, '\n'.join(lines))['a39']
  for _ in range(39):
    assert value[0] is value[3]
    value = value[0]
  assert value == ['x'] * 4


@pytest.mark.parametrize('raw', [b'\xff\xfe\x00', b'a: \x00'])
def test_bytes_that_are_no_text(tmp_path, raw):
  path = tmp_path / 'cosyvoice.yaml'
  path.write_bytes(raw)
  with pytest.raises(errors.UserError, match='cannot be read'):
    hyper_yaml.read(path)
  with pytest.raises(errors.UserError, match='no such file'):
    hyper_yaml.read(tmp_path / 'other.yaml')


@hypothesis.settings(max_examples=60)
@hypothesis.given(st.text('ab: !ref<>[]0-\n&*{},\'"', max_size=60))
def test_any_text_gives_a_mapping_or_a_sentence(tmp_path_factory, text):
  try:
    assert isinstance(read(tmp_path_factory.getbasetemp(), text), dict)
  except errors.UserError as error:
    assert 'cosyvoice.yaml' in str(error)
