"""Networks: ResNets for small images with one or more branches. `BLOCKS` has the sizes by name."""
