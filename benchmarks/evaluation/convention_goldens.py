r"""Output of the public scoring tools, as goldens of our conventions.

    python benchmarks/evaluation/convention_goldens.py --tools=TOOLS qwen2audio

It needs nothing of this project and runs where the tool does: in an environment
of its own with `sacrebleu==1.5.1 jiwer==3.0.4 editdistance zhconv==1.4.3
zhon==2.1.1 kaldialign==0.12.0 num2words==0.5.14 more-itertools regex` and
`openai-whisper==20250625` without its dependencies. TOOLS is a folder with
checkouts of `Qwen2-Audio`, `Kimi-Audio-Evalkit`, `UltraEval-Audio`, `wenet`,
`seed-tts-eval` and `open_asr_leaderboard`, at the revisions that
docs/conventions.md names, and Kaldi's `score_kaldi_cer.sh` in `kaldi`; their
own functions run, recorders stand around them. Kaldi's compute-wer has to be
compiled, so that kaldialign's port of it counts. `plain` is this project's, as
it was before there was a second convention; `pairs` makes what is scored from
tests/golden/conventions/texts.tsv.

Every line of NAME.jsonl: the id in pairs.jsonl; `normalised`, what the tool
makes of both texts; `tokens`, joined by spaces; `counts`, [N, S, D, I], or
[N, edits] of a tool that does not tell them apart; or `dropped`. Prints one
JSON line last.
"""

import argparse
import ast
import importlib.util
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import types

FOLDER = pathlib.Path(__file__).parents[2] / 'tests' / 'golden' / 'conventions'
VARIANTS = {'en': 2}  # mutations of each text; 1 in other languages
TAGS = '<noise> [cough] <|en|> (laughs)'.split()


def mutated(text: str, seed: int) -> str:
  """A hypothesis that is wrong in a few places."""
  rng = random.Random(f'{seed} {text}')
  parts = text.split(' ') if ' ' in text.strip() else list(text)
  join = ' ' if ' ' in text.strip() else ''
  for _ in range(rng.randint(1, 4)):
    if not parts:
      break
    i = rng.randrange(len(parts))
    match rng.choice('drop swap twice other tag join lower wide bare'.split()):
      case 'drop':
        del parts[i]
      case 'swap':
        parts[i - 1], parts[i] = parts[i], parts[i - 1]
      case 'twice':
        parts.insert(i, parts[i])
      case 'other':
        parts[i] = rng.choice(['the', '的', '7', '两', 'ok', '十二', 'uh'])
      case 'tag':
        parts.insert(i, rng.choice(TAGS))
      case 'join':
        parts[i : i + 2] = [''.join(parts[i : i + 2])]
      case 'lower':
        parts = [part.lower() for part in parts]
      case 'wide':
        parts[i] = ''.join(
          chr(ord(c) + 0xFEE0) if '!' <= c <= '~' else c for c in parts[i]
        )
      case 'bare':
        parts[i] = re.sub(r'\W', '', parts[i])
  return join.join(parts)


def pairs() -> list[dict]:
  """(id, language, reference, hypothesis) of texts and their mutations."""
  found = []
  lines = (FOLDER / 'texts.tsv').read_text(encoding='utf-8').splitlines()
  for number, line in enumerate(lines):
    language, reference, *given = line.split('\t')
    hypotheses = [
      mutated(reference, k) for k in range(VARIANTS.get(language, 1))
    ]
    for k, hypothesis in enumerate(given + hypotheses):
      found.append(
        {
          'id': f'{language}{number:03}{"abc"[k]}',
          'language': language,
          'reference': reference,
          'hypothesis': hypothesis,
        }
      )
  return found


def taken(path: pathlib.Path, *names: str, **given) -> dict:
  """The named functions, classes and assignments of a file, run by itself."""
  tree = ast.parse(path.read_text(encoding='utf-8'))
  body = [
    node
    for node in tree.body
    if getattr(node, 'name', None) in names
    or (
      isinstance(node, ast.Assign)
      and getattr(node.targets[0], 'id', None) in names
    )
  ]
  space = {'re': re, 'print': lambda *_: None, **given}
  exec(compile(ast.Module(body, []), str(path), 'exec'), space)
  return space


class Recorder:
  """Stands for `editdistance`, and remembers what it was asked."""

  def __init__(self):
    import editdistance

    self._library = editdistance
    self.asked = []

  def eval(self, ours, theirs):
    self.asked.append((ours, theirs, self._library.eval(ours, theirs)))
    return self.asked[-1][2]


def recording(tokenizer):
  """A subclass of a tool's tokenizer that remembers what it was given."""

  class Recording(tokenizer):
    given: list[str] = []

    def tokenize(self, text):
      self.given.append(text)
      return super().tokenize(text)

  return Recording


def edit_distance_tool(space: dict, tokenizer, languages: dict):
  """A scorer around a tool's `compute_wer`, which only counts edits."""
  # The first ones are printed, which fails where they are empty.
  before = ['a'] * 5

  def score(pair):
    language = languages.get(pair['language'], pair['language'])
    texts = [pair['reference'], pair['hypothesis']]
    if 'remove_sp' in space:
      texts = [space['remove_sp'](text, language) for text in texts]
    recorder = space['ed'] = Recorder()
    tokenizer.given.clear()
    space['compute_wer'](
      [*before, texts[0]], [*before, texts[1]], language=language
    )
    # kimi asks twice for each.
    ours, theirs, edits = recorder.asked[-1]
    return {
      'normalised': tokenizer.given[-2:],
      'tokens': [' '.join(ours), ' '.join(theirs)],
      'counts': [len(ours), edits],
    }

  return score


def qwen2audio(tools):
  import zhconv

  folder = tools / 'Qwen2-Audio' / 'eval_audio'
  sys.path.insert(0, str(folder))
  import cn_tn
  import evaluate_tokenizer
  from whisper_normalizer import basic
  from whisper_normalizer import english

  tokenizer = recording(evaluate_tokenizer.EvaluationTokenizer)
  space = taken(
    folder / 'evaluate_asr.py',
    *('PUNCS', 'remove_sp', 'compute_wer', 'chinese_normalizer'),
    *('english_normalizer', 'basic_normalizer'),
    EvaluationTokenizer=tokenizer,
    TextNorm=cn_tn.TextNorm,
    EnglishTextNormalizer=english.EnglishTextNormalizer,
    BasicTextNormalizer=basic.BasicTextNormalizer,
    zhconv=zhconv,
  )
  return edit_distance_tool(space, tokenizer, {}), without('ja', 'th')


def kimi(tools):
  sys.path.insert(0, str(tools / 'Kimi-Audio-Evalkit' / 'almeval'))
  from metrics import wer

  tokenizer = recording(wer.EvaluationTokenizer)
  space = wer.__dict__
  space |= {'EvaluationTokenizer': tokenizer, 'print': lambda *_: None}
  score = edit_distance_tool(space, tokenizer, {})

  def unless_null(pair):
    # almeval/datasets/ds_asr.py leaves these rows out.
    if pair['hypothesis'] == 'null':
      return {'dropped': 'null'}
    return score(pair)

  return unless_null, without('ja', 'th')


def ultraeval(tools):
  sys.path.insert(0, str(tools / 'UltraEval-Audio'))
  from audio_evals.lib import wer

  tokenizer = recording(wer.EvaluationTokenizer)
  space = wer.__dict__
  space |= {'EvaluationTokenizer': tokenizer, 'print': lambda *_: None}
  return edit_distance_tool(space, tokenizer, {}), without('ja', 'th')


def without(*languages):
  return lambda language: language not in languages


def jiwer_counts(ours: str, theirs: str, characters: bool = False) -> dict:
  """What jiwer counts; it refuses references without words."""
  import jiwer

  transform = jiwer.cer_default if characters else jiwer.wer_default
  try:
    process = jiwer.process_characters if characters else jiwer.process_words
    found = process(ours, theirs)
  except ValueError:
    return {'dropped': 'refused'}
  length = found.hits + found.substitutions + found.deletions
  (ours,), (theirs,) = transform(ours), transform(theirs)
  return {
    'tokens': [' '.join(ours), ' '.join(theirs)],
    'counts': [
      length,
      found.substitutions,
      found.deletions,
      found.insertions,
    ],
  }


def whisper(tools):
  del tools
  # The package itself wants torch; its normalisers do not.
  spec = importlib.util.find_spec('whisper')
  package = types.ModuleType('whisper')
  package.__path__ = list(spec.submodule_search_locations)
  sys.modules['whisper'] = package
  from whisper import normalizers

  english = normalizers.EnglishTextNormalizer()
  basic = normalizers.BasicTextNormalizer()
  split = normalizers.BasicTextNormalizer(split_letters=True)

  def score(pair):
    language = pair['language']
    normaliser = (
      english
      if language == 'en'
      else split
      if language in ('zh', 'yue', 'ja', 'th', 'lo', 'my')
      else basic
    )
    texts = [normaliser(pair[side]) for side in ('reference', 'hypothesis')]
    return {'normalised': texts} | jiwer_counts(*texts)

  return score, without()


def seed_tts(tools):
  import string

  import jiwer
  import zhconv
  from zhon import hanzi

  asked = []

  def compute_measures(truth, hypothesis):
    asked.append((truth, hypothesis))
    return jiwer.compute_measures(truth, hypothesis)

  path = tools / 'seed-tts-eval' / 'run_wer.py'

  def score(pair):
    space = taken(
      path,
      'punctuation_all',
      'process_one',
      punctuation=hanzi.punctuation,
      string=string,
      compute_measures=compute_measures,
      lang=pair['language'],
    )
    hypothesis = pair['hypothesis']
    if pair['language'] == 'zh':
      hypothesis = zhconv.convert(hypothesis, 'zh-cn')
    asked.clear()
    try:
      *_, rate, _, _, _ = space['process_one'](hypothesis, pair['reference'])
    except ValueError:
      return {'dropped': 'refused'}
    found = jiwer_counts(*asked[-1])
    length, *errors = found['counts']
    assert rate == sum(errors) / length
    return found

  return score, lambda language: language in ('zh', 'en')


def open_asr(tools):
  import num2words

  sys.path.insert(0, str(tools / 'open_asr_leaderboard'))
  import kaldialign
  import normalizer
  from normalizer import eval_utils

  space = taken(
    tools / 'open_asr_leaderboard' / 'normalizer' / 'data_utils.py',
    *('MultilingualNormalizer', 'ml_normalizer', 'is_target_text_in_range'),
    BasicMultilingualTextNormalizer=normalizer.BasicMultilingualTextNormalizer,
    num2words=num2words,
  )
  english = normalizer.EnglishTextNormalizer()

  def score(pair):
    language = pair['language']
    texts = [pair['reference'], pair['hypothesis']]
    if language == 'en':
      texts = [english(text) for text in texts]
    else:
      texts = [space['ml_normalizer'](text, lang=language) for text in texts]
    if not space['is_target_text_in_range'](texts[0]):
      return {'dropped': 'out of range'}
    joined = texts
    if language != 'en':
      ours, theirs = eval_utils.normalize_compound_pairs(texts[:1], texts[1:])
      joined = [ours[0], theirs[0]]
    ours, theirs = (tuple(text.split()) for text in joined)
    found = kaldialign.batch_error_rate([ours], [theirs], merge_compounds=True)
    return {
      'normalised': texts,
      'tokens': [' '.join(ours), ' '.join(theirs)],
      'counts': [found[key] for key in ('ref_len', 'sub', 'del', 'ins')],
    }

  return score, lambda language: language in 'en de fr it es pt'.split()


def wenet(tools):
  path = tools / 'wenet' / 'tools' / 'compute-wer.py'
  spec = importlib.util.spec_from_file_location('compute_wer', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  with tempfile.TemporaryDirectory() as folder:
    files = []
    for side in ('reference', 'hypothesis'):
      files.append(pathlib.Path(folder) / side)
      lines = (f'{pair["id"]} {pair[side]}\n' for pair in pairs())
      files[-1].write_text(''.join(lines), encoding='utf-8')
    told = subprocess.run(
      [sys.executable, path, '--char=1', '--v=1', *files],
      capture_output=True,
      text=True,
      check=True,
    ).stdout
  found = {
    name: [int(number) for number in numbers]
    for name, *numbers in re.findall(
      r'utt: (\S+)\nWER: .*? N=(\d+) C=\d+ S=(\d+) D=(\d+) I=(\d+)', told
    )
  }

  def score(pair):
    tokens = [
      module.normalize(module.characterize(pair[side]), set(), False)
      for side in ('reference', 'hypothesis')
    ]
    return {
      'tokens': [' '.join(one) for one in tokens],
      'counts': found[pair['id']],
    }

  return score, without()


def kaldi(tools):
  """Kaldi's score_kaldi_cer.sh cuts characters with this line of perl."""
  import kaldialign

  script = (tools / 'kaldi' / 'score_kaldi_cer.sh').read_text()
  perl = re.search(r"perl -CSDA -ane '(.*?)'", script, re.DOTALL)[1]

  def score(pair):
    texts = [pair['reference'], pair['hypothesis']]
    if pair['language'] in ('zh', 'yue', 'ja', 'th'):
      lines = ''.join(f'id {text}\n' for text in texts)
      told = subprocess.run(
        ['perl', '-CSDA', '-ane', perl],
        input=lines,
        capture_output=True,
        text=True,
        check=True,
      ).stdout
      tokens = [line.split(' ')[1:] for line in told.splitlines()]
    else:
      tokens = [re.split('[ \t]+', text.strip(' \t')) for text in texts]
      tokens = [[] if one == [''] else one for one in tokens]
    found = kaldialign.edit_distance(*tokens)
    return {
      'tokens': [' '.join(one) for one in tokens],
      'counts': [found[key] for key in ('ref_len', 'sub', 'del', 'ins')],
    }

  return score, without()


def jiwer_cer(tools):
  del tools
  return (
    lambda pair: jiwer_counts(pair['reference'], pair['hypothesis'], True),
    without(),
  )


def jiwer_wer(tools):
  del tools
  return (
    lambda pair: jiwer_counts(pair['reference'], pair['hypothesis']),
    without(),
  )


def plain(tools):
  del tools
  sys.path.insert(0, str(FOLDER.parents[2]))
  from step_audio_jax.evaluation.metrics import scoring

  def score(pair):
    texts = pair['reference'], pair['hypothesis'], pair['language']
    ours, theirs, language = texts
    errors = scoring.count(*texts)
    return {
      'normalised': [
        scoring.normalise(ours, language),
        scoring.normalise(theirs, language, ours),
      ],
      'counts': list(errors.astuple()),
    }

  return score, without()


TOOLS = (
  *(qwen2audio, kimi, ultraeval, whisper, seed_tts, open_asr, wenet, kaldi),
  *(jiwer_cer, jiwer_wer, plain),
)


def write(name: str, lines: list[dict]) -> None:
  path = FOLDER / f'{name}.jsonl'
  text = ''.join(json.dumps(line, ensure_ascii=False) + '\n' for line in lines)
  path.write_text(text, encoding='utf-8')


def main():
  names = {tool.__name__.replace('_', '-'): tool for tool in TOOLS}
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('name', choices=['pairs', *names])
  parser.add_argument('--tools', type=pathlib.Path, default='.')
  args = parser.parse_args()
  lines = pairs()
  if args.name != 'pairs':
    score, covers = names[args.name](args.tools.resolve())
    lines = [
      {'id': pair['id'], **score(pair)}
      for pair in lines
      if covers(pair['language'])
    ]
  write(args.name, lines)
  print(json.dumps({'name': args.name, 'lines': len(lines)}))


if __name__ == '__main__':
  main()
