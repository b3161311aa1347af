"""The server of a built image: an HTTP front in its own environment, and workers in the model's.

An island: nothing here imports the rest of envbuilder, and everything runs on Python 3.8. What `worker` imports runs in
the model's environment and uses its standard library only, from Python 3.6 on: `loop` answers the front's frames of
`protocol` (and forks), `loading` loads by MLflow or `native`ly, `scoring` answers by way of `payload` and `answer`, or
of `direct` and `batch`; `conversion`, `enforcement` and `parameters` stand in for an MLflow that is not there.
"""
