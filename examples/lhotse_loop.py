"""Dynamic data pruning in a lhotse loop as icefall writes it. Argument: the cuts of the training set."""

import sys

import torch
from lhotse import CutSet, Fbank
from lhotse.dataset import DynamicBucketingSampler, K2SpeechRecognitionDataset, OnTheFlyFeatures

from asrsparse.pruning import DynamicPruner, EasyToHard, PruningPlan

cuts = CutSet.from_file(sys.argv[1])
dataset = K2SpeechRecognitionDataset(input_strategy=OnTheFlyFeatures(Fbank()), return_cuts=True)
model = torch.nn.Sequential(torch.nn.Conv1d(80, 64, 5, stride=3), torch.nn.ReLU(), torch.nn.Conv1d(64, 256, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
plan = PruningPlan(num_epochs=4, warmup_epochs=1, final_epochs=0)
pruner = DynamicPruner(list(cuts.ids), [cut.duration for cut in cuts], EasyToHard(0.7), plan)
for epoch in range(4):
    kept = pruner.start_epoch(epoch)
    kept_cuts = cuts.filter(lambda cut, kept=kept: cut.id in kept)  # before the sampler; lhotse filters lazily
    sampler = DynamicBucketingSampler(kept_cuts, max_duration=20, num_buckets=2, shuffle=True, seed=epoch)
    for batch in torch.utils.data.DataLoader(dataset, sampler=sampler, batch_size=None):
        supervisions = batch["supervisions"]
        targets = [torch.tensor(list(text.encode())) for text in supervisions["text"]]  # bytes; 0 is the blank
        log_probs = model(batch["inputs"].transpose(1, 2)).permute(2, 0, 1).log_softmax(dim=2)
        lens, target_lens = (supervisions["num_frames"] - 2) // 3, torch.tensor([len(target) for target in targets])
        ctc = torch.nn.CTCLoss(reduction="none")(log_probs, torch.cat(targets), lens, target_lens)
        pruner.observe([cut.id for cut in supervisions["cut"]], ctc / target_lens).backward()
        optimizer.step()
        optimizer.zero_grad()
    print(f"epoch {epoch}: kept {kept.share:.0%}: {len(kept)} utterances, {kept.seconds:.0f} s")
