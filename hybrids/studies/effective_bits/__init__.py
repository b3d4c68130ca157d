"""How many bits of a trained state matter: the measurement, and its file in the folder of a run."""
