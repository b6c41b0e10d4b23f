"""A store over HTTP, for programs and for people."""
