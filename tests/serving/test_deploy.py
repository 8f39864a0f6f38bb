"""What lies in `deploy` fits the server."""

import json
import pathlib
import re

from absl import flags
import pytest
import yaml

from step_audio_jax.serving import door

DEPLOY = pathlib.Path(__file__).parents[2] / 'deploy'


@pytest.fixture(scope='module')
def fv():
  """The flags of the door."""
  found = flags.FlagValues()
  door.DOOR.define(found)
  return found


def instruction(name):
  text = (DEPLOY / 'Dockerfile').read_text()
  return json.loads(re.search(rf'^{name} (\[.*\])$', text, re.M)[1])


def test_the_image_starts_the_server(fv):
  command = [*instruction('ENTRYPOINT'), *instruction('CMD')]
  assert command[:4] == ['python', '-m', 'step_audio_jax', 'serve']
  fv(['serve', *command[4:]])
  with pytest.raises(ValueError, match='there is no token'):
    door.settings_of(fv)


def test_what_the_image_copies_is_there():
  text = (DEPLOY / 'Dockerfile').read_text()
  for line in re.findall(r'^COPY (.*)$', text, re.M):
    for name in line.split()[:-1]:
      assert (DEPLOY.parent / name).exists()


def test_the_deployment_fits_the_server(fv):
  found = {
    one['kind']: one
    for one in yaml.safe_load_all((DEPLOY / 'kubernetes.yaml').read_text())
  }
  spec = found['Deployment']['spec']
  pod = spec['template']['spec']
  (container,) = pod['containers']
  fv(['serve', *container['args']])
  (variable,) = container['env']
  assert variable['name'] == door.TOKEN
  for probe in ('startupProbe', 'readinessProbe', 'livenessProbe'):
    assert container[probe]['httpGet'] == {'path': '/health', 'port': 'http'}
  pause = int(container['lifecycle']['preStop']['exec']['command'][1])
  assert pod['terminationGracePeriodSeconds'] > pause + fv.drain_seconds
  labels = spec['template']['metadata']['labels']
  assert found['Service']['spec']['selector'] == labels
  assert spec['selector']['matchLabels'] == labels
  mounted = {one['name'] for one in container['volumeMounts']}
  assert mounted == {one['name'] for one in pod['volumes']}
