"""CPU twin of `sdp_kernels.expectation`."""

from sdp_kernels._streamed import grad_batches, hessian_b_batches, hvp_batches, value_batches

__all__ = ["grad_batches", "hessian_b_batches", "hvp_batches", "value_batches"]
