"""What the data side promises, measured: shares, padding, feed, build.

    python benchmarks/pipelines/data.py
    python benchmarks/pipelines/data.py --only=padding,feed

    shares    realised share of every source against the requested one, over
              all prefixes of each stage's schedule, of ratios drawn at random,
              and of a curriculum; and whether the feed's batches follow it
    padding   rows of 8192 from lengths uniform in 50..8192 (whole, or cut at
              groups as pretraining does) and from short utterances (whole),
              beside SeqIO's own packer on the same lengths
    feed      tokens a second from built rows, one core; bytes of state; the
              first batch of a feed at step 10 million against one at step 0
    build     `build` from cached codes, one core, once SeqIO is imported:
              tokens a second (those in rows, padding apart) and largest memory
              for a corpus and one four times as large
    packed    loss and gradients of packed ragged documents against each alone
    hosts     global batches put together from those of 1, 2, 4 and 8 hosts,
              a process each

Needs the `data` extra. Each part runs in a process of its own; prints one JSON
line with what must hold and whether it does. `--tiny` tries the logic only:
there SeqIO's packer is left out.
"""

import argparse
import json
import pathlib
import sys
import time

# Run as a script, the folder of the script is all that is looked in.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from benchmarks import side_by_side  # noqa: E402
from benchmarks.pipelines import building  # noqa: E402
from benchmarks.pipelines import feeding  # noqa: E402
from benchmarks.pipelines import packing  # noqa: E402
from benchmarks.pipelines import processes  # noqa: E402

PARTS = {
  'shares': feeding.shares,
  'padding': packing.padding,
  'feed': feeding.feed,
  'build': building.build,
  'packed': packing.packed,
  'hosts': feeding.hosts,
}
CHILDREN = {'build_one': building.build_one, 'one_host': feeding.one_host}


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--only', default=','.join(PARTS), help='parts to run')
  parser.add_argument('--tiny', action='store_true', help='tries the logic')
  parser.add_argument('--child', help=argparse.SUPPRESS)
  parser.add_argument('told', nargs='*', help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.child:
    known = PARTS | CHILDREN
    print(json.dumps(known[arguments.child](arguments.tiny, *arguments.told)))
    return
  wanted = arguments.only.split(',')
  unknown = sorted(set(wanted) - set(PARTS))
  if unknown:
    raise SystemExit(
      f'--only: found {unknown[0]!r}, expected some of {", ".join(PARTS)}.'
    )
  result = {'benchmark': 'data'}
  for part in wanted:
    begin = time.perf_counter()
    result[part] = processes.run_part(part, arguments.tiny)
    result[part]['seconds'] = round(time.perf_counter() - begin, 1)
  result['met'] = all(result[part]['met'] for part in wanted)
  result['machine'] = side_by_side.machine(1)
  print(json.dumps(result))


if __name__ == '__main__':
  main()
