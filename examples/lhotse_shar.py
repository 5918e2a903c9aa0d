"""Dynamic data pruning of a stream (lhotse Shar) without a list of its utterances: what is dropped is not decoded."""

import sys

import torch
from lhotse import CutSet
from lhotse.dataset import DynamicBucketingSampler, K2SpeechRecognitionDataset, OnTheFlyFeatures
from lhotse.features import Fbank

from asrsparse.pruning import EasyToHard, PruningPlan, StreamPruner

cuts = CutSet.from_shar(in_dir=sys.argv[1], shuffle_shards=False)
dataset = K2SpeechRecognitionDataset(input_strategy=OnTheFlyFeatures(Fbank()), return_cuts=True)
model = torch.nn.Linear(80, 1)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
plan = PruningPlan(num_epochs=4, warmup_epochs=1, final_epochs=0, num_strata=3)
pruner = StreamPruner(EasyToHard(keep_ratio=0.7), plan)

for epoch in range(4):
    kept, seconds = pruner.start_epoch(epoch), 0.0
    kept_cuts = cuts.filter(lambda cut, kept=kept: cut.id in kept)  # before all else; lhotse filters lazily
    sampler = DynamicBucketingSampler(kept_cuts, max_duration=20, num_buckets=2)
    for batch in torch.utils.data.DataLoader(dataset, sampler=sampler, batch_size=None):
        batch_cuts = batch["supervisions"]["cut"]
        losses = model(batch["inputs"]).mean(dim=(1, 2)).square()
        pruner.observe([c.id for c in batch_cuts], losses, [c.duration for c in batch_cuts]).backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds += sum(c.duration for c in batch_cuts)
    print(f"epoch {epoch}: read all of the stream, decoded {seconds:.0f} s of it, kept {kept.share:.0%}")
