"""Ablator: ablation studies as short YAML files."""
