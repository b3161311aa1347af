"""The server of a built image: an HTTP front in its own environment, and workers in the model's.

An island: nothing here imports the rest of envbuilder, and everything runs on Python 3.8. `worker`, `loop`, `scoring`,
`payload`, `answer` and `protocol` run in the model's environment and use its standard library only, from Python 3.6 on.
"""
