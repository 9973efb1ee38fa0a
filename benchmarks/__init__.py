"""Benchmarks: one file a question, each naming its peer; answers as JSON under ``results/``."""
