"""What we measure ourselves against: peers from PyPI, and baselines written in torch.

The file a peer lives in carries its name; none of them is a dependency of the package (see
``benchmarks/requirements.txt``), so each imports its peer inside the function that runs it.
"""
