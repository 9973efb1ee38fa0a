"""The `sdp` command: one file a command."""
