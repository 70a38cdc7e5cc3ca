"""jax at its fastest: a whole epoch is one compiled `lax.scan`, Adam included. Compiled once, for all trainings."""

import jax
import jax.numpy as jnp
import numpy as np
from workloads import LEARNING_RATE

LIBRARIES = ("jax",)
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


def loss_of(weights, features, target):
    for kernel, bias in weights[:-1]:
        features = jax.nn.relu(features @ kernel + bias)
    logits = features @ weights[-1][0] + weights[-1][1]
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), target[:, None], axis=1).mean()


def prepare(workload, features, target):
    features, target = jnp.asarray(features), jnp.asarray(target)
    batches, size = workload.rows // workload.batch_size, workload.batch_size

    def step(state, features, target):
        weights, first, second, steps = state
        gradient = jax.grad(loss_of)(weights, features, target)
        steps += 1
        first = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, first, gradient)
        second = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, second, gradient)
        rate, root = LEARNING_RATE / (1 - BETA1**steps), jnp.sqrt(1 - BETA2**steps)
        weights = jax.tree.map(lambda w, m, v: w - rate * m / (jnp.sqrt(v) / root + EPS), weights, first, second)
        return weights, first, second, steps

    @jax.jit
    def epoch(state, key, features, target):
        order = jax.random.permutation(key, workload.rows)
        whole, rest = order[: batches * size].reshape(batches, size), order[batches * size :]
        state, _ = jax.lax.scan(lambda state, rows: (step(state, features[rows], target[rows]), None), state, whole)
        return step(state, features[rest], target[rest]) if len(rest) else state

    def train(seed):
        key, *keys = jax.random.split(jax.random.key(seed), 1 + len(workload.widths))
        glorot = jax.nn.initializers.glorot_uniform()
        layers = zip(keys, workload.widths, strict=True)
        weights = [(glorot(each, widths), jnp.zeros(widths[1])) for each, widths in layers]
        nothing = jax.tree.map(jnp.zeros_like, weights)
        state = (weights, nothing, nothing, jnp.float32(0))
        for each in jax.random.split(key, workload.epochs):
            state = epoch(state, each, features, target)
        return [np.asarray(array) for array in jax.tree.leaves(jax.block_until_ready(state[0]))]

    return train
