"""Manifests of corpora, and how stages mix them."""
