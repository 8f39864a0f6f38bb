"""The overlapping training chunks of every linguistic fixture."""

import functools

import jax

from step_audio_jax.models.tokenizer import chunk_masked
from tests.parity.test_golden import each
from tests.parity.test_golden import linguistic


@each('linguistic')
def test_linguistic_training_chunks(path, parity):
  own = linguistic(path)
  z, name = own.golden, own.golden.name
  c = z.config['encoder']
  # The recorded setting is the first of those that the config lists.
  spec = chunk_masked.ChunkSpec(
    size=c['chunk_size'][0],
    stride=c['stride'][0],
    pad_left=c['pad_left'][0],
    look_back=c['encoder_att_look_back_factor'][0],
  )
  feats, lengths = z['in/offline_feats'], z['in/offline_lens']

  @jax.jit
  def run(variables, x, lengths):
    apply = functools.partial(own.model.apply, variables, x, lengths, spec)
    return apply(method='chunk_masked'), apply(method='training_chunks')

  joined, chunks = run(own.variables, feats, lengths)
  longest = z['out/chunkmask_enc'].shape[1]
  parity(
    f'{name} chunkmask_enc', joined[:, :longest], z['out/chunkmask_enc'], 1e-4
  )
  parity(f'{name} chunkmask_olens', lengths, z['out/chunkmask_olens'], 0)
  # The original lays the chunks in a row behind frames that nothing reads.
  gap = (c['kernel_size'] - 1) // 2
  raw, counts = z['out/chunkmask_enc_raw'], z['out/chunkmask_olens_raw']
  for row, count in enumerate(counts):
    for place in range(spec.chunks(int(lengths[row]))):
      begin = place * (gap + spec.size) + gap
      frames = min(spec.size, int(count) - begin)
      parity(
        f'{name} chunkmask_enc_raw row {row} chunk {place}',
        chunks[row, place, :frames],
        raw[row, begin : begin + frames],
        1e-4,
      )
