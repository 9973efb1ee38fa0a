"""Johnson-Lindenstrauss embeddings: oblivious, learned, and streams of data that does not fit in memory."""
