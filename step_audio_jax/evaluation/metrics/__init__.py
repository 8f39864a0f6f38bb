"""Error rates, perplexity, distances: each metric of an evaluation."""
