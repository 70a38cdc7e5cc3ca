"""Keras 3, on the backend that `KERAS_BACKEND` names: a new network, `compile`, `fit`.

On jax `fit` compiles each new network anew. With `keep_compiled` there is one network, whose weights and optimizer are
set back before each training: what a loop that trains the same network again and again could do.
"""

import os

import keras
from workloads import LEARNING_RATE

LIBRARIES = ("keras", os.environ["KERAS_BACKEND"])


def prepare(workload, features, target, steps_per_execution=1, keep_compiled=False):
    def build():
        dense = [keras.layers.Dense(units, activation="relu") for units in workload.hidden]
        network = keras.Sequential([keras.Input((workload.inputs,)), *dense, keras.layers.Dense(workload.classes)])
        network.compile(
            optimizer=keras.optimizers.Adam(LEARNING_RATE),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            steps_per_execution=steps_per_execution,
        )
        return network

    def fit(network):
        network.fit(features, target, batch_size=workload.batch_size, epochs=workload.epochs, verbose=0)
        return network.get_weights()

    def train(seed):
        keras.utils.set_random_seed(seed)
        return fit(build())

    return train_again(build(), fit) if keep_compiled else train


def train_again(network, fit):
    network.optimizer.build(network.trainable_variables)
    fresh = [keras.ops.convert_to_numpy(variable) for variable in network.optimizer.variables]

    def train(seed):
        keras.utils.set_random_seed(seed)
        for number, layer in enumerate(network.layers):
            layer.kernel.assign(keras.initializers.GlorotUniform(1000 * seed + number)(layer.kernel.shape))
            layer.bias.assign(keras.ops.zeros(layer.bias.shape))
        for variable, value in zip(network.optimizer.variables, fresh, strict=True):
            variable.assign(value)
        return fit(network)

    return train
