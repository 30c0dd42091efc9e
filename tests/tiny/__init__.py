"""Small CLIP models of drawn shapes: they know what a red circle is, and nothing else.

With them the tests can assert what a picture means without a download. What is
here draws, trains and checks them; judging pictures for people is the tool's task.
"""
