"""An engine that answers many requests at once: continuous batching."""
