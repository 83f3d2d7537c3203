"""The algorithms. Knows torch and nothing of runs: no files, no sweeps, no launchers.

    method        Method, Views, Step, LossTerms: what every algorithm is and is given
    registry      METHODS, BASELINES, get_method
    names         the message for an unknown name; the methods of other packages (imports no torch)
    barlow_twins  simclr  byol  vicreg: one file each, read top to bottom: settings, loss, module
    baselines     raw pixels and the untrained backbone: what a trained method has to beat
    backbones/    ResNets, vision transformers, and BACKBONES, their registry
    layers/       the projector, and moving-average copies of a network
    ops/          correlation sums, precision, and gathering over ranks

To add a method: write one file like `vicreg.py` and one line in `registry.py`; or, from another package, one line
under the entry points of group `twinbench.methods`.
"""
