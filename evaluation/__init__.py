"""Labelled queries to tables."""
