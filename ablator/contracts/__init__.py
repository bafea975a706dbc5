"""Frozen settings, records and protocols that the rooms share."""
