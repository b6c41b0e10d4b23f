"""Detectors: an upright RGB picture in, boxes out; and what becomes of them: chosen, cut out."""
