"""SeqIO tasks: definitions, registry, metrics, vocabularies."""
