"""Gaussian expectations, and certified MAXCUT on graphs with millions of edges."""
