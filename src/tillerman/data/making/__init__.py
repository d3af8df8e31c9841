"""Labelled data made from a description: what a writer is asked, how its words are read, and which pairs are kept.

Pure: who writes is not known here (see ``tillerman.pipeline.making``).
"""
