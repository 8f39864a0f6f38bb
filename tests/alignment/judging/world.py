"""A corpus of preferences, aloud and in writing, and a reward model of it."""

from array_record.python import array_record_module
import numpy as np
from safetensors import numpy as safetensors_numpy
import soundfile
import tokenizers

from step_audio_jax.alignment.objectives import reward
from step_audio_jax.audio import io
from step_audio_jax.corpus import manifest
from step_audio_jax.models.language import scoring
from step_audio_jax.models.language import speech_text
from step_audio_jax.storage import files
from step_audio_jax.tokenizers.text import vocabularies
from step_audio_jax.training.checkpoints import checkpoints
from tests.alignment.objectives import toy_pairs
from tests.evaluation import parrot
from tests.tokenizers.speech import tiny_dual

SECONDS = 0.5
# Id → (speaker, words); two speakers say the same.
SAID = {
  'a1': ('anna', 'what is red'),
  'b1': ('bert', 'What is red?'),
  'a2': ('anna', 'who is there'),
}
# Id → (category, question, chosen, rejected).
LIKED = {
  'p1': ('colours', {'speech': 'a1'}, 'a rose', 'the sea at night'),
  'p2': ('people', {'speech': 'a2'}, 'nobody', 'we'),
  'p3': (None, {'text': 'is it late'}, 'yes it is', 'no'),
  'p4': ('colours', {'text': 'name a colour'}, 'green', 'a table'),
}


def write_corpus(root):
  """`<root>/liked` with recordings, and `<root>/liked/codes`."""
  folder = root / 'liked'
  (folder / 'wav').mkdir(parents=True)
  lines = []
  for number, (name, (speaker, text)) in enumerate(SAID.items()):
    path = f'wav/{name}.wav'
    wave = tiny_dual.speechlike(round(SECONDS * 16000), number)
    soundfile.write(folder / path, wave, 16000)
    lines.append(
      manifest.Utterance(
        id=name,
        audio=path,
        duration=SECONDS,
        sample_rate=16000,
        speaker=speaker,
        text=text,
        split='test',
      )
    )
  for name, (category, question, chosen, rejected) in LIKED.items():
    lines.append(
      manifest.Utterance(
        id=name,
        kind='preference',
        split='test',
        category=category,
        turns=({'role': 'user', **question},),
        chosen={'role': 'assistant', 'text': chosen},
        rejected={'role': 'assistant', 'text': rejected},
      )
    )
  # Nobody compares it with another.
  alone = {'role': 'assistant', 'text': 'never'}
  lines.append(
    manifest.Utterance(
      id='alone',
      kind='preference',
      split='test',
      turns=({'role': 'user', 'text': 'when'},),
      rejected=alone,
    )
  )
  manifest.write(folder, lines)
  (folder / 'codes').mkdir()
  writer = array_record_module.ArrayRecordWriter(
    str(folder / 'codes' / 'codes-00000-of-00001.array_record'), 'group_size:1'
  )
  for name in SAID:
    wave, _ = io.read_audio(folder / f'wav/{name}.wav')
    linguistic, semantic = tiny_dual.small().encode(wave)
    record = {'linguistic': linguistic, 'semantic': semantic}
    writer.write(safetensors_numpy.save(record, metadata={'id': name}))
  writer.close()
  return folder


def write_run(root):
  """`<root>/reward`: a reward model with random parameters."""
  pieces = {'<unk>': 0, **{c: 68 + n for n, c in enumerate(parrot.LETTERS)}}
  pieces |= {f'<spare{n}>': n for n in range(1, 68)}
  letters = tokenizers.Tokenizer(
    tokenizers.models.WordLevel(pieces, unk_token='<unk>')
  )
  letters.pre_tokenizer = tokenizers.pre_tokenizers.Split('', 'isolated')
  path = root / 'tokenizer.json'
  letters.save(str(path))
  vocabulary = vocabularies.load(text_model=str(path))
  model = scoring.ScoringModel(
    speech_text.SpeechTextConfig(
      speech_text.TransformerConfig(
        vocab_size=vocabulary.table_size,
        width=16,
        layers=1,
        heads=2,
        kv_heads=2,
        mlp_width=16,
      )
    )
  )
  objective = reward.RewardModel(model, vocabulary)
  folder = root / 'reward'
  store = checkpoints.Checkpoints(folder)
  variables = {'params': toy_pairs.parameters(model)}
  store.save(3, variables, {'count': np.zeros(())}, {'row': 0})
  store.close()
  files.write_json(folder / 'config.json', objective.describe())
  return folder, objective, variables


def write_rows(root, rows, **stats):
  """`<root>/preference_aqta/test` with these rows."""
  folder = root / 'preference_aqta' / 'test'
  folder.mkdir(parents=True)
  writer = array_record_module.ArrayRecordWriter(
    str(folder / 'rows-00000-of-00001.array_record'), 'group_size:1'
  )
  for row in rows:
    writer.write(safetensors_numpy.save(row))
  writer.close()
  told = {'rows': len(rows), 'length': len(rows[0]['tokens']), **stats}
  files.write_json(folder / 'stats.json', told)
