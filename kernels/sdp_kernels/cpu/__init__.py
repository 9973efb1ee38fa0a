"""The CPU engine: numba twins of the operations, two threads or more, same bits whatever their number."""
