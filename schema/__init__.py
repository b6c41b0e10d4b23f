"""Leaf of the tree: vocabulary, errors, the directory contract, tables, the database and its catalog."""
