"""Vector to neighbours: normalisation, the vector store protocol, FAISS snapshots, an exact NumPy oracle."""
