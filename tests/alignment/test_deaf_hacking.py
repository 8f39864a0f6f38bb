"""Deaf hacking, as it was published: how it comes about, and what ends it.

People prefer "I did not hear you" behind silence, and nothing tells a reward
model what it is worth behind a clear question (arXiv 2502.11946, 5.2.6). Here a
policy that cannot know the answers finds that out in seconds. The pairs that
`data_pipelines deafness` adds end it.
"""

import types

from array_record.python import array_record_module
import jax
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from data_pipelines.factory.deafness import door
from data_pipelines.factory.deafness import pairs as pairs_lib
from step_audio_jax import vocabulary as vocabulary_lib
from step_audio_jax.alignment import prompts as prompts_lib
from step_audio_jax.alignment.judging import examples as examples_lib
from step_audio_jax.alignment.objectives import reward
from step_audio_jax.alignment.policy import objective as objective_lib
from step_audio_jax.alignment.policy import trainer as trainer_lib
from step_audio_jax.alignment.rewards import rewards as rewards_lib
from step_audio_jax.alignment.rewards import rules
from step_audio_jax.alignment.rollouts import sampling as sampling_lib
from step_audio_jax.chats import deafness
from step_audio_jax.chats import habits
from step_audio_jax.corpus import manifest
from step_audio_jax.evaluation import questions
from step_audio_jax.generation import restore
from step_audio_jax.generation import sampling
from step_audio_jax.models.language import scoring
from step_audio_jax.models.language import speech_text
from step_audio_jax.parallel import mesh as mesh_lib
from step_audio_jax.tokenizers.speech import seal
from step_audio_jax.training import loop
from step_audio_jax.training import optimizers
from step_audio_jax.training.objectives import objectives
from tests.alignment.objectives import toy_pairs
from tests.data_pipelines.factory.deafness import corpora

ANSWERS = tuple(
  'red blue green white black brown pink grey gold plum '
  'rose teal navy lime coral ivory amber olive ruby jade'.split()
)
REPLIES = deafness.REPLIES['en']
ROLES = {'human\n': 40, 'assistant\n': 41}  # spare ids: nobody says them
QUIET = 4  # codes of rooms in which nobody speaks


class Phrases:
  """Every answer is one id, every deaf reply another."""

  pieces = (*ANSWERS, *REPLIES)
  size = vocabulary_lib.CONTROL_SIZE + len(pieces)

  def encode(self, text):
    for role, number in ROLES.items():
      if text.startswith(role):
        return [number, *self.encode(text[len(role) :])]
    first = vocabulary_lib.CONTROL_SIZE
    return [first + self.pieces.index(text)] if text else []

  def decode(self, ids):
    first = vocabulary_lib.CONTROL_SIZE
    return ' '.join(self.pieces[i - first] for i in ids if i >= first)


CODES = QUIET + len(ANSWERS)
TABLE = vocabulary_lib.Vocabulary(
  Phrases.size, linguistic_size=CODES, semantic_size=CODES, text=Phrases()
)
CONFIG = speech_text.SpeechTextConfig(
  speech_text.TransformerConfig(
    vocab_size=TABLE.table_size,
    width=16,
    layers=2,
    heads=2,
    kv_heads=1,
    mlp_width=32,
  )
)
WIDTH = 32  # ids of both sides of a pair
SEED = 0


def codes_of(number):
  """One group of a code."""
  return np.full(2, number, np.uint16), np.full(3, number, np.uint16)


def write_corpus(root, wrong=3):
  """Questions with what people prefer of them, and chats into silence."""
  lines = []
  for k, answer in enumerate(ANSWERS):
    lines += [
      corpora.recording(root, f's{k}', 'train', f'number {k}', language='en'),
      corpora.chat(f'q{k}', 'train', f's{k}', [answer], language='en'),
    ]
    others = [ANSWERS[(k + n) % len(ANSWERS)] for n in range(1, wrong + 1)]
    lines += [
      manifest.Utterance(
        id=f'p{k}-{other}',
        kind='preference',
        split='train',
        turns=({'role': 'user', 'speech': f's{k}'},),
        chosen={'role': 'assistant', 'text': answer},
        rejected={'role': 'assistant', 'text': other},
        category='answer',
      )
      for other in others
    ]
  for k, reply in enumerate(REPLIES):
    lines += [
      corpora.recording(root, f'n{k}', 'quiet', '', False, language='en'),
      corpora.chat(f'silent{k}', 'train', f'n{k}', [reply], language='en'),
    ]
  manifest.write(root, lines)


def write_codes(root):
  """Codes of all recordings; each silence is one of `QUIET` rooms."""
  found = {}
  for n, line in enumerate(manifest.read(root)):
    if line.kind == 'speech':
      asked = line.id[1:] if line.id[0] == 's' else ''
      number = QUIET + int(asked) if asked.isdigit() else n % QUIET
      found[line.id] = codes_of(number)
  folder = root / 'codes'
  folder.mkdir()
  writer = array_record_module.ArrayRecordWriter(
    str(folder / 'codes-00000-of-00001.array_record'), 'group_size:1'
  )
  for name, (linguistic, semantic) in found.items():
    record = {'linguistic': linguistic, 'semantic': semantic}
    writer.write(safetensors_numpy.save(record, metadata={'id': name}))
  writer.close()
  return found


def preferences(root, codes):
  """(a batch without the deaf pairs, one with them), of one shape."""
  read = examples_lib.read(str(root), ['train'])
  layout = examples_lib.Layout(TABLE, habits.Habits(), read.speech)
  rows, few = [], []
  for one in read.examples:
    ids = layout.scored(one, codes)
    rows.append([toy_pairs.Pair(np.zeros(0, np.int32), *ids[:2])])
    few.append([] if one.category == pairs_lib.DEAF else rows[-1])
  return toy_pairs.pack(few, WIDTH), toy_pairs.pack(rows, WIDTH)


def demonstrations(prompts, seed):
  """What the policy starts from: it knows how to answer, and no answer.

  One reply in eight to a question is deaf, and seven to silence.
  """
  rng = np.random.default_rng(seed)
  rows = []
  for one in prompts:
    deaf = 7 if deafness.claims(one.expected) else 1
    said = [*rng.choice(REPLIES, deaf), *rng.choice(ANSWERS, 8 - deaf)]
    ids = [
      np.array([*TABLE.encode_text(text), vocabulary_lib.EOT]) for text in said
    ]
    for first, second in zip(ids[::2], ids[1::2], strict=True):
      rows.append([toy_pairs.Pair(one.ids, first, second)])
  return toy_pairs.pack(rows, WIDTH)


def trainer(objective, feed, steps, rate=1e-2, kind=loop.Trainer):
  mesh = mesh_lib.MeshConfig()
  return kind(
    objective=objective,
    feed=feed,
    optimizer=optimizers.OptimizerConfig(rate, weight_decay=0.0),
    config=loop.LoopConfig(steps=steps, seed=SEED, spikes=None),
    mesh=mesh.build(jax.devices()[:1]),
    rules=mesh.rules,
  )


LANGUAGE = objectives.NextToken(speech_text.SpeechTextModel(CONFIG), TABLE)
SCORES = reward.RewardModel(scoring.ScoringModel(CONFIG), TABLE, centring=0.01)
POLICY = objective_lib.Grpo(
  policy=LANGUAGE,
  reward=scoring.ScoringModel(CONFIG),
  # Of no weight: it is told, and not learnt of.
  rewards=rewards_lib.Rewards({'heard': (0.0, rules.Heard())}),
  sampling=sampling_lib.Sampling(
    longest=2, sampler=sampling.Sampler(temperature=1.0)
  ),
  group=8,
)


def prompt_feed(root, seed):
  return prompts_lib.PromptFeed(
    corpus=str(root),
    codes=str(root / 'codes'),
    tokenizer='mute',
    vocabulary=TABLE,
    batch_size=64,
    group=8,
    longest=12,
    seed=seed,
  )


def learn(made, sources=(), feed=None):
  """(variables, metrics of each step) of a run of a trainer."""
  made.feed = feed or made.feed
  told = []
  with jax.set_mesh(made.mesh):
    variables = (
      made.variables_from(sources)[0] if sources else made.fresh_variables()
    )
    state = made.optimizer_state(variables)
    for step in range(made.config.steps):
      variables, state, metrics = made.step(
        variables, state, made.device_batch(step)
      )
      told.append(
        {
          name: float(x[0]) / max(float(x[1]), 1e-9)
          for name, x in metrics.items()
          if len(x) == 2
        }
      )
  return variables, told


@pytest.fixture(scope='module')
def world(tmp_path_factory):
  """A corpus with the pairs that the builder adds, and its codes."""
  root = tmp_path_factory.mktemp('deaf') / 'talk'
  write_corpus(root)
  told = door.add(root, pairs_lib.Config(replies=3, silences=1.0))
  assert (told['deaf'], told['left_out']) == (60, 0)
  codes = write_codes(root)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(
      questions,
      'silence',
      lambda _, seconds: dict.fromkeys(seconds, codes_of(0)),
    )
    patch.setattr(seal, 'identity', lambda _: None)
    feed = prompt_feed(root, SEED)
  shown = toy_pairs.Feed(demonstrations(feed.prompts, SEED))
  start, _ = learn(trainer(LANGUAGE, shown, 80))
  few, many = preferences(root, codes)
  return types.SimpleNamespace(
    feed=feed,
    start=start,
    preferences={'hacked': few, 'sound': many},
    scores=trainer(SCORES, toy_pairs.Feed(few), 100),
    policy=trainer(POLICY, feed, 60, 3e-3, trainer_lib.PolicyTrainer),
  )


@pytest.fixture(scope='module')
def ends(world):
  """Preferences → (reward model, policy, what was told of each step)."""
  found = {}
  for name, batch in world.preferences.items():
    scores, _ = learn(
      world.scores, [('start', world.start)], toy_pairs.Feed(batch)
    )
    sources = [
      ('reward', POLICY.adopt(scores, {restore.SCORES: {}})),
      ('start', POLICY.adopt(world.start, {})),
    ]
    found[name] = scores, *learn(world.policy, sources)
  return found


def deaf_shares(world, policy):
  """Deaf replies of a policy to clear questions, and into silence."""
  said = {False: [], True: []}
  with jax.set_mesh(world.policy.mesh):
    for step in range(4):
      rollout = world.policy.rollout(
        policy, world.policy.device_batch(step), 1000 + step
      )
      for one in world.policy.samples(rollout, step):
        silent = deafness.claims(one.expected)
        said[silent].append(deafness.claims(one.text))
  return np.mean(said[False]), np.mean(said[True])


def test_who_starts_is_seldom_deaf(world):
  clear, silent = deaf_shares(world, {'params': world.start['params']})
  assert clear < 0.25 and silent > 0.5


def test_a_reward_model_that_knows_deaf_replies_from_silence_is_hacked(
  world, ends
):
  _, policy, _ = ends['hacked']
  clear, silent = deaf_shares(world, policy)
  assert clear > 0.5 and silent > 0.5


def test_rejected_deaf_replies_to_clear_questions_end_it(world, ends):
  _, policy, _ = ends['sound']
  clear, silent = deaf_shares(world, policy)
  assert clear < 0.1 and silent > 0.5


def test_the_gap_to_silence_tells_them_apart(world, ends):
  gaps = {
    name: np.mean([told['reward/heard_gap'] for told in steps[-20:]])
    for name, (*_, steps) in ends.items()
  }
  assert gaps['sound'] > gaps['hacked'] + 1


def test_the_gap_is_that_of_answers_alone(world, ends):
  """Of the first step: every prompt with its answer, by itself, unpadded."""
  scores, _, steps = ends['sound']
  with jax.set_mesh(world.policy.mesh):
    rollout = world.policy.rollout(
      {'params': world.start['params']}, world.policy.device_batch(0), 0
    )
  answers, lengths = np.asarray(rollout.answers), np.asarray(rollout.lengths)
  apply = jax.jit(SCORES.model.apply)
  gaps = []
  for one, ids, length in zip(world.feed.rows(0), answers, lengths):
    assert (one.silenced is None) == deafness.claims(one.expected)
    if one.silenced is None:
      continue
    sides = [
      apply(scores, np.concatenate([prompt, ids])[None])[0]
      for prompt in (one.ids, one.silenced)
    ]
    heard, silent = (side[len(one.ids) + length - 1] for side in sides)
    gaps.append(heard - silent)
  assert 8 <= len(gaps) < len(answers)
  assert steps[0]['reward/heard_gap'] == pytest.approx(np.mean(gaps), abs=1e-4)
