"""skorch's NeuralNetClassifier, silent and without validation rows."""

import torch
from skorch import NeuralNetClassifier
from torch import nn
from workloads import LEARNING_RATE

LIBRARIES = ("skorch", "torch")


def prepare(workload, features, target):
    def train(seed):
        torch.manual_seed(seed)
        layers = [layer for widths in workload.widths for layer in (nn.Linear(*widths), nn.ReLU())][:-1]
        classifier = NeuralNetClassifier(
            nn.Sequential(*layers),
            criterion=nn.CrossEntropyLoss,
            optimizer=torch.optim.Adam,
            lr=LEARNING_RATE,
            batch_size=workload.batch_size,
            max_epochs=workload.epochs,
            iterator_train__shuffle=True,
            train_split=None,
            verbose=0,
        ).fit(features, target)
        return [parameter.detach().numpy().T for parameter in classifier.module_.parameters()]

    return train
