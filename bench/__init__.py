"""Times fastconv beside its peers and beside the machine's own limits: ``python -m bench``."""
