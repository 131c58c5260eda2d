"""One board: how long its windows are, what goes into a step, what a reader is given, the board itself, and its backup.

What lives in the modules: arithmetic (windows.py), the shapes on either side of Redis (names.py, rows.py), the board
(scoreboard.py) and copies of it (backup.py); in the .lua files the steps inside Redis, which are one script.
"""
