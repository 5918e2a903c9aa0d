"""The pruner in other people's trainers, one module for each; none is imported unless it is asked for."""
