"""What the trainings of the demonstration models share of the loss and of the walk through a model's layers.

Two linear heads on the patch features teach the image tower what to carry, and are thrown away afterwards: one tells the
characters, shapes and bars in each patch; the other, for the patches of a bar's column, its value and its label."""
import torch
from torch.nn import functional as F
import render


class Heads(torch.nn.ModuleList):
    """patches: cross-entropy of what is in each patch, nothing weighing a tenth. columns: that of the columns which are told."""

    def __init__(self, width):
        super().__init__([torch.nn.Linear(width, render.SLOTS * render.CLASSES),
                          torch.nn.Linear(width, render.COLUMN_SLOTS * render.COLUMN_CLASSES)])

    def forward(self, h, aux, column):
        guess = self[0](h).view(-1, render.CLASSES)
        target = aux.reshape(-1).long()
        weight = torch.where(target > 0, 1.0, 0.1)
        side = (F.cross_entropy(guess.float(), target, reduction="none") * weight).sum() / weight.sum()
        guess = self[1](h).view(-1, render.COLUMN_CLASSES)
        target = column.reshape(-1).long()
        told = target != render.IGNORE
        tied = F.cross_entropy(guess.float(), torch.where(told, target, 0), reduction="none")
        return side, (tied * told).sum() / told.sum().clamp(min=1)

    @torch.no_grad()
    def seen(self, h, aux):
        """Share of the characters, shapes and bars that the first head tells right."""
        target = aux.reshape(-1)
        return (self[0](h.float()).view(-1, render.CLASSES).argmax(1) == target)[target > 0].float().mean().item()


def through(layers, h, **how):
    for layer in layers:
        h = layer(h, attention_mask=None, **how)
        h = h[0] if isinstance(h, tuple) else h
    return h


def place(embedded, features, here):
    """The k-th position of a row that is `here` takes the row's k-th feature; in the features' type."""
    k = torch.where(here, here.cumsum(1) - 1, torch.arange(here.shape[1], device=here.device) % features.shape[1])
    picked = features.float().gather(1, k[..., None].expand(-1, -1, features.shape[-1]))
    return torch.where(here[..., None], picked, embedded).to(features.dtype)
