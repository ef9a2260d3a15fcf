"""Which kinds of programs are drawn, and how often.

Weights were set so that what programs are made of comes near to what public C is made of
(docs/explanation/corpus.md), with more of the products, stencils and triangles that people tune.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.loopnest.program import Node
from bundles.corpus import families, ordinary, products
from bundles.corpus.sketch import Sketch

Family = Callable[[Sketch], list[Node]]

FAMILIES: tuple[tuple[Family, float], ...] = (
    (families.elementwise, 2.0),
    (families.contraction, 1.2),
    (families.reduction, 1.6),
    (families.stencil, 1.4),
    (families.in_place, 0.5),
    (families.convolution, 1.2),
    (families.transpose, 0.7),
    (families.recurrence, 0.7),
    (families.triangular, 0.5),
    (families.normalise, 0.7),
    (families.pipeline, 0.8),
    (families.strided, 0.8),
    (ordinary.steps, 6.0),
    (ordinary.guarded, 2.4),
    (ordinary.lookups, 0.8),
    (ordinary.fills, 2.0),
    (ordinary.pixels, 1.6),
    (ordinary.blocks, 1.0),
    (ordinary.states, 0.8),
    (products.matrix_product, 2.0),
    (products.rank_update, 0.8),
    (products.triangle_product, 0.7),
    (products.factorisation, 0.5),
    (products.vector_product, 1.0),
    (products.product_chain, 0.6),
    (products.small_products, 0.6),
    (products.complex_product, 0.5),
    (products.moments, 0.3),
)
