"""The commands of ``python -m fastconv``, each a module with an `add_command` function."""
