"""Language models of others that are asked over HTTP: writers, judges."""
