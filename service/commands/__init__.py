"""What ``hourglass`` can be told to do, one module a command; ``service.cli`` puts them together.

A command's module has a function *add* that gives it its flags. It sets ``command`` to a function
that takes the parsed options and gives the exit status.
"""
