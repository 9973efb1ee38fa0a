"""Optimisation with proofs: perturbed descent, curvature certificates, second-order points, derandomisation."""
