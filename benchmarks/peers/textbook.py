"""The loop of every tutorial: `DataLoader`, `nn.Sequential`, `optim.Adam`, and the loss printed from `.item()`.

Alone, `python textbook.py` trains on the digits of scikit-learn; `python textbook.py rows.npz` on a file's X and y.
"""

import sys

import numpy as np
import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

LIBRARIES = ("torch",)


def fit(X, y, hidden, classes, batch_size, epochs, learning_rate):
    layers, width = [], X.shape[1]
    for units in hidden:
        layers += [nn.Linear(width, units), nn.ReLU()]
        width = units
    network = nn.Sequential(*layers, nn.Linear(width, classes))
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.Adam(network.parameters(), lr=learning_rate)
    loader = DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(y)), batch_size=batch_size, shuffle=True)

    for epoch in range(epochs):
        network.train()
        running = 0.0
        for features, target in loader:
            optimizer.zero_grad()
            loss = criterion(network(features), target)
            loss.backward()
            optimizer.step()
            running += loss.item()
        print(f"epoch {epoch + 1}: {running / len(loader):.4f}")
    return network


def prepare(workload, features, target):
    from workloads import LEARNING_RATE

    def train(seed):
        torch.manual_seed(seed)
        sizes = (workload.hidden, workload.classes, workload.batch_size, workload.epochs)
        network = fit(features, target, *sizes, LEARNING_RATE)
        return [parameter.detach().numpy().T for parameter in network.parameters()]

    return train


if __name__ == "__main__":
    if len(sys.argv) > 1:
        rows = np.load(sys.argv[1])
        X, y = rows["X"], rows["y"]
    else:
        from sklearn.datasets import load_digits

        X, y = load_digits(return_X_y=True)
        X = (X / 16).astype("f4")
    fit(X, y, hidden=(64, 64), classes=10, batch_size=32, epochs=50, learning_rate=1e-3)
