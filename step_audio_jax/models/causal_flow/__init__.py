"""The chunk-causal flow-matching network, for streaming."""
