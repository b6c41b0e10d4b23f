"""Disk to database: discover, compare, load, embed, commit, verify."""
