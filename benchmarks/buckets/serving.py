"""The process of a server; `servers` starts it.

    python -m benchmarks.buckets.serving gcs --socket=3 [--folder=/tmp/store]

It listens on a socket that it inherits and ends when its input ends.
"""

import argparse
import functools
import http.server
import logging
import os
import socket
import sys
import threading


def serve_gcs(sock: socket.socket, folder: str | None) -> None:
  """Serves `gcp-storage-emulator` for ever."""
  from gcp_storage_emulator import server
  from gcp_storage_emulator import storage

  kept = storage.Storage(use_memory_fs=folder is None, data_dir=folder)
  serving = http.server.HTTPServer(
    sock.getsockname(),
    functools.partial(server.RequestHandler, kept),
    bind_and_activate=False,
  )
  serving.socket.close()
  serving.socket = sock
  serving.serve_forever()


def serve_s3(sock: socket.socket) -> None:
  """Serves moto's S3 for ever."""
  from moto.moto_server import werkzeug_app
  from werkzeug import serving

  serving.make_server(
    *sock.getsockname(),
    werkzeug_app.DomainDispatcherApplication(werkzeug_app.create_backend_app),
    threaded=True,
    request_handler=werkzeug_app.MotoRequestHandler,
    fd=sock.fileno(),
  ).serve_forever()


def end_with_input() -> None:
  """Ends this process once nobody holds the other end of its input."""
  sys.stdin.buffer.read()
  os._exit(0)


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('kind', choices=('gcs', 's3'))
  parser.add_argument('--socket', type=int, required=True)
  parser.add_argument('--folder')
  args = parser.parse_args()
  threading.Thread(target=end_with_input, daemon=True).start()
  # Each request is a line of a log otherwise.
  logging.disable(logging.CRITICAL)
  sock = socket.socket(fileno=args.socket)
  if args.kind == 'gcs':
    serve_gcs(sock, args.folder)
  else:
    serve_s3(sock)


if __name__ == '__main__':
  main()
