"""What the tokenizers minimise; three objectives for the training loop.

* `LinguisticCTC`: a Paraformer encoder spells transcripts from its streaming
  windows, by CTC, by integrate-and-fire (`models.tokenizer.cif`), or by both;
* `LinguisticKMeans`: the frozen encoder's frames are clustered;
* `SemanticCTC`: an S3 encoder spells through its quantiser.

Batches come from `audio_feed.AudioFeed`: `wave` (B, S), `samples` (B,),
`labels` (B, N), `label_counts` (B,), `weights` (B,), and the loop's `step`.
The front end runs inside the step. Published recipes for these parts do not
exist (Step-Audio took trained models); the choices here are the project's.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from step_audio_jax import errors
from step_audio_jax.models.tokenizer import chunk_masked
from step_audio_jax.models.tokenizer import cif as cif_lib
from step_audio_jax.models.tokenizer import paraformer
from step_audio_jax.models.tokenizer import s3
from step_audio_jax.tokenizers.speech import codebook as codebook_lib
from step_audio_jax.tokenizers.speech import features
from step_audio_jax.tokenizers.training import labels as labels_lib
from step_audio_jax.training.transfer import heads as heads_lib


def ctc_loss(logits_BTL, counts_B, batch):
  """Summed CTC loss, number of labels, and the fraction of frames blank."""
  time = jnp.arange(logits_BTL.shape[1])[None, :]
  place = jnp.arange(batch['labels'].shape[1])[None, :]
  losses_B = optax.ctc_loss(
    logits_BTL,
    (time >= counts_B[:, None]).astype(jnp.float32),
    batch['labels'],
    (place >= batch['label_counts'][:, None]).astype(jnp.float32),
  )
  losses_B = jnp.where(batch['weights'] > 0, losses_B, 0.0)
  return losses_B.sum(), (batch['label_counts'] * batch['weights']).sum()


def _spelling(path: str, labels: labels_lib.Labels) -> heads_lib.Head:
  return heads_lib.Head(path, labels.characters, 'labels', before=1)


def _noisy(key, x, sigma):
  return x + sigma * jax.random.normal(key, x.shape) if sigma else x


def _valid(counts_B, weights_B, total):
  valid = jnp.arange(total)[None, :] < counts_B[:, None]
  return valid & (weights_B > 0)[:, None]


@dataclasses.dataclass(frozen=True)
class LinguisticCTC:
  """CTC and CIF on a Paraformer encoder.

    loss = ctc · CTC + cif · (cross-entropy of the fired tokens + |Σα − labels|)

  summed over utterances, divided by their labels. CMVN comes from the data:
  the first `cmvn_steps` steps count, then it stands.

  Attributes:
    config: Of the encoder.
    labels: What the heads spell.
    noise: Standard deviation of the noise on normalised features.
    cmvn_steps: Steps that CMVN counts.
    windowed: Train on streaming windows, the form that yields codes; else on
      whole utterances.
    ctc: Weight of CTC.
    cif: Weight of integrate-and-fire; 0 leaves its head out.
    chunks: Train on overlapping chunks instead, as the original was
      (`chunk_masked.RELEASED`): `ChunkSpec`s or their numbers, of which every
      step takes one at random.
  """

  config: paraformer.ParaformerConfig
  labels: labels_lib.Labels
  noise: float = 0.1
  cmvn_steps: int = 50
  windowed: bool = True
  ctc: float = 1.0
  cif: float = 0.0
  chunks: tuple[chunk_masked.ChunkSpec, ...] = ()

  def __post_init__(self):
    specs = (
      one
      if isinstance(one, chunk_masked.ChunkSpec)
      else chunk_masked.ChunkSpec(*one)
      for one in self.chunks
    )
    object.__setattr__(self, 'chunks', tuple(specs))
    for name in ('ctc', 'cif'):
      if getattr(self, name) < 0:
        raise errors.UserError(
          f'linguistic: {name} is {getattr(self, name)}, expected a weight of '
          'at least 0.'
        )
    if not self.ctc + self.cif:
      raise errors.UserError(
        'linguistic: ctc and cif are both 0, expected one that is not.'
      )

  @property
  def model(self) -> paraformer.ParaformerCTC:
    return paraformer.ParaformerCTC(
      self.config, self.labels.size, self.windowed, self.cif > 0
    )

  def init(self, rng, batch):
    x_BTD, counts_B = features.linguistic(batch['wave'], batch['samples'])
    if self.cif:
      variables = self.model.init(
        rng, x_BTD, counts_B, counts_B, 1, method='both'
      )
    else:
      variables = self.model.init(rng, x_BTD, counts_B)
    return {**variables, 'cmvn': features.empty_moments(x_BTD.shape[-1])}

  def inputs(self, variables, batch, count: bool):
    """Normalised features, frame counts and the moments."""
    x_BTD, counts_B = features.linguistic(batch['wave'], batch['samples'])
    moments = variables['cmvn']
    if count:
      more = features.add_moments(moments, x_BTD, counts_B, batch['weights'])
      counting = batch['step'] < self.cmvn_steps
      moments = jax.tree.map(
        lambda new, old: jnp.where(counting, new, old), more, moments
      )
    shift_D, scale_D = features.shift_and_scale(moments)
    x_BTD = (x_BTD + shift_D[None, None]) * scale_D[None, None]
    return jax.lax.stop_gradient(x_BTD), counts_B, moments

  def loss(self, variables, batch, rng):
    x_BTD, counts_B, moments = self.inputs(variables, batch, count=True)
    x_BTD = _noisy(rng, x_BTD, self.noise)
    outs = self._run(variables['params'], x_BTD, counts_B, batch, rng)
    total, weight = ctc_loss(outs[0], counts_B, batch)
    if not self.cif:
      total *= self.ctc
      return total, weight, {'loss': (total, weight)}, {'cmvn': moments}
    present_B = batch['weights'] > 0
    entropy, away = (
      jnp.where(present_B, loss_B, 0.0).sum()
      for loss_B in cif_lib.losses(
        *outs[1:], batch['labels'], batch['label_counts']
      )
    )
    metrics = {
      'loss/ctc': (total, weight),
      'loss/cif': (entropy, weight),
      'loss/quantity': (away, present_B.sum().astype(jnp.float32)),
    }
    total = self.ctc * total + self.cif * (entropy + away)
    metrics['loss'] = total, weight
    return total, weight, metrics, {'cmvn': moments}

  def _run(self, params, x_BTD, counts_B, batch, rng):
    """CTC logits, and with CIF its logits and weights."""

    def run(spec):
      if not self.cif:
        return self.model.apply({'params': params}, x_BTD, counts_B, spec)[1:]
      return self.model.apply(
        {'params': params},
        x_BTD,
        counts_B,
        batch['label_counts'],
        batch['labels'].shape[1],
        spec,
        method='both',
      )

    if not self.chunks:
      return run(None)
    ways = [functools.partial(run, spec) for spec in self.chunks]
    choice = jax.random.randint(jax.random.fold_in(rng, 1), (), 0, len(ways))
    return jax.lax.switch(choice, ways)

  def heads(self) -> tuple[heads_lib.Head, ...]:
    """What has an entry for each character, CTC's blank in front."""
    paths = ('params/head', 'params/cif_head/head')
    return tuple(_spelling(path, self.labels) for path in paths)

  def describe(self) -> dict[str, Any]:
    return {
      'tokenizer': 'linguistic',
      'model': dataclasses.asdict(self.config),
      'labels': list(self.labels.characters),
    }


@dataclasses.dataclass(frozen=True)
class LinguisticKMeans:
  """k-means on the frames of a trained `LinguisticCTC`.

  Start the run from that run (`init_from`) and multiply all learning rates by
  0: the parameters only travel along.

  Attributes:
    ctc: The objective that trained the encoder.
    codebook: Size and schedule of the clustering.
  """

  ctc: LinguisticCTC
  codebook: codebook_lib.CodebookConfig

  def init(self, rng, batch):
    state = codebook_lib.init(self.codebook, self.ctc.config.width)
    return {**self.ctc.init(rng, batch), 'codebook': state}

  def loss(self, variables, batch, rng):
    x_BTD, counts_B, _ = self.ctc.inputs(variables, batch, count=False)
    model = paraformer.SanmEncoder(self.ctc.config)
    hidden_BTD = model.apply(
      {'params': variables['params']['encoder']},
      x_BTD,
      counts_B,
      method='windowed',
    )
    hidden = jax.lax.stop_gradient(hidden_BTD)
    hidden_ND = hidden.reshape(-1, hidden.shape[-1])
    state = variables['codebook']
    codes_N, distance_N = codebook_lib.assign(hidden_ND, state['table'])
    valid = _valid(counts_B, batch['weights'], hidden.shape[1]).reshape(-1)
    new = codebook_lib.update(
      self.codebook, state, hidden_ND, codes_N, valid, batch['step'], rng
    )
    started = (batch['step'] >= self.codebook.start).astype(jnp.float32)
    total = (distance_N * valid).sum()
    frames = valid.sum().astype(jnp.float32)
    one = jnp.ones(())
    metrics = {
      'loss': (total, frames),
      'codes/started': (started, one),
      **codebook_lib.metrics(self.codebook, new, started),
    }
    return total, frames, metrics, {'codebook': new}

  def heads(self) -> tuple[heads_lib.Head, ...]:
    """Those of the encoder's run, which only travel along."""
    return self.ctc.heads()

  def all_or_nothing(self) -> tuple[str, ...]:
    """Centroids of another number are other centroids."""
    return ('codebook/',)

  def describe(self) -> dict[str, Any]:
    return self.ctc.describe() | {'codebook': dataclasses.asdict(self.codebook)}


@dataclasses.dataclass(frozen=True)
class SemanticCTC:
  """CTC through the quantiser of an S3 encoder.

  Until the codebook starts the head reads the unquantised vectors; then the
  straight-through ones, with the commitment ‖n − stop_gradient(q)‖².

  Attributes:
    config: Of the model; its `codes` is the codebook's size.
    labels: What the head spells.
    codebook: Schedule of the codebook.
    commitment: Weight of the commitment, in units of loss per label.
    noise: Standard deviation of the noise on the log-mel.
  """

  config: s3.S3Config
  labels: labels_lib.Labels
  codebook: codebook_lib.CodebookConfig
  commitment: float = 0.25
  noise: float = 0.1

  def __post_init__(self):
    if self.codebook.size != self.config.codes:
      raise errors.UserError(
        f'semantic: the codebook has {self.codebook.size} codes and the model '
        f'{self.config.codes}; expected the same number.'
      )

  @property
  def model(self) -> s3.S3CTC:
    return s3.S3CTC(self.config, self.labels.size)

  def init(self, rng, batch):
    mel_BTM, counts_B = features.semantic(batch['wave'], batch['samples'])
    state = codebook_lib.init(self.codebook, self.config.width)
    variables = self.model.init(rng, mel_BTM, counts_B, state['table'])
    return {**variables, 'codebook': state}

  def loss(self, variables, batch, rng):
    mel_BTM, counts_B = features.semantic(batch['wave'], batch['samples'])
    mel_BTM = jax.lax.stop_gradient(mel_BTM)
    noise_key, codebook_key = jax.random.split(rng)
    state = variables['codebook']
    started = batch['step'] >= self.codebook.start
    out = self.model.apply(
      {'params': variables['params']},
      _noisy(noise_key, mel_BTM, self.noise),
      counts_B,
      state['table'],
      started,
    )
    total, weight = ctc_loss(out['logits'], out['counts'], batch)
    unit = out['unit']
    valid_BT = _valid(out['counts'], batch['weights'], unit.shape[1])
    away = unit - jax.lax.stop_gradient(out['quantised'])
    distance = (jnp.square(away).sum(-1) * valid_BT).sum()
    frames = valid_BT.sum().astype(jnp.float32)
    on = started.astype(jnp.float32)
    commitment = self.commitment * on * distance / jnp.maximum(frames, 1.0)
    new = codebook_lib.update(
      self.codebook,
      state,
      unit.reshape(-1, unit.shape[-1]),
      out['codes'].reshape(-1),
      valid_BT.reshape(-1),
      batch['step'],
      codebook_key,
    )
    metrics = {
      'loss': (total, weight),
      'codes/distance': (distance * on, frames * on),
      **codebook_lib.metrics(self.codebook, new, on),
    }
    return total + commitment * weight, weight, metrics, {'codebook': new}

  def heads(self) -> tuple[heads_lib.Head, ...]:
    """What has an entry for each character, CTC's blank in front."""
    return (_spelling('params/head', self.labels),)

  def all_or_nothing(self) -> tuple[str, ...]:
    """A codebook of another size is another codebook."""
    return ('codebook/',)

  def describe(self) -> dict[str, Any]:
    return {
      'tokenizer': 'semantic',
      'model': dataclasses.asdict(self.config),
      'codebook': dataclasses.asdict(self.codebook),
      'labels': list(self.labels.characters),
    }
