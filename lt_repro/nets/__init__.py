"""Networks: ResNets for small images, with one or more branches. Sizes by name in `BLOCKS`."""
