"""What holds whatever happens: harnesses that stop, starve and crowd the real program, and look at what is left.

Run in small by the test command, and in full by ``python -m tests.reliability``.
"""
