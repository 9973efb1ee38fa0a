"""The Gaussian expectation E[g(Wx + b)]: value, gradient, Hessian-vector products, confidence."""
