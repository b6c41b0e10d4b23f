"""Vector to neighbours: normalisation, the vector store protocol, FAISS segments, an exact NumPy oracle."""
