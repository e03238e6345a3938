"""The five settings of Zhang, Chen, Liu & He (NeurIPS 2023, arXiv 2306.14870) in small, on the registry's own commands."""
