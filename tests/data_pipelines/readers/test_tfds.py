"""Data sets that TFDS itself has written, whole and spoilt."""

import functools
import json
import shutil

import numpy as np
import pytest
import soundfile

from data_pipelines.readers import tfds as reader
from step_audio_jax import errors
from tests.data_pipelines.ingestion import ingesting
from tests.data_pipelines.readers import trees

ingested = functools.partial(ingesting.ingested, format='tfds')

RATE = 16000
FORMATS = ('tfrecord', 'array_record', 'parquet')
TEXTS = {'dev_clean': 2, 'train_clean100': 5}


def samples(split, number):
  """A ramp whose values say which recording it is."""
  return np.arange(1600 + 160 * number) % (100 * len(split))


def written(data_dir, name, features, splits, **options):
  """Lets TFDS prepare `splits`: name → examples; returns the folder."""
  import tensorflow_datasets as builders
  from tensorflow_datasets.core.utils import gcs_utils

  # No information of a data set of this name is looked up in the network.
  gcs_utils._is_gcs_disabled = True

  class Made(builders.core.GeneratorBasedBuilder, skip_registration=True):
    __module__ = 'made'  # of no package, whose files would be looked for
    VERSION = builders.core.Version(options.get('version', '1.1.1'))
    BUILDER_CONFIGS = [
      builders.core.BuilderConfig(name=options.get('config', 'plain_text'))
    ]

    def _info(self):
      return builders.core.DatasetInfo(
        builder=self, features=builders.features.FeaturesDict(features)
      )

    def _split_generators(self, manager):
      return {split: self._generate(split) for split in splits}

    def _generate(self, split):
      yield from enumerate(splits[split])

    def _generate_examples(self):
      raise AssertionError

  Made.name = name
  builder = Made(
    data_dir=data_dir, file_format=options.get('file_format', 'tfrecord')
  )
  builder.download_and_prepare(
    download_config=builders.download.DownloadConfig(
      num_shards=options.get('num_shards', 1), try_download_gcs=False
    )
  )
  return builder.data_dir


def audio(**fields):
  import tensorflow_datasets as builders

  return builders.features.Audio(sample_rate=RATE, **fields)


def librispeech(data_dir, **options):
  """The features, splits and ids of TFDS' `librispeech`."""
  import tensorflow as tf
  import tensorflow_datasets as builders

  features = {
    'speech': audio(),
    'text': builders.features.Text(),
    'speaker_id': tf.int64,
    'chapter_id': tf.int64,
    'id': tf.string,
  }
  splits = {
    split: [
      {
        'speech': samples(split, k),
        'text': f'TEXT {k} OF {split}',
        'speaker_id': 19 + k,
        'chapter_id': 198,
        'id': f'{19 + k}-198-{split}',
      }
      for k in range(count)
    ]
    for split, count in TEXTS.items()
  }
  return written(data_dir, 'librispeech', features, splits, **options)


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """A data folder of TFDS with `librispeech` in five shards a split."""
  root = tmp_path_factory.mktemp('tensorflow_datasets')
  librispeech(root, num_shards=2)
  return root


@pytest.fixture
def spoilt(prepared, tmp_path):
  """A copy that a test may spoil: (data folder, folder of the version)."""
  root = shutil.copytree(prepared, tmp_path / 'in')
  return root, root / 'librispeech' / 'plain_text' / '1.1.1'


@pytest.mark.parametrize('format', FORMATS)
def test_librispeech_by_its_name(prepared, tmp_path, format):
  if format != 'tfrecord':
    prepared = tmp_path / 'in'
    librispeech(prepared, file_format=format)
  kept, left = ingested(prepared, tmp_path / 'out', name='librispeech')
  assert left == [] and len(kept) == sum(TEXTS.values())
  for split, count in TEXTS.items():
    for k in range(count):
      one = kept[f'{19 + k}-198-{split}']
      assert one.text == f'TEXT {k} OF {split}' and one.speaker == str(19 + k)
      assert one.split == split.partition('_')[0]
      assert one.sample_rate == RATE
      path = one.audio_path(tmp_path / 'out')
      found, _ = soundfile.read(path, dtype='int16')
      np.testing.assert_array_equal(found, samples(split, k))


@pytest.mark.parametrize('below', ['', 'librispeech', 'librispeech/plain_text'])
def test_one_split_from_any_folder_above(prepared, tmp_path, below):
  kept, _ = ingested(prepared / below, tmp_path / 'out', subset='dev_clean')
  assert {u.split for u in kept.values()} == {'dev'} and len(kept) == 2


def test_versions_and_configurations(tmp_path):
  import tensorflow_datasets as builders

  features = {'audio': audio(), 'text': builders.features.Text()}
  for config, version in (('a', '1.9.0'), ('a', '1.10.0'), ('b', '1.0.0')):
    examples = [{'audio': samples('x', 1), 'text': f'{config} {version}'}]
    written(
      tmp_path / 'in', 'other', features, {'train': examples},
      config=config, version=version, file_format='array_record',
    )  # fmt: skip
  with pytest.raises(errors.UserError, match='found other/a, other/b; expect'):
    ingested(tmp_path / 'in', tmp_path / 'out')
  with pytest.raises(errors.UserError, match='no dataset_info.json of nope'):
    ingested(tmp_path / 'in', tmp_path / 'out', name='nope')
  with pytest.raises(errors.UserError, match='expected a data set, such as'):
    ingested(tmp_path / 'in', tmp_path / 'out', name='../in/other/b')
  kept, _ = ingested(tmp_path / 'in', tmp_path / 'out', name='other/a')
  assert [u.text for u in kept.values()] == ['a 1.10.0']
  kept, _ = ingested(tmp_path / 'in', tmp_path / 'out', name='other/a/1.9.0')
  assert [(u.id, u.text) for u in kept.values()] == [('train-1', 'a 1.9.0')]


def test_bad_examples_cost_themselves(tmp_path):
  import tensorflow as tf

  features = {'audio': audio(), 'text': tf.string, 'key': tf.string}
  good = {'audio': samples('x', 1), 'text': 'fine', 'key': 'good'}
  bad = (
    ({'text': ''}, 'text: missing'),
    ({'text': b'caf\xe9'}, 'expected a string'),
    ({'text': 'x' * 10_000_000}, 'bytes, expected at most 1000000'),
    ({'audio': np.zeros(0, np.int64)}, 'found samples of shape (0,)'),
    ({'audio': np.array([2**20])}, 'beyond 32768'),
    ({'key': 'good'}, 'occurs twice'),
  )
  examples = [good] + [
    good | {'key': f'k{n}'} | fields for n, (fields, _) in enumerate(bad)
  ]
  written(tmp_path / 'in', 'bad', features, {'train': examples})
  kept, left = ingested(tmp_path / 'in', tmp_path / 'out')
  # TFDS shuffles while it writes, so that either `good` may come first.
  assert list(kept) == ['good']
  assert len(left) == len(bad)
  reasons = ' '.join(one['reason'] for one in left)
  assert all(reason in reasons for _, reason in bad)


@pytest.mark.parametrize('format', FORMATS)
def test_images_with_captions_and_labels(format, tmp_path):
  import tensorflow_datasets as builders

  features = {
    'image': builders.features.Image(),
    'words': builders.features.Text(),
    'lang': builders.features.ClassLabel(names=['en', 'fr']),
  }
  (tmp_path / 'x.png').write_bytes(trees.png('red'))
  example = {'image': str(tmp_path / 'x.png'), 'words': 'rouge', 'lang': 1}
  splits = {'validation': [example]}
  written(tmp_path / 'in', 'pictures', features, splits, file_format=format)
  kept, left = ingested(tmp_path / 'in', tmp_path / 'out', text='words')
  (one,) = kept.values()
  assert (one.kind, one.text, one.language) == ('image_text', 'rouge', 'fr')
  assert one.split == 'dev' and left == []
  # The bytes of the file, not decoded and coded again.
  assert one.image_path(tmp_path / 'out').read_bytes() == trees.png('red')


@pytest.mark.parametrize('format', FORMATS)
def test_recordings_that_are_kept_as_files(format, tmp_path):
  import tensorflow_datasets as builders

  features = {
    'audio': audio(file_format='wav', lazy_decode=True),
    'text': builders.features.Text(),
  }
  (tmp_path / 'x.wav').write_bytes(trees.tone(0.25))
  example = {'audio': str(tmp_path / 'x.wav'), 'text': 'hello'}
  splits = {'train': [example]}
  written(tmp_path / 'in', 'lazy', features, splits, file_format=format)
  kept, _ = ingested(tmp_path / 'in', tmp_path / 'out')
  path = kept['train-1'].audio_path(tmp_path / 'out')
  assert path.read_bytes() == trees.tone(0.25)


def test_damage_costs_the_rest_of_one_file(spoilt, tmp_path):
  root, folder = spoilt
  first, second = sorted(folder.glob('*train_clean100*'))
  stated = json.loads((folder / 'dataset_info.json').read_text())['splits']
  (lengths,) = (
    list(map(int, one['shardLengths']))
    for one in stated
    if one['name'] == 'train_clean100'
  )
  raw = bytearray(first.read_bytes())
  raw[-100] ^= 1
  first.write_bytes(raw)
  kept, left = ingested(root, tmp_path / 'out', subset='train_clean100')
  assert len(kept) == lengths[1] + lengths[0] - 1
  assert len(left) == 1 and left[0]['where'].startswith(str(first))
  assert f'behind example {lengths[0] - 1} of {lengths[0]}' in left[0]['reason']
  second.unlink()
  kept, left = ingested(root, tmp_path / 'two', subset='train_clean100')
  assert len(kept) == lengths[0] - 1 and len(left) == 2
  first.write_bytes(b'')
  with pytest.raises(errors.UserError, match='none of 2 lines can be used'):
    ingested(root, tmp_path / 'three', subset='train_clean100')


def changed(path, change):
  told = json.loads(path.read_text())
  change(told)
  path.write_text(json.dumps(told))


@pytest.mark.parametrize(
  'template, reason',
  [
    ('../2.0.0/{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}', 'source: found'),
    ('/{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}', 'leads out of'),
  ],
)
def test_names_of_files_do_not_lead_out(spoilt, tmp_path, template, reason):
  root, folder = spoilt
  shutil.copytree(folder, folder.with_name('2.0.0'))

  def change(told):
    for split in told['splits']:
      split['filepathTemplate'] = template

  changed(folder / 'dataset_info.json', change)
  with pytest.raises(errors.UserError, match=reason):
    ingested(folder, tmp_path / 'out')


def test_links_do_not_lead_out_unless_named(spoilt, tmp_path):
  root, folder = spoilt
  elsewhere = tmp_path / 'elsewhere'
  elsewhere.mkdir()
  for path in folder.glob('*dev_clean*'):
    path.rename(elsewhere / path.name)
    path.symlink_to(elsewhere / path.name)
  with pytest.raises(errors.UserError, match='--audio_root names another'):
    ingested(root, tmp_path / 'out', subset='dev_clean')
  kept, left = ingested(
    root, tmp_path / 'out', subset='dev_clean', root=elsewhere
  )
  assert len(kept) == 2 and left == []
  info = folder / 'features.json'
  info.rename(elsewhere / info.name)
  info.symlink_to(elsewhere / info.name)
  with pytest.raises(errors.UserError, match='features.json. leads out'):
    ingested(root, tmp_path / 'out', subset='dev_clean')


@pytest.mark.parametrize(
  'name',
  [
    'os.path.Evil',
    'evil.Feature',
    'tensorflow_datasets.scripts.cli.main.Feature',
    'tensorflow_datasets_evil.Feature',
  ],
)
@pytest.mark.parametrize('depth', [0, 1])
def test_no_module_is_imported_by_name(spoilt, tmp_path, name, depth):
  root, folder = spoilt
  (tmp_path / 'evil.py').write_text('raise SystemExit("imported")')

  def change(told):
    inner = told['featuresDict']['features']['text'] if depth else told
    inner['pythonClassName'] = name

  changed(folder / 'features.json', change)
  with pytest.raises(errors.UserError, match='expected a class of tensorflow'):
    reader.check_classes(folder)
  with pytest.raises(errors.UserError, match='expected a class of tensorflow'):
    ingested(root, tmp_path / 'out')


def test_what_is_missing_is_named(spoilt, tmp_path):
  root, folder = spoilt
  with pytest.raises(errors.UserError, match='no split .train. in .*; it has'):
    ingested(root, tmp_path / 'out', subset='train')
  with pytest.raises(errors.UserError, match="no column 'nope'; there are"):
    ingested(root, tmp_path / 'out', text='nope')
  with pytest.raises(errors.UserError, match='sample_rate: found x, expected'):
    ingested(root, tmp_path / 'out', sample_rate='x')
  (folder / 'dataset_info.json').write_text('{"name": 3')
  with pytest.raises(errors.UserError, match='not a prepared data set of TFDS'):
    ingested(root, tmp_path / 'out')
  (folder / 'features.json').unlink()
  with pytest.raises(errors.UserError, match='features.json'):
    ingested(root, tmp_path / 'out')
