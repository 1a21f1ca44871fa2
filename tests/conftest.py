"""What all tests share: Hypothesis without clock or database, so that every machine tries the same."""

from hypothesis import settings

settings.register_profile("resnetlab", deadline=None, max_examples=40, database=None, derandomize=True)
settings.load_profile("resnetlab")
