"""Opens what a job has left in Keras itself, in an interpreter of its own: `python keras_loaded.py FOLDER ...`.

In each folder are `network.keras`, `network.weights.h5`, `features.npy`, and where the spec came from Keras its
`model.json`. Writes `by_model.npy`, and `by_weights.npy` of the model as the user has it.
"""

import sys
from pathlib import Path

import keras
import numpy as np

for folder in map(Path, sys.argv[1:]):
    features = np.load(folder / "features.npy")
    model = keras.models.load_model(folder / "network.keras")
    np.save(folder / "by_model.npy", model.predict(features, verbose=0))
    own = keras.models.clone_model(model)
    if (folder / "model.json").exists():
        own = keras.models.model_from_json((folder / "model.json").read_text())
    own.load_weights(folder / "network.weights.h5")
    np.save(folder / "by_weights.npy", own.predict(features, verbose=0))
