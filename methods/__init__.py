"""The algorithms. Knows torch and nothing of runs: no files, no sweeps, no launchers.

    method        Method, Views, Step, LossTerms: what every algorithm is and is given
    registry      METHODS, BASELINES, get_method
    barlow_twins  simclr  byol  vicreg: one file each, read top to bottom: settings, loss, module
    baselines     raw pixels and the untrained backbone: what a trained method has to beat
    backbones     BACKBONES, build_backbone
    projector     the MLP between backbone and loss
    ema           moving-average copies of a network
    correlation   squared products of features, by N x N or D x D matrices, whichever are cheaper
    numerics      what the losses share: at least fp32, and which batches they take
    names         the message for an unknown name

To add a method: write one file like `vicreg.py` and one line in `registry.py`; or, from another package, one line
under the entry points of group `twinbench.methods`.
"""
