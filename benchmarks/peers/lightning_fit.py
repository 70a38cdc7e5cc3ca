"""Lightning, `barebones`: without its logger, checkpoints, progress bar and summaries."""

import logging

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from workloads import LEARNING_RATE

LIBRARIES = ("lightning", "torch")


class Classifier(lightning.LightningModule):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def training_step(self, batch, _):
        features, target = batch
        return nn.functional.cross_entropy(self.network(features), target)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=LEARNING_RATE)


def prepare(workload, features, target):
    for noisy in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    rows = TensorDataset(torch.from_numpy(features), torch.from_numpy(target))

    def train(seed):
        torch.manual_seed(seed)
        layers = [layer for widths in workload.widths for layer in (nn.Linear(*widths), nn.ReLU())][:-1]
        network = nn.Sequential(*layers)
        trainer = lightning.Trainer(max_epochs=workload.epochs, accelerator="cpu", devices=1, barebones=True)
        trainer.fit(Classifier(network), DataLoader(rows, batch_size=workload.batch_size, shuffle=True))
        return [parameter.detach().numpy().T for parameter in network.parameters()]

    return train
