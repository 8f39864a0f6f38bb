"""Who speaks: the speaker encoder, its training, embeddings of a corpus."""
