r"""The process of a server, or of a proxy; `servers` starts it.

    python -m benchmarks.buckets.serving gcs --socket=3 [--folder=/tmp/store]
    python -m benchmarks.buckets.serving faults --socket=3 --kind=gcs \
      --upstream=9023

It listens on a socket that it inherits and ends when its input ends.
"""

import argparse
import logging
import os
import socket
import sys
import threading


def end_with_input() -> None:
  """Ends this process once nobody holds the other end of its input."""
  sys.stdin.buffer.read()
  os._exit(0)


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('kind', choices=('gcs', 's3', 'faults'))
  parser.add_argument('--socket', type=int, required=True)
  parser.add_argument('--folder')
  parser.add_argument('--kind', dest='behind')
  parser.add_argument('--upstream', type=int)
  args = parser.parse_args()
  threading.Thread(target=end_with_input, daemon=True).start()
  # Each request is a line of a log otherwise.
  logging.disable(logging.CRITICAL)
  sock = socket.socket(fileno=args.socket)
  # Each imports what the other does not need.
  if args.kind == 'gcs':
    from benchmarks.buckets import google

    google.serve(sock, args.folder)
  elif args.kind == 'faults':
    from benchmarks.buckets import faults

    faults.serve(sock, args.behind, args.upstream)
  else:
    from benchmarks.buckets import amazon

    amazon.serve(sock)


if __name__ == '__main__':
  main()
