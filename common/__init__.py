"""Utilities shared by several of the project's packages; this package imports none of them."""
