"""SeqIO's metrics against the project's scoring and closed forms."""

import math

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest
import seqio

from data_pipelines.tasks import corpora
from data_pipelines.tasks import definitions
from data_pipelines.tasks import metrics
from step_audio_jax import errors
from step_audio_jax.evaluation import conventions
from step_audio_jax.evaluation.metrics import scoring
from tests.data_pipelines import tiny

Target = metrics.Target


def test_error_rates_by_hand():
  targets = [Target('the cat sat', 'en', 1.0), Target('小 猫', 'zh', 1.0)]
  said = ['The bat  sat', '小狗']
  # One letter of 11 + 2, two of 13 characters; one word of 3, one of 2.
  assert metrics.character_error_rate(targets, said) == {
    'cer': pytest.approx(2 / 13)
  }
  assert metrics.word_error_rate(targets, said) == {'wer': pytest.approx(2 / 5)}
  with pytest.raises(ValueError):
    metrics.word_error_rate(targets, said[:1])


words = st.lists(st.sampled_from(['a', 'bc', 'd']), max_size=5).map(' '.join)


@hypothesis.given(
  st.lists(st.tuples(words, words, st.sampled_from(['en', 'zh'])), max_size=5)
)
def test_error_rates_are_those_of_scoring(lines):
  targets = [Target(text, language, 0.0) for text, _, language in lines]
  said = [prediction for _, prediction, _ in lines]
  for mode, metric in (
    ('character', metrics.character_error_rate),
    ('word', metrics.word_error_rate),
  ):
    (found,) = metric(targets, said).values()
    assert found == scoring.corpus_errors(lines, mode).rate


def test_likelihood_is_of_a_learnt_id():
  # 5 ids at p = 1/4 and 3 half-weighted ones at p = 1/2.
  targets = [Target('', 'en', 5.0), Target('', 'en', 1.5)]
  scores = [-5 * math.log(4), np.float32(-1.5 * math.log(2))]
  found = metrics.negative_log_likelihood(targets, scores)
  want = (5 * math.log(4) + 1.5 * math.log(2)) / 6.5
  assert found['nll'] == pytest.approx(want)
  assert found['perplexity'] == pytest.approx(math.exp(want))
  assert math.isnan(metrics.negative_log_likelihood([], [])['nll'])


@pytest.fixture
def tasks(tmp_path):
  root = tiny.make(tmp_path / 'corpus')
  before = set(seqio.TaskRegistry.names())
  model = str(root / 'text.model')
  yield [
    *corpora.register_speech_corpus(
      'met', str(root / 'speech'), codes=str(root / 'codes'), text_model=model
    ),
    *corpora.register_text_corpus('met', str(root / 'text'), text_model=model),
    *corpora.register_image_text_corpus(
      'met', str(root / 'images'), text_model=model
    ),
    *corpora.register_chat_corpus('met', str(root / 'text'), text_model=model),
  ]
  for name in set(seqio.TaskRegistry.names()) - before:
    seqio.TaskRegistry.remove(name)
    corpora.DEFINITIONS.pop(name, None)


CHOSEN = ('qwen2audio', 'seed-tts', 'wenet', 'open-asr')


def test_every_task_has_the_metrics_of_its_kind(tasks):
  both = ['character_error_rate', 'word_error_rate']
  found = {
    task.name.removeprefix('met_'): (
      [metric.__name__ for metric in task.predict_metric_fns],
      [metric.__name__ for metric in task.score_metric_fns],
    )
    for task in tasks
  }
  likelihood = ['negative_log_likelihood']
  assert found == {
    name: (both if name.endswith(('asr', 'tts')) else [], likelihood)
    for name in (
      'continuation', 'interleaved', 'asr', 'tts', 'sft_asr', 'sft_tts',
      'text', 'image_text', 'chat',
    )
  }  # fmt: skip
  kinds = {
    kind
    for table in (
      definitions.SPEECH_TASKS,
      definitions.TEXT_TASKS,
      definitions.IMAGE_TEXT_TASKS,
      definitions.CHAT_TASKS,
      definitions.SPEECH_SFT,
      definitions.CHAT_SFT,
      definitions.PREFERENCE_TASKS,
    )
    for kind, _ in table.values()
  }
  assert set(metrics.BY_KIND) == kinds


def test_a_task_scores_its_own_transcripts_zero(tasks):
  """Through the registry: targets of the data, metrics of the task."""
  (task,) = [task for task in tasks if task.name == 'met_asr']
  targets = [
    task.postprocess_fn(None, example=example, is_target=True)
    for example in task.get_dataset(
      None, 'train', shuffle=False
    ).as_numpy_iterator()
  ]
  said = [target.text for target in targets]
  said[0] = f'{said[0]} cat'
  found = {}
  for metric in task.predict_metric_fns:
    found |= metric(targets, said)
  assert found['cer'] == pytest.approx(4 / sum(len(t.text) for t in targets))
  total = sum(len(t.text.split()) for t in targets)
  assert found['wer'] == pytest.approx(1 / total)
  # A model that thinks every id equally likely.
  (metric,) = task.score_metric_fns
  size = task.output_features['tokens'].vocabulary.vocab_size
  scores = [-t.weight * math.log(size) for t in targets]
  assert metric(targets, scores)['perplexity'] == pytest.approx(size)


def test_conventions_are_metrics_by_name():
  assert set(metrics.BY_CONVENTION) == set(conventions.CONVENTIONS)
  targets = [Target('我有12只', 'zh', 1.0), Target('It is.', 'en', 1.0)]
  metric = metrics.BY_CONVENTION['qwen2audio']
  assert metric.__name__ == 'qwen2audio_error_rate'
  assert metric(targets, ['我有十二只', "it's not"]) == {
    'qwen2audio': pytest.approx(1 / 7),
    'qwen2audio_excluded': 0,
  }
  found = metrics.BY_CONVENTION['seed-tts']([Target('猫', 'ja', 1.0)], ['猫'])
  assert math.isnan(found['seed-tts'])
  assert found['seed-tts_excluded'] == 1
  with pytest.raises(ValueError):
    metric(targets, [''])
  with pytest.raises(errors.UserError, match="found 'cer'"):
    metrics.of('asr', ['cer'])
  assert metrics.of('text', CHOSEN) == metrics.BY_KIND['text']


class Whole(seqio.PassThroughFeatureConverter):
  """The examples as they are; with what `seqio.Evaluator` asks for."""

  TASK_FEATURES = {}
  pack = False


def test_seqio_measures_what_conventions_score(tmp_path):
  """`seqio.Evaluator` over a task of ours, from ids to rates."""
  root = tiny.make(tmp_path / 'corpus')
  given = {
    'codes': str(root / 'codes'),
    'text_model': str(root / 'text.model'),
  }
  before = set(seqio.TaskRegistry.names())
  try:
    names = [
      task.name
      for task in corpora.register_speech_corpus(
        'rated', str(root / 'speech'), conventions=CHOSEN, **given
      )
    ]
    with pytest.raises(errors.UserError, match='registered already'):
      corpora.register_speech_corpus('rated', str(root / 'speech'), **given)
    assert 'rated_asr' in names
    evaluator = seqio.Evaluator(
      'rated_asr',
      feature_converter=Whole(),
      eval_split='train',
      target_field_name='tokens',
    )
    (task,) = evaluator.eval_tasks
    vocabulary = task.output_features['tokens'].vocabulary
    lines = [
      (example['text'].decode(), example['language'].decode())
      for example in task.get_dataset(
        None, 'train', shuffle=False
      ).as_numpy_iterator()
    ]
    # Every second one is wrong: a word twice, the first one lost.
    said = [
      text if i % 2 else f'{text} {text.split()[-1]}'.split(' ', 1)[1]
      for i, (text, _) in enumerate(lines)
    ]

    def predict(_):
      ids = [vocabulary.encode(text) for text in said]
      longest = max(map(len, ids))
      return [
        (i, [*one, *[vocabulary.eos_id] * (longest - len(one) + 1)])
        for i, one in enumerate(ids)
      ]

    future, _ = evaluator.evaluate(
      compute_metrics=True,
      predict_fn=predict,
      score_fn=lambda _: [(i, 0.0) for i in range(len(lines))],
    )
    found = future.result()['rated_asr']
  finally:
    for name in set(seqio.TaskRegistry.names()) - before:
      seqio.TaskRegistry.remove(name)
      corpora.DEFINITIONS.pop(name, None)
  rows = [
    (str(i), text, prediction, language)
    for i, ((text, language), prediction) in enumerate(
      zip(lines, said, strict=True)
    )
  ]
  for name, scored in conventions.score_all(CHOSEN, rows).items():
    assert 0 < found[name] == scored.rate
    assert found[f'{name}_excluded'] == 0
  assert found['cer'] > 0 and found['nll'] == 0
