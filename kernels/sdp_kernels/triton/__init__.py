"""The Triton twins: device code and launchers for GPUs, or for the interpreter with `SDP_ENGINE=interpret`."""
