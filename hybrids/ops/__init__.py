"""Tensor functions shared by mixers; each has one meaning and possibly several backends."""
