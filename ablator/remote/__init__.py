"""Runs on a Ray cluster from another machine: what is shipped, the tunnel, the job and its log."""
