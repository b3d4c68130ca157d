"""Mixers: attention, linear attention, SSM; one file each."""
