"""The masks of one model, from the first training step to the last.

Shape legend: a weight, its gradient and its mask are (O, I, K...): O outputs, I inputs (of one group of a convolution),
K... the sizes of the kernel, none for a linear layer. (U...) are the numbers of units along these axes, `units_shape`.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from torch import Tensor, nn
from torch.optim import Optimizer

from asrsparse.masks.compacted import CompactedPhase, phase_after, require_units
from asrsparse.masks.layers import maskable_layers
from asrsparse.masks.moments import require_held
from asrsparse.masks.optimizers import as_one
from asrsparse.masks.phases import Exit, MaskMethod, Phase, all_ones
from asrsparse.masks.resizing import owners
from asrsparse.masks.sharding import full, is_sharded, leave_to_ranks, require_same_on_all_ranks
from asrsparse.masks.weights import parameter_of, require_trained

logger = logging.getLogger(__name__)


class SparseMasks:
    """The masks of one model, with the methods that a training loop calls; made by `attach`. The package shows a loop.

    The model stays the model: its parameters are the same objects, its state dict has its own keys and loads strictly
    at any time, while the masks have a state dict of their own. Attach before the optimiser is built, to a model in the
    precision in which it will be trained.

    **Works with**

    * `torch.compile`: when a mask is put before a weight or removed, the model is compiled again, once; steps, masks
      that change and temperatures need no compilation. Compile after `attach`.
    * autocast, gradient scalers, accumulated batches, clipping: as without masks. `penalty` is a term of the loss, and
      is scaled and divided with it.
    * frozen weights: those that are frozen before `attach` stay dense. Under masks that no longer change, weights may
      be frozen and trained again; while masks are chosen or learned, that is refused.
    * copies: `copy.deepcopy` of the model computes the same in any phase, and stands alone: no masks move in it, and
      nothing holds its zeros.
    * averages: `AveragedWeights` follows the model through all phases and the exit. `AveragedModel` (without
      `use_buffers`) does so while masks stand before the weights (`LearnedMask`, `SRSTE`, `DecayingMask`). It does
      not know masks that only zero weights (`BinaryMask`): its average keeps what any mask since its start kept. Make
      it anew when `phase` changes, since the parameters of a module are others then.
    * DDP: masks follow from averaged gradients, and all ranks compare theirs at every choice. Wrap the model after
      `attach`, and anew when `phase` changes: its reducer would wait for logits that are removed, and miss new ones.
      With `find_unused_parameters=True`, an exit needs no new wrapper.
    * FSDP2: `attach` first, to weights in float32 (lower ones by its `MixedPrecisionPolicy`), `load_state_dict` where a
      run is resumed, then `fully_shard` of blocks and `model`, then the optimiser from `param_groups`. Weights, logits
      and moments are sharded; masks are whole on each rank, as are the weights while masks are chosen: for SRSTE and
      `DecayingMask` in each step, as are the logits of `LearnedMask`. These three must begin with `start=0`; after the
      exit their modules pass the weights through, and logits are still gathered, until the run is resumed. Call what
      describes masks (`density`, `summary`, `fingerprint`, state dicts) on all ranks.
    """

    def __init__(self, model: nn.Module, method: MaskMethod) -> None:
        model = getattr(model, "_orig_mod", model)  # inside of what torch.compile returns; names are those in there
        self._model = model
        self._owners = owners(model)  # of the model's parameters, before any mask
        buffers = {name for name, _ in model.named_buffers()}
        self._phase: Phase = method.begin(model)
        leave_to_ranks(model, [name for name, _ in model.named_buffers() if name not in buffers])
        self.num_parameters = sum(parameter.numel() for parameter in self._parameters())
        """The number of parameters of the model, masked or not; logits are not counted."""
        self._signature = _signature(self._phase)
        self._extra_groups = self._phase.param_groups()
        self._finished = False
        self._is_sharded = any(is_sharded(parameter) for parameter in self._parameters())
        self._num_compared = 0  # checks after which ranks compared their masks
        self.exit_summary: dict[str, float] = {}
        """The `summary` of the masks at the moment of their exit; empty before it."""

    @classmethod
    def attach(cls, model: nn.Module, method: MaskMethod) -> "SparseMasks":
        """Puts masks on a model.

        Args:
            model: Any module; it is changed in place.
            method: The method that makes the masks: `LearnedMask(...)`, or `DenseMask()` for none.

        Raises:
            ValueError: If no layer can be masked, or a pattern matches none, or the model has masks already.

        Example:
            >>> import torch
            >>> from asrsparse.masks import LearnedMask
            >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
            >>> masks = SparseMasks.attach(model, LearnedMask(target_density=0.5, exclude=["2.*"]))
            >>> optimizer = torch.optim.AdamW(masks.param_groups(lr=0.01, weight_decay=0.01))
            >>> masks.phase, masks.num_masked, masks.num_parameters
            ('learning', 128, 178)
            >>> for step in range(1, 101):
            ...     (model(torch.randn(4, 8)).square().mean() + masks.penalty()).backward()
            ...     optimizer.step()
            ...     left = masks.step(step / 100, optimizer)
            >>> masks.phase, masks.exit_summary["density"]
            ('dense', 0.5)
        """
        return cls(model, method)

    @property
    def phase(self) -> str:
        """The name of the phase that is on: `"dense"`, `"learning"`, `"following"` or `"sparse"`."""
        return self._phase.name

    @property
    def num_masked(self) -> int:
        """The number of parameters on which masks decide, or decided."""
        return sum(weight.size for weight in self._phase.weights)

    @property
    def masked_names(self) -> list[str]:
        """The names of the weights on which masks decide, or decided, in the model's state dict."""
        return [weight.name for weight in self._phase.weights]

    @property
    def density(self) -> float:
        """The share of the masked parameters that the masks keep, in [0, 1]; 1 if nothing is masked (any more)."""
        return self._phase.num_kept() / self.num_masked if self.num_masked else 1.0

    def densities(self) -> dict[str, float]:
        """Returns the share that each mask keeps of its weight, by the weight's name; empty if nothing is masked."""
        pairs = zip(self._phase.weights, self._phase.weight_masks(), strict=True)
        return {weight.name: weight_mask.float().mean().item() for weight, weight_mask in pairs}

    def weight_masks(self) -> dict[str, Tensor]:
        """Returns the binary masks by the names of their weights, bool, (O, I, K...) each; True = keep.

        After a compaction they are still those of the whole weights.
        """
        pairs = zip(self._phase.weights, self._phase.weight_masks(), strict=True)
        return {weight.name: weight_mask for weight, weight_mask in pairs}

    def sizes_before_compaction(self) -> dict[str, int]:
        """Returns how many elements weights had that are smaller since a compaction, by their names; empty if none."""
        before = self._phase.sizes_before()
        layers = maskable_layers(self._model)
        return {name: before[layer, "weight"] for name, layer in layers.items() if (layer, "weight") in before}

    @property
    def overall_density(self) -> float:
        """The share of all the model's parameters that are not masked out, in [0, 1]."""
        return self._overall(self.density)

    def density_of(self, state: Mapping[str, Tensor]) -> float:
        """Returns the density that weights have, counted from their zeros.

        Args:
            state: The model's state dict, or another one with its names: an average, a file. Units of which all
                weights are zero count as dropped; of weights that have become smaller, the masks are counted.

        Returns:
            The share of the masked parameters that is left, in [0, 1]; 1 if nothing is masked.
        """
        return self._phase.num_kept_in(state) / self.num_masked if self.num_masked else 1.0

    def overall_density_of(self, state: Mapping[str, Tensor]) -> float:
        """Returns the share of all the model's parameters that is left in weights, in [0, 1]; see `density_of`."""
        return self._overall(self.density_of(state))

    def _overall(self, density: float) -> float:
        return 1.0 - (1.0 - density) * self.num_masked / self.num_parameters

    @property
    def changed_share(self) -> float:
        """The share of mask bits that changed between the last two checks: 1.0 before the second, 0.0 once fixed."""
        return self._phase.changed_share

    def param_groups(self, lr: float, weight_decay: float = 0.0) -> list[dict[str, Any]]:
        """Returns the optimiser's groups: matrices and kernels, vectors (norms, biases) without decay, and mask logits.

        The last is `{"name": "mask_logits", ...}` with a learning rate of its own, which a schedule with warm-up should
        leave alone, as the masks are learned while it warms up; if it has the key `lr_scale`, its rate is that multiple
        of `lr`, and the same schedule is meant for it (a `LambdaLR` with one function for all groups does so). It
        stays, with empty tensors, after the exit.

        Each has a `"name"`, by which they can be split between optimisers; `step` takes a list of these.

        Args:
            lr: Learning rate of the model's parameters.
            weight_decay: Weight decay of those with two dimensions or more.

        Raises:
            ValueError: If `fully_shard` came before a mask that it has to find.

        Example:
            >>> import torch
            >>> from asrsparse.masks import LearnedMask
            >>> masks = SparseMasks.attach(nn.Linear(8, 4), LearnedMask())
            >>> matrices, *others = masks.param_groups(lr=1e-3, weight_decay=0.1)
            >>> muon = torch.optim.Muon([matrices])  # of two dimensions only: kernels are for the other one
            >>> masks.step(0.01, [muon, torch.optim.AdamW(others)])
            False
        """
        self._bind()
        trained = [parameter for parameter in self._parameters() if parameter.requires_grad]
        matrices = [parameter for parameter in trained if parameter.dim() >= 2]
        vectors = [parameter for parameter in trained if parameter.dim() < 2]
        return [
            {"params": matrices, "lr": lr, "weight_decay": weight_decay, "name": "matrices"},
            {"params": vectors, "lr": lr, "weight_decay": 0.0, "name": "vectors"},
            *({"lr": lr * group.get("lr_scale", 1.0), **group} for group in self._extra_groups),
        ]

    def penalty(self) -> Tensor:
        """Returns the sparse regularisation to add to the loss, a 0-d tensor; exactly 0 if the method has none."""
        return self._phase.penalty()

    def step(self, progress: float, optimizer: Optimizer | Sequence[Optimizer]) -> bool:
        """Does what is due after an optimiser step; to be called after each one.

        Args:
            progress: The share of training that is done, in [0, 1].
            optimizer: The optimiser that holds `param_groups`, or all those between which they are split.

        Returns:
            Whether another phase began in this step: the masks left, or units came back.

        Raises:
            ValueError: If `progress` is outside [0, 1], the optimiser does not hold the masked weights and logits, or
                weights are frozen whose masks are still chosen.
        """
        if not 0.0 <= progress <= 1.0:
            raise ValueError(f"progress: got {progress}, allowed is the share of training done, in [0, 1].")
        optimizer = as_one(optimizer)
        self._require_ours(optimizer)
        is_over = self._phase.step(progress, optimizer)
        if self._phase.num_checks != self._num_compared:
            require_same_on_all_ranks(self.fingerprint())
            self._num_compared = self._phase.num_checks
        if is_over and self._finished:
            self._phase = self._phase.regrow(optimizer, int(self.fingerprint()[:12], 16))
            logger.info("masks: all units are back")
        elif is_over and self._phase.exit is not None:
            self.finish(self._phase.exit, optimizer)
        else:
            return False
        return True

    def finish(self, exit: Exit, optimizer: Optimizer | Sequence[Optimizer]) -> None:
        """Zeroes what is masked out; a phase without masks (`dense`) or with fixed ones (`sparse`) follows.

        The optimiser's moments of the zeroed weights are zeroed too.

        Args:
            exit: `"dense"`: all weights are trained from there. `"sparse"`: zeros stay zeros.
            optimizer: The optimiser that holds `param_groups`, or all those between which they are split.

        Raises:
            ValueError: If `exit` is unknown, the masks have left their phase already, or the optimiser is another one.
        """
        if exit not in get_args(Exit):
            raise ValueError(f"exit: got {exit!r}, allowed are {', '.join(get_args(Exit))}.")
        if self._finished:
            raise ValueError(
                f"exit: got a second exit ({exit!r}) in phase {self.phase!r}; allowed is one. "
                "Note that masks.step finishes by itself, at `until` or once the masks are stable."
            )
        optimizer = as_one(optimizer)
        self._require_ours(optimizer)
        self.exit_summary = self.summary()
        if not self._phase.is_stable:
            near_binary = self.exit_summary.get("near_binary_share")
            logger.warning(
                "masks: left before they were stable: %.3g %% of their bits changed between the last two checks%s. "
                "Give them more time (until), or a higher stable_share if this is meant.",
                100 * self.changed_share,
                "" if near_binary is None else f", and {100 * near_binary:.3g} % of the masks are near 0 or 1",
            )
        name, unit_masks = self._name_after(exit), self._phase.unit_masks()
        if name == CompactedPhase.name:
            require_units(self._phase.weights, unit_masks)
            require_same_on_all_ranks(self.fingerprint())
        self._enter(name, unit_masks, optimizer)
        logger.info("masks: %s from here, %s", name, _in_words(self.exit_summary))

    def summary(self) -> dict[str, float]:
        """Returns numbers to log: densities, changed share, those of the phase. It costs one pass over the masks."""
        density = self.density
        return {
            "density": density,
            "overall_density": self._overall(density),
            "changed_share": self.changed_share,
            **self._phase.summary(),
        }

    def fingerprint(self) -> str:
        """Returns a hash of the phase and the binary masks, to compare ranks or runs."""
        digest = hashlib.sha256(self.phase.encode())
        for unit_mask in self._phase.unit_masks():
            digest.update(unit_mask.cpu().numpy().tobytes())
        return digest.hexdigest()

    def merged_state_dict(self) -> dict[str, Tensor]:
        """Returns the model's state dict with the masks merged into the weights.

        The weights are those with which the model computes, whole; it loads strictly into the plain model.
        """
        state = self._model.state_dict()
        for name, value in state.items():
            state[name] = full(value)
        for weight, effective in zip(self._phase.weights, self._phase.effective_weights(), strict=True):
            state.update(dict.fromkeys(weight.names, effective))
        return state

    def state_dict(self) -> dict[str, Any]:
        """Returns the masks' own state: tensors and plain Python values, for `torch.load(..., weights_only=True)`."""
        return {
            "signature": self._signature,
            "phase": self.phase,
            "finished": self._finished,
            "exit_summary": dict(self.exit_summary),
            **self._phase.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned, on masks freshly attached by the same method.

        The model's state dict and the optimiser's are loaded as well, in any order.

        Raises:
            ValueError: If the state is that of another model's masks, or these masks have left their phase already.
        """
        if state.get("signature") != self._signature:
            raise ValueError(
                f"The mask state is of another model: got {state.get('signature')}, allowed is {self._signature} "
                "(a hash of the names and shapes of the masked weights). Attach with the model, the mask method and "
                "the exclude patterns of the run that wrote it."
            )
        if self._finished:
            raise ValueError(
                f"masks.load_state_dict: got masks in phase {self.phase!r}, allowed are fresh ones. "
                "Attach masks to a new model."
            )
        if state["finished"]:
            saved, weights = state.get("unit_masks", {}), self._phase.weights
            pairs = zip(weights, all_ones(weights), strict=True)
            self._enter(state["phase"], [saved.get(w.name, ones).to(ones.device) for w, ones in pairs], None)
        self._phase.load_state_dict(state)
        self.exit_summary = dict(state["exit_summary"])

    def _parameters(self) -> list[nn.Parameter]:
        """Returns the model's own parameters, in its order."""
        return [parameter_of(module, name) for module, name in self._owners]

    def _bind(self) -> None:
        """Uses the parameters by which `fully_shard` replaced those of `attach` from here on."""
        if not self._is_sharded and any(is_sharded(parameter) for parameter in self._parameters()):
            if self._phase.compacting is not None:
                raise ValueError(
                    "compact_at_exit: got a model that fully_shard has cut up between ranks, allowed are whole ones: "
                    "FSDP2 holds the shapes that it found. Train under DistributedDataParallel; or set "
                    "compact_at_exit=False, and compact the finished model."
                )
            self._phase.bind()
            self._extra_groups = self._extra_groups if self._finished else self._phase.param_groups()
            self._is_sharded = True

    def _require_ours(self, optimizer: Optimizer) -> None:
        logits = (parameter for group in self._extra_groups for parameter in group["params"])
        if self._phase.is_choosing:
            require_trained(self._phase.weights)
        parameters = (weight.parameter for weight in self._phase.weights)
        require_held(optimizer, (each for each in parameters if each.requires_grad), "masked weights")
        require_held(optimizer, logits, "mask logits")

    def _name_after(self, exit: Exit) -> str:
        """Returns the name of the phase that follows an exit; a model is compacted at that of its method alone."""
        compacts = self._phase.compacting is not None and exit == self._phase.exit
        return CompactedPhase.name if compacts else exit

    def _enter(self, name: str, unit_masks: list[Tensor], optimizer: Optimizer | None) -> None:
        """Ends the phase that is on, and begins the one of that name."""
        before = self._phase
        before.end(optimizer)
        self._finished = True
        self._phase = phase_after(name, self._model, before, unit_masks, optimizer)


def _signature(phase: Phase) -> str:
    """Returns the number of the masked weights, and a hash of their names and shapes."""
    lines = [f"{weight.name} {tuple(weight.parameter.shape)}" for weight in phase.weights]
    return f"{len(lines)} weights, {hashlib.sha256(chr(10).join(lines).encode()).hexdigest()[:16]}"


def _in_words(summary: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in summary.items())
