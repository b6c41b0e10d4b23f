"""Image to vector: decoding, the backbone protocol, and the backbones."""
