"""Fuzzing: a harness for every parser of what clients send, and the inputs that taught something.

``make fuzz`` lets atheris, a coverage-guided fuzzer, invent inputs; ``make test`` replays the
corpus and mutations of it without atheris.
"""
