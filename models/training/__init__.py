"""Training of the bundled checkpoint: `make train DATA=data HOURS=2`, on a CPU or a GPU.

Every sample is a pure function of (seed, its number), so the order of the data is fixed and an
interrupted run continues as if it had not been interrupted. The learning rate is constant and
falls to 0 over the last part of the hours; more hours start again from there.
"""
