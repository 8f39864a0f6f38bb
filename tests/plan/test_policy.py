"""The plan of a policy: sums of what its programs take."""

import json

import pytest

from step_audio_jax.commands import cli
from step_audio_jax.plan import counts
from step_audio_jax.plan import door
from step_audio_jax.plan import policy
from step_audio_jax.plan import step

PPO = 'gin/alignment/step1_3b_ppo.gin'
FLAGS = [f'--gin_file={PPO}', '--topology=v5p:2x2x1']


def program(name, phase, seconds, times=1, turn=None):
  work = {
    'executed_flops_per_chip': 1e12,
    'hbm_bytes_per_chip': 2e9,
    'ici_bytes_per_chip': 3e9,
  }
  found = {
    'name': name,
    'phase': phase,
    'times': times,
    'fits': True,
    'hbm_gib_per_chip': 40.0,
    'beside_gib_per_chip': 4.0,
    'temporaries_gib_per_chip': 6.0,
    'compile_seconds': 1.0,
    'predicted_seconds': seconds,
    **work,
  }
  if turn:
    found['turn'] = {**work, 'predicted_seconds': turn}
  return found


PROGRAMS = [
  program('layout', 'rollout', 0.5),
  program('decode', 'rollout', 0.5, turn=0.01),
  program('evaluate', 'evaluation', 1.0),
  program('update', 'update', 2.0, times=4),
]
FACTS = {
  'topology': 'v5p:2x2x1',
  'slices': 1,
  'chips': 4,
  'parameters': 13_659_555_842,
  'mesh': {'replica': 1, 'fsdp': 4, 'context': 1, 'tensor': 1},
  'batch_size': 256,
  'prompt': 512,
  'answer': 100,
  'updates': 4,
  'microbatches': 8,
  'remat': 'full',
  'largest': 'update',
  'fits': True,
  'programs': PROGRAMS,
  'state_gib_per_chip': {'policy': 3.29, 'optimizer': 12.72},
  'hbm_gib_per_chip': {'state': 16.01, 'total': 40.0, 'capacity': 95.74},
  'predicted_split': [policy.split(PROGRAMS, n) for n in (25, 100)],
}


def run(*words):
  return cli.run('python -m step_audio_jax plan', door.DOOR, [*FLAGS, *words])


def test_a_step_is_the_sum_of_its_programs():
  found = policy.split(PROGRAMS, 100)
  assert found['seconds'] == {
    'rollout': pytest.approx(2.0),
    'evaluation': 1.0,
    'update': 8.0,
  }
  assert found['step_seconds'] == pytest.approx(11.0)
  assert sum(found['shares'].values()) == pytest.approx(1.0)
  shorter = policy.split(PROGRAMS, 25)
  assert shorter['seconds']['rollout'] == pytest.approx(1.25)


def test_a_loop_until_all_have_ended_runs_as_often_as_is_said():
  dot = 'lhs_contracting_dims={1}, rhs_contracting_dims={0}'
  shape = 'f32[64,64]'
  text = f"""HloModule m, num_partitions=1

%body (p: {shape}) -> {shape} {{
  %p = {shape} parameter(0)
  ROOT %d = {shape} dot(%p, %p), {dot}
}}

%open (q: {shape}) -> pred[] {{
  %q = {shape} parameter(0)
  ROOT %c = pred[] custom-call(%q), custom_call_target="x"
}}

ENTRY %main (x: {shape}) -> {shape} {{
  %x = {shape} parameter(0)
  %y = {shape} dot(%x, %x), {dot}
  ROOT %w = {shape} while(%y), condition=%open, body=%body
}}
"""
  one = 2 * 64**3
  for turns in (0, 1, 30):
    found = counts.count(text, unknown=turns)
    assert found.flops == one * (1 + turns)
    assert found.unknown_loops == ('w',)


def test_json_and_table(monkeypatch, capsys):
  monkeypatch.setattr(policy, 'plan', lambda parts, target: FACTS)
  assert run('--door=rl', '--json') == 0
  *lines, last = capsys.readouterr().out.splitlines()
  assert json.loads(last) == FACTS
  text = '\n'.join(lines)
  for words in (
    '256 answers of 100 ids to prompts of 512 a step, 4 updates in',
    'HBM a chip: 40.00 of 95.74 GiB, the most in update: fits',
    'policy 3.29, optimizer 12.72, together 16.01 GiB',
  ):
    assert words in text
  assert lines[-2].split() == [
    *('100', '11.00', '2.00', 's', '18.2', '%'),
    *('1.00', 's', '9.1', '%', '8.00', 's', '72.7', '%'),
  ]


def test_a_policy_that_is_too_large_is_refused(monkeypatch, capsys):
  large = {**FACTS['hbm_gib_per_chip'], 'total': 120.5}
  facts = {**FACTS, 'fits': False, 'hbm_gib_per_chip': large}
  monkeypatch.setattr(policy, 'plan', lambda parts, target: facts)
  assert run('--door=rl') == 2
  assert (
    'need 120.50 GiB a chip in update (16.01 of it state), expected at most '
    '95.74' in capsys.readouterr().err
  )


def test_doors_and_runs_that_do_not_belong_together(capsys):
  assert run() == 2
  assert 'train a policy, expected --door=rl' in capsys.readouterr().err
  assert run('--door=rl', '--search') == 2
  assert 'expected --door=train with it' in capsys.readouterr().err
  with pytest.raises(policy.errors.UserError, match='is object, expected that'):
    policy.step_of(object())


def test_the_prompts_of_a_plan_need_no_corpus():
  found = step.configure([PPO], [])
  batch = found['feed'].batch(0, 0, 2)
  assert batch['tokens'].shape == (2, 512)
  assert list(batch['starts']) == [512, 512]
  assert found['feed'].group == 1
