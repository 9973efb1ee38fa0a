"""MAXCUT: graphs, the relaxation and its certified bound, rounding and polish."""
