"""Meshes, logical axis rules and the topology table."""
