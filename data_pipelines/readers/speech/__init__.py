"""Readers of speech corpora, a module a toolkit or corpus."""
