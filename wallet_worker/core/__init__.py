"""The wallet's rules as pure functions: no await, no clock, no randomness, no driver.

Read `decide.py` first; everything else here is a word that it uses.
"""
