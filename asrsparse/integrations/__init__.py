"""Dynamic data pruning in the trainers of other projects; each has a module, which needs that project."""
